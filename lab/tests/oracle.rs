//! The negative control: the oracle turns red for a forged packet of each kind, at each exit, in each family, and for nothing else.

use std::net::IpAddr;

use anyhow::{Context, Result};
use lab::echo::ECHO_PORT;
use lab::family::{Dual, Family};
use lab::marker::Marker;
use lab::oracle::Class;
use lab::oracle::forge::{
    ARP, FRAGMENT, HOP_BY_HOP, IPV4, IPV6, Icmp, arp, discovery, extended, frame, icmp, inject,
    ip_frame, tcp, udp, vxlan,
};
use lab::site::Site;
use lab::stack::Lab;
use lab::topology::{
    GATEWAY_EXTERNAL, GATEWAY_TUNNEL, NODE1, NODE2, POD_A, POD_B, POD_C, VXLAN_PORT, WORLD,
};

const POLICY: u32 = 4711;
const EGRESS_IP: Dual = Dual::new([203, 0, 113, 16], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
/// In the range of egress IPs, but no policy has it.
const UNUSED_IP: Dual = Dual::new([203, 0, 113, 18], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x12]);
const LINK_LOCAL: Dual = Dual::new([169, 254, 0, 1], [0xfe80, 0, 0, 0, 0, 0, 0, 0x66]);
const NOBODY: Dual = Dual::new([0; 4], [0; 8]);

/// Where a frame is put on the wire, and the exit at which it is counted.
#[derive(Clone, Copy, Debug)]
enum At {
    External,
    Tunnel,
    Node1,
}

impl At {
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::External => ("gateway", "ext0", "gateway ext"),
            Self::Tunnel => ("gateway", "tun0", "gateway tun"),
            Self::Node1 => ("node1", "eth0", "node1"),
        }
    }
}

/// Of pod-a, with this policy.
fn marker(family: Family, policy: u32) -> [u8; Marker::LENGTH] {
    let pod = POD_A.address.of(family).into();
    Marker { pod, policy, generation: 1, sequence: 1 }.to_bytes()
}

/// What `ping -p` sends: a timestamp, then the pattern.
fn ping_payload(family: Family, policy: u32) -> Vec<u8> {
    [&[0; 16][..], &marker(family, policy)].concat()
}

/// A VXLAN packet from node1 to the gateway, or back.
fn tunnel(from: IpAddr, to: IpAddr, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
    udp(from, to, VXLAN_PORT, &vxlan(vni, inner))
}

type Case = (&'static str, At, Vec<u8>, Class);

fn at_the_external_port(family: Family) -> Result<Vec<Case>> {
    use Class::{
        Control, EgressIp, GatewayOwnAddress, PodAddressLeaked, Unclassified, WrongPolicy,
    };
    let of = |address: Dual| address.of(family);
    let (egress, own, world, pod) =
        (of(EGRESS_IP), of(GATEWAY_EXTERNAL), of(WORLD), of(POD_A.address));
    let marked = |policy| marker(family, policy);
    let right = udp(egress, world, ECHO_PORT, &marked(POLICY))?;
    let leaked = udp(pod, world, ECHO_PORT, b"")?;
    let to_pod = udp(world, pod, ECHO_PORT, b"")?;
    let mut gre = right.clone();
    gre[if family == Family::V6 { 6 } else { 9 }] = 47;
    let ether_type = if family == Family::V6 { IPV6 } else { IPV4 };
    let tagged = [&[0, 5][..], &ether_type.to_be_bytes(), &right].concat();
    let half = frame(ether_type, right.get(..10).context("too short")?);
    let ping = |policy| icmp(egress, world, Icmp::EchoRequest, &ping_payload(family, policy));
    let error = |from, quoted: &[u8]| icmp(from, world, Icmp::PortUnreachable, quoted);
    let cases = [
        ("its own policy", right.clone(), EgressIp),
        ("no marker", udp(egress, world, ECHO_PORT, b"hello")?, EgressIp),
        ("own ping", icmp(own, world, Icmp::EchoRequest, b"")?, Control),
        ("an error about an egress IP", error(own, &right)?, Control),
        ("UDP, other policy", udp(egress, world, ECHO_PORT, &marked(1))?, WrongPolicy),
        ("UDP, no policy", udp(egress, world, ECHO_PORT, &marked(0))?, WrongPolicy),
        ("TCP, other policy", tcp(egress, world, &marked(1))?, WrongPolicy),
        ("its own ping", ping(POLICY)?, EgressIp),
        ("ping, other policy", ping(1)?, WrongPolicy),
        ("own UDP", udp(own, world, ECHO_PORT, b"")?, GatewayOwnAddress),
        ("own TCP", tcp(own, world, b"")?, GatewayOwnAddress),
        ("pod's source", leaked.clone(), PodAddressLeaked),
        ("pod's destination", to_pod.clone(), PodAddressLeaked),
        ("error that quotes a pod's source", error(egress, &leaked)?, PodAddressLeaked),
        ("error that quotes a pod's destination", error(own, &to_pod)?, PodAddressLeaked),
        ("egress IP of no policy", udp(of(UNUSED_IP), world, ECHO_PORT, b"")?, Unclassified),
        ("a node's source", udp(of(NODE1.address), world, ECHO_PORT, b"")?, Unclassified),
        ("the tunnel's source", udp(of(GATEWAY_TUNNEL), world, 53, b"")?, Unclassified),
        ("another protocol", gre, Unclassified),
    ];
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(what, packet, class)| (what, At::External, ip_frame(&packet), class))
        .collect();
    cases.push(("a VLAN tag", At::External, frame(0x8100, &tagged), Unclassified));
    cases.push(("half an IP header", At::External, half, Unclassified));
    Ok(cases)
}

