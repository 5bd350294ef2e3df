//! The judgement on a storm: sent = received + nothing, as the same source throughout, and nothing of a removed policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::flows::{Connection, Datagram, Pinged, Speaker};
use super::{Ends, Outcome};
use crate::echo::seen::Sighting;

/// For the last segments, which may have been sent again after a while.
pub(super) const SETTLING: Duration = Duration::from_secs(5);

/// The answer to the SYN comes from the listener, so it is no segment of the connection where it was sent.
const HANDSHAKE: u64 = 1;

impl Ends {
    /// Segments towards the world and towards the pod that were sent and did not arrive.
    pub(super) fn lost(&self) -> [i64; 2] {
        let lost = |sent: u64, received: u64| sent.cast_signed() - received.cast_signed();
        [
            lost(self.client.sent, self.world.received),
            lost(self.world.sent + HANDSHAKE, self.client.received),
        ]
    }
}

impl Outcome {
    /// What is not as promised; each line says which flow, what, and how much. Empty: all is well.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        self.steady.iter().for_each(|flow| self.judge_datagrams(flow, &mut findings));
        self.connections.iter().for_each(|(flow, ends)| {
            judge_connection(flow, ends, self.seen_of(&flow.speaker), &mut findings);
        });
        self.pings.iter().for_each(|flow| self.judge_pings(flow, &mut findings));
        self.web.iter().for_each(|flow| self.judge_removed(flow, &mut findings));
        self.judge_sums(&mut findings);
        self.judge_generations(&mut findings);
        if let Err(error) = self.report.require_clean() {
            findings.push(format!("{error:#}"));
        }
        findings
    }

    fn seen_of(&self, speaker: &Speaker) -> &[Sighting] {
        self.seen.get(&speaker.flow).map_or(&[], Vec::as_slice)
    }

    fn judge_datagrams(&self, flow: &Datagram, findings: &mut Vec<String>) {
        let name = flow.speaker.name("UDP");
        let seen = self.seen_of(&flow.speaker);
        let distinct: BTreeSet<_> = seen.iter().map(|sighting| sighting.flow).collect();
        let (sent, arrived, answered) = (flow.sent as usize, distinct.len(), flow.answers.len());
        if (arrived, answered, seen.len()) != (sent, sent, sent) || flow.strange > 0 {
            let (twice, strange) = (seen.len() - arrived, flow.strange);
            findings.push(format!(
                "{name}: {sent} sent, {arrived} arrived ({twice} twice), {answered} answered ({strange} wrong)"
            ));
        }
        let answers = flow.answers.values().copied();
        judge_sources(&name, &flow.speaker, answers.chain(sources(seen)), findings);
    }

    fn judge_pings(&self, flow: &Pinged, findings: &mut Vec<String>) {
        let name = flow.speaker.name("ICMP");
        let seen = self.seen_of(&flow.speaker);
        let (sent, arrived, answered) = (flow.sent, seen.len(), flow.answered);
        if arrived != sent as usize || answered != sent || flow.twice {
            let twice = if flow.twice { ", some of them twice" } else { "" };
            findings.push(format!(
                "{name}: {sent} sent, {arrived} arrived, {answered} answered{twice}"
            ));
        }
        judge_sources(&name, &flow.speaker, sources(seen), findings);
    }

    /// Of what was sent between the answer to the PUT that removed the policy and the one that brought it back, nothing arrived.
    fn judge_removed(&self, flow: &Datagram, findings: &mut Vec<String>) {
        let name = flow.speaker.name("UDP of a removed policy");
        let seen = self.seen_of(&flow.speaker);
        let left = seen.iter().filter_map(|sighting| sighting.flow);
        let left = left.filter(|sequence| flow.while_removed.contains(sequence)).count();
        if left > 0 {
            findings.push(format!("{name}: {left} left after its removal was acknowledged"));
        }
        // else it would prove nothing
        if flow.while_removed.is_empty() || seen.is_empty() {
            let (meanwhile, arrived) = (flow.while_removed.len(), seen.len());
            findings.push(format!("{name}: {meanwhile} sent meanwhile, {arrived} arrived before"));
        }
        if let Some(source) = sources(seen).find(|source| source.ip() != flow.speaker.egress_ip) {
            findings.push(format!("{name}: left as {source}"));
        }
    }

    /// The oracle saw as many packets leave with each egress IP as its pods have sent, of a removed policy as many as arrived.
    fn judge_sums(&self, findings: &mut Vec<String>) {
        let all = self.report.expected.keys();
        let mut sums: BTreeMap<IpAddr, u64> = all.map(|address| (*address, 0)).collect();
        let mut add = |speaker: &Speaker, packets: u64| {
            *sums.entry(speaker.egress_ip).or_default() += packets;
        };
        self.steady.iter().for_each(|flow| add(&flow.speaker, flow.sent.into()));
        self.connections.iter().for_each(|(flow, ends)| add(&flow.speaker, ends.client.sent));
        self.pings.iter().for_each(|flow| add(&flow.speaker, flow.sent.into()));
        self.web.iter().for_each(|flow| {
            add(&flow.speaker, self.seen_of(&flow.speaker).len() as u64);
        });
        for (address, sent) in sums {
            let left = self.report.egress_ip(address);
            if left != sent {
                findings.push(format!("{address}: {left} left, {sent} were sent"));
            }
        }
    }

    fn judge_generations(&self, findings: &mut Vec<String>) {
        let reloads = self.generations.len() as u64;
        // the gateway began with the first
        if !self.generations.iter().copied().eq(2..reloads + 2) || self.metric != reloads + 1 {
            findings.push(format!(
                "{reloads} reloads had the generations {:?}, and policy_generation is {}",
                self.generations, self.metric
            ));
        }
    }

    /// The machine, and not the gateway, has lost packets: what the findings say of lost ones proves nothing.
    #[must_use]
    pub fn machine_lost(&self) -> u64 {
        self.counted.of_the_machine()
    }
}

