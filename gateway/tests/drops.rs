//! Each drop reason, and a packet that causes it: that reason, once, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod drops_ipv6;
mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

struct Case {
    description: &'static str,
    reason: DropReason,
    /// Where it is counted.
    side: Side,
    setup: Setup,
    cause: Box<dyn Fn(&mut Bench)>,
}

/// A frame that one port receives.
fn frame(description: &'static str, reason: DropReason, side: Side, frame: Vec<u8>) -> Case {
    let cause = Box::new(move |bench: &mut Bench| bench.io.receive(side, &frame));
    Case { description, reason, side, setup: Setup::default(), cause }
}

/// A packet of a pod, in a sound tunnel.
fn inner(description: &'static str, reason: DropReason, packet: Vec<u8>) -> Case {
    frame(description, reason, Side::Tunnel, tunnelled(NODE, POLICY, &packet))
}

/// Anything else.
fn scene(
    description: &'static str,
    reason: DropReason,
    side: Side,
    setup: Setup,
    cause: impl Fn(&mut Bench) + 'static,
) -> Case {
    Case { description, reason, side, setup, cause: Box::new(cause) }
}

fn good() -> Vec<u8> {
    udp((POD, 4000), (REMOTE, 53), 64, b"good")
}

fn changed(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

/// An IPv4 header of the lab's pod with its checksum right, whatever else is wrong.
fn header_with(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = good();
    change(&mut packet);
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = packet[..20].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Nobody answers ARP.
fn silent() -> Setup {
    Setup { arp: false, ..Setup::default() }
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use DropReason as R;
    use Side::{External, Tunnel};
    let usual = Setup::default;
    let arp = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = arp_frame(1, [0xff; 6], (ROUTER_MAC, ROUTER), ([0; 6], EXTERNAL));
        change(&mut frame);
        frame
    };
    let outer = |change: &dyn Fn(&mut etherparse::Ipv4Header)| {
        let plain = tunnelled(NODE, POLICY, &good());
        let packet = ipv4_with(NODE, VTEP, 17, &plain[34..], change);
        ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &packet)
    };
    let vxlan = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = vxlan_payload(POLICY, &good());
        change(&mut payload);
        tunnelled_frame(NODE, payload, false)
    };
    let fragment = |packet: Vec<u8>, from, to, offset: u16, more| {
        ipv4_with(from, to, 17, &packet[20..], |h| {
            h.fragment_offset = offset.try_into().unwrap();
            h.more_fragments = more;
        })
    };
    vec![
        frame("no Ethernet header", R::Truncated, External, vec![0; 13]),
        scene("a jumbo frame in two buffers", R::MultiSegment, External, usual(), |b| b.io.receive_segmented(External, &[0; 1500])),
        frame("another host's MAC", R::WrongMac, External, ethernet([2, 9, 9, 9, 9, 9], ROUTER_MAC, 0x0800, &good())),
        frame("broadcast IPv4", R::WrongMac, External, ethernet([0xff; 6], ROUTER_MAC, 0x0800, &good())),
        frame("multicast of a switch", R::WrongMac, Tunnel, ethernet([1, 0x80, 0xc2, 0, 0, 0], ROUTER_MAC, 0x88cc, &good())),
        frame("a VLAN tag on an untagged port", R::WrongVlan, External, ethernet(EXTERNAL_MAC, ROUTER_MAC, 0x8100, &[0, 7, 8, 0, 0x45])),
        frame("LLDP", R::UnknownEthertype, External, ethernet(EXTERNAL_MAC, ROUTER_MAC, 0x88cc, &[0x60; 40])),
        frame("LLDP in the tunnel", R::UnknownEthertype, Tunnel, vxlan(&|p| (p[20], p[21]) = (0x88, 0xcc))),
        frame("a VLAN tag in the tunnel", R::UnknownEthertype, Tunnel, vxlan(&|p| { p.splice(20..20, [0x81, 0, 0, 7]); })),
        frame("ARP for InfiniBand", R::ArpMalformed, External, arp(&|f| f[15] = 32)),
        frame("ARP of a multicast sender", R::ArpMalformed, External, arp(&|f| f[22] = 1)),
        frame("ARP of operation 9", R::ArpMalformed, External, arp(&|f| f[21] = 9)),
        frame("ARP of a stranger for somebody else", R::ArpNotForUs, External, arp(&|f| (f[31], f[41]) = (76, 77))),
        frame("another host claims our address", R::ArpNotForUs, External, arp(&|f| f[28..32].copy_from_slice(&EGRESS.octets()))),

        frame("IP version 5", R::Ipv4Malformed, External, from_router(&header_with(|p| p[0] = 0x55))),
        frame("header length 16", R::Ipv4Malformed, External, from_router(&header_with(|p| p[0] = 0x44))),
        frame("total length below the header's", R::Ipv4Malformed, External, from_router(&header_with(|p| (p[2], p[3]) = (0, 19)))),
        frame("total length beyond the frame", R::Truncated, External, from_router(&header_with(|p| (p[2], p[3]) = (1, 0)))),
        frame("a flipped bit in the header", R::Ipv4Checksum, External, from_router(&changed(good(), 8, 63))),
        inner("a flipped bit in the inner header", R::Ipv4Checksum, changed(good(), 8, 63)),
        frame("an address of nobody", R::NotOurAddress, External, from_router(&udp((REMOTE, 53), ([203, 0, 113, 31].into(), 4000), 64, b""))),
        frame("an egress IP on the tunnel port", R::NotOurAddress, Tunnel, ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &udp((REMOTE, 53), (EGRESS, 4000), 64, b""))),
        frame("TCP to the gateway itself", R::NoService, External, from_router(&tcp((REMOTE, 5000), (EXTERNAL, 22), SYN, None, b""))),
        frame("UDP to the gateway's tunnel address", R::NoService, Tunnel, ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &udp((NODE, 5000), (VTEP, 53), 64, b""))),
        frame("echo reply to the gateway", R::NoService, External, from_router(&echo(REMOTE, EXTERNAL, false, 1, 64))),

        frame("first outer fragment", R::OuterFragment, Tunnel, outer(&|h| h.more_fragments = true)),
        frame("last outer fragment", R::OuterFragment, Tunnel, outer(&|h| h.fragment_offset = 100u16.try_into().unwrap())),
        frame("outer UDP checksum", R::OuterChecksum, Tunnel, changed(tunnelled_with_checksum(NODE, POLICY, &good()), 60, 0x5a)),
        frame("VXLAN without the I flag", R::VxlanFlags, Tunnel, vxlan(&|p| p[0] = 0xf7)),
        frame("a node that is not registered", R::UnknownNode, Tunnel, tunnelled([192, 0, 2, 77].into(), POLICY, &good())),
        frame("a VNI without a policy", R::UnknownPolicy, Tunnel, tunnelled(NODE, 99, &good())),
        frame("VNI 0", R::UnknownPolicy, Tunnel, tunnelled(NODE, 0, &good())),
        frame("another node's pod", R::SpoofedSource, Tunnel, tunnelled(NODE2, POLICY, &good())),
        inner("the node's own address", R::SpoofedSource, udp((NODE, 4000), (REMOTE, 53), 64, b"")),
        inner("an egress IP as source", R::SpoofedSource, udp((EGRESS, 4000), (REMOTE, 53), 64, b"")),
        inner("a spoofed source with TTL 1", R::SpoofedSource, udp((EGRESS, 4000), (REMOTE, 53), 1, b"")),
        frame("outer CE, inner Not-ECT", R::EcnInvalid, Tunnel, outer(&|h| h.ecn = 3.try_into().unwrap())),

        inner("SCTP", R::ProtocolUnsupported, ipv4(POD, REMOTE, 132, &[0; 12])),
        inner("GRE", R::ProtocolUnsupported, ipv4(POD, REMOTE, 47, &[0; 12])),
        frame("GRE from the world", R::ProtocolUnsupported, External, from_router(&ipv4(REMOTE, EGRESS, 47, &[0; 12]))),
        inner("first fragment", R::FragmentUnsupported, fragment(good(), POD, REMOTE, 0, true)),
        inner("last fragment", R::FragmentUnsupported, fragment(good(), POD, REMOTE, 185, false)),
        frame("fragment from the world", R::FragmentUnsupported, External, from_router(&fragment(good(), REMOTE, EGRESS, 185, true))),
        inner("echo reply from a pod", R::IcmpUnsupported, echo(POD, REMOTE, false, 9, 64)),
        inner("timestamp request", R::IcmpUnsupported, changed(echo(POD, REMOTE, true, 9, 64), 20, 13)),
        frame("port unreachable from the world", R::IcmpUnsupported, External, from_router(&changed(echo(REMOTE, EGRESS, true, 9, 64), 20, 3))),
        inner("TCP data offset 4", R::L4Malformed, changed(tcp((POD, 1), (REMOTE, 2), SYN, None, b""), 32, 0x40)),
        inner("TCP to l4_port 0", R::L4Malformed, tcp((POD, 1), (REMOTE, 0), SYN, None, b"")),
        inner("UDP to l4_port 0", R::L4Malformed, udp((POD, 1), (REMOTE, 0), 64, b"")),
        inner("UDP length 7", R::L4Malformed, changed(good(), 25, 7)),
        inner("UDP length beyond the packet", R::Truncated, changed(good(), 24, 1)),
        inner("TCP options beyond the packet", R::Truncated, changed(tcp((POD, 1), (REMOTE, 2), SYN, None, b""), 32, 0xf0)),
        frame("outer UDP length 7", R::L4Malformed, Tunnel, changed(changed(tunnelled(NODE, POLICY, &good()), 38, 0), 39, 7)),
        inner("multicast", R::DestinationInvalid, udp((POD, 1), ([224, 0, 0, 251].into(), 5353), 64, b"")),
        inner("broadcast", R::DestinationInvalid, udp((POD, 1), (Ipv4Addr::BROADCAST, 67), 64, b"")),
        inner("loopback", R::DestinationInvalid, udp((POD, 1), (Ipv4Addr::LOCALHOST, 80), 64, b"")),
        inner("metadata service", R::DestinationInvalid, udp((POD, 1), ([169, 254, 169, 254].into(), 80), 64, b"")),
        inner("the gateway itself", R::DestinationInvalid, udp((POD, 1), (EXTERNAL, 80), 64, b"")),
        inner("our own egress IP", R::Hairpin, udp((POD, 1), (EGRESS_2, 80), 64, b"")),
        inner("TTL 1", R::TtlExpired, udp((POD, 1), (REMOTE, 80), 1, b"")),
        inner("TTL 0", R::TtlExpired, udp((POD, 1), (REMOTE, 80), 0, b"")),
        inner("TCP in mid-stream", R::TcpNoSession, tcp((POD, 1), (REMOTE, 80), ACK, None, b"data")),
        inner("TCP reset of nothing", R::TcpNoSession, tcp((POD, 1), (REMOTE, 80), RST, None, b"")),
        inner("TCP SYN-ACK of nothing", R::TcpNoSession, tcp((POD, 1), (REMOTE, 80), SYN | ACK, None, b"")),
        scene("only draining addresses", R::NoEgressIp, Tunnel, usual(), |b| {
            b.publish(policies(2, &[(POLICY, &[], &[EGRESS])]));
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &good()));
        }),
        scene("more flows to one remote than l4_ports", R::L4PortsExhausted, Tunnel, Setup { max_sessions: 70_000, ..usual() }, exhaust_l4_ports),
        scene("a session too many", R::SessionsFull, Tunnel, Setup { max_sessions: 3, ..usual() }, |b| {
            for sport in 1..=4 {
                b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &udp((POD, sport), (REMOTE, 53), 64, b"")));
            }
        }),
        frame("UDP that nobody asked for", R::NoSession, External, from_router(&udp((REMOTE, 53), (EGRESS, 4000), 64, b""))),
        scene("the right endpoint from a stranger", R::NoSession, External, usual(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            b.io.receive(External, &from_router(&udp((REMOTE, 54), (EGRESS, l4_port), 64, b"")));
        }),
        scene("TCP whose egress IP was taken away", R::SessionCut, Tunnel, usual(), |b| {
            b.pod_sends(&tunnelled(NODE, POLICY, &tcp((POD, 1), (REMOTE, 80), SYN, None, b"")));
            b.publish(policies(2, &[(POLICY, &[EGRESS_2], &[])]));
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &tcp((POD, 1), (REMOTE, 80), ACK, None, b"x")));
        }),
        scene("an answer under a removed policy", R::SessionCut, External, usual(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            // The egress IP stays in use by another policy, and the sweep has not come by yet.
            b.publish(policies(2, &[(POLICY_2, &[EGRESS], &[])]));
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"")));
        }),

        scene("in2out beyond the external MTU", R::TooBig, Tunnel, Setup { external_mtu: 1280, ..usual() }, |b| {
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &udp((POD, 1), (REMOTE, 2), 64, &[0; 1280 - 27])));
        }),
        scene("out2in beyond the tunnel's MTU", R::TooBig, External, usual(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            let fits = udp((REMOTE, 53), (EGRESS, l4_port), 64, &[0; 1450 - 28]);
            assert_eq!(b.world_sends(&from_router(&fits)).len(), 1);
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, &[0; 1450 - 27])));
        }),
        scene("no router", R::NoNextHop, External, Setup { external_gateways: vec![], ..usual() }, |b| {
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &good()));
        }),
        scene("the 17th packet to an unknown neighbour", R::NeighbourQueueFull, External, silent(), |b| {
            for sport in 1..=17 {
                b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &udp((POD, sport), (REMOTE, 53), 64, b"")));
            }
        }),
        scene("a router that is silent", R::NeighbourUnresolved, External, silent(), |b| {
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &good()));
            (0..5).for_each(|_| b.advance(1000));
        }),
        scene("a reload while waiting for ARP", R::PolicyChanged, External, silent(), |b| {
            b.pod_sends(&tunnelled(NODE, POLICY, &good()));
            b.publish(usual_policies(2));
            b.io.receive(External, &arp_frame(2, EXTERNAL_MAC, (ROUTER_MAC, ROUTER), (EXTERNAL_MAC, EXTERNAL)));
        }),
        scene("no room in front for the tunnel", R::NoHeadroom, External, usual(), |b| {
            let l4_port = b.open_udp(4000, (REMOTE, 53));
            b.io.headroom = 8;
            b.io.receive(External, &from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"")));
        }),
        scene("an empty pool", R::NoBuffer, External, silent(), |b| {
            // The packet itself waits for the router; there is no buffer left to ask for it.
            b.io.pool = 0;
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &good()));
        }),
        scene("a port that is full", R::TxFull, External, usual(), |b| {
            b.open_udp(4000, (REMOTE, 53));
            b.io.tx_room = 0;
            b.io.receive(Tunnel, &tunnelled(NODE, POLICY, &good()));
        }),
    ]
}

