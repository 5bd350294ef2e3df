//! Promise 3 on DPDK's ring devices: with any number of workers, all 64,512 l4_ports of an egress IP and a
//! remote endpoint are given out before a flow is refused. The EAL starts once per process: run this with
//! cargo nextest.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::{
    datapath::{
        BURST,
        steering::{ShardSeed, Steering},
    },
    dpdk::Mbuf,
    verdict::{DropReason, Side},
};
use harness::{rings::Rings, *};
use std::{collections::BTreeSet, net::Ipv4Addr};

const ALL: u32 = 64_512;

fn refusal_point(workers: usize) {
    let steering = Steering::new(ShardSeed([7; 16]), workers).unwrap();
    let mut rings = Rings::new(steering, &Setup { max_sessions: 2 * ALL, ..Setup::default() });
    // The next hop is known before.
    rings.poll();
    let (mut l4_ports, mut refused_at) = (BTreeSet::new(), None);
    for i in 0..ALL + 32 {
        let from = (Ipv4Addr::new(10, 244, 1, 10 + (i >> 15) as u8), 10_000 + (i & 0x7fff) as u16);
        let packet = tunnelled(NODE, POLICY, &udp(from, (REMOTE, 53), 64, b""));
        rings.send(Side::Tunnel, i as usize % workers, &packet);
        if i as usize % BURST == BURST - 1 {
            let [_, external] = rings.poll();
            l4_ports.extend(external.iter().map(|frame| Seen::of(frame).sport));
            if rings.drops(DropReason::L4PortsExhausted) > 0 {
                refused_at.get_or_insert(l4_ports.len());
            }
        }
    }
    let counted = |of: fn(&Parts<Mbuf>) -> u64| -> u64 {
        rings.workers.iter().map(|(parts, _)| of(parts)).sum()
    };
    let (lent, handed_over) = (
        counted(|parts| parts.counters.l4_ports_lent.get()),
        counted(|parts| parts.counters.handed_over.iter().map(|c| c.get()).sum()),
    );
    println!(
        "{workers} workers: refused at {refused_at:?}, {lent} lent, {handed_over} handed over"
    );
    assert_eq!(refused_at, Some(ALL as usize));
    assert_eq!(l4_ports, (1024..=65_535).collect());
    assert_eq!(rings.drops(DropReason::L4PortsExhausted), 32);
    let all: u64 = DropReason::ALL.iter().map(|reason| rings.drops(*reason)).sum();
    assert_eq!(all, 32, "nothing else was dropped");
    assert_eq!(lent > 0, workers > 1);
}

#[test]
fn one_worker() {
    refusal_point(1);
}

#[test]
fn two_workers() {
    refusal_point(2);
}

#[test]
fn four_workers() {
    refusal_point(4);
}

#[test]
fn eight_workers() {
    refusal_point(8);
}
