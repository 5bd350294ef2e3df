//! What is measured side by side, and what generators and systems are told for it.

use super::scenarios::{Io, Scenario, Subject, workers};
use crate::{
    job::{Checksums, Direction, Ends, FarSide, Frames, Job, Load, Order, Step},
    plan::MAX_NODES,
};
use serde::Serialize;

/// Nodes that the pods are on.
const NODES: u32 = MAX_NODES;
/// Longer than any run: flows that were established stay.
const NEVER: u32 = 7440;
/// Of sessions beside the flows where they are to expire while others are opened.
const SOON: u32 = 2;
/// Of sessions beside the flows where they are to stay until they are flushed.
const LATER: u32 = 300;
/// Of a whole establishment step: room for as many sessions is kept beside the flows.
const MOST_NEW: u32 = 4_000_000;
/// The same where they expire: what 2 M a second leave in [`SOON`] and the second that it is rounded up by.
const MOST_CHURNING: u32 = 7_000_000;
/// Of the table whose room is measured.
const SMALL_TABLE: u32 = 1_000_000;
/// A search halves the range that is left until it is within 1 %, and tries some rates twice.
const TRIALS: f64 = 12.0;

/// How long and how often.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    pub repeats: usize,
    pub seconds: f64,
    pub warm_up: f64,
    /// Seconds of the whole run that may be spent on waiting for CPUs that are apart, and on repeating what
    /// was measured while they were.
    pub patience: f64,
}

impl Timing {
    pub const QUICK: Timing = Timing { repeats: 3, seconds: 0.7, warm_up: 0.15, patience: 40.0 };
    pub const FULL: Timing = Timing { repeats: 7, seconds: 2.0, warm_up: 0.3, patience: 300.0 };
}

/// What systems that run at the same time are asked, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Of each worker.
    pub flows: u32,
    pub table: Table,
    pub checksums: Checksums,
    pub measurements: Vec<Measurement>,
}

/// Asked of each of its systems.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub scenario: Scenario,
    pub direction: Direction,
    pub frames: Frames,
    pub order: Order,
    pub flows: u32,
    pub subjects: Vec<Subject>,
}

/// What sort of session table a measurement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Room for the flows.
    Flows,
    /// Room for sessions beside them.
    Wide,
    /// Sessions beside the flows expire soon.
    Churning,
    /// It is to become full.
    Full,
}

/// What a system is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub subject: Subject,
    pub flows: u32,
    pub nodes: u32,
    pub max_sessions: u32,
    /// Seconds until an idle session that was answered expires.
    pub idle_timeout: u32,
    /// And one that never was.
    pub unreplied_timeout: u32,
}

impl Group {
    pub fn new(first: Measurement) -> Self {
        Group {
            flows: first.flows,
            table: first.table(),
            checksums: first.checksums(),
            measurements: vec![first],
        }
    }

    /// Whether a measurement needs the same systems.
    pub fn takes(&self, other: &Measurement) -> bool {
        (self.flows, self.table, self.checksums, self.class())
            == (other.flows, other.table(), other.checksums(), other.class())
    }

    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    fn class(&self) -> Option<Class> {
        self.measurements.first().and_then(Measurement::class)
    }

