//! `node-redirect check`: everything by which `run` would refuse the files, told at once, without changing anything.

use std::collections::BTreeMap;

use anyhow::Result;
use policy::PolicySet;
use thiserror::Error;

use crate::config::Config;
use crate::host::{Host, Netlink};
use crate::outer_port::follow;
use crate::policy_files;
use crate::program;
use crate::room::Room;
use crate::tables::{self, Tables};

/// What was given is wrong: arguments, configuration or policy files. Everything else that goes wrong is a failure.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BadInput(pub String);

#[derive(Debug)]
pub struct Report {
    /// Valid, and perhaps not what was meant.
    pub warnings: Vec<String>,
    pub summary: String,
}

/// The error is a [`BadInput`] with a line for each mistake.
pub async fn check(config: &Config) -> Result<Report> {
    let set = read(config)?;
    let mut warnings = tables::warnings(&set, config);
    let host = match this_machine().await {
        Ok(host) => host,
        Err(error) => {
            warnings.push(format!("this machine's addresses are not judged: {error:#}"));
            Host::default()
        }
    };
    if host.owner_of(config.vtep).is_none() {
        warnings.push(format!(
            "node.vtep {} is not an address of this machine: `run` refuses to start here",
            config.vtep
        ));
    }
    let mut mistakes = Vec::new();
    match Tables::compile(&set, config, &host, &BTreeMap::new()) {
        Ok(tables) => mistakes.extend(Room::configured(&config.map_sizes).check(&tables).err()),
        Err(error) => mistakes.push(error),
    }
    mistakes.extend(program::check_sizes(config).err());
    let steering = follow::check(&set, config, &host).await;
    mistakes.extend(steering.mistakes.into_iter().map(anyhow::Error::msg));
    warnings.extend(steering.warnings);
    if !mistakes.is_empty() {
        let lines: Vec<String> = mistakes.iter().map(|error| format!("{error:#}")).collect();
        return Err(BadInput(lines.join("\n")).into());
    }
    let compiled = policy::compile_node(&set, &config.node_name);
    warnings.extend(compiled.shadowed.iter().map(ToString::to_string));
    let summary = format!(
        "ok: {} policies, {} gateways; {} pod addresses of {} are under policy\n",
        set.policies.len(),
        set.gateways.len(),
        compiled.endpoints.len(),
        config.node_name
    );
    Ok(Report { warnings, summary })
}

/// Of files that cannot be read, all are told; what is in the others cannot be judged without them.
fn read(config: &Config) -> Result<PolicySet> {
    let unreadable: Vec<String> = config
        .policy_files
        .iter()
        .filter_map(|file| Some((file, std::fs::read_to_string(file).err()?)))
        .map(|(file, error)| format!("cannot read the policy file {}: {error}", file.display()))
        .collect();
    if !unreadable.is_empty() {
        return Err(BadInput(unreadable.join("\n")).into());
    }
    policy_files::read(&config.policy_files).map_err(|error| BadInput(format!("{error:#}")).into())
}

async fn this_machine() -> Result<Host> {
    Host::read(&Netlink::connect()?.handle).await
}
