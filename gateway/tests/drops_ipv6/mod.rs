//! The cases of IPv6: what IPv4 has no like of, and the same causes in IPv6's clothes.

use super::{Case, changed, scene};
use crate::harness::*;
use gateway::verdict::{
    DropReason as R,
    Side::{self, External, Tunnel},
};
use std::net::{Ipv4Addr, Ipv6Addr};

const POD: Ipv6Addr = Ipv6Addr::POD;
const REMOTE: Ipv6Addr = Ipv6Addr::REMOTE;
const EGRESS: Ipv6Addr = Ipv6Addr::EGRESS;
const EXTERNAL: Ipv6Addr = Ipv6Addr::EXTERNAL;
const ROUTER: Ipv6Addr = Ipv6Addr::ROUTER;
const NODE: Ipv6Addr = Ipv6Addr::NODE;

fn good() -> Vec<u8> {
    udp((POD, 4000), (REMOTE, 53), 64, b"good")
}

fn frame(description: &'static str, reason: R, side: Side, frame: Vec<u8>) -> Case {
    scene(description, reason, side, Setup::both(), move |b| b.io.receive(side, &frame))
}

/// A packet of a pod, in a sound tunnel over IPv4.
fn inner(description: &'static str, reason: R, packet: Vec<u8>) -> Case {
    frame(description, reason, Tunnel, tunnelled(super::NODE, POLICY, &packet))
}

/// A pod's datagram to a place where none may go.
fn to(description: &'static str, reason: R, destination: &str) -> Case {
    let destination: Ipv6Addr = destination.parse().unwrap();
    inner(description, reason, udp((POD, 4000), (destination, 53), 64, b"x"))
}

