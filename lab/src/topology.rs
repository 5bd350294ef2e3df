//! Who is in the lab, and who is cabled to whom.
//!
//! ```text
//!  pod-a 10.244.1.10 ┐
//!  pod-b 10.244.1.11 ┴ node1 192.0.2.1 ─┐
//!                                       ├─ underlay ── router ──── world 198.51.100.10, .20
//!  pod-c 10.244.2.10 ┬ node2 192.0.2.2 ─┤  192.0.2.254   │ 203.0.113.1
//!  pod-d 10.244.2.11 ┘                  │                │
//!                        tun0 192.0.2.10 └─── gateway ────┘ ext0 203.0.113.2
//! ```
//!
//! This is a gateway with two ports; one with a single device is behind another switch: see [`crate::rack`].
//!
//! `underlay` is the switch and router that nodes and gateway tunnel over, `router` the one between this site and the world. The gateway's two
//! interfaces have no address for the kernel: DPDK speaks there. Without any policy a pod leaves through its node, which masquerades.
//!
//! Everybody has an IPv6 address beside each IPv4 one, with the same last part: pods `fd00:244:1::10`, nodes `2001:db8:2::1`, the gateway
//! `2001:db8:2::10` and `2001:db8:113::2`, the world `2001:db8:100::10`. Nobody waits for duplicate address detection, and nobody listens to
//! router advertisements.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::family::Dual;
use crate::namespaces::Namespaces;
use crate::rack;
use crate::site::Arrangement;

const HOSTS: [&str; 10] = [
    "underlay", "router", "world", "gateway", "node1", "node2", "pod-a", "pod-b", "pod-c", "pod-d",
];

#[must_use]
pub fn hosts(arrangement: Arrangement) -> Vec<&'static str> {
    let rack = (arrangement != Arrangement::TwoPorts).then_some(rack::HOST);
    HOSTS.into_iter().chain(rack).collect()
}

pub const GATEWAY_TUNNEL: Dual = Dual::new([192, 0, 2, 10], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10]);
pub const GATEWAY_EXTERNAL: Dual =
    Dual::new([203, 0, 113, 2], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2]);
pub const VXLAN_PORT: u16 = 4790;

/// The echo server's two addresses of each family; the second one is for excluded CIDRs.
pub const WORLD: Dual = Dual::new([198, 51, 100, 10], [0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10]);
pub const WORLD_EXCLUDED: Dual =
    Dual::new([198, 51, 100, 20], [0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x20]);

/// All pods of all nodes: 10.244.0.0/16 and fd00:244::/32.
pub const POD_NET: Dual = Dual::new([10, 244, 0, 0], [0xfd00, 0x244, 0, 0, 0, 0, 0, 0]);
pub const POD_MASK: Dual =
    Dual { v4: Ipv4Addr::new(255, 255, 0, 0), v6: Ipv6Addr::new(0xffff, 0xffff, 0, 0, 0, 0, 0, 0) };

#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub name: &'static str,
    pub address: Dual,
    /// IPv4 and IPv6.
    pub pod_cidrs: [&'static str; 2],
}

#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub name: &'static str,
    pub address: Dual,
    pub node: Node,
}

pub const NODE1: Node = Node {
    name: "node1",
    address: Dual::new([192, 0, 2, 1], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]),
    pod_cidrs: ["10.244.1.0/24", "fd00:244:1::/64"],
};
pub const NODE2: Node = Node {
    name: "node2",
    address: Dual::new([192, 0, 2, 2], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 2]),
    pod_cidrs: ["10.244.2.0/24", "fd00:244:2::/64"],
};

pub const POD_A: Pod = pod("pod-a", NODE1, 1, (10, 0x10));
pub const POD_B: Pod = pod("pod-b", NODE1, 1, (11, 0x11));
pub const POD_C: Pod = pod("pod-c", NODE2, 2, (10, 0x10));
pub const POD_D: Pod = pod("pod-d", NODE2, 2, (11, 0x11));

const fn pod(name: &'static str, node: Node, net: u8, (v4, v6): (u8, u16)) -> Pod {
    let address = Dual::new([10, 244, net, v4], [0xfd00, 0x244, net as u16, 0, 0, 0, 0, v6]);
    Pod { name, address, node }
}

pub const NODES: [Node; 2] = [NODE1, NODE2];
pub const PODS: [Pod; 4] = [POD_A, POD_B, POD_C, POD_D];

/// A veth pair. Named after what is at the other end, but for the interfaces that have a name in the product.
pub(crate) struct Cable(pub &'static str, pub &'static str, pub &'static str, pub &'static str);

