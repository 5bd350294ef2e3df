//! A gateway with several workers, turned one after the other, so that a test is the same each time.

use super::*;
use gateway::{
    datapath::{
        handoff::Handoff,
        memory_io::{MemoryIo, MemoryPacket},
        steering::{ShardSeed, Steering},
    },
    nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint},
};
use std::collections::BTreeSet;

pub const SEED: ShardSeed = ShardSeed(*b"sixteen byte key");

/// A gateway with several workers. Each has ports of its own, as each queue of a port is a worker's.
pub struct Gateway {
    pub workers: Vec<Parts<MemoryPacket>>,
    pub ios: Vec<MemoryIo>,
    pub steering: Arc<Steering>,
    pub policies: Arc<ArcSwap<PolicyTable>>,
    pub now: Tick,
    /// Workers whose loop stands still.
    pub stalled: BTreeSet<usize>,
    /// Answer ARP requests and Neighbor Solicitations, to this worker's queue.
    pub arp_to: usize,
    out: [Vec<Vec<u8>>; 2],
}

impl Gateway {
    pub fn new(workers: usize) -> Self {
        Self::with(workers, 100_000)
    }

    pub fn with(workers: usize, max_sessions: u32) -> Self {
        let steering = Steering::new(SEED, workers).unwrap();
        Self::steered(steering, &Setup { max_sessions, ..Setup::default() })
    }

    pub fn steered(steering: Steering, setup: &Setup) -> Self {
        let steering = Arc::new(steering);
        let policies = Arc::new(ArcSwap::from_pointee((setup.policies)(1)));
        let workers: Vec<_> = Handoff::mesh(&steering)
            .into_iter()
            .map(|handoff| Parts::of_worker(setup.clone(), handoff, Arc::clone(&policies)))
            .collect();
        let ios = workers.iter().map(|_| MemoryIo::default()).collect();
        let mut gateway = Gateway {
            workers,
            ios,
            steering,
            policies,
            now: Tick::from_secs(1),
            stalled: BTreeSet::new(),
            arp_to: 0,
            out: Default::default(),
        };
        gateway.poll();
        gateway
    }

    /// Turns of all workers, until nothing moves any more.
    pub fn poll(&mut self) {
        let mut still = 0;
        while still < 3 {
            let mut moved = 0;
            for (id, (parts, io)) in self.workers.iter_mut().zip(&mut self.ios).enumerate() {
                if !self.stalled.contains(&id) {
                    moved += parts.worker.poll_once(io, self.now);
                }
            }
            moved += self.take_sent();
            still = if moved == 0 { still + 1 } else { 0 };
        }
    }

    /// Collects what the workers sent, and answers their questions. Returns how many frames were sent.
    pub fn take_sent(&mut self) -> usize {
        let mut moved = 0;
        let mut answers = Vec::new();
        for io in &mut self.ios {
            for side in Side::ALL {
                for frame in io.sent(side) {
                    moved += 1;
                    match said(side, &frame) {
                        Said::Announcement => {}
                        Said::Question(answer) => answers.push((side, answer)),
                        Said::Packet => {
                            judge(side, &frame, true);
                            self.out[side.index()].push(frame);
                        }
                    }
                }
            }
        }
        for (side, answer) in answers {
            self.ios[self.arp_to].receive(side, &answer);
        }
        moved
    }

    /// A pod's packet arrives at a worker's queue; nothing turns yet.
    pub fn arrives(&mut self, at: usize, packet: &[u8]) {
        self.ios[at].receive(Side::Tunnel, &tunnelled(NODE, POLICY, packet));
    }

    pub fn take(&mut self, side: Side) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out[side.index()])
    }

    /// A pod's packet through one worker's queue: what left.
    pub fn pod_sends(&mut self, at: usize, packet: &[u8]) -> Vec<Seen> {
        self.arrives(at, packet);
        self.poll();
        self.take(Side::External).iter().map(|frame| Seen::of(frame)).collect()
    }

    /// A packet of the world through one worker's queue: what the node gets.
    pub fn world_sends(&mut self, at: usize, packet: &[u8]) -> Vec<Seen> {
        self.ios[at].receive(Side::External, &from_router(packet));
        self.poll();
        self.take(Side::Tunnel).iter().map(|frame| Seen::in_tunnel(frame, NODE).0).collect()
    }

    pub fn owner(&self, pod: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> usize {
        let internal = InternalEndpoint(Endpoint::new(pod.0, pod.1));
        let remote = RemoteEndpoint(Endpoint::new(remote.0, remote.1));
        self.steering.of_in2out(&FlowKey::in2out(0, Protocol::Udp, internal, remote))
    }

    pub fn another(&self, than: usize) -> usize {
        (than + 1) % self.workers.len()
    }

    pub fn sessions(&self) -> Vec<u32> {
        self.workers.iter().map(|parts| parts.worker.nat().sessions()).collect()
    }

    pub fn sum(&self, of: impl Fn(&Parts<MemoryPacket>) -> u64) -> u64 {
        self.workers.iter().map(of).sum()
    }

    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let count = |reason: &DropReason| {
            let of = |side| self.sum(|parts| parts.counters.drops(side, *reason));
            of(Side::Tunnel) + of(Side::External)
        };
        let all = DropReason::ALL.iter().map(|reason| (reason.label(), count(reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    pub fn handed_over(&self) -> u64 {
        self.sum(|parts| parts.counters.handed_over.iter().map(|c| c.get()).sum())
    }

    pub fn check(&self) {
        for parts in &self.workers {
            parts.worker.nat().check_invariants();
        }
    }
}
