//! Makes packets and counts what comes back: the process between two devices, whose other ends a system
//! under test holds.
//!
//! ```text
//! stdin ─job, steps─▶ serve ─step─▶ engine (its own core): establish │ measure, search │ capacity
//! stdout ◀─events────   │  ◀─event─    send → lane ══ tunnel device ═════▶ system
//!                       └─ once a second: seconds   lane ◀═ external device ═══ system
//! ```
//!
//! - pure: `frames` what is sent, `sum` its checksums, `mark` its payload, `judge` what should
//!   come of it, `arp`, `flows` which packet is next, `pace` when, `search` at which rate
//! - with DPDK: `ends` the devices, `lane` bursts through one of them, `send` bursts made, `engine`
//!   the steps, of them `establish`, `measure`, `capacity`
//! - `inside`: a gateway in this process; `ring_gateway`: its worker on ring devices; `crew`: its workers
//!   without I/O; `router`: a twin of the gateway that only forwards

mod arp;
mod capacity;
mod clock;
mod crew;
mod ends;
mod engine;
mod establish;
mod flows;
mod forward;
mod frames;
mod inside;
mod judge;
mod lane;
mod latency;
mod mark;
mod measure;
mod pace;
mod ring_gateway;
mod router;
mod search;
mod seconds;
mod send;
mod sum;

pub use router::router;

use crate::{
    job::{self, Event, Job, Step},
    plan,
};
use anyhow::{Context, Result, bail};
use crew::Crew;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use ends::Ends;
use engine::Engine;
use gateway::dpdk::{self, Eal};
use seconds::Published;
use std::{
    io::{self, BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

/// Who does the steps.
trait Steps {
    /// [`Event::Failed`] where it cannot be done.
    fn step(&mut self, step: &Step) -> Event;
}

/// Serves a job on standard input and output, until its input ends. Errors are of a job that cannot be
/// read, or whose devices cannot be had; of steps the answers tell.
pub fn generate() -> Result<()> {
    serve(io::stdin().lock(), io::stdout().lock())
}

/// The same on any two streams. The EAL can be started once per process, and so can this.
pub fn serve(input: impl BufRead, output: impl Write) -> Result<()> {
    let mut lines = input.lines();
    let line = lines.next().context("the first line should be a job, and there is none")??;
    let job: Job = serde_json::from_str(&line).with_context(|| format!("no job: {line}"))?;
    check(&job)?;
    let eal = ends::start_eal(&job)?;
    if let job::Ends::Memory { max_sessions, .. } = job.ends {
        let (crew, published) = Crew::start(&eal, &job, max_sessions)?;
        return attend(&eal, (lines, output), crew, &published, || Ok(()));
    }
    let mut ends = Ends::open(&eal, &job)?;
    let engine = Engine::new(&job, &mut ends, dpdk::tsc_hz(&eal))?;
    let published = [Arc::clone(&ends.published)];
    attend(&eal, (lines, output), engine, &published, || ends.wait_for_links())
}

/// Has `worker` do the steps of `lines`, on the first lcore, each once `ready` says so.
fn attend(
    eal: &Eal,
    (lines, mut output): (impl Iterator<Item = io::Result<String>>, impl Write),
    mut worker: impl Steps + Send + 'static,
    published: &[Arc<Published>],
    ready: impl Fn() -> Result<()>,
) -> Result<()> {
    let (steps, to_do) = crossbeam_channel::bounded::<Step>(1);
    let (done, events) = crossbeam_channel::bounded::<Event>(1);
    let lcore = *eal.worker_lcores().first().context("no lcore for the generator")?;
    let running = eal.launch(lcore, move || {
        for step in to_do {
            if done.send(worker.step(&step)).is_err() {
                break;
            }
        }
    })?;
    say(&mut output, &Event::Ready)?;
    for line in lines {
        let line = line?;
        let result = match serde_json::from_str(&line) {
            Err(error) => Err(anyhow::anyhow!("no step: {line}: {error}")),
            Ok(step) => {
                ready().and_then(|()| follow(step, &steps, &events, published, &mut output))
            }
        };
        let event = result.unwrap_or_else(|error| Event::Failed(format!("{error:#}")));
        say(&mut output, &event)?;
    }
    drop(steps);
    running.join();
    Ok(())
}

fn check(job: &Job) -> Result<()> {
    if !(1..=plan::MAX_NODES).contains(&job.nodes) {
        bail!("job: nodes = {}: 1 to {} there can be", job.nodes, plan::MAX_NODES);
    }
    if job.flows > flows::MOST {
        bail!("job: flows = {}: at most {} are different", job.flows, flows::MOST);
    }
    Ok(())
}

/// Has the step done, and tells of each second meanwhile.
fn follow(
    step: Step,
    steps: &Sender<Step>,
    events: &Receiver<Event>,
    published: &[Arc<Published>],
    output: &mut impl Write,
) -> Result<Event> {
    const SECOND: Duration = Duration::from_secs(1);
    let mut before = seconds::totals(published);
    steps.send(step).context("the generator's loop has ended")?;
    let mut next = Instant::now() + SECOND;
    loop {
        match events.recv_deadline(next) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Disconnected) => bail!("the generator's loop has ended"),
            Err(RecvTimeoutError::Timeout) => {
                let totals = seconds::totals(published);
                say(output, &Event::Second(seconds::between(&before, &totals)))?;
                before = totals;
                next += SECOND;
            }
        }
    }
}

fn say(output: &mut impl Write, event: &Event) -> Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    output.write_all(line.as_bytes()).and_then(|()| output.flush()).context("nobody listens")
}
