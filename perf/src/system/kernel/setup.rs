//! What the kernel is told.

use super::Options;
use crate::{
    plan,
    system::{
        keeper::Keeper,
        namespace::{EXTERNAL, Namespace, TUNNEL},
    },
};
use anyhow::{Context, Result, ensure};
use gateway::wire::MacAddress;
use std::{collections::BTreeSet, fs, net::Ipv4Addr};

const CONNTRACK: &str = "/proc/sys/net/netfilter";

/// A next hop behind the tunnel, so that not every pod is a neighbour of its own.
const HOP: &str = "169.254.1.2";
/// What nodes take as destination of an inner frame: anything.
const HOP_MAC: &str = "02:65:67:77:00:01";

/// A script for its namespace.
pub(super) fn forwarding(options: &Options) -> String {
    let (tunnel, external, router) = (plan::TUNNEL, plan::EXTERNAL, plan::ROUTER);
    let ([first, last], (pods, length)) = (plan::EGRESS_IPS, plan::PODS);
    let vxlan_port = plan::VXLAN_PORT;
    let mac = MacAddress(plan::INNER_MAC);
    // The tunnel's own packets are not tracked: else each flow would have three entries instead of one.
    let Options { udp_timeout, udp_unreplied_timeout, .. } = options;
    // Local ones, so that it answers ARP for them; without a session nothing else comes of it.
    let egress_ips: String = (first.to_bits()..=last.to_bits())
        .map(|ip| format!("ip addr add {}/32 dev {EXTERNAL}\n", Ipv4Addr::from_bits(ip)))
        .collect();
    format!(
        "ip addr add {tunnel}/24 dev {TUNNEL}
ip addr add {external}/24 dev {EXTERNAL}
{egress_ips}ip link add vxlan0 address {mac} mtu 1450 type vxlan \
         external dstport {vxlan_port} nolearning
ip link set vxlan0 up
for file in all default vxlan0 {TUNNEL} {EXTERNAL}; do
    echo 0 > /proc/sys/net/ipv4/conf/$file/rp_filter
    echo 0 > /proc/sys/net/ipv4/conf/$file/send_redirects
done
echo 1 > /proc/sys/net/ipv4/ip_forward
ip route add default via {router}
ip neigh add {HOP} lladdr {HOP_MAC} dev vxlan0 nud permanent
ip route add {pods}/{length} {}
nft 'table ip nat {{ chain post {{ type nat hook postrouting priority srcnat; \
         ip saddr {pods}/{length} oifname \"{EXTERNAL}\" snat to {first}-{last}; }}; }}'
nft 'table ip raw {{ chain in {{ type filter hook prerouting priority raw; iifname \"{TUNNEL}\" notrack; }}; \
         chain out {{ type filter hook output priority raw; oifname \"{TUNNEL}\" notrack; }}; }}'
echo {udp_unreplied_timeout} > {CONNTRACK}/nf_conntrack_udp_timeout
echo {udp_timeout} > {CONNTRACK}/nf_conntrack_udp_timeout_stream
",
        route(plan::node(0))
    )
}

/// Into the tunnel to that node.
fn route(node: Ipv4Addr) -> String {
    format!("encap ip id {} dst {node} ttl 64 via {HOP} dev vxlan0 onlink", plan::POLICY)
}

/// What `ip -batch` is to do so that each pod of the flows is reached by its node; those of no flow are all
/// at the first one. The pods of a node are no prefix, so each has a route; those of a node are alike, and the
/// kernel keeps them once.
pub(super) fn pods(flows: u32, nodes: u32) -> String {
    let pods: BTreeSet<_> = (0..flows)
        .map(plan::Flow::number)
        .map(|flow| (flow.pod, flow.node(nodes)))
        .filter(|(_, node)| *node != plan::node(0))
        .collect();
    pods.into_iter().map(|(pod, node)| format!("route add {pod}/32 {}\n", route(node))).collect()
}

/// Connection tracking's table and its hash are the whole machine's.
pub(super) fn make_room(sessions: u32, namespace: &Namespace, keeper: &mut Keeper) -> Result<()> {
    // The bound on entries moves with the number of buckets, so it is set after these, and undone before.
    for name in ["nf_conntrack_buckets", "nf_conntrack_max"] {
        let path = format!("{CONNTRACK}/{name}");
        let before = number(&fs::read_to_string(&path).with_context(|| path.clone())?)?;
        if before >= sessions {
            continue;
        }
        // Whoever sets it meanwhile knows better. What is written may be rounded up.
        keeper.finally(&format!("[ $(cat {path}) -lt {sessions} ] || echo {before} > {path}"))?;
        fs::write(&path, sessions.to_string()).with_context(|| format!("{path}: be root"))?;
    }
    // Each namespace has a bound of its own on some kernels.
    let own = format!("echo {sessions} > {CONNTRACK}/nf_conntrack_max 2>/dev/null || true");
    let own = namespace.run(&format!("{own}\ncat {CONNTRACK}/nf_conntrack_max"))?;
    ensure!(number(&own)? >= sessions, "nf_conntrack_max stays {}: {sessions} wanted", own.trim());
    Ok(())
}

fn number(text: &str) -> Result<u32> {
    text.trim().parse().with_context(|| format!("not a number: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_is_routed_to_its_node() {
        let text = pods(64 * 10, 4);
        let lines: Vec<&str> = text.lines().collect();
        // Of 10.0.0.1 to .10 those whose address is a multiple of four are at the first node.
        assert_eq!(lines.len(), 8, "{text}");
        let second = plan::node(1);
        assert!(
            lines[0].starts_with(&format!("route add 10.0.0.1/32 encap ip id 4711 dst {second} "))
        );
        assert!(!text.contains("10.0.0.4/32"), "{text}");
        assert_eq!(pods(1000, 1), "");
    }
}
