//! `/v1/stats` and `/v1/ports`: what ports and workers counted since start.

use super::{Api, error::ApiError, json, query::Query, sessions::Traffic};
use crate::{
    control::{Gateway, PortHandle, TableRoom, WorkerHandle},
    datapath::{
        io::PortStats,
        laps::{CycleCounters, Stage},
    },
    verdict::{DropReason, Side},
};
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The whole gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub gateway: String,
    pub version: String,
    pub uptime_seconds: u64,
    /// Of the policy set in force; 0 before the first.
    pub generation: u64,
    pub policies: usize,
    pub nodes: usize,
    /// Octets of memory that one session takes where session tables are full: of all tables together, indexes and
    /// l4_port bitmaps included, by the sessions that they have room for (`nat.max_sessions` for each worker and each
    /// address family with egress prefixes).
    pub session_bytes: f64,
    pub ports: Vec<Port>,
    pub workers: Vec<Worker>,
    /// Only reasons that dropped something.
    pub drops: Vec<Drops>,
}

/// Both ports.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Ports {
    pub ports: Vec<Port>,
}

/// A port with its device's own counters, all queues together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub side: String,
    pub device: String,
    pub mac: String,
    pub link: String,
    pub mtu: u16,
    pub vlan: u16,
    pub addresses: Vec<String>,
    pub rx: DeviceRx,
    pub tx: DeviceTx,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRx {
    pub packets: u64,
    pub bytes: u64,
    /// No worker fetched them in time.
    pub missed: u64,
    pub errors: u64,
    /// The buffer pool was empty.
    pub no_buffer: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceTx {
    pub packets: u64,
    pub bytes: u64,
    pub errors: u64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    pub worker: usize,
    pub core: usize,
    pub generation: u64,
    pub polls: u64,
    pub empty_polls: u64,
    pub in2out: Traffic,
    pub out2in: Traffic,
    pub ports: Vec<WorkerPort>,
    pub sessions: SessionCounts,
    pub icmp_errors_sent: u64,
    pub icmp_errors_limited: u64,
    pub address_conflicts: u64,
    pub neighbours: u64,
    /// Where `workers.cycle_counters` is on.
    pub cycles: Option<Cycles>,
}

/// Of the time stamp counter, in turns that found packets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cycles {
    pub busy: u64,
    /// Packets of these turns, from ports and from other workers.
    pub packets: u64,
    pub turns: u64,
    /// Cycles by stage, timed in one turn of seven and taken times seven; together those of `busy` but for a
    /// few per cent.
    pub stages: BTreeMap<String, u64>,
    /// Turns by their duration: cycles that none of them exceeds, and how many there were.
    pub turn_histogram: Vec<(u64, u64)>,
}

/// One port as one worker used it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerPort {
    pub side: String,
    pub rx: Traffic,
    pub tx: Traffic,
    pub drops: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionCounts {
    pub live: u64,
    pub created: u64,
    pub expired: u64,
    /// Ended because their policy or egress IP was removed.
    pub cut: u64,
    /// Ended by an operator.
    pub flushed: u64,
    /// Octets of memory of the worker's session table, which is made at start and never grows.
    pub table_bytes: u64,
}

/// Packets that one worker dropped at one side for one reason.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Drops {
    pub side: String,
    pub worker: usize,
    pub reason: String,
    pub packets: u64,
    pub help: String,
}

pub(super) async fn stats(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    Ok(json(StatusCode::OK, &Stats::of(&api.gateway)))
}

pub(super) async fn ports(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    Ok(json(StatusCode::OK, &Ports { ports: all_ports(&api.gateway) }))
}

impl Stats {
    fn of(gateway: &Gateway) -> Self {
        let policies = gateway.policies.published().load_full();
        Stats {
            gateway: gateway.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: gateway.started.elapsed().as_secs(),
            generation: policies.generation(),
            policies: policies.policies().count(),
            nodes: policies.node_count(),
            session_bytes: session_bytes(gateway.workers.iter().map(|worker| worker.table)),
            ports: all_ports(gateway),
            workers: gateway
                .workers
                .iter()
                .map(|worker| Worker::of(worker, gateway.config.workers.cycle_counters))
                .collect(),
            drops: gateway.workers.iter().flat_map(drops).collect(),
        }
    }
}

