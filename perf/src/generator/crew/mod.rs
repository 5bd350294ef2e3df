//! A gateway's workers without I/O, on ports in memory and a CPU each: what they cost each other.
//!
//! ```text
//!            ┌ fill ports │ meet │ turns of the loop, timed by itself │ meet │ judge ┐
//! each worker└────────────────────────◀── again ─────────────────────────────────────┘
//! ```
//!
//! The loop's turns are those of the product, and overlap with those of all other workers. Each worker
//! gets packets of flows that it owns, so nothing is handed over. `member` is one of them, `ports` its
//! ports, `meeting` where they wait for each other.

mod meeting;
mod member;
mod ports;

use super::{Steps, inside::Inside, seconds::Published};
use crate::{
    job::{Event, Job, Load, Measured, Step},
    system::Sample,
};
use anyhow::{Context, Result, bail, ensure};
use crossbeam_channel::{Receiver, Sender};
use gateway::{
    datapath::{
        handoff::Handoff,
        steering::{ShardSeed, Steering},
    },
    dpdk::{self, Eal},
};
use meeting::Meeting;
use member::{Member, Part};
use std::{sync::Arc, time::Instant};

/// Runs on the first worker's lcore; the others wait for orders on theirs.
#[derive(Debug)]
pub(super) struct Crew {
    first: Member,
    others: Vec<Other>,
    /// Of each worker.
    flows: u32,
    hz: u64,
    is_established: bool,
}

#[derive(Debug)]
struct Other {
    orders: Sender<Order>,
    parts: Receiver<Result<Part>>,
}

/// What all do at the same time.
#[derive(Clone, Copy, Debug)]
enum Order {
    Establish,
    Send { load: Load, warm_up: f64, seconds: f64 },
}

impl Crew {
    /// A worker on each lcore, and what each publishes.
    pub(super) fn start(
        eal: &Eal,
        job: &Job,
        max_sessions: u32,
    ) -> Result<(Self, Vec<Arc<Published>>)> {
        ensure!(job.flows > 0, "job: flows = 0: workers without I/O need some");
        let lcores = eal.worker_lcores();
        let steering = Arc::new(Steering::new(ShardSeed([7; 16]), lcores.len())?);
        let meeting = Arc::new(Meeting::new(lcores.len()));
        let inside = Inside::new(job, max_sessions)?;
        let (mut members, mut published) = (Vec::new(), Vec::new());
        for (lcore, handoff) in lcores.iter().zip(Handoff::mesh(&steering)) {
            let publishes = Arc::new(Published::default());
            published.push(Arc::clone(&publishes));
            let (job, inside) = (job.clone(), inside.clone());
            let (steering, meeting) = (Arc::clone(&steering), Arc::clone(&meeting));
            members.push(eal.run_on(*lcore, move || {
                Member::new(&job, &inside, handoff, &steering, meeting, publishes)
            })??);
        }
        let mut members = members.into_iter();
        let first = members.next().context("no lcore for a worker")?;
        let others = lcores[1..].iter().zip(members).map(|(lcore, member)| {
            let (orders, to_do) = crossbeam_channel::bounded(1);
            let (done, parts) = crossbeam_channel::bounded(1);
            // It ends when nobody gives orders any more.
            eal.launch(*lcore, move || work(member, &to_do, &done))?;
            Ok(Other { orders, parts })
        });
        let others = others.collect::<Result<_>>()?;
        let (flows, hz) = (job.flows, dpdk::tsc_hz(eal));
        Ok((Crew { first, others, flows, hz, is_established: false }, published))
    }

    fn try_step(&mut self, step: &Step) -> Result<Event> {
        match *step {
            Step::Establish => {
                self.is_established = false;
                let start = Instant::now();
                self.all(Order::Establish)?;
                self.is_established = true;
                let seconds = start.elapsed().as_secs_f64();
                Ok(Event::Established { flows: self.flows, seconds })
            }
            Step::Send { load, packets_per_second: None, warm_up, seconds }
                if load.new_sessions == 0.0 && !load.latency =>
            {
                ensure!(self.is_established, "flows are not open: Establish must come first");
                let parts = self.all(Order::Send { load, warm_up, seconds })?;
                Ok(Event::Measured(Box::new(together(&parts, self.hz))))
            }
            Step::Send { .. }
            | Step::Search { .. }
            | Step::NewSessions { .. }
            | Step::Capacity { .. } => {
                bail!(
                    "without I/O packets of established flows are sent, without a rate; nothing else"
                )
            }
        }
    }

    /// Has all do the same, and waits for them.
    fn all(&mut self, order: Order) -> Result<Vec<Part>> {
        for other in &self.others {
            other.orders.send(order).context("a worker has ended")?;
        }
        let mut parts = vec![follow(&mut self.first, order)];
        for other in &self.others {
            parts.push(other.parts.recv().context("a worker has ended")?);
        }
        parts.into_iter().collect()
    }
}

impl Steps for Crew {
    fn step(&mut self, step: &Step) -> Event {
        self.try_step(step).unwrap_or_else(|error| Event::Failed(format!("{error:#}")))
    }
}

fn work(mut member: Member, to_do: &Receiver<Order>, done: &Sender<Result<Part>>) {
    for order in to_do {
        if done.send(follow(&mut member, order)).is_err() {
            break;
        }
    }
}

fn follow(member: &mut Member, order: Order) -> Result<Part> {
    match order {
        Order::Establish => member.establish(),
        Order::Send { load, warm_up, seconds } => Ok(member.send(&load, warm_up, seconds)),
    }
}

/// What all did. A worker's rate is that of its busy time, in which it neither fills ports nor waits; the
/// rates of all add up.
fn together(parts: &[Part], hz: u64) -> Measured {
    let (mut all, mut inside) = (Measured { tsc_hz: hz, ..Measured::default() }, Sample::default());
    let mut rate = 0.0;
    for part in parts {
        for direction in [0, 1] {
            all.sent[direction] += part.sent[direction];
            all.received[direction] += part.received[direction];
            all.received_bytes[direction] += part.received_bytes[direction];
        }
        all.wrong += part.wrong;
        inside.add(&part.counted);
        let busy = part.counted.busy_cycles.max(1) as f64 / hz as f64;
        rate += part.received.iter().sum::<u64>() as f64 / busy;
    }
    if rate > 0.0 {
        all.seconds = all.received.iter().sum::<u64>() as f64 / rate;
    }
    Measured { inside: Some(inside), ..all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_all_workers_add_up() {
        let part = |received, busy_cycles| Part {
            sent: [received, 0],
            received: [received, 0],
            received_bytes: [received * 64, 0],
            wrong: 1,
            counted: Sample { busy_cycles, packets: received, ..Sample::default() },
        };
        // 10 and 30 million a second.
        let measured = together(&[part(1_000, 200_000), part(3_000, 200_000)], 2_000_000_000);
        assert_eq!((measured.received, measured.wrong), ([4_000, 0], 2));
        assert!((4_000.0 / measured.seconds / 40e6 - 1.0).abs() < 1e-9, "{measured:?}");
        let inside = measured.inside.unwrap();
        assert_eq!((inside.busy_cycles, inside.packets), (400_000, 4_000));
        assert_eq!(together(&[part(0, 0)], 1).seconds, 0.0);
    }
}
