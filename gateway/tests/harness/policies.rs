//! The lab's policies, as the data path asks for them.

use super::*;

pub fn usual_policies(generation: u64) -> PolicyTable {
    policies(generation, &[(POLICY, &[EGRESS], &[]), (POLICY_2, &[EGRESS_2], &[])])
}

/// The same with egress IPs of both families.
pub fn dual_policies(generation: u64) -> PolicyTable {
    let first: [IpAddr; 2] = [EGRESS.into(), Ipv6Addr::EGRESS.into()];
    let second: [IpAddr; 2] = [EGRESS_2.into(), Ipv6Addr::EGRESS_2.into()];
    policies_of(generation, &[(POLICY, &first, &[]), (POLICY_2, &second, &[])])
}

/// (id, egress IPs, draining IPs) of each policy; the nodes are always the same two, each reached by a
/// tunnel address of either family.
pub fn policies(generation: u64, list: &[(u32, &[Ipv4Addr], &[Ipv4Addr])]) -> PolicyTable {
    policies_of(generation, list)
}

/// The same with egress IPs of any family.
pub fn policies_of<F: Into<IpAddr> + Copy>(
    generation: u64,
    list: &[(u32, &[F], &[F])],
) -> PolicyTable {
    policies_after(generation, list, &usual_nodes(), VtepNumbers::default())
}

/// Tunnel address, and what its node may send.
pub type Nodes = Vec<(IpAddr, &'static [&'static str])>;

pub fn usual_nodes() -> Nodes {
    const FIRST: &[&str] = &["10.244.1.0/24", "fd00:244:1::/64"];
    const SECOND: &[&str] = &["10.244.2.0/24", "fd00:244:2::/64"];
    vec![
        (NODE.into(), FIRST),
        (Ipv6Addr::NODE.into(), FIRST),
        (NODE2.into(), SECOND),
        (Ipv6Addr::NODE2.into(), SECOND),
    ]
}

/// The same with other nodes, and the numbers that the table before had given to their VTEPs.
pub fn policies_after<F: Into<IpAddr> + Copy>(
    generation: u64,
    list: &[(u32, &[F], &[F])],
    nodes: &Nodes,
    numbers: VtepNumbers,
) -> PolicyTable {
    let any = |list: &[F]| list.iter().copied().map(Into::into).collect::<Vec<IpAddr>>();
    let entry = |(id, egress, draining): &(u32, &[F], &[F])| {
        (*id, PolicyEntry::new(format!("policy-{id}"), &any(egress), &any(draining)))
    };
    let node = |(vtep, cidrs): &(IpAddr, &[&str])| {
        let source_cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        (*vtep, NodeEntry { name: format!("node-{vtep}"), source_cidrs })
    };
    let nodes: HashMap<_, _> = nodes.iter().map(node).collect();
    let own = [VTEP.into(), EXTERNAL.into(), Ipv6Addr::VTEP.into(), Ipv6Addr::EXTERNAL.into()];
    let policies = list.iter().map(entry).collect();
    PolicyTable::new(generation, policies, nodes, own.to_vec(), numbers)
}
