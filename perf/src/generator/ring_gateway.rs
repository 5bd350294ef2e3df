//! A gateway's worker in the generator's own process, on ring devices: what one core does where I/O costs
//! next to nothing.

use super::ends::{Queues, open_device};
use crate::{job::Job, plan, system::Sample};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use gateway::{
    datapath::{
        DatapathConfig, PortConfig, Worker, WorkerCounters, counters::Counter, handoff::Handoff,
        laps::Stage,
    },
    dpdk::{DpdkIo, Eal, Mbuf, Mempool},
    memory::Pages,
    nat::{
        Nat, NatConfig, PolicyTable, Tick, Timeouts, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
        timeouts::TimeoutSettings,
    },
    verdict::{DropReason, Side},
    wire::{Both, MacAddress},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const TUNNEL_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x10]);
const EXTERNAL_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x20]);
/// How often a worker that rests looks whether it is to go on.
const REST: Duration = Duration::from_micros(500);

/// The worker's loop as others see it.
#[derive(Debug)]
pub(super) struct Pulse {
    runs: AtomicBool,
    counters: Arc<WorkerCounters>,
    session_bytes: u64,
}

impl Pulse {
    /// Lets the worker's loop run, or rest.
    pub(super) fn run(&self, runs: bool) {
        self.runs.store(runs, Ordering::Release);
    }

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

/// Starts the worker on the second worker lcore, at rest; returns the generator's ends of its devices.
pub(super) fn start(
    eal: &Eal,
    job: &Job,
    max_sessions: u32,
    pool: Mempool,
) -> Result<([Queues; 2], Arc<Pulse>)> {
    // One device for each way of each side: what goes into a ring device's transmit queue comes out of
    // its receive queue.
    let device = |name: &str| open_device(eal, name, &pool).map(|device| device.queues);
    let (tunnel_rx, to_tunnel) = device("net_ring0")?;
    let (from_tunnel, tunnel_tx) = device("net_ring1")?;
    let (external_rx, to_external) = device("net_ring2")?;
    let (from_external, external_tx) = device("net_ring3")?;
    let io = DpdkIo::new((tunnel_rx, tunnel_tx), (external_rx, external_tx), pool);

    let lcore = *eal.worker_lcores().get(1).context("no lcore for the gateway's worker")?;
    let config = Arc::new(config()?);
    let handoff = Handoff::alone();
    let nat = NatConfig {
        max_sessions: Both { v4: max_sessions, v6: 0 },
        pages: if job.hugepages { Pages::Huge } else { Pages::Transparent },
        // Once answered they stay, while other systems are measured.
        timeouts: Timeouts::new(&TimeoutSettings { udp: 1_000_000, ..TimeoutSettings::default() }),
        mss_limit: config.mss_limits(),
        l4_ports: handoff.l4_ports(),
        secret: [7; 32],
    };
    let nat = eal
        .run_on(lcore, move || Nat::new(&nat))?
        .with_context(|| format!("no memory for {max_sessions} sessions"))?;
    let counters = Arc::new(WorkerCounters::new(1));
    let pulse = Arc::new(Pulse {
        runs: AtomicBool::new(false),
        counters: Arc::clone(&counters),
        session_bytes: nat.memory().bytes as u64,
    });
    let policies = Arc::new(ArcSwap::from_pointee(policies(job.nodes)));
    // Nobody asks this worker anything.
    let (_, requests) = crossbeam_channel::bounded(1);
    let mut worker = Worker::new(config, nat, policies, counters, requests, handoff);
    worker.count_cycles(true);
    let shared = Arc::clone(&pulse);
    // It ends with the process.
    eal.launch(lcore, move || work(worker, io, &shared))?;
    Ok(([(from_tunnel, to_tunnel), (from_external, to_external)], pulse))
}

/// As the gateway's own loop, but for its rest.
fn work(mut worker: Worker<Mbuf>, mut io: DpdkIo, pulse: &Pulse) {
    let started = Instant::now();
    worker.settle();
    loop {
        if !pulse.runs.load(Ordering::Acquire) {
            thread::sleep(REST);
            continue;
        }
        let now = Tick::from_millis(started.elapsed().as_millis() as u64);
        worker.poll_once(&mut io, now);
    }
}

fn config() -> Result<DatapathConfig> {
    let port = |mac, address: std::net::Ipv4Addr, gateways| -> Result<PortConfig> {
        let addresses = vec![format!("{address}/24").parse()?];
        Ok(PortConfig { mac, addresses, gateways, mtu: usize::from(super::ends::MTU), vlan: 0 })
    };
    let tunnel = port(TUNNEL_MAC, plan::TUNNEL, vec![])?;
    let external = port(EXTERNAL_MAC, plan::EXTERNAL, vec![plan::ROUTER.into()])?;
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
