//! `/metrics`: the programs' own counters, read and summed over the CPUs at each scrape.

use anyhow::Result;
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::counters::{EVENTS, Reason, Verdict};
use crate::state::Shared;

pub fn text(shared: &Shared) -> Result<String> {
    let registry = Registry::new();
    packets(&registry, shared)?;
    events(&registry, shared)?;
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

fn agent(registry: &Registry, shared: &Shared) -> Result<()> {
    let status = shared.status().clone();
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
