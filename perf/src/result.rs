//! The file that a run leaves: its shape is what `docs/performance.md` describes.

use crate::job::{Direction, Frames, Latency, Order};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run of the suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// What it was measured on, with what.
    pub machine: Machine,
    /// In the order in which they were measured.
    pub runs: Vec<Run>,
}

/// What was measured on, with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// As the CPU calls itself.
    pub cpu: String,
    /// CPUs that the kernel has.
    pub cpus: usize,
    /// Of the time stamp counter, in which all cycles are.
    pub tsc_hz: u64,
    /// Near: cycles that a cache line takes from one of the two CPUs to the other, at best; none where that could not
    /// be measured.
    #[serde(default)]
    pub cpu_distance_cycles: Option<u64>,
    /// All memory, in GiB.
    pub memory_gib: u64,
    /// Its name and release.
    pub kernel: String,
    /// Who made the virtual machine; none on bare metal.
    pub hypervisor: Option<String>,
    /// Version of DPDK that was linked.
    pub dpdk: String,
    /// Version of this program.
    pub egress_perf: String,
    /// When it began, UTC, RFC 3339.
    pub date: String,
    /// The command line, without where the program lies.
    pub command: Vec<String>,
}

/// One measurement of one system: the median of its repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// `gateway`, `gateway zero-copy`, `router`, `testpmd`, `kernel`, or the peer's name.
    pub system: String,
    /// `throughput`, `throughput with 1 % new sessions`, `throughput with zero checksums`, `ndr`,
    /// `latency at 50 %`, `new sessions`, `churn of 1.0 M a second`, `tear-down`, `capacity`, `scaling`.
    pub scenario: String,
    /// Of the system: `memif`, `ring`, `af_packet`, `af_xdp`, `none` (ports in memory); of the kernel `veth`.
    pub io: String,
    /// From the pods to the world, back, or both.
    pub direction: Direction,
    /// Octets with frame check sequence, the pod's own frame where tunnelled; the mean where mixed.
    pub frame_bytes: f64,
    /// Which lengths they have.
    pub frames: Frames,
    /// Flows that were established before; in `scaling` those of each worker.
    pub flows: u32,
    /// In which order packets are of these flows.
    pub order: Order,
    /// Workers of the system, each on a CPU of its own.
    pub workers: usize,
    /// Million packets per second that came out on the other side; in `scaling` per second in which the
    /// workers were busy, those of all workers together.
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
    /// The time packets took, in µs, where it was measured: the median of the repeats' percentiles.
    pub latency_us: Option<Latency>,
    /// Sessions opened (or ended, in `tear-down`) per second.
    pub sessions_per_second: Option<f64>,
    /// Sessions that there were.
    pub sessions: Option<u64>,
    /// Memory of the session table by its sessions, once it is full.
    pub bytes_per_session: Option<f64>,
    /// p99.9 of the worker's busy turns, in µs.
    pub turn_p999_us: Option<f64>,
    /// How often it was measured.
    pub repeats: usize,
    /// Smallest and largest of the repeats, of what the scenario is about.
    pub spread: Spread,
    /// Repeats in which generator and system were off their CPUs for over 1 % of the time: gaps of over 100 µs
    /// in the generator, and turns of over 250 µs where the system counts them.
    pub disturbed: usize,
    /// Repeats during which the two CPUs were farther from each other than 1.5 times `cpu_distance_cycles`.
    #[serde(default)]
    pub apart: usize,
    /// What else a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Run {
    /// How many times the packets of one worker, of the same system that was asked the same; `None` where
    /// that is not in `runs`.
    pub fn scaling(&self, runs: &[Run]) -> Option<f64> {
        let asked = |run: &Run| {
            let Run { system, scenario, io, direction, frames, flows, order, .. } = run.clone();
            (system, scenario, io, direction, frames, flows, order)
        };
        let one = runs.iter().find(|run| run.workers == 1 && asked(run) == asked(self))?;
        Some(self.mpps / one.mpps).filter(|ratio| ratio.is_finite())
    }
}

/// Of [`Spread::of`], over the repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// `mpps`, `cycles_per_packet`, `sessions_per_second`, `latency_us.p99`, …
    pub of: String,
    /// Of the repeat with the least.
    pub min: f64,
    /// Of the one in the middle.
    pub median: f64,
    /// Of the one with the most.
    pub max: f64,
}
