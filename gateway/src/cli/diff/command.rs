//! `policy diff`

use super::{Change, Kind, Printer, count, order_changes};
use crate::cli::{
    Failure, Output, Result,
    client::ApiArgs,
    policy::{Applied, documents, put, read, warn},
    print,
    run::refused,
};
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

const DIFF: &str = "Examples:
  egress-gateway policy diff -f policies.yaml
  egress-gateway policy diff -f policies.yaml --full | less
  egress-gateway policy diff --generation 6
  egress-gateway policy diff -f policies.yaml --exit-code || echo there is something to apply

Exit status: 0 done, 1 failed, or with --exit-code a difference, 2 bad use or bad input.";

#[derive(Debug, Args)]
#[command(after_help = DIFF)]
pub(crate) struct DiffArgs {
    /// Policy documents (.json: JSON, else YAML); - reads YAML or JSON from standard input. Without it the
    /// documents in force are compared with those of --generation
    #[arg(short, long, value_name = "FILE", required_unless_present = "generation")]
    file: Option<PathBuf>,
    /// Compare with this generation instead of the documents in force
    #[arg(long, value_name = "GENERATION", visible_alias = "from")]
    generation: Option<u64>,
    /// Show all elements of long lists, and all documents
    #[arg(long)]
    full: bool,
    /// Exit with status 1 where there is a difference
    #[arg(long)]
    exit_code: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Returns the exit status: with `--exit-code` a difference is one.
pub(crate) fn run(api: &ApiArgs, args: &DiffArgs) -> Result<ExitCode> {
    let old: Vec<Value> = documents(api, args.generation, "application/json")?.json()?;
    let (new, applied) = match &args.file {
        None => (documents(api, None, "application/json")?.json()?, None),
        Some(file) => {
            let (text, format) = read(file)?;
            let (set, _) = policy::parse(&text, format).map_err(|error| refused(file, &error))?;
            let applied: Applied = put(api, file, text, format, true, None)?.json()?;
            let new = serde_json::to_value(&set).and_then(serde_json::from_value::<Vec<Value>>);
            let failed = |error| Failure::Failed(format!("{}: {error}", file.display()));
            (new.map_err(failed)?, Some(applied))
        }
    };
    let changes = super::changes(&old, &new);
    let (order, is_all) = order_changes(&old, &new);
    if let Some(applied) = &applied {
        warn(applied);
    }
    let in_force = applied.as_ref().map(|applied| applied.generation);
    let text = match args.output {
        Output::Json => {
            let answer = json!({
                "generation": args.generation.or(in_force),
                "documents": changes,
                "order": order,
                "sessionsKept": applied.as_ref().map(|applied| applied.sessions_kept),
                "sessionsCut": applied.as_ref().map(|applied| applied.sessions_cut),
            });
            format!("{answer:#}\n")
        }
        Output::Text if changes.is_empty() && order.is_empty() => {
            match args.generation.or(in_force) {
                Some(generation) => format!("no difference to generation {generation}\n"),
                None => "no difference\n".to_owned(),
            }
        }
        Output::Text => {
            let printer = Printer { full: args.full };
            let changed = printer.changes(&changes) + &printer.order(&order, is_all);
            changed + &totals(&changes, applied.as_ref())
        }
    };
    print(&text)?;
    let differs = args.exit_code && !(changes.is_empty() && order.is_empty());
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How many documents differ, and what that would do to sessions.
fn totals(changes: &[Change], applied: Option<&Applied>) -> String {
    let of = |kind| count(changes, kind);
    let (added, changed, removed) = (of(Kind::Added), of(Kind::Changed), of(Kind::Removed));
    let sessions = applied.map(|applied| {
        format!("; sessions: {} kept, {} cut", applied.sessions_kept, applied.sessions_cut)
    });
    let sessions = sessions.unwrap_or_default();
    format!("documents: {added} added, {changed} changed, {removed} removed{sessions}\n")
}
