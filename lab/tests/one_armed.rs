//! A short day at sites whose gateway has one device for both sides. The oracle watches that one wire: each packet on it must be what its
//! side may send, in the VLAN of that side or to a neighbour of it.

mod common;

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use common::{
    BOTH, Conversation, PAYMENTS_IP, crawler, open_all, payments, product_at, require_all_workers,
    require_right, say_all, transfer,
};
use lab::config::GATEWAY_API;
use lab::echo::ECHO_PORT;
use lab::family::{Dual, Family};
use lab::marker::Marker;
use lab::oracle::Class;
use lab::oracle::forge::{Icmp, addressed, icmp, inject, ip_frame, udp, vxlan};
use lab::rack::{self, ARM};
use lab::site::{Arrangement, Site};
use lab::stack::Lab;
use lab::topology::{
    GATEWAY_EXTERNAL, GATEWAY_TUNNEL, NODE1, NODE2, POD_A, POD_B, POD_C, POD_D, VXLAN_PORT, WORLD,
    WORLD_EXCLUDED,
};
use lab::traffic::{Expected, Traffic};
use lab::wait::{PATIENCE, until};

const TUNNEL_UNTAGGED: Arrangement = Arrangement::OneArmedByVlan { tunnel: 0, external: 20 };
const EXTERNAL_UNTAGGED: Arrangement = Arrangement::OneArmedByVlan { tunnel: 10, external: 0 };

#[test]
fn two_workers_by_vlan() -> Result<()> {
    a_day_at(Site { workers: 2, underlay: Family::V4, arrangement: Arrangement::BY_VLAN })
}

#[test]
fn one_worker_by_vlan_with_an_untagged_tunnel_side() -> Result<()> {
    a_day_at(Site { workers: 1, underlay: Family::V6, arrangement: TUNNEL_UNTAGGED })
}

#[test]
fn one_worker_by_vlan_with_an_untagged_external_side() -> Result<()> {
    a_day_at(Site { workers: 1, underlay: Family::V4, arrangement: EXTERNAL_UNTAGGED })
}

#[test]
fn two_workers_by_address() -> Result<()> {
    let arrangement = Arrangement::OneArmedByAddress;
    a_day_at(Site { workers: 2, underlay: Family::V6, arrangement })
}

#[test]
fn one_worker_by_address() -> Result<()> {
    let arrangement = Arrangement::OneArmedByAddress;
    a_day_at(Site { workers: 1, underlay: Family::V4, arrangement })
}

/// Of one pod, in each family: enough that no worker is left without one.
const FLOWS: usize = 24;

fn a_day_at(site: Site) -> Result<()> {
    let lab = product_at(site, "auto", &site.documents(&BOTH))?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_D, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    open_all(&lab, &mut traffic, POD_B, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_A, WORLD_EXCLUDED, Expected::Node)?;
    require_right(&lab, &traffic)?;
    // segments as large as the tunnel takes, with the tag on top
    transfer(&lab, POD_C, 1_000_000)?;
    let mut flows = Vec::new();
    for _ in 0..FLOWS {
        flows.extend(Conversation::open_each(&lab, POD_C, crawler())?);
    }
    let sources = say_all(&mut flows)?;
    require_all_workers(&lab)?;

    each_side_answers_for_itself(&lab).context("own addresses")?;
    let strays = match site.arrangement {
        Arrangement::OneArmedByVlan { tunnel, external } => by_vlan(tunnel, external)?,
        Arrangement::OneArmedByAddress => by_address()?,
        Arrangement::TwoPorts => Vec::new(),
    };
    require_dropped(&lab, strays)?;
    neither_side_uses_the_routes_of_the_other(&lab).context("routes")?;

    assert_eq!(say_all(&mut flows)?, sources, "another address or l4_port after all that");
    require_right(&lab, &traffic)?;
    let report = lab.report()?;
    assert!(report.count(Class::EgressIp) > 0 && report.count(Class::Tunnel) > 0, "{report}");
    Ok(())
}

