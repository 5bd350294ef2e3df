//! The standard set: a table, a row for each measurement, with the systems that take part in it. Rows that
//! need the same systems, flows and tables make a [`Group`], whose systems alternate.
//!
//! Several workers beside one are measured without I/O: through devices the generator, on a CPU of its own, would
//! have to send as fast as all of them forward.

use super::group::{Group, Measurement};
use crate::job::{
    Direction::{self, Both, In2out, Out2in},
    Frames::{self, Imix, Largest, Smallest},
    Order::{self, Random, Sequential},
};
use serde::Serialize;

/// A program that is measured, and the devices it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Subject {
    pub kind: Kind,
    pub io: Io,
    pub workers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Gateway,
    /// The gateway as memif's client, which need not copy.
    ZeroCopy,
    /// The twin, that forwards and translates nothing: what the generator can do at least.
    Router,
    /// DPDK's own, that moves frames from one port to the other: what I/O costs.
    Testpmd,
    /// Linux with VXLAN and nftables' SNAT.
    Kernel,
    /// The program of `--peer`.
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    Memif,
    /// In the generator's own process.
    Ring,
    /// There too; each worker fills its ports itself.
    None,
    AfPacket,
    AfXdp,
    /// The kernel's end of a veth.
    Veth,
}

/// What is asked of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// As fast as the generator sends, all flows established (RFC 9693 section 4.5).
    Throughput,
    /// As `Throughput`, while of 100 packets from pods so many open a session, which expires soon after.
    Mixed(u8),
    /// As `Throughput`, with UDP checksums of 0.
    ZeroChecksums,
    /// The highest rate without loss (RFC 2544 section 26.1).
    Ndr,
    /// At so many hundredths of its throughput.
    Latency(u8),
    /// How fast sessions are opened beside the flows (RFC 9693 section 4.3).
    NewSessions,
    /// So many sessions a second are opened, while as many expire.
    Churn(u32),
    /// How fast all sessions are ended (RFC 9693 section 4.6).
    TearDown,
    /// How many sessions there is room for (RFC 9693 section 4.7).
    Capacity,
    /// What several workers do beside one, each with as many flows of its own.
    Scaling,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    set: Set,
    flows: u32,
    scenario: Scenario,
    direction: Direction,
    frames: Frames,
    order: Order,
    subjects: &'static [Subject],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// In `--quick` as well.
    Quick,
    Full,
}

const GATEWAY: Subject = Subject::new(Kind::Gateway, Io::Memif);
const ZERO_COPY: Subject = Subject::new(Kind::ZeroCopy, Io::Memif);
const ROUTER: Subject = Subject::new(Kind::Router, Io::Memif);
const TESTPMD: Subject = Subject::new(Kind::Testpmd, Io::Memif);
const PEER: Subject = Subject::new(Kind::Peer, Io::Memif);
const KERNEL: Subject = Subject::new(Kind::Kernel, Io::Veth);
const AF_PACKET: Subject = Subject::new(Kind::Gateway, Io::AfPacket);
const AF_XDP: Subject = Subject::new(Kind::Gateway, Io::AfXdp);
const IN_PROCESS: Subject = Subject::new(Kind::Gateway, Io::Ring);

const ALL: &[Subject] = &[GATEWAY, ZERO_COPY, ROUTER, TESTPMD, PEER];
const NATS: &[Subject] = &[GATEWAY, PEER];
const TWINS: &[Subject] = &[GATEWAY, ZERO_COPY, ROUTER, PEER];
const US: &[Subject] = &[GATEWAY];
const VETH: &[Subject] = &[KERNEL, AF_PACKET, AF_XDP];
const RING: &[Subject] = &[IN_PROCESS];
const CREWS: &[Subject] = &[crew(1), crew(2), crew(4), crew(8), crew(16), crew(32), crew(64)];

