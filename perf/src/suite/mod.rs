//! What is measured, in which order, and what is made of it.
//!
//! - `scenarios`: the standard set, as a table
//! - `group`: rows of the table whose systems run at the same time; jobs and steps for their generators
//! - `start`: how a system comes to run
//! - `side_by_side`: systems take turns, all but one of them paused; `live`: one of them
//! - `nearness`: when turns wait for the two CPUs to come near each other
//! - `measure`: what a repeat says, and what several say together; `spread`: their median and range

pub mod group;
mod live;
pub mod measure;
pub mod nearness;
pub mod scenarios;
pub mod side_by_side;
pub mod spread;
pub mod start;

use crate::{
    progress::Progress,
    result::{Machine, Results},
};
use group::{Group, Timing};
use nearness::Nearness;
use side_by_side::{Outcome, Skipped};
use start::Start;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// The highest part of packets that may be lost at a rate that counts as free of loss: one packet that
/// the machine beside us costs shall not decide.
pub const NO_LOSS: f64 = 1e-5;

/// How often the two CPUs are looked at before anything is measured, about a second in all.
const FIRST_LOOKS: usize = 10;

/// What the user chose, of what concerns generators and systems.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub generator_core: usize,
    /// The CPU of whatever is measured.
    pub system_core: usize,
    /// All that may be used.
    pub cpus: Vec<usize>,
    pub hugepages: bool,
    /// The program `egress-gateway`; `None`: the one beside this program.
    pub gateway: Option<PathBuf>,
    /// A command that starts another NAT on the same memif sockets.
    pub peer: Option<String>,
    pub timing: Timing,
    /// Of the time stamp counter; 0 where there is none.
    pub tsc_hz: u64,
}

impl Settings {
    /// CPUs for so many workers that are generators too.
    pub fn worker_cores(&self, workers: usize) -> Vec<usize> {
        let first = [self.system_core, self.generator_core];
        let others = self.cpus.iter().copied().filter(|cpu| !first.contains(cpu));
        first.into_iter().chain(others).take(workers).collect()
    }
}

/// What came of a whole run.
#[derive(Debug)]
pub struct Done {
    pub results: Results,
    pub skipped: Vec<Skipped>,
    /// The user wanted to stop.
    pub is_interrupted: bool,
}

impl Done {
    /// What was to be measured and failed although this machine can do it: the gateway's, not a
    /// baseline's.
    pub fn failures(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.iter().filter(|skipped| skipped.is_failure)
    }
}

/// Measures group after group. `save` gets what there is after each of them.
pub fn run(
    groups: &[Group],
    machine: Machine,
    settings: &Settings,
    start: &mut dyn Start,
    progress: &mut Progress,
    stop: &AtomicBool,
    mut save: impl FnMut(&Results) -> anyhow::Result<()>,
) -> anyhow::Result<Done> {
    let results = Results { machine, runs: Vec::new() };
    let mut done = Done { results, skipped: Vec::new(), is_interrupted: false };
    let mut nearness = first_looks(start, settings, stop);
    let mut distances = Vec::new();
    for group in groups {
        let seconds = group.estimate(&settings.timing) as u64;
        progress.line(&format!("{} (about {})", group.name(), admin::number::duration(seconds)));
        let outcome = side_by_side::measure(group, settings, start, &mut nearness, progress, stop);
        let Outcome { runs, distances: of_runs, skipped, tsc_hz, is_interrupted } = outcome;
        done.results.runs.extend(runs);
        distances.extend(of_runs);
        tell(&nearness, &distances, &mut done.results);
        done.skipped.extend(skipped);
        // What cycles were counted with.
        if tsc_hz != 0 {
            done.results.machine.tsc_hz = tsc_hz;
        }
        save(&done.results)?;
        if is_interrupted {
            done.is_interrupted = true;
            break;
        }
    }
    progress.end();
    Ok(done)
}

/// None where distances cannot be measured.
fn first_looks(start: &mut dyn Start, settings: &Settings, stop: &AtomicBool) -> Nearness {
    let mut nearness = Nearness::new(settings.timing.patience);
    for _ in 0..FIRST_LOOKS {
        let Some(distance) = start.distance() else { break };
        nearness.see(distance);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(nearness::LOOK);
    }
    nearness
}

/// Of all runs anew: that CPUs were apart may be known only later, once they have been nearer.
fn tell(nearness: &Nearness, distances: &[Vec<f64>], results: &mut Results) {
    results.machine.cpu_distance_cycles = nearness.near().map(|cycles| cycles.round() as u64);
    for (run, distances) in results.runs.iter_mut().zip(distances) {
        let were_apart = distances.iter().filter(|distance| nearness.are_apart(Some(**distance)));
        run.apart = were_apart.count();
    }
}