/// The oracle sees to it that the answer goes to the side that asked.
fn each_side_answers_for_itself(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for (host, address) in [("node1", GATEWAY_TUNNEL), ("router", GATEWAY_EXTERNAL)] {
            ping(lab, host, address.of(family))?;
        }
    }
    Ok(())
}

fn ping(lab: &Lab, host: &str, address: IpAddr) -> Result<String> {
    lab.host(host)?.run(&["ping", "-n", "-c", "1", "-W", "5", &address.to_string()])
}

/// What it is, its VLAN on the wire, the packet, and as what it is counted: side and reason.
type Stray = (&'static str, u16, Vec<u8>, (&'static str, &'static str));

/// A VLAN has the addresses of its side alone.
fn by_vlan(tunnel: u16, external: u16) -> Result<Vec<Stray>> {
    let in_tunnel = ("tunnel", "not_our_address");
    let in_external = ("external", "not_our_address");
    let mut strays = Vec::new();
    for family in Family::BOTH {
        let of = |address: Dual| address.of(family);
        let (node, router) = (of(NODE1.address), of(ROUTER));
        let (vtep, own, egress) = (of(GATEWAY_TUNNEL), of(GATEWAY_EXTERNAL), of(PAYMENTS_IP));
        let ping = |from, to| icmp(from, to, Icmp::EchoRequest, b"");
        strays.extend([
            ("ping of the external address", tunnel, ping(node, own)?, in_tunnel),
            ("to an egress IP", tunnel, udp(node, egress, ECHO_PORT, b"")?, in_tunnel),
            ("the tunnel, to the external address", tunnel, tunnelled(node, own)?, in_tunnel),
            ("ping of the VTEP", external, ping(router, vtep)?, in_external),
            ("the tunnel, from the world", external, tunnelled(node, vtep)?, in_external),
            ("ping of the VTEP", OTHER_VLAN, ping(node, vtep)?, ("external", "wrong_vlan")),
        ]);
    }
    Ok(strays)
}

const OTHER_VLAN: u16 = 30;
const ROUTER: Dual = Dual::new([203, 0, 113, 1], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1]);
/// On-link at the tunnel side.
const STRANGER: Dual = Dual::new([192, 0, 2, 99], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x99]);

/// On one segment the destination tells the side, which then serves nothing that is the other's.
fn by_address() -> Result<Vec<Stray>> {
    let mut strays = Vec::new();
    for family in Family::BOTH {
        let of = |address: Dual| address.of(family);
        let (node, stranger) = (of(NODE1.address), of(STRANGER));
        let (vtep, own, egress) = (of(GATEWAY_TUNNEL), of(GATEWAY_EXTERNAL), of(PAYMENTS_IP));
        let to_another_node = icmp(node, of(NODE2.address), Icmp::EchoRequest, b"")?;
        strays.extend(
            [
                ("the tunnel, to the external address", tunnelled(node, own)?, "no_service"),
                ("to an egress IP", udp(node, egress, ECHO_PORT, b"")?, "no_session"),
                ("one node to another", to_another_node, "not_our_address"),
            ]
            .map(|(what, packet, reason)| (what, 0, packet, ("external", reason))),
        );
        let unknown = ("tunnel", "unknown_node");
        strays.push(("the tunnel, of a stranger", 0, tunnelled(stranger, vtep)?, unknown));
    }
    Ok(strays)
}

/// What would open a session if it were taken for a node's.
fn tunnelled(from: IpAddr, to: IpAddr) -> Result<Vec<u8>> {
    let Expected::Egress { policy, .. } = payments() else { unreachable!("it is a policy") };
    let pod = POD_A.address.v4.into();
    let marker = Marker { pod: IpAddr::into(pod), policy, generation: 1, sequence: 1 };
    let inner = udp(pod, WORLD.v4.into(), ECHO_PORT, &marker.to_bytes())?;
    udp(from, to, VXLAN_PORT, &vxlan(policy, &inner))
}

