//! One worker's counters: written by it alone, read by the control side.

use super::laps::CycleCounters;
use crate::{
    nat::Nat,
    verdict::{DropReason, Side},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with a single writer: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// For values that are counted elsewhere, and for marks in time.
    pub fn set(&self, value: u64) {
        // Release: who reads this value also sees what the worker did before.
        self.0.store(value, Ordering::Release);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One port as this worker used it.
#[derive(Debug, Default)]
pub struct PortCounters {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
    drops: DropCounters,
}

#[derive(Debug)]
struct DropCounters([Counter; DropReason::COUNT]);

impl Default for DropCounters {
    fn default() -> Self {
        DropCounters(std::array::from_fn(|_| Counter::default()))
    }
}

/// Aligned to two cache lines, the pair that the prefetcher fetches together, so that no other
/// thread's data shares a line with it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    ports: [PortCounters; 2],
    pub in2out_packets: Counter,
    pub in2out_bytes: Counter,
    pub out2in_packets: Counter,
    pub out2in_bytes: Counter,
    pub sessions: Counter,
    pub sessions_created: Counter,
    pub sessions_expired: Counter,
    pub sessions_cut: Counter,
    pub sessions_flushed: Counter,
    /// Now: l4_ports of this worker that others use, and sessions with an l4_port of another.
    pub l4_ports_lent: Counter,
    pub l4_ports_borrowed: Counter,
    /// l4_ports lent since start.
    pub l4_port_loans: Counter,
    /// Packets handed over to each worker.
    pub handed_over: Box<[Counter]>,
    /// Workers whose greeting has come through their ring to this one.
    pub greeted_by: Counter,
    pub icmp_errors_sent: Counter,
    /// ICMP errors that were due and kept back by the rate limit.
    pub icmp_errors_limited: Counter,
    /// ARP packets in which another host claims an address of ours.
    pub address_conflicts: Counter,
    pub neighbours: Counter,
    /// Turns of the loop, and how many of them found no packet.
    pub polls: Counter,
    pub empty_polls: Counter,
    /// All 0 where they are not switched on.
    pub cycles: CycleCounters,
    /// The policy generation that the worker runs.
    pub generation: Counter,
}

impl WorkerCounters {
    /// Of one of `workers` workers.
    pub fn new(workers: usize) -> Self {
        let handed_over = std::iter::repeat_with(Counter::default).take(workers).collect();
        WorkerCounters { handed_over, ..Self::default() }
    }

    #[inline]
    pub fn port(&self, side: Side) -> &PortCounters {
        &self.ports[side.index()]
    }

    /// `side`: where the packet was when it ended, received there or about to be sent there.
    #[inline]
    pub fn dropped(&self, side: Side, reason: DropReason) {
        self.ports[side.index()].drops.0[reason.index()].add(1);
    }

    pub fn drops(&self, side: Side, reason: DropReason) -> u64 {
        self.ports[side.index()].drops.0[reason.index()].get()
    }

    pub fn publish_sessions(&self, nat: &Nat) {
        let counts = nat.counts();
        self.sessions.set(nat.sessions().into());
        self.l4_ports_lent.set(nat.lent().into());
        self.l4_ports_borrowed.set(nat.borrowed().into());
        self.l4_port_loans.set(counts.lent);
        self.sessions_created.set(counts.created);
        self.sessions_expired.set(counts.expired);
        self.sessions_cut.set(counts.cut);
        self.sessions_flushed.set(counts.flushed);
    }
}
