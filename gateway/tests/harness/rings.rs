//! A gateway with several workers on DPDK's ring devices, turned one after the other.

use super::*;
use gateway::{
    datapath::{Burst, steering::Steering},
    dpdk::{
        DpdkIo, Eal, EalOptions, Mbuf, Mempool, Port, PortSettings, RxQueue, StartedPort, TxQueue,
    },
};
use std::iter::zip;

/// One device for each way of each side: what goes into a ring device's transmit queue comes out of its
/// receive queue, so the test holds one end and the worker the other.
pub struct Rings {
    /// By worker: into its tunnel and external receive queues, out of its transmit queues.
    to: [Vec<TxQueue>; 2],
    from: [Vec<RxQueue>; 2],
    pub workers: Vec<(Parts<Mbuf>, DpdkIo)>,
    pool: Mempool,
    now: Tick,
}

/// Starts the EAL of this process.
pub fn start() -> (Eal, Mempool) {
    let options = EalOptions { hugepages: false, memory_mib: 512, ..EalOptions::default() };
    let eal = Eal::start(&options).expect("one EAL per process: run this with cargo nextest");
    let pool = Mempool::new(&eal, 8191, 2048, -1).unwrap();
    (eal, pool)
}

pub fn device(eal: &Eal, pool: &Mempool, name: &str, queues: u16) -> StartedPort {
    let settings = PortSettings { queues, mtu: 1500, rss_seed: [7; 16] };
    Port::probe(eal, name).unwrap().start(settings, pool).unwrap()
}

impl Rings {
    /// The EAL, and a gateway in it.
    pub fn new(steering: Steering, setup: &Setup) -> Self {
        let (eal, pool) = start();
        Self::of_eal(&eal, pool, steering, setup)
    }

    pub fn of_eal(eal: &Eal, pool: Mempool, steering: Steering, setup: &Setup) -> Self {
        let device = |name: &str| -> (Vec<RxQueue>, Vec<TxQueue>) {
            let started = device(eal, &pool, name, steering.workers() as u16);
            started.queues.into_iter().unzip()
        };
        let (tunnel_rx, to_tunnel) = device("net_ring0");
        let (from_tunnel, tunnel_tx) = device("net_ring1");
        let (external_rx, to_external) = device("net_ring2");
        let (from_external, external_tx) = device("net_ring3");
        let steering = Arc::new(steering);
        let policies = Arc::new(ArcSwap::from_pointee((setup.policies)(1)));
        let ios = zip(zip(tunnel_rx, tunnel_tx), zip(external_rx, external_tx))
            .map(|(tunnel, external)| DpdkIo::new(tunnel, external, pool));
        let parts = Handoff::mesh(&steering)
            .into_iter()
            .map(|handoff| Parts::of_worker(setup.clone(), handoff, Arc::clone(&policies)));
        Rings {
            to: [to_tunnel, to_external],
            from: [from_tunnel, from_external],
            workers: zip(parts, ios).collect(),
            pool,
            now: Tick::from_secs(1),
        }
    }

    pub fn send(&mut self, side: Side, queue: usize, frame: &[u8]) {
        let mut burst = Burst::new();
        let mut packet = self.pool.alloc().unwrap();
        assert!(packet.fill(frame));
        burst.push(packet);
        self.to[side.index()][queue].tx(&mut burst);
        assert!(burst.is_empty(), "the ring takes it");
    }

    /// Turns all workers until nothing moves; returns what left by each side.
    pub fn poll(&mut self) -> [Vec<Vec<u8>>; 2] {
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
                        match said(side, &frame) {
                            Said::Announcement => {}
                            Said::Question(answer) => self.send(side, 0, &answer),
                            Said::Packet => out[side.index()].push(frame),
                        }
                    }
                }
            }
            still = if moved == 0 { still + 1 } else { 0 };
        }
        out
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        let of = |parts: &Parts<Mbuf>| {
            Side::ALL.iter().map(|side| parts.counters.drops(*side, reason)).sum::<u64>()
        };
        self.workers.iter().map(|(parts, _)| of(parts)).sum()
    }
}