/// `inner` of the tunnel, over `outer`.
fn at_the_tunnel_port(outer: Family, inner: Family) -> Result<Vec<Case>> {
    use Class::{Control, GatewayOwnAddress, PodAddressLeaked, Tunnel, Unclassified, WrongPod};
    let of = |address: Dual| address.of(inner);
    let (own, node) = (GATEWAY_TUNNEL.of(outer), NODE1.address.of(outer));
    let reply = udp(of(WORLD), of(POD_A.address), 40_000, &marker(inner, POLICY))?;
    let stray = udp(of(WORLD), of(POD_B.address), 40_000, &marker(inner, POLICY))?;
    let to_node1 = |packet: &[u8]| tunnel(own, node, POLICY, packet);
    let quoting = icmp(of(GATEWAY_TUNNEL), of(NODE1.address), Icmp::PortUnreachable, &reply)?;
    let cases = [
        ("answer to its pod", to_node1(&reply)?, Tunnel),
        ("own ping", icmp(own, node, Icmp::EchoRequest, b"")?, Control),
        ("answer to another pod", to_node1(&stray)?, WrongPod),
        ("half an answer", to_node1(reply.get(..10).context("too short")?)?, Unclassified),
        ("own UDP outside the tunnel", udp(own, node, 53, b"")?, GatewayOwnAddress),
        ("answer outside the tunnel", reply, PodAddressLeaked),
        ("error that quotes a pod outside the tunnel", quoting, PodAddressLeaked),
        (
            "egress IP at the wrong port",
            udp(of(EGRESS_IP), of(WORLD), ECHO_PORT, b"")?,
            Unclassified,
        ),
    ];
    let cases = cases.into_iter();
    Ok(cases.map(|(what, packet, class)| (what, At::Tunnel, ip_frame(&packet), class)).collect())
}

/// `inner` is the family of the pods' packets, `outer` that of the tunnel.
fn at_a_node(outer: Family, inner: Family) -> Result<Vec<Case>> {
    use Class::{Cluster, Node, PodAddressLeaked, Tunnel, Unclassified, WrongPod, WrongPolicy};
    let of = |address: Dual| address.of(inner);
    let (node, pod, world) = (of(NODE1.address), of(POD_A.address), of(WORLD));
    let from_a = udp(pod, world, ECHO_PORT, &marker(inner, POLICY))?;
    let from_b = udp(of(POD_B.address), world, ECHO_PORT, &marker(inner, POLICY))?;
    let (vtep, gateway) = (NODE1.address.of(outer), GATEWAY_TUNNEL.of(outer));
    let to_gateway = |vni, packet: &[u8]| tunnel(vtep, gateway, vni, packet);
    let masqueraded = |policy| udp(node, world, ECHO_PORT, &marker(inner, policy));
    let other_vtep = tunnel(NODE2.address.of(outer), gateway, POLICY, &from_a)?;
    let cases = [
        ("masqueraded", masqueraded(0)?, Node),
        ("tunnelled", to_gateway(POLICY, &from_a)?, Tunnel),
        ("pod to pod", udp(pod, of(POD_C.address), ECHO_PORT, b"")?, Cluster),
        ("masqueraded in spite of a policy", masqueraded(POLICY)?, WrongPolicy),
        ("tunnelled with another policy's VNI", to_gateway(1, &from_a)?, WrongPolicy),
        ("tunnelled for another pod", to_gateway(POLICY, &from_b)?, WrongPod),
        ("tunnelled as another node", other_vtep, Unclassified),
        (
            "error that quotes a pod",
            icmp(node, world, Icmp::PortUnreachable, &from_a)?,
            PodAddressLeaked,
        ),
        ("not masqueraded", from_a, PodAddressLeaked),
        ("another node's source", udp(of(NODE2.address), world, ECHO_PORT, b"")?, Unclassified),
        ("egress IP at a node", udp(of(EGRESS_IP), world, ECHO_PORT, b"")?, Unclassified),
    ];
    let cases = cases.into_iter();
    Ok(cases.map(|(what, packet, class)| (what, At::Node1, ip_frame(&packet), class)).collect())
}

