//! `compare`: two files of results.

use super::{Output, Result, example, files, json, print};
use crate::compare::{self, Compared, Mark};
use admin::table::Table;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

const COMPARE: &str = example!(
    "  egress-perf compare perf/results/reference.json perf/results/today.json
  egress-perf compare old.json new.json --tolerance 10% --fail-if-slower

A median that differs by more than the tolerance is better or worse, unless the ranges of the repeats
overlap: then it is the same."
);

#[derive(Debug, Args)]
#[command(after_help = COMPARE)]
pub(super) struct CompareArgs {
    #[arg(value_name = "OLD")]
    old: PathBuf,
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// How much may differ
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    tolerance: f64,
    /// Exit with 1 where something is worse
    #[arg(long)]
    fail_if_slower: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &CompareArgs) -> Result<ExitCode> {
    let (old, new) = (files::read(&args.old)?, files::read(&args.new)?);
    let compared = compare::compare(&old, &new, args.tolerance);
    match args.output {
        Output::Json => print(&json(&compared)?)?,
        Output::Text => {
            if old.machine.cpu != new.machine.cpu {
                super::note(&format!(
                    "warning: two machines: {} and {}",
                    old.machine.cpu, new.machine.cpu
                ));
            }
            print(&text(&compared))?;
        }
    }
    let is_slower = compared.iter().any(|compared| compared.mark == Mark::Worse);
    Ok(ExitCode::from(u8::from(args.fail_if_slower && is_slower)))
}

fn text(compared: &[Compared]) -> String {
    let mut table = Table::new(&["", ">RATIO", ">OLD", ">NEW", "OF", "RANGES", "RUN"]);
    for of in compared {
        let median = |spread: &Option<crate::result::Spread>| {
            spread.as_ref().map_or("-".into(), |spread| figure(spread.median))
        };
        table.row([
            of.mark.name().to_owned(),
            of.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            median(&of.old),
            median(&of.new),
            of.of.clone(),
            match of.overlap {
                Some(true) => "overlap",
                Some(false) => "apart",
                None => "-",
            }
            .to_owned(),
            of.run.clone(),
        ]);
    }
    let count = |mark| compared.iter().filter(|compared| compared.mark == mark).count();
    format!(
        "{table}{} better, {} worse, {} the same, {} only in one\n",
        count(Mark::Better),
        count(Mark::Worse),
        count(Mark::Same),
        count(Mark::OnlyInOld) + count(Mark::OnlyInNew)
    )
}

/// Three digits or more.
fn figure(value: f64) -> String {
    match value {
        100_000.0.. => admin::number::short(value as u64),
        100.0.. => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// `5%` or `5`, as a part of 1.
fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a percentage, as 5%".into()),
    }
}
