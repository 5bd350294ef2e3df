//! The flow table's ageing. Programs write when they last saw a flow; here its idle time is judged.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

use crate::abi::{self, Flow, FlowKey};
use crate::config::Flows;
use crate::maps::Maps;

/// How full the table was when it was last looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCounts {
    pub inbound: usize,
    pub redirected: usize,
    pub passed: usize,
}

pub fn age(maps: &Maps, config: &Flows) -> Result<FlowCounts> {
    let now = now_seconds();
    let mut counts = FlowCounts::default();
    for (key, flow) in maps.flows.snapshot()? {
        if is_idle(&key, &flow, config, now) && is_still_idle(maps, &key, config)? {
            maps.flows.remove(&key)?;
            continue;
        }
        match flow.kind {
            abi::FLOW_INBOUND => counts.inbound += 1,
            abi::FLOW_REDIRECTED => counts.redirected += 1,
            _ => counts.passed += 1,
        }
    }
    Ok(counts)
}

/// A packet may have come since the table was read: an inbound flow that is forgotten just then would have its answer redirected.
fn is_still_idle(maps: &Maps, key: &FlowKey, config: &Flows) -> Result<bool> {
    let flow = maps.flows.get(key)?;
    Ok(flow.is_some_and(|flow| is_idle(key, &flow, config, now_seconds())))
}

fn is_idle(key: &FlowKey, flow: &Flow, config: &Flows, now: u32) -> bool {
    // A packet may have come since `now` was read: that is no age of 136 years.
    let idle = now.saturating_sub(flow.last_seen);
    idle > timeout(key, flow, config)
}

fn timeout(key: &FlowKey, flow: &Flow, config: &Flows) -> u32 {
    match key.protocol {
        abi::PROTOCOL_TCP if flow.flags & abi::FLOW_CLOSING != 0 => config.tcp_closing_timeout,
        abi::PROTOCOL_TCP if flow.flags & abi::FLOW_REPLIED == 0 => config.tcp_closing_timeout,
        abi::PROTOCOL_TCP => config.tcp_timeout,
        abi::PROTOCOL_UDP if flow.flags & abi::FLOW_REPLIED == 0 => config.udp_unreplied_timeout,
        abi::PROTOCOL_UDP => config.udp_timeout,
        abi::PROTOCOL_ICMP | abi::PROTOCOL_ICMPV6 => config.icmp_timeout,
        _ => config.other_timeout,
    }
}

/// The clock of the programs, bpf_ktime_get_coarse_ns.
pub fn now_seconds() -> u32 {
    clock_gettime(ClockId::Monotonic).tv_sec as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_own_idle_time() {
        let config = Flows::default();
        for (protocol, flags, seconds) in [
            (abi::PROTOCOL_TCP, abi::FLOW_REPLIED, config.tcp_timeout),
            (abi::PROTOCOL_TCP, 0, config.tcp_closing_timeout),
            (abi::PROTOCOL_TCP, abi::FLOW_REPLIED | abi::FLOW_CLOSING, config.tcp_closing_timeout),
            (abi::PROTOCOL_UDP, 0, config.udp_unreplied_timeout),
            (abi::PROTOCOL_UDP, abi::FLOW_REPLIED, config.udp_timeout),
            (abi::PROTOCOL_ICMP, 0, config.icmp_timeout),
            (abi::PROTOCOL_ICMPV6, 0, config.icmp_timeout),
            (132, 0, config.other_timeout),
        ] {
            let key = FlowKey { protocol, ..FlowKey::default() };
            let flow = Flow { last_seen: 1000, flags, ..Flow::default() };
            assert!(!is_idle(&key, &flow, &config, 1000 + seconds), "{protocol} {flags}");
            assert!(is_idle(&key, &flow, &config, 1001 + seconds), "{protocol} {flags}");
            assert!(!is_idle(&key, &flow, &config, 999), "a packet came after the clock was read");
        }
    }
}
