//! `run`: measures.

use super::{Failure, Result, example, files, json, note, print, summary};
use crate::{
    machine,
    progress::Progress,
    report,
    result::Results,
    suite::{
        self, Done, Settings,
        group::{Group, Timing},
        scenarios,
        start::Programs,
    },
};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

const RUN: &str = example!(
    "  egress-perf run --quick
  egress-perf run --json perf/results/today.json --html perf/results/today.html
  egress-perf run --only 'new sessions' --only churn --repeats 7
  egress-perf run --quick --peer '/usr/local/bin/other-nat.sh'

It needs root (namespaces, hugepages) and two CPUs: one sends and receives, the other is measured.
`scaling` takes as many CPUs as this program may use (taskset)."
);

/// What of the standard set.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// The short set, under 5 minutes (6 with a peer); without it, under 40
    #[arg(long)]
    quick: bool,
    /// Only what has this text in its description: a scenario, a system, an I/O, `1,000,000 flows`;
    /// may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Repeats of each measurement [default: 3 quick, else 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    repeats: Option<u16>,
    /// Seconds of each repeat [default: 0.7 quick, else 2]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
}

#[derive(Debug, Args)]
#[command(after_help = RUN)]
pub(super) struct RunArgs {
    #[command(flatten)]
    selection: Selection,
    /// Write results here, after each group of measurements
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report with plots here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// CPU that sends and receives
    #[arg(long, value_name = "N", default_value_t = 0)]
    generator_core: usize,
    /// CPU of what is measured
    #[arg(long, value_name = "N", default_value_t = 1)]
    system_core: usize,
    /// The gateway's program [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Command that starts another NAT on the same memif sockets
    #[arg(long, value_name = "CMD")]
    peer: Option<String>,
    /// Take ordinary memory instead of hugepages
    #[arg(long)]
    no_hugepages: bool,
    /// Print the ports' packets and bits per second, each second
    #[arg(short, long)]
    verbose: bool,
}

impl Selection {
    pub(super) fn timing(&self) -> Timing {
        let timing = if self.quick { Timing::QUICK } else { Timing::FULL };
        Timing {
            repeats: self.repeats.map_or(timing.repeats, usize::from),
            seconds: self.seconds.unwrap_or(timing.seconds),
            ..timing
        }
    }

    /// With no more workers than `cpus`.
    pub(super) fn groups(&self, peer: bool, cpus: usize) -> Result<Vec<Group>> {
        let groups = scenarios::groups(self.quick, peer, cpus, &self.only);
        match groups.is_empty() {
            false => Ok(groups),
            true => Err(Failure::BadInput(format!(
                "--only {}: nothing in the set has that; `egress-perf list` shows all",
                self.only.join(" --only ")
            ))),
        }
    }
}

pub(super) fn run(args: &RunArgs) -> Result<()> {
    let cpus = cpus()?;
    let groups = args.selection.groups(args.peer.is_some(), cpus.len())?;
    let settings = Settings {
        generator_core: args.generator_core,
        system_core: args.system_core,
        cpus,
        hugepages: !args.no_hugepages,
        gateway: args.gateway.clone(),
        peer: args.peer.clone(),
        timing: args.selection.timing(),
        tsc_hz: machine::tsc_hz(),
    };
    check(&settings)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::Failed(format!("signal {signal}: {error}")))?;
    }
    let seconds = groups.iter().map(|group| group.estimate(&settings.timing)).sum();
    let mut progress = Progress::new(seconds, args.verbose);
    let machine = machine::this(std::env::args().skip(1), settings.tsc_hz);
    let save = |results: &Results| match &args.json {
        Some(path) => save(path, results),
        None => Ok(()),
    };
    let mut programs = Programs::new(&settings)?;
    let done = suite::run(&groups, machine, &settings, &mut programs, &mut progress, &stop, save)?;
    print(&summary::text(&done.results))?;
    if let Some(path) = &args.html {
        files::write(path, report::html(&done.results, None).as_bytes())?;
    }
    conclude(&done, args.json.as_deref())
}

/// CPUs that may be used.
pub(super) fn cpus() -> Result<Vec<usize>> {
    machine::cpus().map_err(|error| Failure::Failed(format!("sched_getaffinity: {error}")))
}

/// What was not measured, and whether that is a failure.
fn conclude(done: &Done, json: Option<&Path>) -> Result<()> {
    if !done.skipped.is_empty() {
        note("not measured, or not to be trusted:");
    }
    for skipped in &done.skipped {
        note(&format!("  {}: {}: {}", skipped.system, skipped.what, skipped.reason));
    }
    let failures = done.failures().count();
    Err(Failure::Failed(if done.is_interrupted {
        match json {
            Some(path) => format!("interrupted; {} has what was measured", path.display()),
            None => "interrupted".into(),
        }
    } else if done.results.runs.is_empty() {
        "nothing could be measured".into()
    } else if failures > 0 {
        format!("the gateway failed in {failures} of its measurements, see above")
    } else {
        return Ok(());
    }))
}

fn save(path: &Path, results: &Results) -> anyhow::Result<()> {
    let written = json(results).and_then(|text| files::write(path, text.as_bytes()));
    written.map_err(|failure| match failure {
        Failure::Failed(message) | Failure::BadInput(message) => anyhow::Error::msg(message),
    })
}

/// What a run needs of the machine, and has no way around.
fn check(settings: &Settings) -> Result<()> {
    let Settings { generator_core, system_core, gateway, .. } = settings;
    let cpus = settings.cpus.len();
    if generator_core == system_core {
        return Err(Failure::BadInput(format!(
            "--generator-core and --system-core are both {generator_core}: each needs a CPU of its own"
        )));
    }
    if cpus < 2 {
        return Err(Failure::Failed(format!(
            "two CPUs are needed, one to send and one to be measured; this program may use {cpus}"
        )));
    }
    for (option, core) in [("--generator-core", generator_core), ("--system-core", system_core)] {
        if !Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists() {
            return Err(Failure::BadInput(format!("{option} {core}: there is no such CPU")));
        }
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::Failed(
            "root is needed: for network namespaces, hugepages and to pin programs to CPUs".into(),
        ));
    }
    if let Some(gateway) = gateway
        && !gateway.is_file()
    {
        return Err(Failure::BadInput(format!(
            "--gateway {}: there is no such program",
            gateway.display()
        )));
    }
    if cfg!(debug_assertions) {
        note("warning: this is a debug build; only figures of a release build mean something");
    }
    Ok(())
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("0.1 to 600 seconds".into()),
        Err(_) => Err("a number of seconds, as 1.5".into()),
    }
}
