//! `list`: the standard set.

use super::{
    Output, Result, example, json, print,
    run::{Selection, cpus},
};
use crate::suite::{group::word, scenarios::Subject};
use admin::{number, table::Table};
use clap::Args;
use serde::Serialize;

const LIST: &str = example!(
    "  egress-perf list --quick
  egress-perf list --only churn --only af_xdp"
);

#[derive(Debug, Args)]
#[command(after_help = LIST)]
pub(super) struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// With the other NAT of `run --peer`
    #[arg(long)]
    peer: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A row of the set.
#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    scenario: String,
    direction: String,
    frames: String,
    flows: u32,
    order: String,
    systems: Vec<String>,
    #[serde(skip)]
    titles: String,
    minutes: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Set {
    measurements: Vec<Listed>,
    /// With starting the systems.
    minutes: f64,
}

pub(super) fn run(args: &ListArgs) -> Result<()> {
    let timing = args.selection.timing();
    let groups = args.selection.groups(args.peer, cpus()?.len())?;
    let mut set = Set { measurements: Vec::new(), minutes: 0.0 };
    for group in &groups {
        set.minutes += group.estimate(&timing) / 60.0;
        let listed = group.measurements.iter().map(|measurement| Listed {
            group: group.name(),
            scenario: measurement.scenario.name(),
            direction: word(&measurement.direction),
            frames: word(&measurement.frames),
            flows: measurement.flows,
            order: word(&measurement.order),
            systems: measurement.subjects.iter().map(|subject| subject.title()).collect(),
            titles: titles(&measurement.subjects).join(", "),
            minutes: measurement.seconds(&timing) / 60.0,
        });
        set.measurements.extend(listed);
    }
    match args.output {
        Output::Json => print(&json(&set)?),
        Output::Text => print(&text(&set)),
    }
}

/// `gateway, router over memif`
fn titles(subjects: &[Subject]) -> Vec<String> {
    let is_last_of_its_io =
        |at: usize| subjects.get(at + 1).is_none_or(|next| next.io != subjects[at].io);
    let title = |(at, subject): (usize, &Subject)| match is_last_of_its_io(at) {
        true => subject.title(),
        false => subject.name(),
    };
    subjects.iter().enumerate().map(title).collect()
}

fn text(set: &Set) -> String {
    let heads = ["SCENARIO", ">FLOWS", "DIRECTION", "FRAMES", "ORDER", ">SECONDS", "SYSTEMS"];
    let mut table = Table::new(&heads);
    for listed in &set.measurements {
        table.row([
            listed.scenario.clone(),
            number::grouped(u64::from(listed.flows)),
            listed.direction.clone(),
            listed.frames.clone(),
            listed.order.clone(),
            format!("{:.0}", listed.minutes * 60.0),
            listed.titles.clone(),
        ]);
    }
    format!(
        "{table}{} measurements, about {:.0} minutes with starting the systems\n",
        set.measurements.len(),
        set.minutes.ceil()
    )
}
