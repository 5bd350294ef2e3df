//! How long a session may be idle.

use super::session::SessionState;

/// Idle timeouts in seconds. Field names are the keys of `[nat]` in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutSettings {
    /// RFC 4787 REQ-5: at least two minutes, five recommended.
    pub udp: u32,
    /// Remote l4_port 53 after the answer: RFC 4787 REQ-5a lets well-known ports have less.
    pub udp_dns: u32,
    pub udp_unreplied: u32,
    /// RFC 5382 REQ-5: not less than 2 hours 4 minutes.
    pub tcp_established: u32,
    /// RFC 5382 REQ-5: not less than 4 minutes.
    pub tcp_transitory: u32,
    pub tcp_time_wait: u32,
    /// RFC 5508 REQ-2: at least 60 seconds.
    pub icmp: u32,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        TimeoutSettings {
            udp: 300,
            udp_dns: 10,
            udp_unreplied: 30,
            tcp_established: 7440,
            tcp_transitory: 240,
            tcp_time_wait: 120,
            icmp: 60,
        }
    }
}

/// [`TimeoutSettings`] as a table by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts([u32; SessionState::ALL.len()]);

impl Timeouts {
    pub fn new(settings: &TimeoutSettings) -> Self {
        Timeouts(SessionState::ALL.map(|state| match state {
            SessionState::TcpOpening
            | SessionState::TcpAnswered
            | SessionState::TcpClosedByPod
            | SessionState::TcpClosedByRemote
            | SessionState::TcpReset => settings.tcp_transitory,
            SessionState::TcpEstablished => settings.tcp_established,
            SessionState::TcpTimeWait => settings.tcp_time_wait,
            SessionState::UdpUnreplied => settings.udp_unreplied,
            SessionState::UdpReplied => settings.udp,
            SessionState::UdpDnsAnswered => settings.udp_dns,
            SessionState::IcmpQuery => settings.icmp,
        }))
    }

    #[inline]
    pub fn of(&self, state: SessionState) -> u32 {
        self.0[state as usize]
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::new(&TimeoutSettings::default())
    }
}
