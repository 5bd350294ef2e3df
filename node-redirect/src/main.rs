//! The command `node-redirect`. See the library for how it works.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use admin::manual;
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use node_redirect::check::{self, BadInput};
use node_redirect::cli::{Cli, Command, ConfigFile, Output, Print, TraceArgs};
use node_redirect::config::{Config, ConfigError};
use node_redirect::maps::Maps;
use node_redirect::state::{Names, names};
use node_redirect::{agent, cleanup, list, policy_files, preflight, program, status, trace};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

const FAILED: u8 = 1;
const BAD_USE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = EnvFilter::new("info");
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or(default))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    program::log_libbpf();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            let is_bad_use = error.is::<ConfigError>() || error.is::<BadInput>();
            ExitCode::from(if is_bad_use { BAD_USE } else { FAILED })
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Run(file) => runtime.block_on(agent::run(load(&file)?)),
        Command::Check(file) => check(&runtime.block_on(check::check(&load(&file)?))?),
        Command::Cleanup(file) => runtime.block_on(cleanup::run(&load(&file)?)),
        Command::List(print) => show_list(&print),
        Command::Trace(args) => show_trace(&args),
        Command::Status(print) => {
            preflight::check_capabilities()?;
            let report = runtime.block_on(status::report(&load(&print.config)?))?;
            show(print.output, &report, || status::as_text(&report))
        }
        Command::Completions { shell } => print(&manual::completions(&Cli::command(), shell)),
        Command::Man { folder } => write_man(folder.as_deref()),
    }
}

fn load(file: &ConfigFile) -> Result<Config> {
    Ok(Config::load(&file.config)?)
}

fn check(report: &check::Report) -> Result<()> {
    for warning in &report.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    print(&report.summary)
}

fn write_man(folder: Option<&Path>) -> Result<()> {
    match folder {
        Some(folder) => manual::write_pages(Cli::command(), folder)
            .with_context(|| folder.display().to_string()),
        None => print(&manual::main_page(Cli::command())?),
    }
}

fn show_list(args: &Print) -> Result<()> {
    preflight::check_capabilities()?;
    let config = load(&args.config)?;
    let rows = list::rows(&Maps::open(&config.pin_path)?, &names_of(&config))?;
    if rows.is_empty() && args.output == Output::Text {
        let _ = writeln!(std::io::stderr(), "No entries found.");
    }
    show(args.output, &rows, || list::as_text(&rows))
}

fn show_trace(args: &TraceArgs) -> Result<()> {
    let packet = args.packet().map_err(BadInput)?;
    preflight::check_capabilities()?;
    let config = load(&args.print.config)?;
    let maps = Maps::open(&config.pin_path)?;
    let trace = trace::trace(&maps, &names_of(&config), packet, config.vxlan_port)?;
    show(args.print.output, &trace, || trace::as_text(&trace))
}

/// Names come from the policy files; without them the maps' numbers must do.
fn names_of(config: &Config) -> Names {
    match policy_files::read(&config.policy_files) {
        Ok(set) => names(&set, &config.node_name),
        Err(error) => {
            tracing::warn!("names are missing: {error:#}");
            Names::new()
        }
    }
}

fn show<T: Serialize>(output: Output, value: &T, text: impl Fn() -> String) -> Result<()> {
    match output {
        Output::Text => print(&text()),
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
    }
}

/// A reader that leaves early, as `head` does, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
