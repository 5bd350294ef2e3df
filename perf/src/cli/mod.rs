//! The command line. `run` measures; the others work with what it left, or are the programs that it starts.

mod compare;
mod files;
mod generator;
mod list;
mod manual;
mod run;
mod summary;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// What stands below the options of a subcommand: examples, as they are typed, and its exit status.
macro_rules! example {
    ($examples:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit status: 0 done, 1 failed, 2 bad use or bad input."
        )
    };
}
use example;

const EXIT_STATUS: &str = "Exit status:
  0  what was asked is done
  1  it failed: nothing could be measured, the gateway did not do what it promises, it was interrupted,
     or `compare --fail-if-slower` found something slower
  2  bad use or bad input: an option or a file is wrong";

/// Measures the egress gateway as testpmd measures a driver: how many packets, cycles and sessions, beside
/// testpmd, the kernel's own NAT and any other, all in one run.
#[derive(Debug, Parser)]
#[command(name = "egress-perf", version, max_term_width = 100, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the standard set, or a part of it
    Run(run::RunArgs),
    /// What the standard set is, and how long it takes; nothing is measured
    List(list::ListArgs),
    /// What is faster or slower than in an earlier run
    Compare(compare::CompareArgs),
    /// Show results: as tables, or as one HTML file with plots
    Report(files::ReportArgs),
    /// Print the JSON schema of results
    Schema,
    /// The traffic generator's own mode: a job, then steps, as lines of JSON on standard input; what came
    /// of them on standard output. `run` starts it
    Generate(generator::GenerateArgs),
    /// A twin of the gateway that forwards and translates nothing. `run` starts it
    Router(generator::RouterArgs),
    /// Print a script that completes this command line in a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each subcommand
    Man(manual::ManArgs),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Why a command did not do what was asked. The text is for the one who typed it.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2: what was given is wrong.
    BadInput(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(format!("{error:#}"))
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// The program.
pub fn main() -> ExitCode {
    let (message, code) = match run_command(Cli::parse().command) {
        Ok(code) => return code,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::BadInput(message)) => (message, 2),
    };
    note(&format!("error: {message}"));
    ExitCode::from(code)
}

/// Returns the exit status; only a comparison has more than one that is no failure.
fn run_command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Compare(args) => return compare::run(&args),
        Command::Run(args) => run::run(&args),
        Command::List(args) => list::run(&args),
        Command::Report(args) => files::report(&args),
        Command::Schema => files::schema(),
        Command::Generate(args) => generator::generate(&args),
        Command::Router(args) => generator::router(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Prints to standard output. A reader that leaves early, as `head` does, ends the program quietly.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}

/// JSON for people, with a line end.
fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|error| Failure::Failed(error.to_string()))? + "\n")
}

/// For what does not belong into the output: warnings, and that there is nothing.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
