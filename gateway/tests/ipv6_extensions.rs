//! IPv6 extension headers: those that do no harm pass untouched, inside and outside of the tunnel, and the
//! others are dropped with their reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::net::Ipv6Addr;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const UDP: u8 = 17;

const NODE: Ipv6Addr = Ipv6Addr::NODE;
const POD: Ipv6Addr = Ipv6Addr::POD;
const REMOTE: Ipv6Addr = Ipv6Addr::REMOTE;
const EGRESS: Ipv6Addr = Ipv6Addr::EGRESS;

/// Options that say nothing: PadN over the whole header.
fn options(next: u8, units: u8) -> Vec<u8> {
    let mut header = vec![next, units, 1, 4 + 8 * units];
    header.resize(8 + 8 * usize::from(units), 0);
    header
}

fn routing(next: u8, kind: u8, segments_left: u8) -> Vec<u8> {
    let mut header = vec![next, 2, kind, segments_left, 0, 0, 0, 0];
    header.extend(NODE.octets());
    header
}

fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![next, 0, a, b, 0xde, 0xad, 0xbe, 0xef]
}

/// The number of the first header, and all their bytes before UDP's.
struct Chain(&'static str, u8, Vec<u8>);

fn harmless() -> Vec<Chain> {
    let all = [
        options(DESTINATION, 0),
        options(ROUTING, 0),
        routing(FRAGMENT, 4, 0),
        fragment(DESTINATION, 0, false),
        options(UDP, 1),
    ];
    let eight: Vec<u8> =
        (1..=8).flat_map(|n| options(if n == 8 { UDP } else { DESTINATION }, 0)).collect();
    vec![
        Chain("hop-by-hop options", HOP_BY_HOP, options(UDP, 0)),
        Chain("long hop-by-hop options", HOP_BY_HOP, options(UDP, 31)),
        Chain("destination options", DESTINATION, options(UDP, 1)),
        Chain("a routing header that has done its work", ROUTING, routing(UDP, 4, 0)),
        Chain("an atomic fragment (RFC 6946)", FRAGMENT, fragment(UDP, 0, false)),
        Chain("all of them", HOP_BY_HOP, all.concat()),
        Chain("eight headers", DESTINATION, eight),
    ]
}

#[test]
fn harmless_headers_are_carried_along_untouched() {
    for Chain(description, first, bytes) in harmless() {
        let mut bench = Bench::with(Setup::both());
        let plain = udp((POD, 4000), (REMOTE, 53), 64, b"question");
        let question = extended(&plain, first, &bytes);
        let out = bench.pod_sends(&tunnelled_over(NODE, POLICY, &question));
        assert_eq!(out.len(), 1, "{description}: {:?}", bench.drops());
        let after = Seen6::of(&out[0]);
        assert_eq!((after.source, after.ttl, after.dport), (EGRESS, 63, 53), "{description}");
        assert!(after.l4_checksum_ok, "{description}");
        assert_eq!(out[0][14 + 6], first, "{description}: the next header");
        assert_eq!(&out[0][14 + 40..][..bytes.len()], &bytes, "{description}");
        assert_eq!(after.payload, b"question", "{description}");

        let plain = udp((REMOTE, 53), (EGRESS, after.sport), 64, b"answer");
        let back = bench.world_sends(&from_router(&extended(&plain, first, &bytes)));
        assert_eq!(back.len(), 1, "{description}: {:?}", bench.drops());
        let (inner, _) = Seen6::in_tunnel(&back[0], NODE);
        assert_eq!((inner.destination, inner.dport), (POD, 4000), "{description}");
        assert!(inner.l4_checksum_ok, "{description}");
        assert_eq!(&back[0][14 + 70 + 40..][..bytes.len()], &bytes, "{description}");
    }
}

/// Between the outer IPv6 header and UDP, as an underlay may put them.
#[test]
fn harmless_headers_of_the_outer_packet_are_skipped() {
    let inner = udp((POD, 4000), (REMOTE, 53), 64, b"x");
    for Chain(description, first, bytes) in harmless() {
        for checksum in [false, true] {
            let mut bench = Bench::with(Setup::both());
            let frame = tunnelled_frame(NODE, vxlan_payload(POLICY, &inner), checksum);
            let frame = from_underlay(&extended(&frame[14..], first, &bytes));
            let out = bench.pod_sends(&frame);
            assert_eq!(out.len(), 1, "{description}: {:?}", bench.drops());
            assert_eq!(Seen6::of(&out[0]).source, EGRESS, "{description}");
        }
    }
}

/// An echo request with options is answered without: nothing here honours any.
#[test]
fn an_echo_with_options_is_answered_without() {
    for Chain(description, first, bytes) in harmless() {
        let mut bytes = bytes;
        // The last header names ICMPv6 in place of UDP.
        let last = match description {
            "all of them" => bytes.len() - 16,
            "eight headers" => bytes.len() - 8,
            _ => 0,
        };
        bytes[last] = 58;
        let mut bench = Bench::with(Setup::both());
        let request = echo(REMOTE, Ipv6Addr::EXTERNAL, true, 7, 64);
        bench.io.receive(Side::External, &from_router(&extended(&request, first, &bytes)));
        bench.poll();
        let out = bench.take(Side::External);
        assert_eq!(out.len(), 1, "{description}: {:?}", bench.drops());
        let reply = Seen6::of(&out[0]);
        assert_eq!((reply.destination, reply.options, reply.segment[0]), (REMOTE, 0, 129));
        assert!(reply.l4_checksum_ok, "{description}");
        assert_eq!(out[0].len(), 14 + 40 + 16, "{description}");
    }
}

#[test]
fn the_others_are_dropped_with_their_reason_wherever_they_are() {
    use DropReason as R;
    let nine: Vec<u8> =
        (1..=9).flat_map(|n| options(if n == 9 { UDP } else { DESTINATION }, 0)).collect();
    let mut beyond = options(UDP, 0);
    beyond[1] = 200;
    for (Chain(description, first, bytes), reason) in [
        (Chain("nine headers", DESTINATION, nine), R::Ipv6Extensions),
        (Chain("routing type 0 (RFC 5095)", ROUTING, routing(UDP, 0, 0)), R::Ipv6Extensions),
        (Chain("routing type 0, one left", ROUTING, routing(UDP, 0, 1)), R::Ipv6Extensions),
        (Chain("segment routing, one left", ROUTING, routing(UDP, 4, 1)), R::Ipv6Extensions),
        (Chain("options longer than the packet", DESTINATION, beyond), R::Ipv6Malformed),
        (Chain("the first fragment", FRAGMENT, fragment(UDP, 0, true)), R::FragmentUnsupported),
        (Chain("the last fragment", FRAGMENT, fragment(UDP, 181, false)), R::FragmentUnsupported),
        (Chain("no next header", DESTINATION, options(59, 0)), R::ProtocolUnsupported),
        (Chain("an authentication header", 51, options(UDP, 0)), R::ProtocolUnsupported),
    ] {
        let packet = |from: Ipv6Addr, to: Ipv6Addr| {
            extended(&udp((from, 53), (to, 53), 64, b"x"), first, &bytes)
        };
        let mut bench = Bench::with(Setup::both());
        bench.pod_sends(&tunnelled_over(NODE, POLICY, &packet(POD, REMOTE)));
        assert_eq!(bench.drops(), [(("tunnel", reason.label()), 1)].into(), "{description}");

        let mut bench = Bench::with(Setup::both());
        bench.world_sends(&from_router(&packet(REMOTE, EGRESS)));
        assert_eq!(bench.drops(), [(("external", reason.label()), 1)].into(), "{description}");

        // Around the tunnel a fragment has a reason of its own, and a protocol that is none of ours is
        // nobody's service.
        let mut outer_reason = reason;
        if reason == R::FragmentUnsupported {
            outer_reason = R::OuterFragment;
        } else if reason == R::ProtocolUnsupported {
            outer_reason = R::NoService;
        }
        let inner = udp((POD, 4000), (REMOTE, 53), 64, b"x");
        let frame = tunnelled_over(NODE, POLICY, &inner);
        let mut bench = Bench::with(Setup::both());
        bench.pod_sends(&from_underlay(&extended(&frame[14..], first, &bytes)));
        let expected = [(("tunnel", outer_reason.label()), 1)].into();
        assert_eq!(bench.drops(), expected, "outside: {description}");
        assert_eq!((bench.sessions(), bench.io.in_use()), (0, 0), "{description}");
    }
}

/// An extension header that is cut by the packet's end, at every length: a counted drop, and nothing is
/// read beyond.
#[test]
fn a_packet_that_ends_within_its_headers_is_malformed() {
    let Chain(_, first, bytes) = harmless().pop().unwrap();
    let whole = extended(&udp((REMOTE, 53), (EGRESS, 4000), 64, b"x"), first, &bytes);
    for len in 0..whole.len() - 40 {
        let mut packet = whole.clone();
        packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        let mut bench = Bench::with(Setup::both());
        // The frame is as long as ever: what lies behind the packet looks like its headers.
        bench.world_sends(&from_router(&packet));
        let reason = if len < bytes.len() { "ipv6_malformed" } else { "truncated" };
        assert_eq!(bench.drops(), [(("external", reason), 1)].into(), "payload of {len} bytes");
    }
}
