//! A gateway inside the generator's process: what its workers are made of, and what they count.

use crate::{job::Job, plan, system::Sample};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use gateway::{
    datapath::{
        DatapathConfig, PacketBuf, PortConfig, Worker, WorkerCounters, counters::Counter,
        handoff::Handoff, laps::Stage,
    },
    memory::Pages,
    nat::{
        Nat, NatConfig, PolicyTable, Timeouts, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
        timeouts::TimeoutSettings,
    },
    verdict::{DropReason, Side},
    wire::{Both, MacAddress},
};
use std::{collections::HashMap, sync::Arc};

/// Of the ports: tunnel, external.
pub(super) const MACS: [MacAddress; 2] =
    [MacAddress([2, 0, 0, 0, 0, 0x10]), MacAddress([2, 0, 0, 0, 0, 0x20])];

/// What all workers of a gateway have in common.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    config: Arc<DatapathConfig>,
    policies: Arc<ArcSwap<PolicyTable>>,
    max_sessions: u32,
    pages: Pages,
}

/// What a worker counts, for other threads to read.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) counters: Arc<WorkerCounters>,
    session_bytes: u64,
}

impl Inside {
    /// `max_sessions` each.
    pub(super) fn new(job: &Job, max_sessions: u32) -> Result<Self> {
        Ok(Inside {
            config: Arc::new(config()?),
            policies: Arc::new(ArcSwap::from_pointee(policies(job.nodes))),
            max_sessions,
            pages: if job.hugepages { Pages::Huge } else { Pages::Transparent },
        })
    }

    /// A worker that counts its cycles. To be called on its own CPU: the session table's memory comes from
    /// that one's NUMA node.
    pub(super) fn worker<B: PacketBuf>(&self, handoff: Handoff<B>) -> Result<(Worker<B>, Counted)> {
        // Once answered they stay, while other systems are measured.
        let timeouts = TimeoutSettings { udp: 1_000_000, ..TimeoutSettings::default() };
        let nat = Nat::new(&NatConfig {
            max_sessions: Both { v4: self.max_sessions, v6: 0 },
            pages: self.pages,
            timeouts: Timeouts::new(&timeouts),
            mss_limit: self.config.mss_limits(),
            l4_ports: handoff.l4_ports(),
            secret: [7; 32],
        })
        .with_context(|| format!("no memory for {} sessions", self.max_sessions))?;
        let counters = Arc::new(WorkerCounters::new(handoff.workers()));
        let session_bytes = nat.memory().bytes as u64;
        let counted = Counted { counters: Arc::clone(&counters), session_bytes };
        // Nobody asks this worker anything.
        let (_, requests) = crossbeam_channel::bounded(1);
        let (config, policies) = (Arc::clone(&self.config), Arc::clone(&self.policies));
        let mut worker = Worker::new(config, nat, policies, counters, requests, handoff);
        worker.count_cycles(true);
        Ok((worker, counted))
    }
}

impl Counted {
    /// Since start.
    pub(super) fn sample(&self) -> Sample {
        let counters = &self.counters;
        let drops = |reason: &DropReason| -> u64 {
            Side::ALL.iter().map(|side| counters.drops(*side, *reason)).sum()
        };
        let ended =
            [&counters.sessions_expired, &counters.sessions_cut, &counters.sessions_flushed];
        let cycles = &counters.cycles;
        let stage = |stage: &Stage| (stage.label().to_owned(), cycles.stage(*stage));
        Sample {
            busy_cycles: cycles.busy.get(),
            packets: cycles.packets.get(),
            turns: cycles.turns.get(),
            stages: Stage::ALL.iter().map(stage).collect(),
            turn_cycles: cycles.durations().collect(),
            sessions: counters.sessions.get(),
            sessions_created: counters.sessions_created.get(),
            sessions_ended: ended.map(Counter::get).iter().sum(),
            session_bytes: self.session_bytes,
            drops: DropReason::ALL
                .iter()
                .map(|reason| (reason.label().to_owned(), drops(reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

fn config() -> Result<DatapathConfig> {
    let port = |mac, address: std::net::Ipv4Addr, gateways| -> Result<PortConfig> {
        let addresses = vec![format!("{address}/24").parse()?];
        Ok(PortConfig { mac, addresses, gateways, mtu: usize::from(super::ends::MTU), vlan: 0 })
    };
    let [tunnel_mac, external_mac] = MACS;
    let tunnel = port(tunnel_mac, plan::TUNNEL, vec![])?;
    let external = port(external_mac, plan::EXTERNAL, vec![plan::ROUTER.into()])?;
    DatapathConfig::new(tunnel, external, plan::VXLAN_PORT, 1000)
        .map_err(|_| anyhow::anyhow!("a port without an address"))
}

fn policies(nodes: u32) -> PolicyTable {
    let [first, last] = plan::EGRESS_IPS.map(|ip| ip.to_bits());
    let egress_ips: Vec<_> =
        (first..=last).map(|ip| std::net::Ipv4Addr::from_bits(ip).into()).collect();
    let policy = PolicyEntry::new("perf", &egress_ips, &[]);
    let pods = format!("{}/{}", plan::PODS.0, plan::PODS.1);
    let nodes: HashMap<_, _> = (0..nodes)
        .map(|number| {
            let source_cidrs = pods.parse().into_iter().collect();
            let node = NodeEntry { name: format!("node{number}"), source_cidrs };
            (plan::node(number).into(), node)
        })
        .collect();
    let vteps = vec![plan::TUNNEL.into()];
    PolicyTable::new(1, [(plan::POLICY, policy)].into(), nodes, vteps, VtepNumbers::default())
}