/// What tells the neighbours who is here, and frames that are of no family.
fn on_the_link() -> Result<Vec<Case>> {
    use Class::{Control, PodAddressLeaked, Unclassified};
    let (own, egress, pod) = (GATEWAY_EXTERNAL, EGRESS_IP, POD_A.address);
    let from = |sender: Dual| frame(ARP, &arp(sender.v4));
    let nd = |source: Dual, kind, target: Dual| -> Result<Vec<u8>> {
        Ok(ip_frame(&discovery(source.v6, kind, target.v6)?))
    };
    let report =
        extended(&discovery(LINK_LOCAL.v6, 143, NOBODY.v6)?, HOP_BY_HOP, [5, 2, 0, 0, 1, 0]);
    let routed_report =
        extended(&discovery(egress.v6, 143, NOBODY.v6)?, HOP_BY_HOP, [5, 2, 0, 0, 1, 0]);
    let mut passed_on = discovery(own.v6, 136, own.v6)?;
    passed_on[7] = 254;
    let hello = udp(LINK_LOCAL.of(Family::V6), WORLD.of(Family::V6), ECHO_PORT, b"")?;
    let at = At::External;
    Ok(vec![
        ("own ARP", at, from(own), Control),
        ("egress IP's ARP", at, from(egress), Control),
        ("ARP of an egress IP of no policy", at, from(UNUSED_IP), Unclassified),
        ("pod's ARP", at, from(pod), PodAddressLeaked),
        ("half an ARP header", at, frame(ARP, &[0, 1, 8, 0]), Unclassified),
        ("node's own ARP", At::Node1, from(NODE1.address), Control),
        ("egress IP's ARP at the tunnel port", At::Tunnel, from(egress), Unclassified),
        ("own solicitation", at, nd(own, 135, WORLD)?, Control),
        ("link-local solicitation", at, nd(LINK_LOCAL, 135, WORLD)?, Control),
        ("own search for duplicates", at, nd(NOBODY, 135, own)?, Control),
        ("search for duplicates of nobody's", at, nd(NOBODY, 135, UNUSED_IP)?, Unclassified),
        ("pod's solicitation", at, nd(pod, 135, WORLD)?, PodAddressLeaked),
        ("own advertisement", at, nd(own, 136, own)?, Control),
        ("egress IP's advertisement", at, nd(LINK_LOCAL, 136, egress)?, Control),
        ("advertisement of no policy's egress IP", at, nd(own, 136, UNUSED_IP)?, Unclassified),
        ("advertisement of a pod", at, nd(own, 136, pod)?, PodAddressLeaked),
        (
            "egress IP's advertisement at the tunnel port",
            At::Tunnel,
            nd(GATEWAY_TUNNEL, 136, egress)?,
            Unclassified,
        ),
        ("advertisement that a router passed on", at, ip_frame(&passed_on), Unclassified),
        ("redirect", at, nd(LINK_LOCAL, 137, WORLD)?, Unclassified),
        ("router solicitation", at, nd(LINK_LOCAL, 133, NOBODY)?, Control),
        ("router advertisement", At::Node1, nd(LINK_LOCAL, 134, NOBODY)?, Control),
        ("node's own advertisement", At::Node1, nd(NODE1.address, 136, NODE1.address)?, Control),
        ("listener report", at, ip_frame(&report), Control),
        ("listener report with an egress IP", at, ip_frame(&routed_report), Unclassified),
        ("link-local UDP", at, ip_frame(&hello), Unclassified),
        ("another EtherType", at, frame(0x88b5, &[0; 46]), Unclassified),
    ])
}