fn all_cases() -> impl Iterator<Item = Case> {
    cases().into_iter().chain(drops_ipv6::cases())
}

/// One more flow to one remote than there are l4_ports. The search is a random one, so refusals begin
/// a little before the last l4_port; the case wants one, and stops at the first.
fn exhaust_l4_ports(bench: &mut Bench) {
    for pod in 1..=3u8 {
        for sport in 1..=u16::MAX {
            let source = Ipv4Addr::new(10, 244, 1, pod);
            let packet = udp((source, sport), (REMOTE, 53), 64, b"");
            bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
            if bench.dropped(DropReason::L4PortsExhausted) > 0 {
                assert!(bench.sessions() > 50_000, "refused at {} sessions", bench.sessions());
                return;
            }
        }
    }
}

#[test]
fn each_cause_raises_its_reason_and_no_other() {
    for Case { description, reason, side, setup, cause } in all_cases() {
        let mut bench = Bench::with(setup);
        cause(&mut bench);
        bench.poll();
        let expected = [((side.label(), reason.label()), 1)].into();
        assert_eq!(bench.drops(), expected, "{description}");
    }
}

/// The guard cannot be reached by a packet as long as the code before it is right, so it is asked
/// directly: with every kind of frame that must not leave.
#[test]
fn the_guard_lets_only_our_own_sources_out() {
    use gateway::datapath::guard;
    let bench = Bench::with(Setup::both());
    let table = dual_policies(1);
    let check = |frame: &[u8]| guard::check(frame, &bench.config, &table);
    let ether = |packet: &[u8]| {
        let mut frame = from_router(packet);
        frame[..12].copy_from_slice(&[ROUTER_MAC, EXTERNAL_MAC].concat());
        frame
    };
    let arp = |sender| arp_frame(1, [0xff; 6], (EXTERNAL_MAC, sender), ([0; 6], ROUTER));
    let (remote6, us6) = (Ipv6Addr::REMOTE, Ipv6Addr::EXTERNAL);
    let probe = Nd::probe(us6).packet();
    for (description, frame) in [
        ("egress IP", ether(&udp((EGRESS, 4000), (REMOTE, 53), 64, b""))),
        ("our ICMP", ether(&echo(EXTERNAL, REMOTE, false, 1, 64))),
        ("our ARP", arp(EXTERNAL)),
        ("ARP for an egress IP", arp(EGRESS_2)),
        ("IPv6 egress IP", ether(&udp((Ipv6Addr::EGRESS_2, 4000), (remote6, 53), 64, b""))),
        ("our ICMPv6", ether(&echo(us6, remote6, false, 1, 64))),
        ("our link-local ICMPv6", ether(&echo(link_local(EXTERNAL_MAC), remote6, true, 1, 64))),
        ("a question for duplicates", ether(&probe)),
    ] {
        assert_eq!(check(&frame), Ok(()), "{description}");
    }
    let nothing = Ipv6Addr::UNSPECIFIED;
    for (description, frame) in [
        ("a pod's address", ether(&good())),
        ("our own address with UDP", ether(&udp((EXTERNAL, 4000), (REMOTE, 53), 64, b""))),
        ("the tunnel address", ether(&echo(VTEP, REMOTE, false, 1, 64))),
        (
            "a neighbour of the egress IPs",
            ether(&udp(([203, 0, 113, 18].into(), 1), (REMOTE, 53), 64, b"")),
        ),
        ("ARP with a pod's address", arp(POD)),
        ("a pod's IPv6 address", ether(&udp((Ipv6Addr::POD, 1), (remote6, 53), 64, b""))),
        ("our own IPv6 address with UDP", ether(&udp((us6, 1), (remote6, 53), 64, b""))),
        ("the IPv6 tunnel address", ether(&echo(Ipv6Addr::VTEP, remote6, false, 1, 64))),
        ("the tunnel port's link-local", ether(&echo(link_local(TUNNEL_MAC), us6, true, 1, 64))),
        ("a neighbour's IPv6 address", ether(&echo(Ipv6Addr::ROUTER, remote6, false, 1, 64))),
        ("UDP of nobody", ether(&udp((nothing, 1), (remote6, 53), 64, b""))),
        ("echo of nobody", ether(&echo(nothing, remote6, true, 1, 64))),
        ("half a question", ether(&probe)[..54].to_vec()),
        ("nothing", vec![]),
        ("half a header", ether(&good()[..15])),
        ("half an IPv6 header", ether(&probe)[..53].to_vec()),
    ] {
        assert_eq!(check(&frame), Err(DropReason::EgressGuard), "{description}");
    }
}

