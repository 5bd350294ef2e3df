//! What the machine itself may lose, so that a loss can be told from what a reload did.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::http::Api;
use crate::host::Host;
use crate::stack::Lab;

/// By name. Those that are zero are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(super) fn read(lab: &Lab, api: &Api) -> Result<Self> {
        let stats: Value = serde_json::from_slice(&api.get(lab, "/v1/stats")?)?;
        let mut counters = Self::default();
        for port in stats["ports"].as_array().context("no ports")? {
            let side = &port["side"];
            for (direction, counter) in
                [("rx", "missed"), ("rx", "errors"), ("rx", "noBuffer"), ("tx", "errors")]
            {
                let value = port[direction][counter].as_u64();
                let name = format!("device {side} {direction} {counter}");
                counters.add(name, value.with_context(|| format!("no {direction} {counter}"))?);
            }
        }
        for drops in stats["drops"].as_array().context("no drops")? {
            let packets = drops["packets"].as_u64().context("no packets")?;
            counters.add(format!("drop {} {}", drops["side"], drops["reason"]), packets);
        }
        for host in lab.hosts() {
            for file in ["snmp", "snmp6"] {
                counters.full_sockets(host, file)?;
            }
        }
        Ok(counters)
    }

    /// Datagrams for which a socket had no room.
    fn full_sockets(&mut self, host: &Host, file: &str) -> Result<()> {
        let text = fs::read_to_string(format!("/proc/{}/net/{file}", host.pid()))?;
        for line in text.lines().filter(|line| line.starts_with("Udp6RcvbufErrors")) {
            let value = line.split_whitespace().last().unwrap_or_default();
            self.add(format!("{} {file} RcvbufErrors", host.name()), value.parse()?);
        }
        let mut udp = text.lines().filter(|line| line.starts_with("Udp:"));
        if let (Some(names), Some(values)) = (udp.next(), udp.next()) {
            let mut both = names.split(' ').zip(values.split(' '));
            let value =
                both.find(|(name, _)| *name == "RcvbufErrors").context("no RcvbufErrors")?;
            self.add(format!("{} {file} RcvbufErrors", host.name()), value.1.parse()?);
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: u64) {
        if value > 0 {
            *self.0.entry(name.replace('"', "")).or_default() += value;
        }
    }

    /// What was counted after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let since = |(name, value): (&String, &u64)| {
            let value = value - before.0.get(name).copied().unwrap_or_default();
            (value > 0).then(|| (name.clone(), value))
        };
        Self(self.0.iter().filter_map(since).collect())
    }

    /// Of these, all but the gateway's own drops: no reload can cause them.
    pub(super) fn of_the_machine(&self) -> u64 {
        self.0.iter().filter(|(name, _)| !name.starts_with("drop ")).map(|(_, value)| value).sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        f.write_str(if list.is_empty() { "nothing" } else { "" })?;
        f.write_str(&list.join(", "))
    }
}