/// What only IPv6 has: headers that hide the upper layer from whoever looks at a fixed place, and addresses that look like IPv4.
fn of_ipv6_only() -> Result<Vec<Case>> {
    use Class::{EgressIp, PodAddressLeaked, Unclassified, WrongPolicy};
    let of = |address: Dual| address.of(Family::V6);
    let marked = |policy| udp(of(EGRESS_IP), of(WORLD), ECHO_PORT, &marker(Family::V6, policy));
    let (right, wrong) = (marked(POLICY)?, marked(1)?);
    let first = [0, 1, 0, 0, 0, 9];
    let later = [0, 9, 0, 0, 0, 9];
    let padding = [1, 4, 0, 0, 0, 0];
    let leaked = udp(of(POD_A.address), of(WORLD), ECHO_PORT, b"")?;
    let error =
        icmp(of(EGRESS_IP), of(WORLD), Icmp::PortUnreachable, &extended(&leaked, 60, padding))?;
    let mapped = IpAddr::V6(EGRESS_IP.v4.to_ipv6_mapped());
    let mapped = udp(mapped, of(WORLD), ECHO_PORT, b"")?;
    let mut many = right.clone();
    for _ in 0..7 {
        many = extended(&many, 60, padding);
    }
    let cases = [
        ("options", extended(&right, 60, padding), EgressIp),
        ("options, other policy", extended(&wrong, 60, padding), WrongPolicy),
        ("first fragment", extended(&right, FRAGMENT, first), EgressIp),
        ("first fragment, other policy", extended(&wrong, FRAGMENT, first), WrongPolicy),
        ("later fragment, whose bytes are no header", extended(&wrong, FRAGMENT, later), EgressIp),
        ("later fragment of a pod", extended(&leaked, FRAGMENT, later), PodAddressLeaked),
        (
            "error that quotes a pod behind options",
            extended(&error, HOP_BY_HOP, padding),
            PodAddressLeaked,
        ),
        ("more options than anybody sends", many, Unclassified),
        ("IPv6 with an IPv4 egress IP", mapped, Unclassified),
    ];
    let cases = cases.into_iter();
    Ok(cases.map(|(what, packet, class)| (what, At::External, ip_frame(&packet), class)).collect())
}

/// Puts each frame on its wire and looks what it is counted as.
fn require(cases: Vec<Case>) -> Result<()> {
    let mut lab = Lab::start(Site::default())?;
    for egress_ip in EGRESS_IP.both() {
        lab.oracle().expect(egress_ip, POLICY, "payments")?;
    }
    for (what, at, frame, class) in cases {
        let (host, device, exit) = at.place();
        let count = |lab: &Lab| -> Result<(u64, u64)> {
            let report = lab.report()?;
            let exit = report.exits.iter().find(|candidate| candidate.name == exit);
            Ok((exit.context("no such exit")?.count(class), report.red()))
        };
        let (before, red_before) = count(&lab)?;
        inject(lab.host(host)?, device, &frame).context(what)?;
        let (after, red_after) = count(&lab)?;
        let report = lab.report()?;
        // neighbour discovery of the nodes' own kernels may come in between
        let counted = if class == Class::Control { after > before } else { after == before + 1 };
        assert!(counted, "{exit}: {what} is not counted as {class:?}:\n{report}");
        assert_eq!(red_after - red_before, u64::from(class.is_red()), "{exit}: {what}:\n{report}");
        assert_eq!(report.require_clean().is_err(), red_after > 0, "{what}");
    }
    Ok(())
}

#[test]
fn the_oracle_sees_every_forged_ipv4_packet_as_what_it_is() -> Result<()> {
    use Family::V4;
    require([at_the_external_port(V4)?, at_the_tunnel_port(V4, V4)?, at_a_node(V4, V4)?].concat())
}

#[test]
fn the_oracle_sees_every_forged_ipv6_packet_as_what_it_is() -> Result<()> {
    use Family::V6;
    let tunnel = [at_the_tunnel_port(V6, V6)?, at_a_node(V6, V6)?].concat();
    require([at_the_external_port(V6)?, tunnel, of_ipv6_only()?].concat())
}

#[test]
fn it_looks_into_tunnels_whose_two_families_differ() -> Result<()> {
    use Family::{V4, V6};
    let over_v4 = [at_the_tunnel_port(V4, V6)?, at_a_node(V4, V6)?].concat();
    let over_v6 = [at_the_tunnel_port(V6, V4)?, at_a_node(V6, V4)?].concat();
    require([over_v4, over_v6].concat())
}

#[test]
fn who_claims_an_address_towards_the_neighbours_is_judged_by_it() -> Result<()> {
    require(on_the_link()?)
}

#[test]
fn an_egress_ip_is_right_only_while_its_policy_has_it() -> Result<()> {
    let mut lab = Lab::start(Site::default())?;
    for (family, unclassified) in [(Family::V4, 1), (Family::V6, 2)] {
        let egress_ip = EGRESS_IP.of(family);
        let payload = marker(family, POLICY);
        let packet = ip_frame(&udp(egress_ip, WORLD.of(family), ECHO_PORT, &payload)?);
        lab.oracle().expect(egress_ip, POLICY, "payments")?;
        inject(lab.host("gateway")?, "ext0", &packet)?;
        assert_eq!(lab.report()?.egress_ip(egress_ip), 1);
        assert_eq!(lab.report()?.count(Class::Unclassified), unclassified - 1);
        lab.oracle().forbid(egress_ip)?;
        inject(lab.host("gateway")?, "ext0", &packet)?;
        assert_eq!(lab.report()?.count(Class::Unclassified), unclassified);
    }
    Ok(())
}
