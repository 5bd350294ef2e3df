//! `gateway.toml`: from text to a value in which everything is checked.
//!
//! Unknown keys are refused, and every mistake is told at once with its key, the reason and what to
//! do. What is left out has the default that `configs/gateway.toml` shows. In reading order:
//! `section` walks the text's tables, `ports` reads the two NIC sides, `address` their addresses,
//! `sides` is what the two must agree on, `nat` the timeouts and limits, `listen` where the API is.

mod address;
mod listen;
mod nat;
mod ports;
mod section;
mod sides;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

pub use listen::Listen;
pub use nat::{Limits, NatConfig};
pub use ports::{ExternalPort, PortConfig, TunnelPort};
use section::{Problems, Section};
pub use sides::OneArmed;

/// The configuration of one gateway process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which `EgressGateway` of the policy documents this is.
    pub name: String,
    pub workers: Workers,
    pub eal: EalConfig,
    pub tunnel: TunnelPort,
    pub external: ExternalPort,
    pub policy: PolicyConfig,
    pub api: ApiConfig,
    pub nat: NatConfig,
    pub limits: Limits,
}

/// `[workers]`: who forwards packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// One worker per core; distinct, 1 to 64 of them.
    pub cores: Vec<u16>,
    pub idle: Idle,
    /// Whether workers count the cycles of their turns and stages.
    pub cycle_counters: bool,
}

/// What a worker does when there is nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Idle {
    /// Spins for a while, then pauses, then sleeps shortly.
    #[default]
    Adaptive,
    /// Always polls: the least latency, a core at 100 %.
    Spin,
}

/// `[eal]`: how DPDK is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    pub hugepages: bool,
    /// Given to `rte_eal_init` after the gateway's own arguments.
    pub extra_args: Vec<String>,
}

/// `[policy]`: where documents come from and where the accepted ones are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Read at start when `state_dir` holds no accepted set.
    pub file: PathBuf,
    pub state_dir: PathBuf,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    pub listen: Listen,
}

/// One mistake in the configuration, or one thing worth a second look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}{}", if hint.is_empty() { String::new() } else { format!(" ({hint})") })]
pub struct Problem {
    /// `ports.tunnel.addresses[0]`
    pub key: String,
    pub reason: String,
    /// Empty when the reason says it all.
    pub hint: String,
}

/// Why a text is not a configuration. Displays as one line per mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("line {line}, column {column}: {message}")]
    Syntax { line: usize, column: usize, message: String },
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// A larger text is not a configuration, and is refused unread.
const MAX_BYTES: usize = 1 << 20;

impl Config {
    /// Reads `gateway.toml`. Beside the configuration come the warnings: what is accepted and may
    /// not do what was meant.
    pub fn parse(text: &str) -> Result<(Config, Vec<Problem>), ConfigError> {
        if text.len() > MAX_BYTES {
            let message = format!("the text has {} bytes, more than {MAX_BYTES}", text.len());
            return Err(ConfigError::Syntax { line: 1, column: 1, message });
        }
        let root: toml::Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let problems = Problems::default();
        let config = read(Section::root(&root, &problems));
        let (errors, warnings) = problems.into_errors_and_warnings();
        match config {
            Some(config) if errors.is_empty() => Ok((config, warnings)),
            _ => Err(ConfigError::Invalid(errors)),
        }
    }

    /// How the sides are told apart when they share one device; `None` when each has its own.
    pub fn one_armed(&self) -> Option<OneArmed> {
        sides::one_armed(&self.tunnel.port, &self.external.port)
    }

    /// What policies may claim at this gateway.
    pub fn policy_limits(&self) -> policy::GatewayLimits {
        let (tunnel, external) = (&self.tunnel.port, &self.external.port);
        policy::GatewayLimits {
            egress_prefixes: self.external.egress_prefixes(),
            own_addresses: tunnel.own_addresses().chain(external.own_addresses()).collect(),
            next_hops: tunnel.gateways().chain(external.gateways()).collect(),
        }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    ConfigError::Syntax {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        message: error.message().to_owned(),
    }
}

/// `None` when something without a default is missing or wrong, which then is a problem told.
fn read(mut root: Section<'_>) -> Option<Config> {
    let mut gateway = root.section("gateway");
    let name = gateway.required("name").and_then(|name| {
        let text = name.text()?;
        if !policy::is_name(text) {
            name.error("is not a DNS-1123 name", "write the metadata.name of its EgressGateway");
        }
        Some(text.to_owned())
    });
    gateway.finish();

    let workers = workers(root.section("workers"));
    let eal = eal(root.section("eal"));
    let (tunnel, external) = ports::read(root.section("ports"));
    let policy = policy_config(root.section("policy"));
    let api = listen::read(root.section("api"));
    let nat = nat::read(root.section("nat"));
    let limits = nat::read_limits(root.section("limits"));
    root.finish();
    Some(Config {
        name: name?,
        workers,
        eal,
        tunnel: tunnel?,
        external: external?,
        policy,
        api,
        nat,
        limits,
    })
}

/// Each two workers have handoff rings between them, so their number grows with its square.
const MAX_WORKERS: usize = 64;

fn workers(mut section: Section<'_>) -> Workers {
    let cores = match section.optional("cores") {
        None => vec![1],
        Some(list) => {
            let cores = list.distinct(|core| core.integer(0..=u16::MAX));
            match cores.len() {
                0 if list.is_empty_list() => {
                    list.error("needs at least one core", "each core runs one worker");
                }
                0..=MAX_WORKERS => {}
                n => list.error(format!("{n} cores are more than {MAX_WORKERS}"), "keep fewer"),
            }
            cores
        }
    };
    let choices = [("adaptive", Idle::Adaptive), ("spin", Idle::Spin)];
    let idle = section.optional("idle").and_then(|idle| idle.choice(&choices));
    let cycle_counters = section.optional("cycle_counters").and_then(|value| value.boolean());
    section.finish();
    Workers {
        cores,
        idle: idle.unwrap_or_default(),
        cycle_counters: cycle_counters.unwrap_or(false),
    }
}

fn eal(mut section: Section<'_>) -> EalConfig {
    let hugepages = section.optional("hugepages").and_then(|value| value.boolean());
    let extra_args = section.optional("extra_args").map(|list| {
        list.items(|argument| {
            let text = argument.text()?;
            if text.is_empty() || text.contains('\0') {
                argument.error("is not an argument", "write one argument per item");
            }
            Some(text.to_owned())
        })
    });
    section.finish();
    EalConfig { hugepages: hugepages.unwrap_or(true), extra_args: extra_args.unwrap_or_default() }
}

fn policy_config(mut section: Section<'_>) -> PolicyConfig {
    let mut path = |key, default: &str| {
        let written = section.optional(key).and_then(|value| {
            let text = value.text()?;
            if text.is_empty() || text.contains('\0') {
                value.error("is not a path", "");
            }
            Some(PathBuf::from(text))
        });
        written.unwrap_or_else(|| PathBuf::from(default))
    };
    let file = path("file", "/etc/egress-gateway/policy.yaml");
    let state_dir = path("state_dir", "/var/lib/egress-gateway");
    section.finish();
    PolicyConfig { file, state_dir }
}
