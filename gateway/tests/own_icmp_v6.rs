//! What the gateway says of itself by ICMP: Time Exceeded about either family over either underlay, and
//! answers to ICMPv6 echo.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn time_exceeded<F: Family, U: Family>() {
    const REMOTE_PORT: u16 = 33_434;
    let most = if F::HEADER == 20 { 576 } else { 1280 };
    let (kind, quote) = (if F::HEADER == 20 { 11 } else { 3 }, most - F::HEADER - 8);
    let mut bench = Bench::over::<U>();
    let last = udp((F::POD, REMOTE_PORT), (F::REMOTE, REMOTE_PORT), 1, &[b'p'; 1400]);
    bench.io.receive(Side::Tunnel, &tunnelled_over(U::NODE, POLICY, &last));
    bench.poll();
    assert_eq!(bench.take(Side::External).len(), 0);
    let back = bench.take(Side::Tunnel);
    let (error, vni) = SeenOf::<F>::in_tunnel(&back[0], U::NODE);
    // The tunnel port's own address where it has one of the pod's family.
    let us = if F::HEADER == U::HEADER { F::VTEP } else { F::EXTERNAL };
    assert_eq!((error.source, error.destination, vni), (us, F::POD, POLICY));
    assert_eq!((error.protocol, error.segment[0], error.segment[1]), (F::ICMP, kind, 0));
    assert_eq!(error.segment[4..8], [0; 4]);
    assert!(error.l4_checksum_ok && error.ttl == 64);
    assert_eq!(error.segment[8..], last[..quote], "no longer than {most} bytes in all");
    assert_eq!(bench.dropped(DropReason::TtlExpired), 1);
    assert_eq!(bench.sessions(), 0, "a packet that ends here opens nothing");

    let l4_port = bench.open_udp_by::<F, U>(U::NODE, 4000, (F::REMOTE, 53));
    for hops in [1, 0] {
        let answer = udp((F::REMOTE, 53), (F::EGRESS, l4_port), hops, b"too far");
        assert_eq!(bench.world_sends(&from_router(&answer)).len(), 0);
        let out = bench.take(Side::External);
        let error = SeenOf::<F>::of(&out[0]);
        assert_eq!((error.source, error.destination), (F::EXTERNAL, F::REMOTE));
        assert_eq!((error.segment[0], &error.segment[8..]), (kind, &answer[..]));
        assert!(error.l4_checksum_ok);
    }
}

#[test]
fn time_exceeded_is_sent_back_through_the_tunnel_and_to_the_world() {
    each_pairing!(time_exceeded);
}

/// RFC 4443 section 2.4 (e.3), RFC 1122 section 3.2.2.
fn nobody_is_told_of_groups<F: Family>(group: F) {
    let mut bench = Bench::with(Setup::both());
    let packet = udp((F::POD, 5353), (group, 5353), 1, b"mDNS");
    assert_eq!(bench.pod_sends(&tunnelled(NODE, POLICY, &packet)).len(), 0);
    assert_eq!(bench.take(Side::Tunnel), [] as [Vec<u8>; 0], "no error about multicast");
    assert_eq!(bench.drops().values().sum::<u64>(), 1);
}

#[test]
fn no_time_exceeded_about_multicast() {
    nobody_is_told_of_groups::<Ipv4Addr>([224, 0, 0, 251].into());
    nobody_is_told_of_groups::<Ipv6Addr>("ff02::fb".parse().unwrap());
}

#[test]
fn echo_to_own_addresses_is_answered_and_to_egress_ips_is_not() {
    let (ours, theirs) = (link_local(EXTERNAL_MAC), link_local(ROUTER_MAC));
    for (side, us, asker) in [
        (Side::Tunnel, Ipv6Addr::VTEP, Ipv6Addr::NODE),
        (Side::Tunnel, link_local(TUNNEL_MAC), link_local(NODE_MAC)),
        (Side::External, Ipv6Addr::EXTERNAL, Ipv6Addr::REMOTE),
        (Side::External, Ipv6Addr::EXTERNAL, Ipv6Addr::ROUTER),
        (Side::External, ours, theirs),
    ] {
        let mut bench = Bench::with(Setup::both());
        let request = echo(asker, us, true, 77, 1);
        let frame =
            if side == Side::Tunnel { from_underlay(&request) } else { from_router(&request) };
        bench.io.receive(side, &frame);
        bench.poll();
        let out = bench.take(side);
        assert_eq!(out.len(), 1, "{us}: {:?}", bench.drops());
        let reply = Seen6::of(&out[0]);
        assert_eq!((reply.source, reply.destination, reply.ttl), (us, asker, 64));
        assert_eq!((reply.segment[0], reply.sport), (129, 77), "echo reply");
        assert!(reply.l4_checksum_ok);
        assert_eq!(reply.payload, Seen6::of_packet(&request).payload);
    }
    for (side, us, reason) in [
        (Side::External, Ipv6Addr::EGRESS, DropReason::IcmpUnsupported),
        (Side::Tunnel, Ipv6Addr::EGRESS, DropReason::NotOurAddress),
        (Side::External, Ipv6Addr::VTEP, DropReason::NotOurAddress),
        (Side::External, link_local(TUNNEL_MAC), DropReason::NotOurAddress),
    ] {
        let mut bench = Bench::with(Setup::both());
        let request = echo(Ipv6Addr::REMOTE, us, true, 77, 64);
        let frame =
            if side == Side::Tunnel { from_underlay(&request) } else { from_router(&request) };
        bench.io.receive(side, &frame);
        bench.poll();
        assert_eq!(bench.take(side), [] as [Vec<u8>; 0], "{us}");
        assert_eq!(bench.drops(), [((side.label(), reason.label()), 1)].into(), "{us}");
    }
}
