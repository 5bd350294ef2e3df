//! `/metrics`: the programs' own counters, read and summed over the CPUs at each scrape.

use anyhow::Result;
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::counters::{EVENTS, Reason, Verdict};
use crate::outer_port::follow::GatewaySteering;
use crate::state::Shared;

pub fn text(shared: &Shared) -> Result<String> {
    let registry = Registry::new();
    packets(&registry, shared)?;
    events(&registry, shared)?;
    policies(&registry, shared)?;
    agent(&registry, shared)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8(text)?)
}

/// One metric a verdict; where a verdict has several reasons they are a label, and the help text lists them.
fn packets(registry: &Registry, shared: &Shared) -> Result<()> {
    for (verdict, name, help) in [
        (Verdict::Redirected, "redirected_total", "Packets sent to a gateway."),
        (Verdict::Returned, "returned_total", "Packets brought from a gateway to a pod."),
        (
            Verdict::Passed,
            "passed_total",
            "Packets from pods left to the node, as without policy, by reason.",
        ),
        (Verdict::Dropped, "drops_total", "Packets dropped, by reason."),
    ] {
        let reasons =
            || Reason::ALL.iter().filter(move |reason| reason.counter().verdict == verdict);
        let help = match verdict {
            Verdict::Redirected | Verdict::Returned => help.to_owned(),
            Verdict::Passed | Verdict::Dropped => {
                let each = reasons().map(|r| format!("{}: {}", r.counter().name, r.counter().help));
                format!("{help} {}", each.collect::<Vec<_>>().join("; "))
            }
        };
        let name = format!("node_redirect_{name}");
        if matches!(verdict, Verdict::Redirected | Verdict::Returned) {
            for &reason in reasons() {
                counter(registry, &name, &help, shared.maps.reason(reason)?)?;
            }
            continue;
        }
        let family = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
        for &reason in reasons() {
            family.with_label_values(&[reason.counter().name]).inc_by(shared.maps.reason(reason)?);
        }
        registry.register(Box::new(family))?;
    }
    Ok(())
}

fn events(registry: &Registry, shared: &Shared) -> Result<()> {
    for (index, (name, help)) in EVENTS.iter().enumerate() {
        counter(registry, &format!("node_redirect_{name}_total"), help, shared.maps.event(index)?)?;
    }
    Ok(())
}

/// What pods sent, by the names of the policies in force: pods are too many for a label.
fn policies(registry: &Registry, shared: &Shared) -> Result<()> {
    let family = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["policy"]);
    let packets = family(
        "node_redirect_policy_packets_total",
        "Packets that pods sent under a policy in force, since the agent began.",
    )?;
    let bytes = family(
        "node_redirect_policy_bytes_total",
        "Their bytes, with Ethernet header and without the tunnel's.",
    )?;
    let names = shared.names().clone();
    let mut traffic = shared.traffic();
    let totals = traffic.read(&shared.maps, |id| names.contains_key(&id))?;
    for (id, policy) in &names {
        let total = totals.get(id).copied().unwrap_or_default();
        packets.with_label_values(&[&policy.name]).inc_by(total.packets);
        bytes.with_label_values(&[&policy.name]).inc_by(total.bytes);
    }
    let count = i64::try_from(names.len())?;
    gauge(
        registry,
        "node_redirect_policies",
        "Policies in force that select pods of this node.",
        count,
    )?;
    registry.register(Box::new(packets))?;
    registry.register(Box::new(bytes))?;
    Ok(())
}

fn agent(registry: &Registry, shared: &Shared) -> Result<()> {
    let status = shared.status().clone();
    let build = IntGaugeVec::new(
        Opts::new("node_redirect_build_info", "Always 1; the labels say what runs."),
        &["version", "hook"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), &status.hook]).set(1);
    registry.register(Box::new(build))?;
    let generation = shared.maps.settings()?.generation;
    gauge(registry, "node_redirect_policy_generation", "Policy set in force.", generation.into())?;
    gauge(
        registry,
        "node_redirect_policy_file_valid",
        "1 when the policy files say what is in force; 0: they are not valid and the set before stays.",
        i64::from(status.policy_error.is_none()),
    )?;
    counter(
        registry,
        "node_redirect_policy_reloads_total",
        "Policy sets taken over.",
        status.policy_reloads,
    )?;
    counter(
        registry,
        "node_redirect_policy_reload_failures_total",
        "Policy files that were not valid.",
        status.policy_reload_failures,
    )?;
    gauge(
        registry,
        "node_redirect_policy_last_reload_success_timestamp_seconds",
        "When policy files last came into force, in seconds since 1970; 0: not since the agent began.",
        i64::try_from(status.policy_reloaded_at)?,
    )?;
    gauge(
        registry,
        "node_redirect_ready",
        "1 when the node is set up as configured. Alert on 0.",
        i64::from(status.ready && status.node_error.is_none()),
    )?;
    gauge(
        registry,
        "node_redirect_flows_limit",
        "Entries that the flow table can have.",
        i64::try_from(shared.maps.flows.capacity())?,
    )?;
    let interfaces = i64::try_from(status.interfaces.len())?;
    gauge(
        registry,
        "node_redirect_interfaces",
        "Pod interfaces with programs attached.",
        interfaces,
    )?;
    counter(
        registry,
        "node_redirect_reattached_total",
        "Interfaces that somebody else had taken our programs from.",
        status.reattached,
    )?;
    let flows = IntGaugeVec::new(
        Opts::new("node_redirect_flows", "Entries of the flow table, by how the flow began."),
        &["kind"],
    )?;
    for (kind, count) in [
        ("inbound", status.flows.inbound),
        ("redirected", status.flows.redirected),
        ("passed", status.flows.passed),
    ] {
        flows.with_label_values(&[kind]).set(i64::try_from(count)?);
    }
    registry.register(Box::new(flows))?;
    steering(registry, &status.steering)
}

/// By the gateways that a source is configured for.
fn steering(registry: &Registry, states: &[GatewaySteering]) -> Result<()> {
    let family = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["gateway"]);
    let chosen = family(
        "node_redirect_steering",
        "1 when outer source ports bring packets to the gateway's workers; 0: they are spread, and the gateway hands them over. \
         `node-redirect status` says why.",
    )?;
    let valid = family(
        "node_redirect_steering_source_valid",
        "1 when the gateway's steering.sources entry can be read and is what a gateway tells; 0: its last good answer \
         stays in use.",
    )?;
    let answered = family(
        "node_redirect_steering_last_answer_timestamp_seconds",
        "When the gateway's last good steering was read, in seconds since 1970; 0: not since the agent began. An API is asked every \
         steering.interval seconds; a file is read when it changes.",
    )?;
    for state in states.iter().filter(|state| state.source.is_some()) {
        chosen.with_label_values(&[&state.gateway]).set(state.ports_chosen.into());
        valid.with_label_values(&[&state.gateway]).set(state.source_valid.into());
        let at = i64::try_from(state.last_answer_at.unwrap_or_default())?;
        answered.with_label_values(&[&state.gateway]).set(at);
    }
    registry.register(Box::new(chosen))?;
    registry.register(Box::new(valid))?;
    registry.register(Box::new(answered))?;
    Ok(())
}

fn counter(registry: &Registry, name: &str, help: &str, value: u64) -> Result<()> {
    let counter = IntCounter::new(name, help)?;
    counter.inc_by(value);
    registry.register(Box::new(counter))?;
    Ok(())
}

fn gauge(registry: &Registry, name: &str, help: &str, value: i64) -> Result<()> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))?;
    Ok(())
}
