//! The file that a run leaves: its shape is what `docs/performance.md` describes.

use crate::job::{Direction, Frames, Latency, Order};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run of the suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    pub machine: Machine,
    pub runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    /// Of the time stamp counter, in which all cycles are.
    pub tsc_hz: u64,
    pub memory_gib: u64,
    pub kernel: String,
    pub hypervisor: Option<String>,
    pub dpdk: String,
    pub egress_perf: String,
    /// When it began, UTC, RFC 3339.
    pub date: String,
    /// The command line.
    pub command: Vec<String>,
}

/// One measurement of one system: the median of its repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// `gateway`, `gateway zero-copy`, `router`, `testpmd`, `kernel`, or the peer's name.
    pub system: String,
    /// `throughput`, `ndr`, `latency`, `new sessions`, `churn`, `tear-down`, `capacity`, …
    pub scenario: String,
    /// `memif`, `ring`, `af_packet`, `af_xdp`, `none`.
    pub io: String,
    pub direction: Direction,
    /// Octets with frame check sequence, the pod's own frame where tunnelled; the mean where mixed.
    pub frame_bytes: f64,
    pub frames: Frames,
    pub flows: u32,
    pub order: Order,
    pub workers: usize,
    /// Million packets per second that came out on the other side.
    pub mpps: f64,
    /// What they are as bits on a wire: with frame check sequence, preamble and gap, on the side where
    /// they came out.
    pub gbps: f64,
    /// Of the system's worker, while it was busy; where a system does not tell, of its CPU's whole time,
    /// which is the same where it was offered more than it took.
    pub cycles_per_packet: Option<f64>,
    /// Whether `cycles_per_packet` are the system's own count.
    pub cycles_counted: bool,
    /// Cycles per packet of each stage.
    pub stages: BTreeMap<String, f64>,
    /// Of what was sent, the part that did not come out.
    pub loss: f64,
    pub latency_us: Option<Latency>,
    /// Sessions opened (or ended, in `tear-down`) per second.
    pub sessions_per_second: Option<f64>,
    /// Sessions that there were.
    pub sessions: Option<u64>,
    pub bytes_per_session: Option<f64>,
    /// p99.9 of the worker's busy turns, in µs.
    pub turn_p999_us: Option<f64>,
    pub repeats: usize,
    /// Smallest and largest of the repeats, of what the scenario is about.
    pub spread: Spread,
    /// Repeats in which generator or system were off their CPU for long enough to show.
    pub disturbed: usize,
    /// What else a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Of [`Spread::of`], over the repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// `mpps`, `cycles_per_packet`, `sessions_per_second`, `latency_us.p99`, …
    pub of: String,
    pub min: f64,
    pub median: f64,
    pub max: f64,
}
