//! `run` and `check`: from files to a gateway, or to the list of what is wrong with them.

use super::{Failure, Result, files::Files, note, print};
use clap::Args;
use gateway::config::{Config, Problem};
use policy::{Format, LoadError, PolicyError};
use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};
use tracing_subscriber::EnvFilter;

const DEFAULT_CONFIG: &str = "/etc/egress-gateway/gateway.toml";

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// What to log: error, warn, info, debug, trace, or per module as in gateway::control=debug.
    /// Default: the environment variable RUST_LOG, else info
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Policy documents for this gateway (.json: JSON, else YAML); several files are one set
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
}

pub(super) fn run(args: &RunArgs) -> Result<()> {
    start_log(args.log_level.as_deref())?;
    let (config, warnings) = read_config(&args.config)?;
    for warning in warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    forward(config)
}

#[cfg(feature = "dpdk")]
fn forward(config: Config) -> Result<()> {
    use gateway::control::ApplyError;
    gateway::run::run(config).map_err(|error| {
        let message = format!("{error:#}");
        match error.downcast_ref::<ApplyError>() {
            Some(ApplyError::Load(_)) => Failure::BadInput(message),
            Some(
                ApplyError::Outdated { .. }
                | ApplyError::Store(_)
                | ApplyError::Unacknowledged { .. },
            )
            | None => Failure::Failed(message),
        }
    })
}

#[cfg(not(feature = "dpdk"))]
fn forward(_: Config) -> Result<()> {
    let message = "this egress-gateway was built without DPDK and cannot forward packets: build it \
                   with the cargo feature dpdk";
    Err(Failure::Failed(message.to_owned()))
}

fn start_log(level: Option<&str>) -> Result<()> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let (name, text) = match (level, &from_environment) {
        (Some(level), _) => ("--log-level", level),
        (None, Some(text)) if !text.is_empty() => (EnvFilter::DEFAULT_ENV, text.as_str()),
        (None, _) => ("", "info"),
    };
    let filter = EnvFilter::try_new(text)
        .map_err(|error| Failure::BadInput(format!("{name} {text}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

pub(super) fn check(args: &CheckArgs) -> Result<()> {
    let config = read_config(&args.config);
    if let Ok((config, warnings)) = &config {
        for warning in warnings {
            note(&format!("warning: {}: {warning}", args.config.display()));
        }
        print(&format!("{}: ok, for gateway {}\n", args.config.display(), config.name))?;
    }
    let policies = match args.policy.as_slice() {
        [] => Ok(()),
        files => check_policies(files, config.as_ref().ok().map(|(config, _)| config)),
    };
    match (config, policies) {
        (Ok(_), Ok(())) => Ok(()),
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => Err(failure),
        (Err(config), Err(policies)) => {
            let texts = [config, policies].map(|failure| match failure {
                Failure::Failed(text) | Failure::BadInput(text) => text,
            });
            Err(Failure::BadInput(texts.join("\nerror: ")))
        }
    }
}

/// Without a configuration the documents are judged by themselves.
fn check_policies(paths: &[PathBuf], config: Option<&Config>) -> Result<()> {
    let files = Files::read(paths)?;
    let sources = files.sources();
    let (set, warnings, here) = match config {
        Some(config) => policy::load_for_gateway(&sources, &config.name, &config.policy_limits())
            .map(|loaded| {
                let here = loaded.compiled.policies.len();
                let here = format!(", {here} of them for gateway {}", config.name);
                (loaded.set, loaded.warnings, here)
            }),
        None => {
            policy::parse_sources(&sources).map(|(set, warnings)| (set, warnings, String::new()))
        }
    }
    .map_err(|error| files.refused(error))?;
    for warning in &warnings {
        note(&format!("warning: {warning}"));
    }
    print(&format!(
        "{}: ok, {} policies{here}; {} gateways, {} nodes, {} endpoints\n",
        files.names(),
        set.policies.len(),
        set.gateways.len(),
        set.nodes.len(),
        set.endpoints.len(),
    ))
}

/// `.json` is JSON, everything else YAML.
pub(super) fn format_of(file: &Path) -> Format {
    match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Format::Json,
        _ => Format::Yaml,
    }
}

pub(super) fn refused(file: &Path, error: &LoadError) -> Failure {
    Failure::BadInput(match error {
        LoadError::Syntax { .. } => format!("{}: {error}", file.display()),
        LoadError::Invalid(errors) => list(file, errors),
    })
}

fn list(file: &Path, errors: &[PolicyError]) -> String {
    mistakes(file, errors.iter().map(PolicyError::to_string))
}

/// A heading, and a line for each mistake.
pub(super) fn mistakes(file: &Path, lines: impl ExactSizeIterator<Item = String>) -> String {
    let heading = match lines.len() {
        1 => format!("{} has a mistake:", file.display()),
        count => format!("{} has {count} mistakes:", file.display()),
    };
    lines.fold(heading, |text, line| text + "\n  " + &line)
}

pub(super) fn read_file(file: &Path) -> Result<String> {
    fs::read_to_string(file)
        .map_err(|error| Failure::BadInput(format!("{}: {error}", file.display())))
}

fn read_config(file: &Path) -> Result<(Config, Vec<Problem>)> {
    use gateway::config::ConfigError;
    let text = read_file(file)?;
    Config::parse(&text).map_err(|error| {
        Failure::BadInput(match &error {
            ConfigError::Syntax { .. } => format!("{}: {error}", file.display()),
            ConfigError::Invalid(problems) => {
                mistakes(file, problems.iter().map(Problem::to_string))
            }
        })
    })
}
