//! The negative control: the oracle turns red for a forged packet of each kind, at each exit, and for nothing else.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use etherparse::IcmpEchoHeader;
use etherparse::Icmpv4Type;
use etherparse::icmpv4::DestUnreachableHeader;
use lab::echo::ECHO_PORT;
use lab::marker::Marker;
use lab::oracle::Class;
use lab::oracle::forge::{ARP, IPV4, arp, frame, icmp, inject, tcp, udp, vxlan};
use lab::stack::Lab;
use lab::topology::{
    GATEWAY_EXTERNAL, GATEWAY_TUNNEL, NODE1, NODE2, POD_A, POD_B, VXLAN_PORT, WORLD,
};

const POLICY: u32 = 4711;
const EGRESS_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 16);
/// In the range of egress IPs, but no policy has it.
const UNUSED_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 18);

/// Where a frame is put on the wire, and the exit at which it is counted.
#[derive(Clone, Copy)]
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
fn marker(policy: u32) -> [u8; Marker::LENGTH] {
    Marker { pod: POD_A.address, policy, generation: 1, sequence: 1 }.to_bytes()
}

fn echo_request() -> Icmpv4Type {
    Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 1, seq: 1 })
}

fn unreachable() -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port)
}

/// What `ping -p` sends: a timestamp, then the pattern.
fn ping_payload(policy: u32) -> Vec<u8> {
    [&[0; 16][..], &marker(policy)].concat()
}

/// A VXLAN packet from node1 to the gateway, or back.
fn tunnel(from: Ipv4Addr, to: Ipv4Addr, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
    udp(from, to, VXLAN_PORT, &vxlan(vni, inner))
}