fn session_bytes(tables: impl Iterator<Item = TableRoom> + Clone) -> f64 {
    let bytes: u64 = tables.clone().map(|table| table.bytes).sum();
    let sessions: u64 = tables.map(|table| table.sessions).sum();
    bytes as f64 / sessions.max(1) as f64
}

fn all_ports(gateway: &Gateway) -> Vec<Port> {
    gateway.ports.iter().map(|port| Port::of(port, gateway)).collect()
}

impl Port {
    fn of(port: &PortHandle, gateway: &Gateway) -> Self {
        let settings = match port.side {
            Side::Tunnel => &gateway.config.tunnel.port,
            Side::External => &gateway.config.external.port,
        };
        let v4 = settings.addresses_v4.iter().map(ToString::to_string);
        let v6 = settings.addresses_v6.iter().map(ToString::to_string);
        let device: PortStats = port.watch.stats();
        Port {
            side: port.side.to_string(),
            device: port.device.clone(),
            mac: port.mac.to_string(),
            link: if port.watch.link_is_up() { "up" } else { "down" }.to_owned(),
            mtu: settings.mtu,
            vlan: settings.vlan,
            addresses: v4.chain(v6).collect(),
            rx: DeviceRx {
                packets: device.rx_packets,
                bytes: device.rx_bytes,
                missed: device.rx_missed,
                errors: device.rx_errors,
                no_buffer: device.rx_no_buffer,
            },
            tx: DeviceTx {
                packets: device.tx_packets,
                bytes: device.tx_bytes,
                errors: device.tx_errors,
            },
        }
    }
}

impl Worker {
    fn of(worker: &WorkerHandle, counts_cycles: bool) -> Self {
        let counters = &worker.counters;
        let port = |side: Side| {
            let port = counters.port(side);
            let drops = DropReason::ALL.iter().map(|reason| counters.drops(side, *reason));
            WorkerPort {
                side: side.to_string(),
                rx: Traffic { packets: port.rx_packets.get(), bytes: port.rx_bytes.get() },
                tx: Traffic { packets: port.tx_packets.get(), bytes: port.tx_bytes.get() },
                drops: drops.sum(),
            }
        };
        Worker {
            worker: worker.id,
            core: worker.core,
            generation: counters.generation.get(),
            polls: counters.polls.get(),
            empty_polls: counters.empty_polls.get(),
            in2out: Traffic {
                packets: counters.in2out_packets.get(),
                bytes: counters.in2out_bytes.get(),
            },
            out2in: Traffic {
                packets: counters.out2in_packets.get(),
                bytes: counters.out2in_bytes.get(),
            },
            ports: Side::ALL.map(port).into(),
            sessions: SessionCounts {
                live: counters.sessions.get(),
                created: counters.sessions_created.get(),
                expired: counters.sessions_expired.get(),
                cut: counters.sessions_cut.get(),
                flushed: counters.sessions_flushed.get(),
                table_bytes: worker.table.bytes,
            },
            icmp_errors_sent: counters.icmp_errors_sent.get(),
            icmp_errors_limited: counters.icmp_errors_limited.get(),
            address_conflicts: counters.address_conflicts.get(),
            neighbours: counters.neighbours.get(),
            cycles: counts_cycles.then(|| Cycles::of(&counters.cycles)),
        }
    }
}

impl Cycles {
    fn of(counters: &CycleCounters) -> Self {
        let stage = |stage: &Stage| (stage.label().to_owned(), counters.stage(*stage));
        Cycles {
            busy: counters.busy.get(),
            packets: counters.packets.get(),
            turns: counters.turns.get(),
            stages: Stage::ALL.iter().map(stage).collect(),
            turn_histogram: counters.durations().collect(),
        }
    }
}

fn drops(worker: &WorkerHandle) -> Vec<Drops> {
    let each = Side::ALL.into_iter().flat_map(|side| {
        DropReason::ALL
            .iter()
            .map(move |reason| (side, reason, worker.counters.drops(side, *reason)))
    });
    let some = each.filter(|(_, _, packets)| *packets > 0);
    some.map(|(side, reason, packets)| Drops {
        side: side.to_string(),
        worker: worker.id,
        reason: reason.label().to_owned(),
        packets,
        help: reason.help().to_owned(),
    })
    .collect()
}