/// All of them, counted as what they are, and no packet of a pod leaves because of them.
fn require_dropped(lab: &Lab, strays: Vec<Stray>) -> Result<()> {
    let gateway = lab.host("gateway")?;
    let mac = fs::read_to_string(gateway.path(&format!("/sys/class/net/{ARM}/address")))?;
    let mut to = [0; 6];
    for (byte, text) in to.iter_mut().zip(mac.trim().split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    for (what, vlan, packet, (side, reason)) in strays {
        let before = drops(lab, side, reason)?;
        let left = lab.report()?.count(Class::EgressIp);
        inject(lab.host(rack::HOST)?, "gateway", &addressed(to, vlan, &ip_frame(&packet)))?;
        require_drop(lab, (side, reason), before)
            .with_context(|| format!("{what}, in VLAN {vlan}"))?;
        assert_eq!(lab.report()?.count(Class::EgressIp), left, "{what}, in VLAN {vlan}");
    }
    Ok(())
}

/// One more than `before`.
fn require_drop(lab: &Lab, (side, reason): (&str, &str), before: u64) -> Result<()> {
    until(&format!("{side} counts {reason}"), PATIENCE, || {
        let count = drops(lab, side, reason)?;
        ensure!(count == before + 1, "{count}, and {before} before");
        Ok(())
    })
}

/// Of all workers.
fn drops(lab: &Lab, side: &str, reason: &str) -> Result<u64> {
    let url = format!("{GATEWAY_API}/metrics");
    let metrics = lab.host("gateway")?.run(&["curl", "-sSf", "-m", "5", &url])?;
    let labels = [format!("side=\"{side}\""), format!("reason=\"{reason}\"")];
    let lines = metrics.lines().filter(|line| line.starts_with("egress_gateway_drops_total{"));
    let counts = lines
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next())
        .map(|count| Ok(count.parse::<u64>()?))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!counts.is_empty(), "no counter of {reason} at {side}");
    Ok(counts.iter().sum())
}

/// The underlay's router: on-link at the tunnel side, and nobody that nodes keep to themselves.
const UNDERLAY: Dual = Dual::new([192, 0, 2, 254], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x254]);

/// The gateway does not judge destinations, so a pod may ask for one that is on-link at the tunnel side. It is not on-link at the external side:
/// there the router gets it, and never the neighbour itself, though he is on the same wire.
///
/// And what the tunnel side has no next hop for does not take the external side's.
fn neither_side_uses_the_routes_of_the_other(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        let (to, source) = (UNDERLAY.of(family), PAYMENTS_IP.of(family));
        let seen = Forwarded::watch(lab, source, to)?;
        ping(lab, POD_A.name, to)?;
        assert_eq!(seen.packets()?, 1, "{to} was not reached by the router");
        // the router's source is its address towards the underlay
        let before = drops(lab, "tunnel", "no_next_hop")?;
        let vtep = GATEWAY_TUNNEL.of(family).to_string();
        let answer = lab.host("router")?.output(&["ping", "-n", "-c", "1", "-W", "1", &vtep])?;
        assert!(!answer.status.success(), "{}", String::from_utf8_lossy(&answer.stdout));
        require_drop(lab, ("tunnel", "no_next_hop"), before)?;
    }
    Ok(())
}

/// What the router between site and world passes on from one address to another.
struct Forwarded<'a> {
    lab: &'a Lab,
    table: String,
}

impl<'a> Forwarded<'a> {
    fn watch(lab: &'a Lab, from: IpAddr, to: IpAddr) -> Result<Self> {
        let (table, ip) = match Family::of(to) {
            Family::V4 => ("forwarded_v4", "ip"),
            Family::V6 => ("forwarded_v6", "ip6"),
        };
        let rule = format!("{ip} saddr {from} {ip} daddr {to} counter");
        let chain = format!("chain passed {{ type filter hook forward priority 0; {rule}; }}");
        let rules = format!("table inet {table} {{\n{chain}\n}}\n");
        lab.host("router")?.run_with_input(&["nft", "-f", "-"], &rules)?;
        Ok(Self { lab, table: table.to_owned() })
    }

    fn packets(&self) -> Result<u64> {
        let text = self.lab.host("router")?.run(&["nft", "list", "table", "inet", &self.table])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        Ok(words.nth(1).context("no counter")?.parse()?)
    }
}
