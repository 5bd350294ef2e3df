//! What `/v1/steering` answers, without the self-test's part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The only value of [`ShardMap::hash`]: the shard hash that `gateway/src/datapath/steering.rs` describes.
pub const SHARD_HASH: &str = "egress-shard-1";

/// Everything that a node, a NIC or an operator needs to foretell a packet's worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub idle: String,
}

/// Where a worker runs and what it polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerPlace {
    pub id: usize,
    pub core: usize,
    /// Its number at each port.
    pub queue: usize,
}

/// Who owns the flows that pods open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardMap {
    /// 32 hex digits.
    pub seed: String,
    pub hash: String,
    /// Shard → worker.
    pub map: Vec<u16>,
}

/// Who owns what comes from the world. Of ICMP echo it is asked by the query id; of TCP and UDP by the external
/// l4_port, or in mode `toeplitz` by the Toeplitz hash that the external port's NIC makes of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct L4PortMap {
    pub residues: usize,
    /// L4_port, query id or hash modulo `residues` → worker.
    pub map: Vec<u16>,
}

/// How a NIC spreads packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortSteering {
    /// `tunnel` or `external`.
    pub side: String,
    pub rss: Option<PortRss>,
    /// Why there is no RSS.
    pub reason: Option<String>,
}

/// A port's receive side scaling, as read back from its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortRss {
    /// Of the Toeplitz hash, in hex digits.
    pub key: String,
    /// Lowest bits of the hash → queue.
    pub reta: Vec<u16>,
    /// Kinds of packets that are spread.
    pub types: Vec<String>,
}

/// Who brings a packet from the world to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SteeringMode {
    /// There is one worker.
    Single,
    /// The NIC, by the lowest bits of the destination l4_port; what its rules do not match is handed over.
    PortMask,
    /// The NIC, by its RSS: workers choose such l4_ports that the hash of a flow's answers leads to their queue.
    Toeplitz,
    /// Whoever receives it hands it over.
    Handoff,
    /// One that a later version has; this one never tells it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl SteeringMode {
    /// That a gateway of this version can be in.
    pub const ALL: [Self; 4] = [Self::Single, Self::PortMask, Self::Toeplitz, Self::Handoff];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            SteeringMode::Single => "single",
            SteeringMode::PortMask => "port_mask",
            SteeringMode::Toeplitz => "toeplitz",
            SteeringMode::Handoff => "handoff",
            SteeringMode::Unknown => "unknown",
        }
    }
}