fn judge_connection(flow: &Connection, ends: &Ends, seen: &[Sighting], findings: &mut Vec<String>) {
    let name = flow.speaker.name("TCP");
    if let Some(broken) = &flow.broken {
        findings.push(format!("{name}: {broken}"));
    }
    if flow.answered != flow.sent {
        findings.push(format!("{name}: {} of {} records came back", flow.answered, flow.sent));
    }
    if ends.lost() != [0, 0] {
        findings.push(format!("{name}: lost segments {:?}: {ends:?}", ends.lost()));
    }
    judge_sources(&name, &flow.speaker, sources(seen).chain(ends.source), findings);
}

fn sources(seen: &[Sighting]) -> impl Iterator<Item = SocketAddr> {
    seen.iter().map(|sighting| sighting.source)
}

/// One egress IP, the right one, with one l4_port (of ICMP: identifier).
fn judge_sources(
    name: &str,
    speaker: &Speaker,
    sources: impl Iterator<Item = SocketAddr>,
    findings: &mut Vec<String>,
) {
    let distinct: BTreeSet<SocketAddr> = sources.collect();
    if distinct.len() != 1 || distinct.iter().any(|source| source.ip() != speaker.egress_ip) {
        findings.push(format!("{name}: its source changed: {distinct:?}"));
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort();
        let sum = |flows: &[Datagram]| flows.iter().map(|flow| u64::from(flow.sent)).sum::<u64>();
        let segments: u64 =
            self.connections.iter().map(|(_, ends)| ends.client.sent + ends.world.sent).sum();
        let pings: u32 = self.pings.iter().map(|flow| flow.sent).sum();
        let removed: usize = self.web.iter().map(|flow| flow.while_removed.len()).sum();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let max = times.last().copied().unwrap_or_default();
        writeln!(
            f,
            "{} reloads, answered after {median:.1?} (median), {max:.1?} (max)",
            times.len()
        )?;
        writeln!(
            f,
            "flows that must not notice: {} datagrams, {segments} segments, {pings} echo requests",
            sum(&self.steady)
        )?;
        writeln!(
            f,
            "a policy that comes and goes: {} datagrams, {removed} of them while it was removed",
            sum(&self.web)
        )?;
        writeln!(f, "counted meanwhile: {}", self.counted)?;
        write!(f, "{}", self.report)
    }
}