    /// Each system that takes part, once.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = Vec::new();
        for subject in self.measurements.iter().flat_map(|measurement| &measurement.subjects) {
            if !subjects.contains(subject) {
                subjects.push(*subject);
            }
        }
        subjects
    }

    pub fn name(&self) -> String {
        let io = self.class().map_or("", |class| match class {
            Class::Memif => "memif",
            Class::Veth => "veth",
            Class::Ring => "ring",
            Class::None => "none",
        });
        let flows = match self.flows {
            1 => "1 flow".to_owned(),
            flows => format!("{} flows", admin::number::grouped(u64::from(flows))),
        };
        let table = match self.table {
            Table::Flows => "",
            Table::Wide => ", sessions opened and ended",
            Table::Churning => ", sessions that expire",
            Table::Full => ", a full table",
        };
        let checksums = match self.checksums {
            Checksums::Valid => "",
            Checksums::Zero => ", zero checksums",
        };
        format!("{io}, {flows}{table}{checksums}")
    }

    pub fn spec(&self, subject: Subject) -> Spec {
        let (max_sessions, unreplied_timeout) = match self.table {
            Table::Flows => (self.flows + self.flows / 4 + 1024, LATER),
            Table::Wide => (self.flows + MOST_NEW, LATER),
            Table::Churning => (self.flows + MOST_CHURNING, SOON),
            Table::Full => (SMALL_TABLE, LATER),
        };
        let flows = self.flows;
        Spec { subject, flows, nodes: NODES, max_sessions, idle_timeout: NEVER, unreplied_timeout }
    }

    /// What the generator of a system is told: without devices where it holds the gateway itself.
    pub fn job(
        &self,
        subject: Subject,
        devices: Option<([String; 2], Vec<String>)>,
        settings: &super::Settings,
    ) -> Job {
        let max_sessions = self.spec(subject).max_sessions;
        let (ends, eal_args) = match devices {
            Some(([tunnel, external], eal_args)) => (Ends::Devices { tunnel, external }, eal_args),
            None if subject.io == Io::None => {
                let worker_cores = settings.worker_cores(subject.workers);
                (Ends::Memory { worker_cores, max_sessions }, Vec::new())
            }
            None => (Ends::Ring { worker_core: settings.system_core, max_sessions }, Vec::new()),
        };
        Job {
            ends,
            core: settings.generator_core,
            hugepages: settings.hugepages,
            eal_args,
            far_side: subject.far_side(),
            flows: self.flows,
            nodes: NODES,
            checksums: self.checksums,
        }
    }

    /// Seconds that it takes, by and large.
    pub fn estimate(&self, timing: &Timing) -> f64 {
        // A kernel opens 0.2 million sessions in a second, the others over a million; where the generator
        // holds the system, one program has to start.
        let start = |subject: &Subject| {
            let programs = if subject.io.is_inside() { 0.5 } else { 2.0 };
            programs + f64::from(self.flows) / if subject.io.is_veth() { 2e5 } else { 1e6 }
        };
        let start: f64 = self.subjects().iter().map(start).sum();
        let measured = self.measurements.iter().map(|measurement| measurement.seconds(timing));
        start + measured.sum::<f64>()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Memif,
    Veth,
    Ring,
    None,
}

impl Measurement {
    /// `throughput, 1,000,000 flows, in2out, smallest, random`
    pub fn name(&self) -> String {
        let flows = admin::number::grouped(u64::from(self.flows));
        let (direction, frames, order) =
            (word(&self.direction), word(&self.frames), word(&self.order));
        format!("{}, {flows} flows, {direction}, {frames}, {order}", self.scenario.name())
    }

    /// As `--only` asks: a system stays where what describes it, with the measurement, has one of the
    /// texts; `None` where none stays.
    pub(super) fn only(mut self, only: &[String]) -> Option<Self> {
        let name = self.name();
        self.subjects.retain(|subject| {
            let (kind, io) = (subject.kind.name(), subject.io.name());
            let described = match subject.io {
                Io::None => format!("{kind}, {io}, {name}, {}", workers(subject.workers)),
                Io::Memif | Io::Ring | Io::AfPacket | Io::AfXdp | Io::Veth => {
                    format!("{kind}, {io}, {name}")
                }
            };
            only.is_empty() || only.iter().any(|text| described.contains(text.as_str()))
        });
        (!self.subjects.is_empty()).then_some(self)
    }

    fn table(&self) -> Table {
        match self.scenario {
            Scenario::Throughput
            | Scenario::ZeroChecksums
            | Scenario::Ndr
            | Scenario::Latency(_)
            | Scenario::Scaling => Table::Flows,
            Scenario::NewSessions | Scenario::TearDown => Table::Wide,
            Scenario::Mixed(_) | Scenario::Churn(_) => Table::Churning,
            Scenario::Capacity => Table::Full,
        }
    }

    fn checksums(&self) -> Checksums {
        match self.scenario == Scenario::ZeroChecksums {
            true => Checksums::Zero,
            false => Checksums::Valid,
        }
    }

    fn class(&self) -> Option<Class> {
        self.subjects.first().map(|subject| match subject.io {
            Io::Memif => Class::Memif,
            Io::Ring => Class::Ring,
            Io::None => Class::None,
            Io::AfPacket | Io::AfXdp | Io::Veth => Class::Veth,
        })
    }

    pub fn load(&self) -> Load {
        Load {
            direction: self.direction,
            frames: self.frames,
            order: self.order,
            new_sessions: if let Scenario::Mixed(percent) = self.scenario {
                f64::from(percent) / 100.0
            } else {
                0.0
            },
            latency: matches!(self.scenario, Scenario::Latency(_)),
        }
    }