use Scenario::{
    Capacity, Churn, Latency, Mixed, Ndr, NewSessions, Scaling, TearDown, Throughput, ZeroChecksums,
};
use Set::{Full, Quick};

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(Quick, 1,          Throughput,    In2out, Smallest, Random,     ALL),
    row(Quick, 1,          Throughput,    Out2in, Smallest, Random,     TWINS),
    row(Full,  1,          Throughput,    Both,   Smallest, Random,     ALL),
    row(Full,  1,          Throughput,    In2out, Imix,     Random,     ALL),
    row(Full,  1,          Throughput,    In2out, Largest,  Random,     ALL),
    row(Quick, 1,          Ndr,           In2out, Smallest, Random,     US),

    row(Full,  10_000,     Throughput,    In2out, Smallest, Random,     TWINS),
    row(Full,  10_000,     Throughput,    Out2in, Smallest, Random,     NATS),
    row(Full,  10_000,     Throughput,    Both,   Smallest, Random,     NATS),

    row(Quick, 100_000,    Throughput,    In2out, Smallest, Random,     TWINS),
    row(Full,  100_000,    Throughput,    Out2in, Smallest, Random,     NATS),
    row(Full,  100_000,    Throughput,    Both,   Smallest, Random,     NATS),
    row(Full,  100_000,    ZeroChecksums, In2out, Smallest, Random,     US),

    row(Quick, 1_000_000,  Throughput,    In2out, Smallest, Random,     ALL),
    row(Quick, 1_000_000,  Throughput,    Out2in, Smallest, Random,     TWINS),
    row(Quick, 1_000_000,  Throughput,    Both,   Smallest, Random,     NATS),
    row(Quick, 1_000_000,  Throughput,    In2out, Smallest, Sequential, NATS),
    row(Full,  1_000_000,  Throughput,    Out2in, Smallest, Sequential, NATS),
    row(Quick, 1_000_000,  Throughput,    In2out, Imix,     Random,     NATS),
    row(Quick, 1_000_000,  Throughput,    In2out, Largest,  Random,     NATS),
    row(Full,  1_000_000,  Throughput,    Both,   Imix,     Random,     ALL),
    row(Quick, 1_000_000,  Ndr,           In2out, Smallest, Random,     US),
    row(Quick, 1_000_000,  Latency(50),   In2out, Smallest, Random,     US),
    row(Quick, 1_000_000,  Latency(90),   In2out, Smallest, Random,     US),

    row(Quick, 1_000_000,  NewSessions,   In2out, Smallest, Random,     NATS),
    row(Quick, 1_000_000,  TearDown,      In2out, Smallest, Random,     US),

    row(Quick, 1_000_000,  Mixed(1),      In2out, Smallest, Random,     US),
    row(Quick, 1_000_000,  Mixed(10),     In2out, Smallest, Random,     US),
    row(Quick, 1_000_000,  Churn(1_000_000), In2out, Smallest, Random,  US),
    row(Full,  1_000_000,  Churn(1_500_000), In2out, Smallest, Random,  US),
    row(Full,  1_000_000,  Churn(2_000_000), In2out, Smallest, Random,  US),

    row(Quick, 1,          Capacity,      In2out, Smallest, Random,     US),

    row(Full,  10_000_000, Throughput,    In2out, Smallest, Random,     TWINS),
    row(Full,  10_000_000, Throughput,    Out2in, Smallest, Random,     NATS),
    row(Full,  10_000_000, Throughput,    In2out, Smallest, Sequential, NATS),

    row(Quick, 1,          Throughput,    In2out, Smallest, Random,     VETH),
    row(Full,  1,          Throughput,    Out2in, Smallest, Random,     VETH),
    row(Full,  100_000,    Throughput,    In2out, Smallest, Random,     VETH),
    row(Quick, 1_000_000,  Throughput,    In2out, Smallest, Random,     VETH),
    row(Full,  1_000_000,  Throughput,    Out2in, Smallest, Random,     VETH),

    row(Full,  1,          Throughput,    In2out, Smallest, Random,     RING),
    row(Full,  1,          Latency(50),   In2out, Smallest, Random,     RING),
    row(Quick, 1_000_000,  Throughput,    In2out, Smallest, Random,     RING),
    row(Quick, 1_000_000,  Latency(50),   In2out, Smallest, Random,     RING),
    row(Full,  1_000_000,  Latency(90),   In2out, Smallest, Random,     RING),

    row(Full,  1_000,      Scaling,       In2out, Smallest, Random,     CREWS),
    row(Quick, 100_000,    Scaling,       In2out, Smallest, Random,     CREWS),
];