const CABLES: [Cable; 8] = [
    Cable("underlay", "node1", "node1", "eth0"),
    Cable("underlay", "node2", "node2", "eth0"),
    Cable("router", "underlay", "underlay", "router"),
    Cable("router", "world", "world", "eth0"),
    Cable("node1", "veth-pod-a", "pod-a", "eth0"),
    Cable("node1", "veth-pod-b", "pod-b", "eth0"),
    Cable("node2", "veth-pod-c", "pod-c", "eth0"),
    Cable("node2", "veth-pod-d", "pod-d", "eth0"),
];

const TWO_PORTS: [Cable; 2] = [
    Cable("underlay", "gateway", "gateway", "tun0"),
    Cable("router", "gateway", "gateway", "ext0"),
];

/// Forward, without source checks: the ways to the world and back are not the same ones.
const FORWARDING: &str = "\
net.ipv4.ip_forward=1
net.ipv6.conf.all.forwarding=1
net.ipv4.conf.all.rp_filter=0
net.ipv4.conf.default.rp_filter=0
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0
net.ipv4.icmp_ratelimit=0
net.ipv6.icmp.ratelimit=0
";

/// Of all who speak IPv6, before they have interfaces: addresses can be used at once (as `nodad`, but for link-local ones too), and come from
/// nowhere but from here.
const PREDICTABLE: &str = "\
net.ipv6.conf.default.accept_dad=0
net.ipv6.conf.default.dad_transmits=0
net.ipv6.conf.default.accept_ra=0
net.ipv6.conf.default.autoconf=0
net.ipv6.conf.default.router_solicitations=0
";

/// The kernel stays silent where DPDK speaks.
pub(crate) const SILENT: &str = "\
net.ipv6.conf.all.disable_ipv6=1
net.ipv6.conf.default.disable_ipv6=1
net.ipv4.conf.all.arp_ignore=8
";

const UNDERLAY: &str = "\
link add name switch type bridge mcast_snooping 0
link set dev node1 master switch
link set dev node2 master switch
link set dev gateway master switch
addr add 192.0.2.254/24 dev switch
addr add 2001:db8:2::254/64 dev switch
addr add 100.64.0.1/30 dev router
addr add 2001:db8:64::1/64 dev router
link set dev switch up
link set dev router up
route add default via 100.64.0.2
route add default via 2001:db8:64::2
";

const ROUTER: &str = "\
link add name external address 02:00:00:00:71:01 type bridge mcast_snooping 0
link set dev gateway master external
addr add 203.0.113.1/24 dev external
addr add 2001:db8:113::1/64 dev external
addr add 100.64.0.2/30 dev underlay
addr add 2001:db8:64::2/64 dev underlay
addr add 198.51.100.1/24 dev world
addr add 2001:db8:100::1/64 dev world
link set dev external up
link set dev underlay up
link set dev world up
route add 192.0.2.0/24 via 100.64.0.1
route add 2001:db8:2::/64 via 2001:db8:64::1
";

/// On the gateway's external segment.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0x71, 1];

const WORLD_SETUP: &str = "\
addr add 198.51.100.10/24 dev eth0
addr add 198.51.100.20/24 dev eth0
addr add 2001:db8:100::10/64 dev eth0
addr add 2001:db8:100::20/64 dev eth0
link set dev eth0 up
route add default via 198.51.100.1
route add default via 2001:db8:100::1
";

const GATEWAY_SETUP: &str = "\
link set dev tun0 arp off up
link set dev ext0 arp off up
";

/// Lays all cables and gives all addresses. The exits that the oracle watches stay down until [`open_exits`].
pub fn wire(lab: &Namespaces, arrangement: Arrangement) -> Result<()> {
    for host in HOSTS.iter().filter(|host| **host != "gateway") {
        lab.host(host)?.run_with_input(&["sysctl", "-qp", "-"], PREDICTABLE)?;
    }
    for host in ["underlay", "router", "node1", "node2"] {
        lab.host(host)?.run_with_input(&["sysctl", "-qp", "-"], FORWARDING)?;
    }
    lab.host("gateway")?.run_with_input(&["sysctl", "-qp", "-"], SILENT)?;
    CABLES.iter().try_for_each(|cable| lay(lab, cable))?;
    if arrangement == Arrangement::TwoPorts {
        TWO_PORTS.iter().try_for_each(|cable| lay(lab, cable))?;
        configure(lab, "gateway", GATEWAY_SETUP)?;
    } else {
        rack::wire(lab, arrangement)?;
    }
    for (host, commands) in [("underlay", UNDERLAY), ("router", ROUTER), ("world", WORLD_SETUP)] {
        configure(lab, host, commands)?;
    }
    NODES.iter().try_for_each(|node| wire_node(lab, node))?;
    PODS.iter().try_for_each(|pod| wire_pod(lab, pod))
}