/// A message from the router that is changed.
fn nd(description: &'static str, reason: R, change: impl FnOnce(&mut Nd)) -> Case {
    let mut message = Nd::question((ROUTER, ROUTER_MAC), EXTERNAL);
    change(&mut message);
    frame(description, reason, External, message.frame(EXTERNAL_MAC, ROUTER_MAC))
}

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let group: Ipv6Addr = "ff02::fb".parse().unwrap();
    let silent = || Setup { arp: false, ..Setup::both() };
    let only_v6 = || Setup::dual(&["2001:db8:2::10/64"]);
    let hop_by_hop = [17, 9, 1, 4, 0, 0, 0, 0];
    let vtep4 = |source: Ipv4Addr| tunnelled(source, POLICY, &good());
    vec![
        frame("another host's MAC", R::WrongMac, External, ethernet([2, 9, 9, 9, 9, 9], ROUTER_MAC, 0x86dd, &good())),
        frame("broadcast IPv6", R::WrongMac, External, ethernet([0xff; 6], ROUTER_MAC, 0x86dd, &good())),
        frame("multicast that is not ND", R::WrongMac, External, ethernet(mac_of(group), ROUTER_MAC, 0x86dd, &udp((ROUTER, 5353), (group, 5353), 255, b"?"))),
        frame("echo to a group", R::WrongMac, Tunnel, ethernet(mac_of(ALL_NODES), NODE_MAC, 0x86dd, &echo(NODE, ALL_NODES, true, 1, 64))),

        nd("a question from beyond the link", R::NdMalformed, |nd| nd.hop_limit = 64),
        nd("an option without end", R::NdMalformed, |nd| nd.options[1] = 0),
        nd("a question for somebody else", R::NdNotForUs, |nd| nd.target = ROUTER),
        nd("an answer that nobody asked for", R::NdNotForUs, |nd| *nd = Nd::advertisement((NODE, NODE_MAC), EXTERNAL, SOLICITED)),
        nd("another host claims our address", R::NdNotForUs, |nd| *nd = Nd::advertisement((EGRESS, NODE_MAC), ALL_NODES, OVERRIDE)),

        frame("IP version 5", R::Ipv6Malformed, External, changed(from_router(&udp((REMOTE, 53), (EGRESS, 9), 64, b"")), 14, 0x50)),
        frame("IP version 4 in an IPv6 frame", R::Ipv6Malformed, External, changed(from_router(&udp((REMOTE, 53), (EGRESS, 9), 64, b"")), 14, 0x45)),
        frame("payload beyond the frame", R::Truncated, External, from_router(&changed(udp((REMOTE, 53), (EGRESS, 9), 64, b""), 4, 1))),
        inner("inner payload beyond the outer packet", R::Truncated, changed(good(), 5, 200)),
        inner("options beyond the packet", R::Ipv6Malformed, extended(&good(), 0, &hop_by_hop)),
        inner("a routing header with a segment left", R::Ipv6Extensions, extended(&good(), 43, &[17, 0, 4, 1, 0, 0, 0, 0])),

        frame("an address of nobody", R::NotOurAddress, External, from_router(&udp((REMOTE, 53), ("2001:db8:113::99".parse().unwrap(), 9), 64, b""))),
        frame("an egress IP on the tunnel port", R::NotOurAddress, Tunnel, from_underlay(&udp((REMOTE, 53), (EGRESS, 9), 64, b""))),
        frame("TCP to the gateway itself", R::NoService, External, from_router(&tcp((REMOTE, 5000), (EXTERNAL, 22), SYN, None, b""))),
        frame("UDP to our link-local address", R::NoService, External, from_router(&udp((link_local(ROUTER_MAC), 53), (link_local(EXTERNAL_MAC), 53), 64, b""))),
        frame("echo reply to the gateway", R::NoService, External, from_router(&echo(REMOTE, EXTERNAL, false, 1, 64))),
        frame("listener report to us alone", R::NoService, External, from_router(&changed(echo(REMOTE, EXTERNAL, true, 1, 64), 40, 143))),
        frame("echo from a group", R::NoService, External, from_router(&echo(group, EXTERNAL, true, 1, 64))),
        frame("UDP to the tunnel address", R::NoService, Tunnel, from_underlay(&udp((NODE, 5000), (Ipv6Addr::VTEP, 53), 64, b""))),

        frame("outer UDP checksum", R::OuterChecksum, Tunnel, changed(tunnelled_with_checksum(NODE, POLICY, &good()), 80, 0x5a)),
        frame("an outer fragment", R::OuterFragment, Tunnel, from_underlay(&extended(&tunnelled_over(NODE, POLICY, &good())[14..], 44, &[17, 0, 0, 1, 0, 0, 0, 9]))),
        frame("a node that is not registered", R::UnknownNode, Tunnel, tunnelled_over::<Ipv6Addr>("2001:db8:2::77".parse().unwrap(), POLICY, &good())),
        frame("IPv4 from a node that is not registered", R::UnknownNode, Tunnel, tunnelled_over::<Ipv6Addr>("2001:db8:2::77".parse().unwrap(), POLICY, &super::good())),
        frame("a VNI without a policy", R::UnknownPolicy, Tunnel, tunnelled_over(NODE, 99, &good())),
        inner("another node's pod", R::SpoofedSource, udp((Ipv6Addr::POD_C, 4000), (REMOTE, 53), 64, b"")),
        frame("another node's pod over IPv6", R::SpoofedSource, Tunnel, tunnelled_over(Ipv6Addr::NODE2, POLICY, &good())),
        inner("the node's own address", R::SpoofedSource, udp((NODE, 4000), (REMOTE, 53), 64, b"")),
        inner("an egress IP as source", R::SpoofedSource, udp((EGRESS, 4000), (REMOTE, 53), 64, b"")),
        inner("a link-local source", R::SpoofedSource, udp((link_local(NODE_MAC), 4000), (REMOTE, 53), 64, b"")),
        inner("no source", R::SpoofedSource, udp((Ipv6Addr::UNSPECIFIED, 4000), (REMOTE, 53), 64, b"")),
        // The numbers that stand for IPv6 tunnel addresses look like these.
        frame("a node in 240.0.0.0/4", R::UnknownNode, Tunnel, vtep4([240, 0, 0, 0].into())),
        frame("another node in 240.0.0.0/4", R::UnknownNode, Tunnel, vtep4([240, 0, 0, 1].into())),

        inner("SCTP", R::ProtocolUnsupported, ipv6_with(POD, REMOTE, 132, &[0; 12], |_| {})),
        inner("IPv4's ICMP in IPv6", R::ProtocolUnsupported, ipv6_with(POD, REMOTE, 1, &[8, 0, 0, 0, 0, 1, 0, 1], |_| {})),
        inner("IPv6's ICMP in IPv4", R::ProtocolUnsupported, ipv4(super::POD, super::REMOTE, 58, &[128, 0, 0, 0, 0, 1, 0, 1])),
        inner("a fragment", R::FragmentUnsupported, extended(&good(), 44, &[17, 0, 0, 1, 0, 0, 0, 9])),
        frame("a fragment from the world", R::FragmentUnsupported, External, from_router(&extended(&udp((REMOTE, 53), (EGRESS, 9), 64, b""), 44, &[17, 0, 8, 0, 0, 0, 0, 9]))),
        inner("echo reply from a pod", R::IcmpUnsupported, echo(POD, REMOTE, false, 9, 64)),
        inner("a solicitation in the tunnel", R::IcmpUnsupported, Nd::question((POD, NODE_MAC), REMOTE).packet()),
        frame("packet too big from the world", R::IcmpUnsupported, External, from_router(&changed(echo(REMOTE, EGRESS, true, 9, 64), 40, 2))),
        inner("UDP to l4_port 0", R::L4Malformed, udp((POD, 1), (REMOTE, 0), 64, b"")),
        inner("UDP length 7", R::L4Malformed, changed(good(), 45, 7)),
        inner("TCP data offset 4", R::L4Malformed, changed(tcp((POD, 1), (REMOTE, 2), SYN, None, b""), 52, 0x40)),

        to("loopback", R::DestinationInvalid, "::1"),
        to("nowhere", R::DestinationInvalid, "::"),
        to("link-local", R::DestinationInvalid, "fe80::1"),
        to("multicast on the link", R::DestinationInvalid, "ff02::fb"),
        to("multicast everywhere", R::DestinationInvalid, "ff0e::1"),
        to("IPv4-mapped", R::DestinationInvalid, "::ffff:1.2.3.4"),
        to("the gateway itself", R::DestinationInvalid, "2001:db8:113::2"),
        to("the gateway's tunnel address", R::DestinationInvalid, "2001:db8:2::10"),
        to("our own egress IP", R::Hairpin, "2001:db8:113::11"),
        inner("hop limit 1", R::TtlExpired, udp((POD, 1), (REMOTE, 80), 1, b"")),
        inner("hop limit 0", R::TtlExpired, udp((POD, 1), (REMOTE, 80), 0, b"")),
        inner("TCP in mid-stream", R::TcpNoSession, tcp((POD, 1), (REMOTE, 80), ACK, None, b"data")),
        scene("egress IPs of IPv4 alone", R::NoEgressIp, Tunnel, Setup::both(), |b| {
            b.publish(usual_policies(2));
            b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &good()));
        }),
        scene("egress IPs of IPv6 alone", R::NoEgressIp, Tunnel, Setup::both(), |b| {
            b.publish(policies_of(2, &[(POLICY, &[EGRESS], &[])]));
            b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &super::good()));
        }),
        scene("a session too many", R::SessionsFull, Tunnel, Setup { max_sessions: 3, ..Setup::both() }, |b| {
            for sport in 1..=4 {
                b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &udp((POD, sport), (REMOTE, 53), 64, b"")));
            }
        }),
        frame("UDP that nobody asked for", R::NoSession, External, from_router(&udp((REMOTE, 53), (EGRESS, 4000), 64, b""))),
        scene("the right endpoint from a stranger", R::NoSession, External, Setup::both(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            let stranger = Ipv6Addr::remote(9);
            b.io.receive(External, &from_router(&udp((stranger, 53), (EGRESS, l4_port), 64, b"")));
        }),
        scene("an answer under a removed policy", R::SessionCut, External, Setup::both(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            b.publish(policies_of(2, &[(POLICY_2, &[EGRESS], &[])]));
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"")));
        }),
        scene("in2out beyond the external MTU", R::TooBig, Tunnel, Setup { external_mtu: 1280, ..Setup::both() }, |b| {
            b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &udp((POD, 1), (REMOTE, 2), 64, &[0; 1280 - 47])));
        }),
        scene("no router", R::NoNextHop, External, Setup { external_gateways: vec![super::ROUTER.into()], ..Setup::both() }, |b| {
            b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &good()));
        }),
        scene("the 17th packet to an unknown neighbour", R::NeighbourQueueFull, External, silent(), |b| {
            for sport in 1..=17 {
                b.io.receive(Tunnel, &tunnelled(super::NODE, POLICY, &udp((POD, sport), (REMOTE, 53), 64, b"")));
            }
        }),
        scene("a node that is silent", R::NeighbourUnresolved, Tunnel, only_v6(), |b| {
            let l4_port = b.open_udp_by(NODE, 4000, (REMOTE, 53));
            b.arp = false;
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"")));
            (0..5).for_each(|_| b.advance(1000));
        }),
        scene("a reload while waiting for the router", R::PolicyChanged, External, silent(), |b| {
            b.take(External);
            let asked = b.pod_sends(&tunnelled(super::NODE, POLICY, &good()));
            b.publish(dual_policies(2));
            b.io.receive(External, &NdSeen::of(&asked[0]).unwrap().answer(ROUTER_MAC));
        }),
        scene("no room in front for the tunnel over IPv6", R::NoHeadroom, External, only_v6(), |b| {
            let l4_port = b.open_udp_by(NODE, 4000, (REMOTE, 53));
            // Enough for IPv4's.
            b.io.headroom = 60;
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"")));
        }),
    ]
}

