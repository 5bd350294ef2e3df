//! Neighbor Discovery messages that are counted and change nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::net::Ipv6Addr;

const ROUTER: Ipv6Addr = Ipv6Addr::ROUTER;
const EXTERNAL: Ipv6Addr = Ipv6Addr::EXTERNAL;

/// RFC 4861 section 7.1.
#[test]
fn malformed_messages_are_counted_and_change_nothing() {
    let good = || Nd::question((ROUTER, ROUTER_MAC), EXTERNAL);
    let claim = |flags| Nd::advertisement((ROUTER, ROUTER_MAC), EXTERNAL, flags);
    let group = group_of(EXTERNAL);
    let with = |options: Vec<u8>| Nd { options, ..good() };
    let cases: [(&str, Nd); 17] = [
        ("hop limit 254", Nd { hop_limit: 254, ..good() }),
        ("hop limit 254, an advertisement", Nd { hop_limit: 254, ..claim(SOLICITED) }),
        ("code 1", Nd { code: 1, ..good() }),
        ("an option of length 0", with(vec![SOURCE_LINK, 0, 2, 0, 0, 0, 2, 1])),
        ("another option of length 0", with(vec![14, 0, 2, 0, 0, 0, 2, 1])),
        ("an option beyond the end", with(vec![SOURCE_LINK, 2, 2, 0, 0, 0, 2, 1])),
        ("half an option", with([link_option(SOURCE_LINK, ROUTER_MAC), vec![1]].concat())),
        ("the MAC of a group", with(link_option(SOURCE_LINK, [1, 0, 0, 0, 2, 1]))),
        ("no MAC's MAC", with(link_option(SOURCE_LINK, [0; 6]))),
        ("multicast target", Nd { target: group, ..good() }),
        ("multicast target, an advertisement", Nd { target: group, ..claim(SOLICITED) }),
        ("multicast source", Nd { source: group, ..good() }),
        ("a probe with a MAC", Nd { options: good().options, ..Nd::probe(EXTERNAL) }),
        ("a probe that is sent to one", Nd { destination: EXTERNAL, ..Nd::probe(EXTERNAL) }),
        ("a probe to another group", Nd { destination: ALL_NODES, ..Nd::probe(EXTERNAL) }),
        ("an answer to all", Nd { destination: ALL_NODES, ..claim(SOLICITED) }),
        ("a group's MAC", Nd { options: link_option(TARGET_LINK, [0x33; 6]), ..claim(SOLICITED) }),
    ];
    for (description, nd) in cases {
        reject(description, &nd.frame(EXTERNAL_MAC, ROUTER_MAC));
    }
    let mut damaged = good().frame(EXTERNAL_MAC, ROUTER_MAC);
    *damaged.last_mut().unwrap() ^= 1;
    reject("checksum", &damaged);
    for len in [8, 16, 23] {
        // No room for the target.
        let mut short = good().packet()[..40 + len].to_vec();
        short[5] = len as u8;
        let frame = ethernet(mac_of(group), ROUTER_MAC, 0x86dd, &short);
        reject(&format!("{len} bytes"), &frame);
    }
    // RFC 6980: nothing that was, or might have been, fragmented.
    let atomic = extended(&good().packet(), 44, &[58, 0, 0, 0, 1, 2, 3, 4]);
    reject("a fragment header", &ethernet(mac_of(group), ROUTER_MAC, 0x86dd, &atomic));
}

fn reject(description: &str, frame: &[u8]) {
    let mut bench = Bench::both();
    let known = bench.counters.neighbours.get();
    assert_eq!(bench.neighbour_says(Side::External, frame), [], "{description}");
    assert_eq!(bench.drops(), one_drop(Side::External, DropReason::NdMalformed), "{description}");
    assert_eq!(bench.counters.neighbours.get(), known, "{description}");
    assert_eq!(bench.counters.address_conflicts.get(), 0, "{description}");
    assert!(bench.announced.iter().all(Vec::is_empty), "{description}");
}

/// Routers are configured, not discovered; groups are somebody else's.
#[test]
fn other_messages_to_groups_are_counted_and_ignored() {
    let from = link_local(ROUTER_MAC);
    let icmp = |kind: u8, rest: &[u8], to| {
        let message =
            etherparse::Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] }
                .to_header(from.octets(), Ipv6Addr::octets(&to), rest)
                .unwrap();
        let bytes = [&message.to_bytes()[..], rest].concat();
        ipv6_with(from, to, 58, &bytes, |ip| ip.hop_limit = 255)
    };
    let all_routers = "ff02::2".parse().unwrap();
    let mld = extended(&icmp(130, &[0; 16], ALL_NODES), 0, &[58, 0, 5, 2, 0, 0, 1, 0]);
    let mdns: Ipv6Addr = "ff02::fb".parse().unwrap();
    for (description, packet, reason) in [
        ("router solicitation", icmp(133, &[], all_routers), DropReason::NdNotForUs),
        ("router advertisement", icmp(134, &[0; 8], ALL_NODES), DropReason::NdNotForUs),
        ("redirect", icmp(137, &[0; 32], ALL_NODES), DropReason::NdNotForUs),
        ("listener query", mld, DropReason::WrongMac),
        ("listener report", icmp(143, &[0; 20], "ff02::16".parse().unwrap()), DropReason::WrongMac),
        ("echo to all", echo(from, ALL_NODES, true, 1, 64), DropReason::WrongMac),
        ("mDNS", udp((from, 5353), (mdns, 5353), 255, b"?"), DropReason::WrongMac),
    ] {
        for side in Side::ALL {
            let mut bench = Bench::both();
            let to = Seen6::of_packet(&packet).destination;
            let frame = ethernet(mac_of(to), ROUTER_MAC, 0x86dd, &packet);
            assert_eq!(bench.neighbour_says(side, &frame), [], "{description}");
            assert_eq!(bench.drops(), one_drop(side, reason), "{description}");
        }
    }
    // A redirect to us alone; it would lead our packets elsewhere.
    let mut bench = Bench::both();
    let redirect = ethernet(EXTERNAL_MAC, ROUTER_MAC, 0x86dd, &icmp(137, &[0; 32], EXTERNAL));
    assert_eq!(bench.neighbour_says(Side::External, &redirect), []);
    assert_eq!(bench.drops(), one_drop(Side::External, DropReason::NdNotForUs));
}
