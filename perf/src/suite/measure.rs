//! What one repeat says, and what several say together.

use super::{
    group::{Measurement, frame_bytes},
    scenarios::{Scenario, Subject},
    spread::{medians, spread},
};
use crate::{
    job::{Latency, Measured},
    result::{Run, Spread},
    system::Sample,
};
use std::collections::BTreeMap;

/// Frames are preceded by 8 octets and followed by a gap of 12 (IEEE 802.3).
const PREAMBLE_AND_GAP: u64 = 20;
/// With more loss than that a system was offered more than it took.
const SATURATED: f64 = 0.01;
/// So much slower than another system, with the same generator: it was offered more than it took, as
/// devices that wait for room lose nothing.
const SLOWER: f64 = 0.9;
/// A repeat is disturbed where more of its time was lost to others: less does not move a median of repeats,
/// and every virtual machine takes a CPU away for some tenths of a millisecond now and then.
const OFF: f64 = 0.01;
/// A system whose turn took longer, in µs, was off its CPU in it.
const LONG_TURN: f64 = 250.0;

/// One repeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repeat {
    pub mpps: f64,
    pub gbps: f64,
    pub loss: f64,
    /// As the system counts.
    pub cycles: Option<f64>,
    /// Of the whole time, per packet that came out.
    pub whole_cycles: Option<f64>,
    pub stages: BTreeMap<String, f64>,
    pub latency: Option<Latency>,
    pub sessions_per_second: Option<f64>,
    pub sessions: Option<u64>,
    pub session_bytes: Option<u64>,
    pub turn_p999_us: Option<f64>,
    pub is_disturbed: bool,
    /// Of the two CPUs, in cycles, before or after it, whichever is more.
    pub distance: Option<f64>,
    /// Frames that came back otherwise than foretold.
    pub wrong: u64,
}

impl Repeat {
    /// `counted` is what the system counted in this time, where it tells.
    pub fn of(scenario: Scenario, measured: &Measured, counted: Option<&Sample>) -> Self {
        let (sent, received, bytes) = (
            measured.sent.iter().sum::<u64>(),
            measured.received.iter().sum::<u64>(),
            measured.received_bytes.iter().sum::<u64>(),
        );
        let seconds = measured.seconds.max(f64::MIN_POSITIVE);
        let pps = received as f64 / seconds;
        let counted = counted.filter(|counted| counted.packets > 0);
        let per_packet = |cycles: u64, of: &Sample| cycles as f64 / of.packets as f64;
        let us = |cycles: u64| cycles as f64 * 1e6 / measured.tsc_hz.max(1) as f64;
        Repeat {
            mpps: pps / 1e6,
            gbps: (bytes + PREAMBLE_AND_GAP * received) as f64 * 8.0 / seconds / 1e9,
            loss: match sent {
                0 => 0.0,
                sent => sent.saturating_sub(received) as f64 / sent as f64,
            },
            cycles: counted.map(|counted| per_packet(counted.busy_cycles, counted)),
            whole_cycles: (received > 0).then(|| measured.tsc_hz as f64 / pps),
            stages: counted.map_or_else(BTreeMap::new, |counted| {
                let stages = counted.stages.iter();
                stages
                    .map(|(stage, cycles)| (stage.clone(), per_packet(*cycles, counted)))
                    .collect()
            }),
            latency: measured.latency,
            sessions_per_second: match scenario {
                Scenario::NewSessions | Scenario::Churn(_) => Some(pps),
                Scenario::Mixed(_) => {
                    counted.map(|counted| per_packet(counted.sessions_created, counted) * pps)
                }
                Scenario::Throughput
                | Scenario::ZeroChecksums
                | Scenario::Ndr
                | Scenario::Latency(_)
                | Scenario::TearDown
                | Scenario::Capacity
                | Scenario::Scaling => None,
            },
            sessions: counted.map(|counted| counted.sessions),
            session_bytes: counted.map(|counted| counted.session_bytes),
            turn_p999_us: counted.and_then(turn_p999).map(us),
            is_disturbed: {
                let turns = counted.map_or(0.0, |counted| long_turns(counted, us));
                measured.off_us + turns > OFF * seconds * 1e6
            },
            distance: None,
            wrong: measured.wrong,
        }
    }
}

/// Cycles that 999 of 1,000 turns did not exceed.
fn turn_p999(counted: &Sample) -> Option<u64> {
    let turns: u64 = counted.turn_cycles.iter().map(|(_, number)| number).sum();
    let most = turns - turns / 1000;
    let mut seen = 0;
    counted.turn_cycles.iter().find_map(|(bound, number)| {
        seen += number;
        (*number > 0 && seen >= most).then_some(*bound)
    })
}

/// What all turns that were too long took at least, in µs: bounds are powers of two, or finer.
fn long_turns(counted: &Sample, us: impl Fn(u64) -> f64) -> f64 {
    let turns = counted.turn_cycles.iter().map(|(bound, number)| (us(bound / 2), *number as f64));
    turns.filter(|(least, _)| *least > LONG_TURN).map(|(least, number)| least * number).sum()
}