    /// How often, and for how long; a table is filled once.
    pub fn timing(&self, timing: &Timing) -> Timing {
        match self.scenario {
            Scenario::Capacity => Timing { repeats: 1, ..*timing },
            Scenario::Ndr => Timing { repeats: timing.repeats.div_ceil(3), ..*timing },
            // Else there is no room in the table.
            Scenario::NewSessions => Timing { seconds: timing.seconds.min(1.0), ..*timing },
            Scenario::Throughput
            | Scenario::Mixed(_)
            | Scenario::ZeroChecksums
            | Scenario::Latency(_)
            | Scenario::Churn(_)
            | Scenario::TearDown
            | Scenario::Scaling => *timing,
        }
    }

    /// What the generator does in one repeat; `None` where it does nothing. `throughput` is what the
    /// system was seen to take, in packets per second.
    pub fn step(&self, timing: &Timing, throughput: Option<f64>) -> Option<Step> {
        let Timing { seconds, warm_up, .. } = self.timing(timing);
        let load = self.load();
        Some(match self.scenario {
            Scenario::Throughput
            | Scenario::Mixed(_)
            | Scenario::ZeroChecksums
            | Scenario::Scaling => Step::Send { load, packets_per_second: None, warm_up, seconds },
            Scenario::Latency(percent) => Step::Send {
                load,
                packets_per_second: throughput.map(|rate| rate * f64::from(percent) / 100.0),
                warm_up,
                seconds,
            },
            Scenario::Ndr => Step::Search { load, loss: super::NO_LOSS, seconds },
            Scenario::NewSessions => Step::NewSessions { per_second: None, seconds },
            Scenario::Churn(rate) => Step::NewSessions { per_second: Some(rate.into()), seconds },
            Scenario::Capacity => Step::Capacity { most: 2 * SMALL_TABLE },
            Scenario::TearDown => return None,
        })
    }

    /// What comes before the first repeat and is not counted: until as many sessions expire as are opened.
    pub fn settle(&self) -> Option<Step> {
        let Scenario::Churn(rate) = self.scenario else { return None };
        let seconds = f64::from(SOON) + 1.0;
        Some(Step::NewSessions { per_second: Some(rate.into()), seconds })
    }

    /// Whether each repeat begins with nothing but the flows.
    pub fn is_fresh(&self) -> bool {
        self.scenario == Scenario::NewSessions
    }

    /// Whether it is about what goes from the generator's CPU to the system's. Tear-down is the system's alone,
    /// and a full table's size has nothing to do with it.
    pub fn crosses_cpus(&self) -> bool {
        !matches!(self.scenario, Scenario::TearDown | Scenario::Capacity)
    }

    /// About how long it takes, with all its systems.
    pub fn seconds(&self, timing: &Timing) -> f64 {
        self.seconds_each(timing) * self.subjects.len() as f64
    }

    fn seconds_each(&self, timing: &Timing) -> f64 {
        let Timing { repeats, seconds, warm_up, .. } = self.timing(timing);
        let repeats = repeats as f64;
        let establish = f64::from(self.flows) / 1e6 + 0.5;
        match self.scenario {
            Scenario::Throughput
            | Scenario::Mixed(_)
            | Scenario::ZeroChecksums
            | Scenario::Latency(_)
            | Scenario::Scaling => repeats * (seconds + warm_up + 0.1),
            Scenario::Ndr => repeats * TRIALS * (seconds + 0.1),
            Scenario::NewSessions => repeats * (seconds + 0.5 + establish),
            Scenario::TearDown => repeats * (0.5 + establish),
            Scenario::Churn(_) => f64::from(SOON) + 1.0 + repeats * seconds,
            Scenario::Capacity => f64::from(SMALL_TABLE) / 5e5,
        }
    }
}

impl Subject {
    fn far_side(self) -> FarSide {
        use super::scenarios::Kind;
        match self.kind {
            Kind::Gateway | Kind::ZeroCopy | Kind::Kernel | Kind::Peer => FarSide::Nat,
            Kind::Router => FarSide::Router,
            Kind::Testpmd => FarSide::Wire,
        }
    }
}

/// Octets with frame check sequence; the mean where lengths are mixed.
pub fn frame_bytes(frames: Frames) -> f64 {
    match frames {
        Frames::Smallest => 64.0,
        Frames::Imix => (7.0 * 64.0 + 4.0 * 570.0 + 1468.0) / 12.0,
        Frames::Largest => 1468.0,
    }
}

/// As in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
