//! Two workers at once: what they cost each other, and what it costs to hand packets over. No I/O.
//!
//! Each worker has a thread on a CPU of its own. All figures are cycles in the turns of the loop alone,
//! of many turns, taken in rounds that alternate between the two arrangements that are compared.

use crate::{
    burst::Order,
    world::{BURST, Family, Flow, Flows, World},
};
use gateway::datapath::{
    handoff::Handoff,
    memory_io::MemoryPacket,
    steering::{ShardSeed, Steering},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    hint,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const ROUNDS: usize = 15;
const TURNS: usize = 4_000;

/// Smallest, median and largest of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values[0], values[values.len() - 1]);
        Spread { min, median: values[values.len() / 2], max }
    }
}

/// What each round found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    flows: u32,
    /// Packets in the same time by two workers, over those by one.
    scaling: Spread,
    /// Cycles per packet at its owner alone.
    own: Spread,
    /// Cycles that handing it over adds, those of both workers together.
    handed_over: Spread,
}

pub(crate) fn two_workers(flows: u32) -> Figures {
    let steering = Arc::new(Steering::new(ShardSeed([7; 16]), 2).unwrap());
    let meetings = (Barrier::new(2), Meeting::default());
    let ends = Handoff::mesh(&steering);
    let rounds: Vec<Vec<Round>> = thread::scope(|scope| {
        let (steering, meetings) = (&steering, (&meetings.0, &meetings.1));
        let threads: Vec<_> = ends
            .into_iter()
            .map(|end| scope.spawn(move || Bench::new(flows, end, steering, meetings).run()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let both = |value: fn(&Round) -> f64| -> Vec<f64> {
        rounds[0].iter().zip(&rounds[1]).map(|(a, b)| f64::midpoint(value(a), value(b))).collect()
    };
    let each = |value: fn(&Round) -> f64| rounds.iter().flatten().map(value).collect();
    Figures {
        flows,
        scaling: Spread::of(both(|round| 2.0 * round.alone / round.together)),
        own: Spread::of(each(|round| round.alone)),
        // Both workers hand over as much as they are handed, so one's turns cost what one packet costs both.
        handed_over: Spread::of(both(|round| round.exchanged - round.together)),
    }
}

/// Cycles per packet.
struct Round {
    /// While the other CPU rests.
    alone: f64,
    /// While the other worker does the same with flows of its own.
    together: f64,
    /// While all packets of each come to the other.
    exchanged: f64,
}

struct Bench<'a> {
    me: usize,
    barrier: &'a Barrier,
    meeting: &'a Meeting,
    world: World,
    /// Flows that the other worker owns.
    others: Vec<Flow>,
    order: Order,
}

impl<'a> Bench<'a> {
    fn new(
        flows: u32,
        end: Handoff<MemoryPacket>,
        steering: &Steering,
        (barrier, meeting): (&'a Barrier, &'a Meeting),
    ) -> Self {
        let me = end.me();
        let mut cpu = CpuSet::new();
        cpu.set(me).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).expect("as many CPUs as workers");
        let owned_by = |worker| {
            let is_owned = move |flow: &Flow| steering.of_in2out(&flow.key()) == worker;
            (0..).map(Flow::number).filter(is_owned).take(flows as usize).collect::<Vec<_>>()
        };
        let world = World::of_worker(Family::V4, Flows::List(owned_by(me)), end);
        Bench {
            me,
            barrier,
            meeting,
            world,
            others: owned_by(1 - me),
            order: Order::new(true, flows),
        }
    }

    fn run(mut self) -> Vec<Round> {
        (0..ROUNDS).map(|_| self.round()).collect()
    }

    fn round(&mut self) -> Round {
        let mut alone = 0.0;
        for worker in 0..2 {
            self.barrier.wait();
            if worker == self.me {
                alone = self.turns(false, false);
            }
        }
        self.barrier.wait();
        let together = self.turns(false, true);
        self.barrier.wait();
        let exchanged = self.turns(true, true);
        Round { alone, together, exchanged }
    }

    /// Cycles per translated packet of in2out hits: of this worker's flows, or of the other's, who sends as
    /// many of this one's.
    fn turns(&mut self, exchange: bool, in_step: bool) -> f64 {
        let (mut cycles, mut translated) = (0, 0);
        for _ in 0..TURNS {
            for _ in 0..BURST {
                let i = self.order.next();
                let flow = match exchange {
                    true => self.others[i as usize],
                    false => self.world.flows.get(i),
                };
                self.world.receive_in2out(&flow);
            }
            if in_step {
                self.meeting.wait();
            }
            cycles += self.world.any_turn();
            if in_step {
                self.meeting.wait();
            }
            translated += self.world.count_taken_back();
        }
        if exchange {
            // What is still between the workers is not this measurement's.
            self.barrier.wait();
            self.world.any_turn();
            self.world.take_back();
        }
        assert!(translated >= (TURNS - 2) * BURST, "{translated}: {:?}", self.world.drops());
        cycles as f64 / translated as f64
    }
}

/// Where both threads meet between turns, without sleeping.
#[derive(Default)]
struct Meeting(AtomicUsize);

impl Meeting {
    fn wait(&self) {
        let arrived = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        // Both have come when the count is even.
        let complete = arrived.next_multiple_of(2);
        while self.0.load(Ordering::SeqCst) < complete {
            hint::spin_loop();
        }
    }
}

impl Figures {
    pub(crate) fn text(&self) -> String {
        let spread = |Spread { min, median, max }: Spread, digits: usize| {
            format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
        };
        format!(
            "two workers, {} flows each: {} times one worker's packets; {} cycles a packet at its owner, \
             {} more when it comes to the other worker\n",
            self.flows,
            spread(self.scaling, 2),
            spread(self.own, 0),
            spread(self.handed_over, 0),
        )
    }

    pub(crate) fn json(&self) -> Value {
        let spread =
            |Spread { min, median, max }| json!({ "min": min, "median": median, "max": max });
        json!({
            "bench": "two_workers",
            "flows": self.flows,
            "scaling": spread(self.scaling),
            "cycles_per_packet": spread(self.own),
            "cycles_handed_over": spread(self.handed_over),
        })
    }
}
