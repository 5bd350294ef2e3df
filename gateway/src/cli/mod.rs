//! The command line: `run` and `check` work with files, all others ask a running gateway over its
//! API. Each subcommand has its file; [`client`] talks HTTP, [`table`] prints.

mod client;
mod convert;
mod diff;
mod policy;
mod run;
mod sessions;
mod stats;
mod table;

use clap::{Parser, Subcommand, ValueEnum};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Gives pods that leave the cluster a fixed source address: takes their packets from the nodes' tunnels, translates them to the egress IPs
/// of their policies, and sends them on.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
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
    /// What ports and workers counted
    Stats(stats::StatsArgs),
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
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => run::check(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Stats(args) => stats::run(&args),
    };
    let (message, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::BadInput(message)) => (message, 2),
    };
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
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

/// For what does not belong into the output: warnings, and that there is nothing.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
