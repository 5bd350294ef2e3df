//! `[nat]` and `[limits]`: how long sessions live without traffic, and how many there may be.

use std::time::Duration;

use super::section::Section;

/// `[nat]`. All timeouts are idle times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    pub udp_timeout: Duration,
    /// For remote l4_port 53, after the answer.
    pub udp_dns_timeout: Duration,
    /// Until the first answer.
    pub udp_unreplied_timeout: Duration,
    pub tcp_established_timeout: Duration,
    /// While a connection is being opened or closed, and after a RST.
    pub tcp_transitory_timeout: Duration,
    pub tcp_time_wait_timeout: Duration,
    pub icmp_timeout: Duration,
    /// Per worker.
    pub max_sessions: u32,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Per worker. 0: none are sent.
    pub icmp_errors_per_second: u32,
}

/// A month: longer than any flow is silent, and short enough for the timers' arithmetic.
const MAX_TIMEOUT: u32 = 30 * 24 * 3600;

/// The table of so many sessions takes 8 GiB.
const MAX_SESSIONS: u32 = 64 << 20;

pub(super) fn read(mut section: Section<'_>) -> NatConfig {
    let config = NatConfig {
        udp_timeout: timeout(&mut section, "udp_timeout", 300),
        udp_dns_timeout: timeout(&mut section, "udp_dns_timeout", 10),
        udp_unreplied_timeout: timeout(&mut section, "udp_unreplied_timeout", 30),
        tcp_established_timeout: timeout(&mut section, "tcp_established_timeout", 7440),
        tcp_transitory_timeout: timeout(&mut section, "tcp_transitory_timeout", 240),
        tcp_time_wait_timeout: timeout(&mut section, "tcp_time_wait_timeout", 120),
        icmp_timeout: timeout(&mut section, "icmp_timeout", 60),
        max_sessions: section.integer("max_sessions", 1..=MAX_SESSIONS, 1_000_000),
    };
    let minimums = [
        ("udp_timeout", config.udp_timeout, 120, "RFC 4787 REQ-5"),
        ("tcp_established_timeout", config.tcp_established_timeout, 7440, "RFC 5382 REQ-5"),
        ("tcp_transitory_timeout", config.tcp_transitory_timeout, 240, "RFC 5382 REQ-5"),
        ("icmp_timeout", config.icmp_timeout, 60, "RFC 5508 REQ-2"),
    ];
    for (key, value, minimum, rfc) in minimums {
        if value < Duration::from_secs(minimum) {
            let reason = format!("{} s is less than the {minimum} s of {rfc}", value.as_secs());
            section.warning(key, reason, "flows that are idle for longer break");
        }
    }
    section.finish();
    config
}

fn timeout(section: &mut Section<'_>, key: &'static str, default: u32) -> Duration {
    Duration::from_secs(section.integer(key, 1..=MAX_TIMEOUT, default).into())
}

pub(super) fn read_limits(mut section: Section<'_>) -> Limits {
    for key in ["sessions_per_pod", "new_sessions_per_second_per_pod"] {
        if section.integer(key, 0..=u32::MAX, 0) != 0 {
            section.error(key, "this version has no limits per pod", "write 0 or remove it");
        }
    }
    let icmp_errors_per_second = section.integer("icmp_errors_per_second", 0..=1_000_000, 1000);
    section.finish();
    Limits { icmp_errors_per_second }
}
