//! What is attached, and what is left.

use std::fs;

use crate::common::node::*;
use crate::common::sh;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub interface: String,
    pub program: String,
    pub hook: String,
    pub id: u32,
}

pub fn attachments() -> Vec<Attachment> {
    let report = node_redirect_ok(&["status", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let attachments = report["attachments"].as_array().unwrap().iter().map(|each| Attachment {
        interface: text(&each["interface"]),
        program: text(&each["program"]),
        hook: text(&each["hook"]),
        id: u32::try_from(each["programId"].as_u64().unwrap()).unwrap(),
    });
    attachments.collect()
}

pub fn attached_to(interface: &str) -> usize {
    attachments().iter().filter(|each| each.interface == interface).count()
}

/// Programs are not of a namespace: others' may come and go meanwhile, so each is asked for by its id.
pub fn are_gone(programs: &[Attachment]) -> bool {
    programs.iter().all(|each| sh(&format!("bpftool prog show id {} || true", each.id)).is_empty())
}

pub fn pins() -> usize {
    fs::read_dir("/sys/fs/bpf/node-redirect/links").map_or(0, Iterator::count)
}

/// What the node shows of us.
pub fn leftovers() -> Vec<String> {
    [
        "ip -o link show | cut -d: -f2",
        "tc qdisc show | grep clsact || true",
        "bpftool net show",
        "find /sys/fs/bpf -name 'node-redirect*' -o -name links",
    ]
    .map(sh)
    .into()
}
