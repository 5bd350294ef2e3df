//! What the suite and a generator process say to each other: JSON lines. The first line that a generator
//! reads is a [`Job`], each further one a [`Step`]; it answers [`Event`]s on its standard output, and
//! ends when its standard input does. Between steps it sends nothing and burns no CPU.

use serde::{Deserialize, Serialize};

/// What stays the same for all steps of one generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub ends: Ends,
    /// The CPU that sends and receives.
    pub core: usize,
    pub hugepages: bool,
    /// Further words for the EAL.
    #[serde(default)]
    pub eal_args: Vec<String>,
    pub far_side: FarSide,
    pub flows: u32,
    /// 1 to [`crate::plan::MAX_NODES`].
    pub nodes: u32,
    pub checksums: Checksums,
}

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// Two devices, in DPDK's words, whose other ends somebody else holds.
    Devices { tunnel: String, external: String },
    /// Ring devices, and a gateway's worker in the generator's own process, on this CPU.
    Ring { worker_core: usize, max_sessions: u32 },
    /// No devices: a gateway's workers in the generator's own process, on these CPUs, whose ports are
    /// memory that each fills itself. [`Job::flows`] and `max_sessions` are of each of them.
    Memory { worker_cores: Vec<usize>, max_sessions: u32 },
}

/// What becomes of packets on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FarSide {
    /// Tunnelled packets leave by the external port, translated; answers come back in the tunnel.
    Nat,
    /// As `Nat`, but nothing is translated: the pod's address leaves. The twin does so.
    Router,
    /// Frames come out of the other port as they are (testpmd's io).
    Wire,
}

/// UDP checksums of what is sent inside the tunnel and from the world; the outer one is always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    Valid,
    Zero,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Waits until both next hops answer ARP, opens all flows of the job, learns how each is translated,
    /// has each answered once. Fails where some flow cannot be opened. [`Event::Established`].
    Establish,
    /// Sends as fast as it can, or `packets_per_second` (both directions together). The first
    /// `warm_up` seconds do not count. [`Event::Measured`].
    Send { load: Load, packets_per_second: Option<f64>, warm_up: f64, seconds: f64 },
    /// RFC 2544 section 26.1: the highest rate whose loss is at most `loss`, by trials of `seconds`.
    /// [`Event::Measured`] of the last trial that passed, with [`Measured::trials`].
    Search { load: Load, loss: f64, seconds: f64 },
    /// Each packet is the first of a flow of its own, beside the job's flows; as fast as it can, or at a
    /// rate. [`Event::Measured`]; `received` counts the sessions that were opened.
    NewSessions { per_second: Option<f64>, seconds: f64 },
    /// Opens sessions beside the job's flows until one in two of the last 10,000 is refused, or `most` are
    /// open. [`Event::Capacity`].
    Capacity { most: u32 },
}

/// What is sent in a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub direction: Direction,
    pub frames: Frames,
    pub order: Order,
    /// Of the packets from pods, how many open a session beside the job's flows: 0 to 1.
    #[serde(default)]
    pub new_sessions: f64,
    /// Stamp packets and keep the time each takes.
    #[serde(default)]
    pub latency: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    In2out,
    Out2in,
    /// As many of each.
    Both,
}

/// Lengths as on a wire, with 4 octets of frame check sequence; inside the tunnel the pod's own frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Frames {
    /// 64 octets.
    Smallest,
    /// Seven of 64, four of 570, one of 1,468 (the largest that fits a tunnel of 1,500).
    Imix,
    /// 1,468 octets: L3 packets of 1,450, which the tunnel makes 1,500.
    Largest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Each packet is of any flow (RFC 4814 section 4).
    Random,
    Sequential,
}

/// What a generator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It has its devices, and waits for steps.
    Ready,
    /// Once a second while a step runs.
    Second(Second),
    Established {
        flows: u32,
        seconds: f64,
    },
    Measured(Box<Measured>),
    Capacity {
        opened: u32,
        refused: u32,
        seconds: f64,
    },
    /// The step could not be done; the generator goes on with the next.
    Failed(String),
}

/// One second, as testpmd shows it: tunnel, external.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub tx_packets: [u64; 2],
    pub tx_bytes: [u64; 2],
    pub rx_packets: [u64; 2],
    pub rx_bytes: [u64; 2],
}

/// What came of a measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Of workers without I/O not those of the clock: as many as they would need for these packets if all
    /// were busy all the time.
    pub seconds: f64,
    pub tsc_hz: u64,
    /// In2out, out2in. Frames that were sent and that came back, and their octets with frame check sequence; without ARP.
    pub sent: [u64; 2],
    pub received: [u64; 2],
    pub received_bytes: [u64; 2],
    /// Frames that came back otherwise than foretold: of no flow, with a wrong source, in the wrong direction.
    pub wrong: u64,
    /// Bursts that waited over 10 µs because the generator itself was off its CPU, and the longest, in µs.
    pub preempted: u64,
    pub longest_gap_us: f64,
    /// All gaps of over 100 µs together.
    #[serde(default)]
    pub off_us: f64,
    /// Where [`Load::latency`] asked for it.
    pub latency: Option<Latency>,
    /// Of [`Step::Search`].
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// Of a gateway in the generator's own process: what it counted in these seconds.
    #[serde(default)]
    pub inside: Option<crate::system::Sample>,
}

/// Microseconds, from just before sending a burst to just after receiving one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Latency {
    /// Packets that were timed.
    pub samples: u64,
    /// The shortest.
    pub min: f64,
    /// What half of the packets did not exceed.
    pub p50: f64,
    /// What 90 of 100 packets did not exceed.
    pub p90: f64,
    /// What 99 of 100 packets did not exceed.
    pub p99: f64,
    /// What 999 of 1,000 packets did not exceed.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub packets_per_second: f64,
    pub loss: f64,
    pub passed: bool,
}