const fn crew(workers: usize) -> Subject {
    Subject { workers, ..Subject::new(Kind::Gateway, Io::None) }
}

const fn row(
    set: Set,
    flows: u32,
    scenario: Scenario,
    direction: Direction,
    frames: Frames,
    order: Order,
    subjects: &'static [Subject],
) -> Row {
    Row { set, flows, scenario, direction, frames, order, subjects }
}

/// The standard set, in the order in which it is measured: without the rows that are only in the full
/// set, without the peer where there is none, with no more workers than CPUs, and only what has one of the
/// `only` in its description.
pub fn groups(quick: bool, peer: bool, cpus: usize, only: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in TABLE.iter().filter(|row| !quick || row.set == Quick) {
        let measurement = Measurement {
            scenario: row.scenario,
            direction: row.direction,
            frames: row.frames,
            order: row.order,
            flows: row.flows,
            subjects: row
                .subjects
                .iter()
                .copied()
                .filter(|s| (peer || s.kind != Kind::Peer) && s.workers <= cpus)
                .collect(),
        };
        let Some(measurement) = measurement.only(only) else { continue };
        match groups.last_mut() {
            Some(group) if group.takes(&measurement) => group.add(measurement),
            _ => groups.push(Group::new(measurement)),
        }
    }
    groups
}

impl Subject {
    const fn new(kind: Kind, io: Io) -> Self {
        Subject { kind, io, workers: 1 }
    }

    /// `gateway over memif`, `gateway with 2 workers over none`
    pub fn title(self) -> String {
        format!("{} over {}", self.name(), self.io.name())
    }

    /// The same without its I/O.
    pub fn name(self) -> String {
        match self.io {
            Io::None => format!("{} with {}", self.kind.name(), workers(self.workers)),
            Io::Memif | Io::Ring | Io::AfPacket | Io::AfXdp | Io::Veth => {
                self.kind.name().to_owned()
            }
        }
    }
}

/// `1 worker`, `2 workers`
pub(crate) fn workers(number: usize) -> String {
    format!("{number} worker{}", if number == 1 { "" } else { "s" })
}

impl Kind {
    /// As in results; the peer's name is its own.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Gateway => "gateway",
            Kind::ZeroCopy => "gateway zero-copy",
            Kind::Router => "router",
            Kind::Testpmd => "testpmd",
            Kind::Kernel => "kernel",
            Kind::Peer => "peer",
        }
    }

    pub fn is_gateway(self) -> bool {
        matches!(self, Kind::Gateway | Kind::ZeroCopy)
    }
}

impl Io {
    pub fn name(self) -> &'static str {
        match self {
            Io::Memif => "memif",
            Io::Ring => "ring",
            Io::None => "none",
            Io::AfPacket => "af_packet",
            Io::AfXdp => "af_xdp",
            Io::Veth => "veth",
        }
    }

    /// Systems of one group have devices of one sort.
    pub(super) fn is_veth(self) -> bool {
        matches!(self, Io::AfPacket | Io::AfXdp | Io::Veth)
    }

    /// Whether the generator's process holds the system.
    pub(super) fn is_inside(self) -> bool {
        matches!(self, Io::Ring | Io::None)
    }
}

impl Scenario {
    /// As in results.
    pub fn name(self) -> String {
        match self {
            Throughput => "throughput".into(),
            Mixed(percent) => format!("throughput with {percent} % new sessions"),
            ZeroChecksums => "throughput with zero checksums".into(),
            Ndr => "ndr".into(),
            Latency(percent) => format!("latency at {percent} %"),
            NewSessions => "new sessions".into(),
            Churn(rate) => format!("churn of {:.1} M a second", f64::from(rate) / 1e6),
            TearDown => "tear-down".into(),
            Capacity => "capacity".into(),
            Scaling => "scaling".into(),
        }
    }
}

#[cfg(test)]
mod tests;