/// A run of one system from its repeats; `None` where there is none. `fastest` is the highest rate, in
/// Mpps, of all systems that were asked the same.
pub fn run(
    measurement: &Measurement,
    (subject, system): (Subject, &str),
    repeats: &[Repeat],
    fastest: f64,
    mut remarks: Vec<String>,
) -> Option<Run> {
    let some = |of: fn(&Repeat) -> f64| medians(repeats, |repeat| Some(of(repeat)));
    let (mpps, loss) = (some(|r| r.mpps)?, some(|r| r.loss)?);
    let counted = medians(repeats, |repeat| repeat.cycles);
    let took_all_its_time =
        is_flood(measurement.scenario) && (loss > SATURATED || mpps < SLOWER * fastest);
    let cycles = |repeat: &Repeat| match counted {
        Some(_) => repeat.cycles,
        None => repeat.whole_cycles.filter(|_| took_all_its_time),
    };
    let wrong: u64 = repeats.iter().map(|repeat| repeat.wrong).sum();
    if wrong > 0 {
        remarks.push(format!("{wrong} frames came back otherwise than foretold"));
    }
    let last = repeats.last()?;
    Some(Run {
        system: system.to_owned(),
        scenario: measurement.scenario.name(),
        io: subject.io.name().to_owned(),
        direction: measurement.direction,
        frame_bytes: frame_bytes(measurement.frames),
        frames: measurement.frames,
        flows: measurement.flows,
        order: measurement.order,
        workers: subject.workers,
        mpps,
        gbps: some(|r| r.gbps)?,
        cycles_per_packet: medians(repeats, cycles),
        cycles_counted: counted.is_some(),
        stages: stages(repeats),
        loss,
        latency_us: latency(repeats),
        sessions_per_second: medians(repeats, |repeat| repeat.sessions_per_second),
        sessions: last.sessions,
        bytes_per_session: match (measurement.scenario, last.session_bytes, last.sessions) {
            (Scenario::Capacity, Some(bytes), Some(sessions @ 1..)) => {
                Some(bytes as f64 / sessions as f64)
            }
            _ => None,
        },
        turn_p999_us: medians(repeats, |repeat| repeat.turn_p999_us),
        repeats: repeats.len(),
        spread: about(measurement.scenario, repeats, cycles)?,
        disturbed: repeats.iter().filter(|repeat| repeat.is_disturbed).count(),
        // Of the whole run.
        apart: 0,
        remarks,
    })
}

/// Whether the generator sends as fast as it can.
fn is_flood(scenario: Scenario) -> bool {
    matches!(scenario, Scenario::Throughput | Scenario::Mixed(_) | Scenario::ZeroChecksums)
}

/// The range of what a scenario is about; of packets per second where that is not told.
fn about(
    scenario: Scenario,
    repeats: &[Repeat],
    cycles: impl Fn(&Repeat) -> Option<f64>,
) -> Option<Spread> {
    let all =
        |of: &dyn Fn(&Repeat) -> Option<f64>| repeats.iter().map(of).collect::<Option<Vec<_>>>();
    let (name, values) = match scenario {
        Scenario::Throughput | Scenario::Mixed(_) | Scenario::ZeroChecksums => {
            ("cycles_per_packet", all(&cycles))
        }
        Scenario::Ndr | Scenario::Scaling => ("mpps", None),
        Scenario::Latency(_) => {
            ("latency_us.p99", all(&|repeat| repeat.latency.map(|latency| latency.p99)))
        }
        Scenario::Churn(_) => ("turn_p999_us", all(&|repeat| repeat.turn_p999_us)),
        Scenario::NewSessions | Scenario::TearDown => {
            ("sessions_per_second", all(&|repeat| repeat.sessions_per_second))
        }
        Scenario::Capacity => {
            ("sessions", all(&|repeat| repeat.sessions.map(|sessions| sessions as f64)))
        }
    };
    match values {
        Some(values) => spread(name, &values),
        None => spread("mpps", &repeats.iter().map(|repeat| repeat.mpps).collect::<Vec<_>>()),
    }
}

/// The median of each stage that all repeats tell of.
fn stages(repeats: &[Repeat]) -> BTreeMap<String, f64> {
    let names = repeats.first().into_iter().flat_map(|repeat| repeat.stages.keys());
    let medians = names.filter_map(|name| {
        Some((name.clone(), medians(repeats, |repeat| repeat.stages.get(name).copied())?))
    });
    medians.collect()
}

/// The median of each percentile; samples together, and the extremes of all.
fn latency(repeats: &[Repeat]) -> Option<Latency> {
    let all: Vec<Latency> = repeats.iter().map(|repeat| repeat.latency).collect::<Option<_>>()?;
    let middle = |of: fn(&Latency) -> f64| medians(&all, |latency| Some(of(latency)));
    Some(Latency {
        samples: all.iter().map(|latency| latency.samples).sum(),
        min: all.iter().map(|latency| latency.min).reduce(f64::min)?,
        p50: middle(|l| l.p50)?,
        p90: middle(|l| l.p90)?,
        p99: middle(|l| l.p99)?,
        p999: middle(|l| l.p999)?,
        max: all.iter().map(|latency| latency.max).reduce(f64::max)?,
    })
}

#[cfg(test)]
mod tests;