/// The exits: (host, interface) where what leaves the named host arrives.
fn exits(arrangement: Arrangement) -> Vec<(&'static str, &'static str)> {
    let of_gateway: &[_] = match arrangement {
        Arrangement::TwoPorts => &[("router", "gateway"), ("underlay", "gateway")],
        Arrangement::OneArmedByVlan { .. } | Arrangement::OneArmedByAddress => {
            &[(rack::HOST, "gateway")]
        }
    };
    [of_gateway, &[("underlay", "node1"), ("underlay", "node2")]].concat()
}

/// Lets traffic leave: called when the oracle watches, so that it sees the very first packet.
pub fn open_exits(lab: &Namespaces, arrangement: Arrangement) -> Result<()> {
    exits(arrangement)
        .iter()
        .try_for_each(|(host, device)| configure(lab, host, &format!("link set dev {device} up")))
}

pub(crate) fn lay(lab: &Namespaces, Cable(host, device, peer_host, peer): &Cable) -> Result<()> {
    let peer_pid = lab.host(peer_host)?.inner_pid();
    let add = format!("link add name {device} type veth peer name {peer} netns {peer_pid}");
    configure(lab, host, &add)?;
    if peer_host.starts_with("pod") {
        // as in a cluster: pods send large segments and leave checksums to the device
        return Ok(());
    }
    // af_packet hands frames to DPDK as they are: whole, and with their checksums
    for (host, device) in [(host, device), (peer_host, peer)] {
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        lab.host(host)?.run(&[["ethtool", "-K", device].as_slice(), &off].concat())?;
    }
    Ok(())
}

fn wire_node(lab: &Namespaces, node: &Node) -> Result<()> {
    let Dual { v4, v6 } = node.address;
    let mut commands = format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0\n");
    commands += "link set dev eth0 up\n";
    commands += "route add default via 192.0.2.254\nroute add default via 2001:db8:2::254\n";
    for other in NODES.iter().filter(|other| other.name != node.name) {
        for (cidr, via) in other.pod_cidrs.iter().zip(other.address.both()) {
            writeln!(commands, "route add {cidr} via {via}")?;
        }
    }
    configure(lab, node.name, &commands)?;
    let [v4, v6] = node.pod_cidrs;
    let Dual { v4: pods, v6: pods_v6 } = POD_NET;
    let masquerade = format!(
        "table inet lab {{
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                oifname eth0 ip saddr {v4} ip daddr != {{ {pods}/16, 192.0.2.0/24 }} masquerade
                oifname eth0 ip6 saddr {v6} ip6 daddr != {{ {pods_v6}/32, 2001:db8:2::/64 }} masquerade
            }}
        }}"
    );
    lab.host(node.name)?.run_with_input(&["nft", "-f", "-"], &masquerade)
}

/// As Calico does: a point-to-point link, where the node answers ARP for the pod's gateway, 169.254.1.1; its IPv6 gateway is a link-local
/// address that the node has on all these links.
fn wire_pod(lab: &Namespaces, pod: &Pod) -> Result<()> {
    let veth = format!("veth-{}", pod.name);
    let Dual { v4, v6 } = pod.address;
    configure(
        lab,
        pod.node.name,
        &format!(
            "link set dev {veth} up
             addr add fe80::1/64 dev {veth} nodad
             route add {v4}/32 dev {veth}
             route add {v6}/128 dev {veth}"
        ),
    )?;
    lab.host(pod.node.name)?.run(&[
        "sysctl",
        "-q",
        &format!("net.ipv4.conf.{veth}.proxy_arp=1"),
        &format!("net.ipv4.neigh.{veth}.proxy_delay=0"),
    ])?;
    configure(
        lab,
        pod.name,
        &format!(
            "addr add {v4}/32 dev eth0
             addr add {v6}/128 dev eth0 nodad
             link set dev eth0 up
             route add 169.254.1.1 dev eth0 scope link
             route add default via 169.254.1.1 dev eth0
             route add default via fe80::1 dev eth0"
        ),
    )
}

/// The pod's interface goes and comes again under the same name, as when a pod is replaced.
pub fn replace_interface(lab: &Namespaces, pod: &Pod) -> Result<()> {
    let veth = format!("veth-{}", pod.name);
    configure(lab, pod.node.name, &format!("link del dev {veth}"))?;
    let cable = CABLES.iter().find(|cable| cable.1 == veth);
    lay(lab, cable.context("no such cable")?)?;
    wire_pod(lab, pod)
}

pub(crate) fn configure(lab: &Namespaces, host: &str, commands: &str) -> Result<()> {
    lab.host(host)?.run_with_input(&["ip", "-batch", "-"], commands)
}
