//! The command line: `run` and `check` work with files, all others ask a running gateway over its
//! API. Each subcommand has its file; [`client`] talks HTTP, [`table`] prints.

mod client;
mod convert;
mod cycles;
mod diff;
mod files;
mod fold;
mod generate;
mod history;
mod neighbours;
mod policy;
mod run;
mod sessions;
mod stats;
mod table;
mod trace;

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
  1  it failed: no gateway answers, a worker is stuck, a disk is full, somebody else was faster
  2  bad use or bad input: an option, a configuration file or a policy file is wrong";

/// Gives pods that leave the cluster a fixed source address: takes their packets from the nodes' tunnels,
/// translates them to the egress IPs of their policies, and sends them on.
#[derive(Debug, Parser)]
#[command(name = "egress-gateway", version, max_term_width = 100, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward packets until stopped
    Run(run::RunArgs),
    /// Read configuration and policies, print every error with its place, change nothing
    Check(run::CheckArgs),
    /// Read and replace the policies of a running gateway
    Policy(policy::PolicyArgs),
    /// What is translated right now
    Sessions(sessions::SessionsArgs),
    /// What would happen to a pod's packet, and why; nothing is sent or changed
    Trace(trace::TraceArgs),
    /// What ports and workers counted
    Stats(stats::StatsArgs),
    /// Next hops and nodes on the ports' links, with their MACs
    Neighbors(neighbours::NeighboursArgs),
    /// Print a script that completes this command line in a shell
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write one for each subcommand
    Man(generate::ManArgs),
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

type Result<T> = std::result::Result<T, Failure>;

pub(crate) fn main() -> ExitCode {
    let done = run_command(Cli::parse().command);
    let (message, code) = match done {
        Ok(code) => return code,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::BadInput(message)) => (message, 2),
    };
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
}

/// Returns the exit status; only a comparison has more than one that is no failure.
fn run_command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Policy(args) => return policy::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => run::check(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Neighbors(args) => neighbours::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
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