/// Frames whose every truncation is to be a counted drop.
pub(super) fn to_be_cut() -> Vec<(Side, Vec<u8>)> {
    let with_mss = tcp((POD, 4000), (REMOTE, 443), SYN, Some(1440), b"data");
    let chain = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
    let packets = [good(), with_mss, echo(POD, REMOTE, true, 7, 64), extended(&good(), 0, &chain)];
    let mut frames = Vec::new();
    for packet in &packets {
        frames.push((Tunnel, tunnelled(super::NODE, POLICY, packet)));
        frames.push((Tunnel, tunnelled_over(NODE, POLICY, packet)));
        frames.push((Tunnel, tunnelled_with_checksum(NODE, POLICY, packet)));
    }
    frames.push((Tunnel, tunnelled_over(NODE, POLICY, &super::good())));
    let outer = tunnelled_over(NODE, POLICY, &good());
    frames.push((Tunnel, from_underlay(&extended(&outer[14..], 60, &chain))));
    frames.push((Tunnel, from_underlay(&echo(NODE, Ipv6Addr::VTEP, true, 1, 9))));
    let vtep = Nd::question((NODE, NODE_MAC), Ipv6Addr::VTEP);
    frames.push((Tunnel, vtep.frame(TUNNEL_MAC, NODE_MAC)));
    for packet in [
        udp((REMOTE, 53), (EGRESS, 4000), 64, b"x"),
        extended(&udp((REMOTE, 53), (EGRESS, 4000), 64, b"x"), 0, &chain),
        tcp((REMOTE, 443), (EGRESS, 4000), SYN | ACK, Some(1440), b""),
        echo(REMOTE, EGRESS, false, 7, 64),
        echo(REMOTE, EXTERNAL, true, 7, 64),
        Nd { destination: EGRESS, ..Nd::question((ROUTER, ROUTER_MAC), EGRESS) }.packet(),
    ] {
        frames.push((External, from_router(&packet)));
    }
    let question = Nd::question((ROUTER, ROUTER_MAC), EXTERNAL);
    frames.push((External, question.frame(EXTERNAL_MAC, ROUTER_MAC)));
    let answer = Nd::advertisement((ROUTER, ROUTER_MAC), EXTERNAL, SOLICITED);
    frames.push((External, answer.frame(EXTERNAL_MAC, ROUTER_MAC)));
    frames
}