#[test]
fn every_reason_has_a_case() {
    let mut caused: HashSet<DropReason> = all_cases().map(|case| case.reason).collect();
    // Asked directly, see above.
    caused.insert(DropReason::EgressGuard);
    // It takes two workers: `a_worker_that_stands_still_costs_its_own_packets_only` in workers.rs.
    caused.insert(DropReason::HandoffFull);
    let missing: Vec<_> = DropReason::ALL.iter().filter(|r| !caused.contains(r)).collect();
    assert!(missing.is_empty(), "no case causes {missing:?}");
}

/// Every frame cut at every byte: one counted drop, nothing sent, no session, no panic.
#[test]
fn every_truncation_is_a_counted_drop() {
    let with_mss = tcp((POD, 4000), (REMOTE, 443), SYN, Some(1460), b"data");
    let inner_packets = [good(), with_mss, echo(POD, REMOTE, true, 7, 64)];
    let mut frames = Vec::new();
    for packet in &inner_packets {
        frames.push((Side::Tunnel, tunnelled(NODE, POLICY, packet)));
        frames.push((Side::Tunnel, tunnelled_with_checksum(NODE, POLICY, packet)));
    }
    frames.push((
        Side::Tunnel,
        ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &echo(NODE, VTEP, true, 1, 9)),
    ));
    for (packet, from_world) in [
        (udp((REMOTE, 53), (EGRESS, 4000), 64, b"x"), true),
        (tcp((REMOTE, 443), (EGRESS, 4000), SYN | ACK, Some(1460), b""), true),
        (echo(REMOTE, EGRESS, false, 7, 64), true),
        (echo(REMOTE, EXTERNAL, true, 7, 64), true),
    ] {
        assert!(from_world);
        frames.push((Side::External, from_router(&packet)));
    }
    frames
        .push((Side::External, arp_frame(1, [0xff; 6], (ROUTER_MAC, ROUTER), ([0; 6], EXTERNAL))));
    let frames = frames.into_iter().map(|(side, frame)| (Setup::default(), side, frame));
    let of_ipv6 = drops_ipv6::to_be_cut();
    let of_ipv6 = of_ipv6.into_iter().map(|(side, frame)| (Setup::both(), side, frame));
    for (setup, side, frame) in frames.chain(of_ipv6) {
        for len in 0..frame.len() {
            let mut bench = Bench::with(setup.clone());
            bench.io.receive(side, &frame[..len]);
            bench.poll();
            let sent = bench.take(Side::Tunnel).len() + bench.take(Side::External).len();
            let drops: u64 = bench.drops().values().sum();
            assert_eq!((drops, sent, bench.sessions()), (1, 0, 0), "{len} of {frame:02x?}");
            assert_eq!(bench.io.in_use(), 0);
        }
    }
}
