//! Live sessions and the l4_ports that they hold.

use super::family::Family;
use crate::{
    control::WorkerHandle,
    nat::{PolicyTable, l4_port::L4PortUsage},
};
use prometheus::proto::MetricFamily;
use std::{collections::BTreeMap, net::IpAddr};

/// Sessions whose policy was removed and that were not ended yet. No policy can have this name.
const REMOVED: &str = "(removed)";
/// Egress IPs beyond those that are counted apart.
const OTHERS: &str = "(others)";

/// By policy.
pub(super) fn sessions(workers: &[WorkerHandle], policies: &PolicyTable) -> MetricFamily {
    let mut family = Family::gauge("sessions", "Live sessions, by policy.");
    for worker in workers {
        let mut by_name: BTreeMap<&str, u64> =
            policies.policies().map(|(_, policy)| (policy.name.as_str(), 0)).collect();
        let mut named = 0;
        for (id, sessions) in worker.policy_sessions.iter() {
            if let Some(policy) = policies.policy(id) {
                named += sessions;
                *by_name.entry(&policy.name).or_default() += sessions;
            }
        }
        by_name.insert(REMOVED, worker.policy_sessions.total().saturating_sub(named));
        for (policy, sessions) in by_name {
            family.add(&[("policy", policy), ("worker", &worker.id.to_string())], sessions);
        }
    }
    family.done()
}

/// Of every egress IP in force and of those that still have sessions.
pub(super) fn l4_ports(workers: &[WorkerHandle], policies: &PolicyTable) -> [MetricFamily; 2] {
    let usage = workers.iter().map(|worker| worker.policy_sessions.l4_ports());
    let in_force = policies.policies().flat_map(|(_, policy)| {
        let (v4, v6) = (policy.pools.v4.all(), policy.pools.v6.all());
        v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6))
    });
    let mut by_ip: BTreeMap<IpAddr, u64> = in_force.map(|address| (address, 0)).collect();
    for (address, in_use) in usage.clone().flat_map(L4PortUsage::egress_ips) {
        if in_use > 0 {
            *by_ip.entry(address).or_default() += in_use;
        }
    }
    let others: u64 = usage.clone().map(L4PortUsage::others).sum();

    let help = "External l4_ports in use, by egress IP: one for each session. The same l4_port serves any \
                number of remote endpoints.";
    let mut in_use = Family::gauge("l4_ports_in_use", help);
    for (address, count) in by_ip {
        in_use.add(&[("egress_ip", &address.to_string())], count);
    }
    if others > 0 {
        in_use.add(&[("egress_ip", OTHERS)], others);
    }
    let help = "l4_ports in use towards the busiest remote endpoint, of one egress IP and protocol; at 64512 \
                new sessions to it are refused. At most so many: with a full table some hundred too many.";
    let mut fullest = Family::gauge("l4_ports_in_use_max", help);
    fullest.add(&[], L4PortUsage::fullest_pool(usage));
    [in_use.done(), fullest.done()]
}
