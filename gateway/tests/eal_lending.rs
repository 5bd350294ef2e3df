//! Promise 3 on DPDK's ring devices: with any number of workers, all 64,512 l4_ports of an egress IP and a
//! remote endpoint are given out before a flow is refused. The EAL starts once per process: run this with
//! cargo nextest.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use arc_swap::ArcSwap;
use gateway::{
    datapath::{
        BURST, Burst, PacketBuf,
        handoff::Handoff,
        steering::{ShardSeed, Steering},
    },
    dpdk::{DpdkIo, Eal, EalOptions, Mbuf, Mempool, Port, PortSettings, RxQueue, TxQueue},
    nat::Tick,
    verdict::DropReason,
    verdict::Side,
};
use harness::*;
use std::{collections::BTreeSet, iter::zip, net::Ipv4Addr, sync::Arc};

const ALL: u32 = 64_512;

/// One device for each way of each side: what goes into a ring device's transmit queue comes out of its
/// receive queue, so the test holds one end and the worker the other.
struct Rings {
    /// By worker: into its tunnel and external receive queues, out of its transmit queues.
    to: [Vec<TxQueue>; 2],
    from: [Vec<RxQueue>; 2],
    workers: Vec<(Parts<Mbuf>, DpdkIo)>,
    pool: Mempool,
    now: Tick,
}

impl Rings {
    fn new(workers: usize) -> Self {
        let options = EalOptions { hugepages: false, memory_mib: 512, ..EalOptions::default() };
        let eal = Eal::start(&options).expect("one EAL per process: run this with cargo nextest");
        let pool = Mempool::new(&eal, 8191, 2048, -1).unwrap();
        let device = |name: &str| -> (Vec<RxQueue>, Vec<TxQueue>) {
            let settings = PortSettings { queues: workers as u16, mtu: 1500, rss_seed: [7; 16] };
            let started = Port::probe(&eal, name).unwrap().start(settings, &pool).unwrap();
            started.queues.into_iter().unzip()
        };
        let (tunnel_rx, to_tunnel) = device("net_ring0");
        let (from_tunnel, tunnel_tx) = device("net_ring1");
        let (external_rx, to_external) = device("net_ring2");
        let (from_external, external_tx) = device("net_ring3");
        let steering = Arc::new(Steering::new(ShardSeed([7; 16]), workers).unwrap());
        let policies = Arc::new(ArcSwap::from_pointee(usual_policies(1)));
        let ios = zip(zip(tunnel_rx, tunnel_tx), zip(external_rx, external_tx))
            .map(|(tunnel, external)| DpdkIo::new(tunnel, external, pool));
        let parts = Handoff::mesh(&steering).into_iter().map(|handoff| {
            let setup = Setup { max_sessions: 2 * ALL, ..Setup::default() };
            Parts::of_worker(setup, handoff, Arc::clone(&policies))
        });
        Rings {
            to: [to_tunnel, to_external],
            from: [from_tunnel, from_external],
            workers: zip(parts, ios).collect(),
            pool,
            now: Tick::from_secs(1),
        }
    }

    fn send(&mut self, side: Side, queue: usize, frame: &[u8]) {
        let mut burst = Burst::new();
        let mut packet = self.pool.alloc().unwrap();
        assert!(packet.fill(frame));
        burst.push(packet);
        self.to[side.index()][queue].tx(&mut burst);
        assert!(burst.is_empty(), "the ring takes it");
    }

    /// Turns all workers until nothing moves; returns what left by each side.
    fn poll(&mut self) -> [Vec<Vec<u8>>; 2] {
        let mut out: [Vec<Vec<u8>>; 2] = Default::default();
        let mut still = 0;
        while still < 3 {
            let mut moved = 0;
            for (parts, io) in &mut self.workers {
                moved += parts.worker.poll_once(io, self.now);
            }
            for side in Side::ALL {
                for queue in 0..self.workers.len() {
                    let mut burst = Burst::<Mbuf>::new();
                    self.from[side.index()][queue].rx(&mut burst);
                    moved += burst.len();
                    for frame in burst.iter().map(|packet| packet.data().to_vec()) {
                        match arp_request(&frame) {
                            Some((sender, target)) if sender != target => self.answer(side, target),
                            Some(_) => {}
                            None => out[side.index()].push(frame),
                        }
                    }
                }
            }
            still = if moved == 0 { still + 1 } else { 0 };
        }
        out
    }

    fn answer(&mut self, side: Side, target: Ipv4Addr) {
        let (mac, us, us_mac) = match side {
            Side::Tunnel => (NODE_MAC, VTEP, TUNNEL_MAC),
            Side::External => (ROUTER_MAC, EXTERNAL, EXTERNAL_MAC),
        };
        self.send(side, 0, &arp_frame(2, us_mac, (mac, target), (us_mac, us)));
    }

    fn drops(&self, reason: DropReason) -> u64 {
        let of = |parts: &Parts<Mbuf>| {
            Side::ALL.iter().map(|side| parts.counters.drops(*side, reason)).sum::<u64>()
        };
        self.workers.iter().map(|(parts, _)| of(parts)).sum()
    }
}

fn refusal_point(workers: usize) {
    let mut rings = Rings::new(workers);
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
