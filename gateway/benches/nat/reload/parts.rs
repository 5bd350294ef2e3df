//! Where the time of a reload goes: the same steps as in `PolicyStore::apply`, one by one.

use super::turns::{spent, usage};
use gateway::{
    control::state_dir::{KeptSets, SetFormat, SetRecord, StateDir},
    nat::{
        PolicyTable, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
    },
};
use policy::{Format, GatewayLimits, GatewayPolicies, compile_gateway};
use std::{hint::black_box, path::Path, time::Instant};

/// Seconds, and how many of them were this thread's own on its CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

impl Time {
    pub(super) fn of<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let (before, began) = (spent(&usage()), Instant::now());
        let result = work();
        (result, Time { wall: began.elapsed().as_secs_f64(), cpu: spent(&usage()) - before })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    parse: Time,
    compile: Time,
    table: Time,
    store: Time,
    free: Time,
}

type Part = fn(&Parts) -> Time;

impl Parts {
    pub(super) const NAMES: [(&str, Part); 5] = [
        ("parse and validate", |parts| parts.parse),
        ("compile", |parts| parts.compile),
        ("build the worker's table", |parts| parts.table),
        ("keep on disk", |parts| parts.store),
        ("free a set and its table", |parts| parts.free),
    ];

    pub(super) fn measure(text: &str, limits: &GatewayLimits, folder: &Path) -> Self {
        let ((set, _), parse) = Time::of(|| policy::parse(text, Format::Yaml).unwrap());
        let (compiled, compile) = Time::of(|| compile_gateway(&set, "gw-a", limits).unwrap());
        let (worker_table, table) = Time::of(|| table(&compiled));
        let state = StateDir::new(folder.join("parts"));
        let mut kept = KeptSets::new(state);
        let record = SetRecord {
            generation: 1,
            accepted_at: String::new(),
            policies: set.policies.len(),
            added: set.policies.iter().map(|policy| policy.name().to_owned()).collect(),
            changed: Vec::new(),
            removed: Vec::new(),
            format: SetFormat::Yaml,
            sha256: String::new(),
        };
        let ((), store) = Time::of(|| kept.store(record, text).unwrap());
        let ((), free) = Time::of(|| drop((set, compiled, black_box(worker_table))));
        Parts { parse, compile, table, store, free }
    }
}

fn table(compiled: &GatewayPolicies) -> PolicyTable {
    let policies = compiled.policies.iter().map(|policy| {
        let (egress_ips, draining_ips) = (&policy.egress_ips, &policy.draining_ips);
        (policy.id.get(), PolicyEntry::new(&policy.name, egress_ips, draining_ips))
    });
    let nodes = compiled.nodes.iter().map(|node| {
        let (name, source_cidrs) = (node.name.clone(), node.source_cidrs.clone());
        (node.tunnel_address, NodeEntry { name, source_cidrs })
    });
    PolicyTable::new(1, policies.collect(), nodes.collect(), Vec::new(), VtepNumbers::default())
}
