//! One worker: one core, one queue pair per port, one session table, run to completion.
//!
//! Start reading at [`Worker::poll_once`]. Packets come from the two ports, and from other workers that
//! received packets of this one's flows; the `stages` lead them through.

use super::{
    announcer::Announcer,
    config::DatapathConfig,
    counters::WorkerCounters,
    handoff::Handoff,
    icmp::ErrorLimit,
    io::{PacketBuf, PacketIo},
    laps::{Laps, Stage},
    next_hop::{Output, Turn},
    request::{Request, Requests},
    stages::Stages,
};
use crate::{
    nat::{Nat, PolicyTable, Tick},
    verdict::Side,
};
use arc_swap::{ArcSwap, Cache};
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// Sessions that one turn ends at most because they were idle, and slots that it looks at after a
/// reload.
const EXPIRE_PER_TURN: usize = 32;
const SWEEP_PER_TURN: u32 = 64;

#[derive(Debug)]
pub struct Worker<B> {
    config: Arc<DatapathConfig>,
    nat: Nat,
    output: Output<B>,
    handoff: Handoff<B>,
    policies: Cache<Arc<ArcSwap<PolicyTable>>, Arc<PolicyTable>>,
    announcer: Announcer,
    error_limit: ErrorLimit,
    requests: Requests,
    laps: Laps,
    is_first_turn: bool,
}

impl<B: PacketBuf> Worker<B> {
    pub fn new(
        config: Arc<DatapathConfig>,
        nat: Nat,
        policies: Arc<ArcSwap<PolicyTable>>,
        counters: Arc<WorkerCounters>,
        requests: Receiver<Request>,
        handoff: Handoff<B>,
    ) -> Self {
        Worker {
            nat,
            error_limit: ErrorLimit::new(config.icmp_errors_per_second),
            output: Output::new(Arc::clone(&config), counters, handoff.is_alone()),
            handoff,
            config,
            policies: Cache::new(policies),
            announcer: Announcer::new(),
            requests: Requests::new(requests),
            laps: Laps::default(),
            is_first_turn: true,
        }
    }

    /// To be called once on the thread that will run the loop: what the snapshot's cell keeps per thread
    /// is allocated at its first use, which must not be a turn of the loop.
    pub fn settle(&self) {
        drop(self.policies.arc_swap().load_full());
    }

    /// Whether turns and their stages are timed: [`WorkerCounters::cycles`]. They are not at first.
    pub fn count_cycles(&mut self, is_on: bool) {
        self.laps.switch(is_on);
    }

    pub fn nat(&self) -> &Nat {
        &self.nat
    }

    pub fn nat_mut(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// Whether the next turn has something to do besides packets: then it should not wait for these.
    pub fn has_work(&self) -> bool {
        self.requests.is_busy() || self.nat.is_sweeping()
    }

    /// One turn: a burst from each side and from each other worker, then a bounded amount of housekeeping.
    /// Returns how many packets there were.
    pub fn poll_once<I: PacketIo<Buf = B>>(&mut self, io: &mut I, now: Tick) -> usize {
        if std::mem::take(&mut self.is_first_turn) {
            self.output.ask_for_gateways(now);
        }
        let Worker {
            config,
            nat,
            output,
            handoff,
            policies,
            announcer,
            error_limit,
            requests,
            laps,
            is_first_turn: _,
        } = self;
        laps.start();
        // Once per turn: all its packets are judged by the same policies.
        let policies = policies.load();
        // What was let through by older policies has left with the turn before.
        output.counters.generation.set(policies.generation());
        let mut turn = Turn { io, policies, now };
        let translated = Default::default();
        let mut stages = Stages { config, nat, output, handoff, error_limit, laps, translated };

        let mut received = 0;
        for side in Side::ALL {
            received += stages.burst(&mut turn, side);
        }
        if !stages.handoff.is_alone() {
            received += stages.other_workers(&mut turn);
        }
        stages.count_translated();
        // One worker speaks for all.
        if handoff.me() == 0 {
            announcer.tick(output, &mut turn);
        }
        output.finish(&mut turn);
        laps.lap(Stage::Transmit);

        nat.expire(now, EXPIRE_PER_TURN);
        nat.sweep(turn.policies, SWEEP_PER_TURN);
        requests.turn(nat, output, turn.policies, now);
        let counters = &output.counters;
        counters.publish_sessions(nat);
        counters.neighbours.set(output.neighbour_count() as u64);
        counters.polls.add(1);
        if received == 0 {
            counters.empty_polls.add(1);
        }
        laps.finish(Stage::Upkeep, received, &counters.cycles);
        received
    }
}