type Case = (&'static str, At, Vec<u8>, Class);

fn at_the_external_port() -> Result<Vec<Case>> {
    use Class::{
        Control, EgressIp, GatewayOwnAddress, PodAddressLeaked, Unclassified, WrongPolicy,
    };
    let at = At::External;
    let ip = |packet: Vec<u8>| frame(IPV4, &packet);
    let right = udp(EGRESS_IP, WORLD, ECHO_PORT, &marker(POLICY))?;
    let leaked = udp(POD_A.address, WORLD, ECHO_PORT, b"")?;
    let to_pod = udp(WORLD, POD_A.address, ECHO_PORT, b"")?;
    let mut gre = right.clone();
    gre[9] = 47;
    let mut tagged = right.clone();
    tagged.splice(0..0, [0, 5, 8, 0]);
    Ok(vec![
        ("its own policy", at, ip(right.clone()), EgressIp),
        ("no marker", at, ip(udp(EGRESS_IP, WORLD, ECHO_PORT, b"hello")?), EgressIp),
        ("own ping", at, ip(icmp(GATEWAY_EXTERNAL, WORLD, echo_request(), b"")?), Control),
        ("own ARP", at, frame(ARP, &arp(GATEWAY_EXTERNAL)), Control),
        ("egress IP's ARP", at, frame(ARP, &arp(EGRESS_IP)), Control),
        ("UDP, other policy", at, ip(udp(EGRESS_IP, WORLD, ECHO_PORT, &marker(1))?), WrongPolicy),
        ("UDP, no policy", at, ip(udp(EGRESS_IP, WORLD, ECHO_PORT, &marker(0))?), WrongPolicy),
        ("TCP, other policy", at, ip(tcp(EGRESS_IP, WORLD, &marker(1))?), WrongPolicy),
        (
            "ping, other policy",
            at,
            ip(icmp(EGRESS_IP, WORLD, echo_request(), &ping_payload(1))?),
            WrongPolicy,
        ),
        ("own UDP", at, ip(udp(GATEWAY_EXTERNAL, WORLD, ECHO_PORT, b"")?), GatewayOwnAddress),
        ("own TCP", at, ip(tcp(GATEWAY_EXTERNAL, WORLD, b"")?), GatewayOwnAddress),
        ("pod's source", at, ip(leaked.clone()), PodAddressLeaked),
        ("pod's destination", at, ip(to_pod.clone()), PodAddressLeaked),
        ("pod's ARP", at, frame(ARP, &arp(POD_A.address)), PodAddressLeaked),
        (
            "error that quotes a pod's source",
            at,
            ip(icmp(EGRESS_IP, WORLD, unreachable(), &leaked)?),
            PodAddressLeaked,
        ),
        (
            "error that quotes a pod's destination",
            at,
            ip(icmp(GATEWAY_EXTERNAL, WORLD, unreachable(), &to_pod)?),
            PodAddressLeaked,
        ),
        ("egress IP of no policy", at, ip(udp(UNUSED_IP, WORLD, ECHO_PORT, b"")?), Unclassified),
        ("its ARP", at, frame(ARP, &arp(UNUSED_IP)), Unclassified),
        ("a node's source", at, ip(udp(NODE1.address, WORLD, ECHO_PORT, b"")?), Unclassified),
        ("another protocol", at, ip(gre), Unclassified),
        ("a VLAN tag", at, frame(0x8100, &tagged), Unclassified),
        ("another EtherType", at, frame(0x88b5, &[0; 46]), Unclassified),
        ("half an IP header", at, frame(IPV4, right.get(..10).context("too short")?), Unclassified),
        ("half an ARP header", at, frame(ARP, &[0, 1, 8, 0]), Unclassified),
    ])
}

fn at_the_tunnel_port() -> Result<Vec<Case>> {
    use Class::{Control, GatewayOwnAddress, PodAddressLeaked, Tunnel, Unclassified, WrongPod};
    let at = At::Tunnel;
    let ip = |packet: Vec<u8>| frame(IPV4, &packet);
    let reply = udp(WORLD, POD_A.address, 40_000, &marker(POLICY))?;
    let stray = udp(WORLD, POD_B.address, 40_000, &marker(POLICY))?;
    let to_node1 = |inner: &[u8]| tunnel(GATEWAY_TUNNEL, NODE1.address, POLICY, inner);
    let error = icmp(GATEWAY_TUNNEL, NODE1.address, unreachable(), &reply)?;
    Ok(vec![
        ("answer to its pod", at, ip(to_node1(&reply)?), Tunnel),
        ("own ping", at, ip(icmp(GATEWAY_TUNNEL, NODE1.address, echo_request(), b"")?), Control),
        ("answer to another pod", at, ip(to_node1(&stray)?), WrongPod),
        (
            "own UDP outside the tunnel",
            at,
            ip(udp(GATEWAY_TUNNEL, NODE1.address, 53, b"")?),
            GatewayOwnAddress,
        ),
        ("answer outside the tunnel", at, ip(reply), PodAddressLeaked),
        ("error that quotes a pod outside the tunnel", at, ip(error), PodAddressLeaked),
        (
            "egress IP at the wrong port",
            at,
            ip(udp(EGRESS_IP, WORLD, ECHO_PORT, b"")?),
            Unclassified,
        ),
    ])
}

fn at_a_node() -> Result<Vec<Case>> {
    use Class::{
        Cluster, Control, Node, PodAddressLeaked, Tunnel, Unclassified, WrongPod, WrongPolicy,
    };
    let at = At::Node1;
    let ip = |packet: Vec<u8>| frame(IPV4, &packet);
    let node = NODE1.address;
    let from_a = udp(POD_A.address, WORLD, ECHO_PORT, &marker(POLICY))?;
    let from_b = udp(POD_B.address, WORLD, ECHO_PORT, &marker(POLICY))?;
    let to_gateway = |vni, inner: &[u8]| tunnel(node, GATEWAY_TUNNEL, vni, inner);
    let other_pod = Ipv4Addr::new(10, 244, 2, 10);
    Ok(vec![
        ("masqueraded", at, ip(udp(node, WORLD, ECHO_PORT, &marker(0))?), Node),
        ("tunnelled", at, ip(to_gateway(POLICY, &from_a)?), Tunnel),
        ("pod to pod", at, ip(udp(POD_A.address, other_pod, ECHO_PORT, b"")?), Cluster),
        ("own ARP", at, frame(ARP, &arp(node)), Control),
        (
            "masqueraded in spite of a policy",
            at,
            ip(udp(node, WORLD, ECHO_PORT, &marker(POLICY))?),
            WrongPolicy,
        ),
        ("tunnelled with another policy's VNI", at, ip(to_gateway(1, &from_a)?), WrongPolicy),
        ("tunnelled for another pod", at, ip(to_gateway(POLICY, &from_b)?), WrongPod),
        ("not masqueraded", at, ip(from_a.clone()), PodAddressLeaked),
        (
            "error that quotes a pod",
            at,
            ip(icmp(node, WORLD, unreachable(), &from_a)?),
            PodAddressLeaked,
        ),
        ("another node's source", at, ip(udp(NODE2.address, WORLD, ECHO_PORT, b"")?), Unclassified),
        ("egress IP at a node", at, ip(udp(EGRESS_IP, WORLD, ECHO_PORT, b"")?), Unclassified),
    ])
}

#[test]
fn the_oracle_sees_every_forged_packet_as_what_it_is() -> Result<()> {
    let mut lab = Lab::start()?;
    lab.oracle().expect(EGRESS_IP, POLICY, "payments")?;
    let cases = [at_the_external_port()?, at_the_tunnel_port()?, at_a_node()?].concat();
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
fn an_egress_ip_is_right_only_while_its_policy_has_it() -> Result<()> {
    let mut lab = Lab::start()?;
    let packet = frame(IPV4, &udp(EGRESS_IP, WORLD, ECHO_PORT, &marker(POLICY))?);
    lab.oracle().expect(EGRESS_IP, POLICY, "payments")?;
    inject(lab.host("gateway")?, "ext0", &packet)?;
    lab.report()?.require_clean()?;
    assert_eq!(lab.report()?.egress_ip(EGRESS_IP), 1);
    lab.oracle().forbid(EGRESS_IP)?;
    inject(lab.host("gateway")?, "ext0", &packet)?;
    assert_eq!(lab.report()?.count(Class::Unclassified), 1);
    Ok(())
}
