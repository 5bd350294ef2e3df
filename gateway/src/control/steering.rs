//! How packets come to their workers, in the form that `/v1/steering` shows. Fixed when the gateway has
//! started.

use crate::datapath::steering::Steering;
use schemars::JsonSchema;
use serde::Serialize;

/// The shard hash that `datapath/steering.rs` describes.
const SHARD_HASH: &str = "egress-shard-1";

/// Everything that a node, a NIC or an operator needs to foretell a packet's worker.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SteeringReport {
    pub workers: Vec<WorkerPlace>,
    pub shard: ShardMap,
    pub l4_ports: L4PortMap,
    pub ports: Vec<PortSteering>,
    pub mode: SteeringMode,
    /// Why it is that mode.
    pub reason: String,
    /// `spin`, or what workers wait by: `monitor`, `pause`, `sleep`.
    pub idle: &'static str,
}

/// Where a worker runs and what it polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WorkerPlace {
    pub id: usize,
    pub core: usize,
    /// Its number at each port.
    pub queue: usize,
}

/// Who owns the flows that pods open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShardMap {
    /// 32 hex digits.
    pub seed: String,
    pub hash: &'static str,
    /// Shard → worker.
    pub map: Vec<u16>,
}

/// Who owns what comes from the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct L4PortMap {
    pub residues: usize,
    /// External l4_port modulo `residues` → worker.
    pub map: Vec<u16>,
}

/// How a NIC spreads packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PortSteering {
    /// `tunnel` or `external`.
    pub side: &'static str,
    pub rss: Option<PortRss>,
    /// Why there is no RSS.
    pub reason: Option<String>,
}

/// A port's receive side scaling, as read back from its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PortRss {
    /// Of the Toeplitz hash, in hex digits.
    pub key: String,
    /// Lowest bits of the hash → queue.
    pub reta: Vec<u16>,
    /// Kinds of packets that are spread.
    pub types: Vec<&'static str>,
}

/// Who brings a packet from the world to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SteeringMode {
    /// There is one worker.
    Single,
    /// The NIC, by the lowest bits of the destination l4_port; what its rules do not match is handed over.
    PortMask,
    /// Whoever receives it hands it over.
    Handoff,
}

impl SteeringMode {
    pub const ALL: [Self; 3] = [Self::Single, Self::PortMask, Self::Handoff];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            SteeringMode::Single => "single",
            SteeringMode::PortMask => "port_mask",
            SteeringMode::Handoff => "handoff",
        }
    }
}

impl SteeringReport {
    /// `cores`: of the workers in their order. Ports: tunnel, external.
    pub fn new(
        steering: &Steering,
        cores: &[usize],
        ports: Vec<PortSteering>,
        (mode, reason): (SteeringMode, String),
        idle: &'static str,
    ) -> Self {
        let place = |(id, core): (usize, &usize)| WorkerPlace { id, core: *core, queue: id };
        let residues = steering.residue_map();
        SteeringReport {
            workers: cores.iter().enumerate().map(place).collect(),
            shard: ShardMap {
                seed: steering.seed().to_string(),
                hash: SHARD_HASH,
                map: steering.shard_map().to_vec(),
            },
            l4_ports: L4PortMap { residues: residues.len(), map: residues.to_vec() },
            ports,
            mode,
            reason,
            idle,
        }
    }
}
