//! The workers: made on their cores, and their loop.

use super::ports::Io;
use crate::{
    config::{Config, Idle as ConfiguredIdle},
    control::{PolicyStore, TableRoom, WorkerHandle},
    datapath::{
        DatapathConfig, PacketBuf, Worker, WorkerCounters,
        handoff::Handoff,
        idle::{Idle, IdleMode, Wait},
        io::PacketIo,
    },
    dpdk::Eal,
    memory::Pages,
    nat::{Nat, NatConfig, TableMemory, Tick, Timeouts, timeouts::TimeoutSettings},
    wire::{Both, Each},
};
use anyhow::{Context, Result};
use std::{
    fs::File,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tracing::{info, warn};

/// Requests of the control side that may wait for a worker.
const REQUESTS: usize = 64;

/// The loop of one lcore.
pub(super) fn work<I: PacketIo + Wait>(
    mut worker: Worker<I::Buf>,
    mut io: I,
    mode: IdleMode,
    started: Instant,
    stop: &AtomicBool,
) {
    let mut idle = Idle::new(mode);
    worker.settle();
    while !stop.load(Ordering::Relaxed) {
        let now = Tick::from_millis(started.elapsed().as_millis() as u64);
        let received = worker.poll_once(&mut io, now);
        idle.after_turn(received + usize::from(worker.has_work()), &mut io);
    }
}

pub(super) fn new_worker<B: PacketBuf>(
    handoff: Handoff<B>,
    eal: &Eal,
    config: &Config,
    datapath: &Arc<DatapathConfig>,
    policies: &PolicyStore,
) -> Result<(WorkerHandle, Worker<B>)> {
    let (id, workers) = (handoff.me(), handoff.workers());
    let most = max_sessions(config);
    let room = u64::from(most.v4) + u64::from(most.v6);
    let nat = NatConfig {
        max_sessions: most,
        pages: if config.eal.hugepages { Pages::Huge } else { Pages::Transparent },
        timeouts: timeouts(config),
        mss_limit: datapath.mss_limits(),
        l4_ports: handoff.l4_ports(),
        secret: draw().context("cannot draw a secret from /dev/urandom")?,
    };
    // Where the worker will run, so that its table is near.
    let nat = eal.run_on(eal.worker_lcores()[id], move || Nat::new(&nat))?.with_context(|| {
        format!("nat.max_sessions = {}: no memory for the session table", config.nat.max_sessions)
    })?;
    let TableMemory { bytes, pages } = nat.memory();
    let (sessions, mib) = (config.nat.max_sessions, bytes >> 20);
    info!(worker = id, sessions, mib, %pages, "session table");
    if config.eal.hugepages && pages != Pages::Huge {
        warn!(
            worker = id,
            mib, "too few free hugepages for the session table: large tables will be slower"
        );
    }
    let core = usize::from(config.workers.cores[id]);
    let counters = Arc::new(WorkerCounters::new(workers));
    let (requests, receiver) = crossbeam_channel::bounded(REQUESTS);
    let (datapath, published) = (Arc::clone(datapath), policies.published());
    let mut worker =
        Worker::new(datapath, nat, published, Arc::clone(&counters), receiver, handoff);
    worker.count_cycles(config.workers.cycle_counters);
    let policy_sessions = worker.nat().policy_sessions();
    let table = TableRoom { sessions: room, bytes: bytes as u64 };
    Ok((WorkerHandle { id, core, table, counters, policy_sessions, requests }, worker))
}

/// A family without egress prefixes has no sessions, and its table takes no memory.
fn max_sessions(config: &Config) -> Each<u32> {
    let most = config.nat.max_sessions;
    let of_family = |is_empty: bool| if is_empty { 0 } else { most };
    Both {
        v4: of_family(config.external.egress_prefixes_v4.is_empty()),
        v6: of_family(config.external.egress_prefixes_v6.is_empty()),
    }
}

fn timeouts(config: &Config) -> Timeouts {
    let seconds = |duration: std::time::Duration| duration.as_secs() as u32;
    let nat = &config.nat;
    Timeouts::new(&TimeoutSettings {
        udp: seconds(nat.udp_timeout),
        udp_dns: seconds(nat.udp_dns_timeout),
        udp_unreplied: seconds(nat.udp_unreplied_timeout),
        tcp_established: seconds(nat.tcp_established_timeout),
        tcp_transitory: seconds(nat.tcp_transitory_timeout),
        tcp_time_wait: seconds(nat.tcp_time_wait_timeout),
        icmp: seconds(nat.icmp_timeout),
    })
}

pub(super) fn idle_mode(config: &Config) -> IdleMode {
    match config.workers.idle {
        ConfiguredIdle::Adaptive => IdleMode::Adaptive,
        ConfiguredIdle::Spin => IdleMode::Spin,
    }
}

/// What workers with these ports do when no packet comes: `spin`, or with what they wait.
pub(super) fn idle_label(config: &Config, ios: &[Io]) -> &'static str {
    match (idle_mode(config), ios.first()) {
        (IdleMode::Adaptive, Some(io)) => io.wait_by().label(),
        (IdleMode::Adaptive | IdleMode::Spin, _) => "spin",
    }
}

/// Bytes that nobody can foretell.
pub(super) fn draw<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
