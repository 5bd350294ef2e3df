//! `node-redirect status`: what is attached, what is in force, what was counted. It works without the agent, too, and then says so.

use anyhow::Result;
use serde::Serialize;

use crate::api;
use crate::attach::{Attached, attached};
use crate::config::Config;
use crate::counters::{EVENTS, Reason, Verdict};
use crate::fold;
use crate::host::{Host, Netlink};
use crate::maps::Maps;
use crate::outer_port::follow::GatewaySteering;
use crate::preflight;
use crate::program::Role;
use crate::state::{Status, unix_seconds};
use crate::table::Table;
use crate::tables::Tables;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub agent_running: bool,
    /// What the agent says of itself, when it answers.
    pub agent: Option<Status>,
    pub generation: u32,
    pub pods: usize,
    pub policies: usize,
    pub sets: usize,
    pub flows: usize,
    pub tunnel: Option<String>,
    pub attachments: Vec<Attachment>,
    pub counters: Vec<Count>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub interface: String,
    pub program: &'static str,
    pub hook: &'static str,
    pub program_id: u32,
}

#[derive(Debug, Serialize)]
pub struct Count {
    pub name: &'static str,
    pub verdict: &'static str,
    pub packets: u64,
    pub help: &'static str,
}

pub async fn report(config: &Config) -> Result<Report> {
    let maps = Maps::open(&config.pin_path)?;
    let tables = Tables::read(&maps)?;
    let settings = maps.settings()?;
    let netlink = Netlink::connect()?;
    let host = Host::read(&netlink.handle).await?;
    let agent_running = preflight::is_locked(&config.pin_path);
    let agent = match agent_running {
        true => api::fetch(&config.api_listen, "/v1/status").await.ok(),
        false => None,
    };
    Ok(Report {
        agent_running,
        agent: agent.and_then(|body| serde_json::from_slice(&body).ok()),
        generation: settings.generation,
        pods: tables.endpoints.len(),
        policies: tables.policies.len(),
        sets: tables.sets.len(),
        flows: maps.flows.snapshot()?.len(),
        tunnel: host.interfaces.get(&settings.tunnel_ifindex).map(|device| device.name.clone()),
        attachments: attachments(config, &host),
        counters: counters(&maps)?,
    })
}

fn attachments(config: &Config, host: &Host) -> Vec<Attachment> {
    let pins = config.link_pins();
    let mut found = Vec::new();
    for interface in host.interfaces.values() {
        let roles: &[Role] = if interface.name == config.vxlan_device {
            &[Role::FromTunnel]
        } else {
            &Role::OF_POD_INTERFACE
        };
        for &role in roles {
            let Some(Attached { hook, program_id }) = attached(&pins, interface.index, role) else {
                continue;
            };
            let interface = interface.name.clone();
            let (program, hook) = (role.name(), hook.name());
            found.push(Attachment { interface, program, hook, program_id });
        }
    }
    found
}

fn counters(maps: &Maps) -> Result<Vec<Count>> {
    let mut counts = Vec::new();
    for &reason in Reason::ALL {
        let counter = reason.counter();
        counts.push(Count {
            name: counter.name,
            verdict: counter.verdict.name(),
            packets: maps.reason(reason)?,
            help: counter.help,
        });
    }
    for (index, (name, help)) in EVENTS.iter().enumerate() {
        counts.push(Count { name, verdict: "event", packets: maps.event(index)?, help });
    }
    Ok(counts)
}

pub fn as_text(report: &Report) -> String {
    let mut text = agent_text(report);
    text += &format!(
        "policy set   generation {}: {} policies, {} pods in {} sets, {} flows\n",
        report.generation, report.policies, report.pods, report.sets, report.flows
    );
    text += &format!("tunnel       {}\n", report.tunnel.as_deref().unwrap_or("missing"));
    text += &steering_text(report);
    text.push('\n');
    let mut attachments = Table::new(&["INTERFACE", "PROGRAM", "HOOK", "ID"]);
    for each in &report.attachments {
        attachments.row([
            each.interface.clone(),
            each.program.to_owned(),
            each.hook.to_owned(),
            each.program_id.to_string(),
        ]);
    }
    let mut counters = Table::new(&["COUNTER", "VERDICT", "PACKETS", "MEANING"]);
    for each in report.counters.iter().filter(|count| count.packets > 0 || is_drop(count)) {
        counters.row([
            each.name.to_owned(),
            each.verdict.to_owned(),
            each.packets.to_string(),
            each.help.to_owned(),
        ]);
    }
    text + &format!("{attachments}\n{counters}")
}

/// Of gateways that a source is configured for: what nobody asked for need not be missed.
fn steering_text(report: &Report) -> String {
    let states = report.agent.iter().flat_map(|agent| &agent.steering);
    let lines = states
        .filter(|state| state.source.is_some())
        .map(|state| fold::beside("steering     ", &of_gateway(state, unix_seconds())));
    lines.collect()
}

/// `now`: in seconds since 1970.
fn of_gateway(state: &GatewaySteering, now: u64) -> String {
    let GatewaySteering { gateway, problem, last_answer_at, reason, .. } = state;
    let mut text = match reason {
        None => format!("{gateway}: outer source ports are chosen"),
        Some(reason) => format!("{gateway}: outer source ports are spread: {reason}"),
    };
    if let Some(at) = last_answer_at {
        text += &format!("; its last good answer is {} s old", now.saturating_sub(*at));
    }
    match problem {
        Some(problem) if reason.as_ref() != Some(problem) => text + &format!("; stale: {problem}"),
        _ => text,
    }
}

fn is_drop(count: &Count) -> bool {
    count.verdict == Verdict::Dropped.name()
}

fn agent_text(report: &Report) -> String {
    let Some(agent) = &report.agent else {
        let state = if report.agent_running {
            "runs, but its API does not answer"
        } else {
            "not running; the programs work on"
        };
        return format!("agent        {state}\n");
    };
    let mut text = format!("agent        {}\n", if agent.ready { "ready" } else { "starting" });
    for problem in [&agent.policy_error, &agent.node_error].into_iter().flatten() {
        text += &fold::beside("problem      ", problem);
    }
    text
}
