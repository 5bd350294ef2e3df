//! A gateway's worker in the generator's own process, on ring devices: what one core does where I/O costs
//! next to nothing.

use super::{
    ends::{Queues, open_device},
    inside::{Counted, Inside},
};
use crate::{job::Job, system::Sample};
use anyhow::{Context, Result};
use gateway::{
    datapath::{Worker, handoff::Handoff},
    dpdk::{DpdkIo, Eal, Mbuf, Mempool},
    nat::Tick,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a worker that rests looks whether it is to go on.
const REST: Duration = Duration::from_micros(500);

/// The worker's loop as others see it.
#[derive(Debug)]
pub(super) struct Pulse {
    runs: AtomicBool,
    counted: Counted,
}

impl Pulse {
    /// Lets the worker's loop run, or rest.
    pub(super) fn run(&self, runs: bool) {
        self.runs.store(runs, Ordering::Release);
    }

    /// Since start.
    pub(super) fn sample(&self) -> Sample {
        self.counted.sample()
    }
}

/// Starts the worker on the second worker lcore, at rest; returns the generator's ends of its devices.
pub(super) fn start(
    eal: &Eal,
    job: &Job,
    max_sessions: u32,
    pool: Mempool,
) -> Result<([Queues; 2], Arc<Pulse>)> {
    // One device for each way of each side: what goes into a ring device's transmit queue comes out of
    // its receive queue.
    let device = |name: &str| open_device(eal, name, &pool).map(|device| device.queues);
    let (tunnel_rx, to_tunnel) = device("net_ring0")?;
    let (from_tunnel, tunnel_tx) = device("net_ring1")?;
    let (external_rx, to_external) = device("net_ring2")?;
    let (from_external, external_tx) = device("net_ring3")?;
    let io = DpdkIo::new((tunnel_rx, tunnel_tx), (external_rx, external_tx), pool);

    let lcore = *eal.worker_lcores().get(1).context("no lcore for the gateway's worker")?;
    let inside = Inside::new(job, max_sessions)?;
    let (worker, counted) = eal.run_on(lcore, move || inside.worker(Handoff::alone()))??;
    let pulse = Arc::new(Pulse { runs: AtomicBool::new(false), counted });
    let shared = Arc::clone(&pulse);
    // It ends with the process.
    eal.launch(lcore, move || work(worker, io, &shared))?;
    Ok(([(from_tunnel, to_tunnel), (from_external, to_external)], pulse))
}

/// As the gateway's own loop, but for its rest.
fn work(mut worker: Worker<Mbuf>, mut io: DpdkIo, pulse: &Pulse) {
    let started = Instant::now();
    worker.settle();
    loop {
        if !pulse.runs.load(Ordering::Acquire) {
            thread::sleep(REST);
            continue;
        }
        let now = Tick::from_millis(started.elapsed().as_millis() as u64);
        worker.poll_once(&mut io, now);
    }
}
