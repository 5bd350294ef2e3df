//! Systems of one group take turns: all of them run from the first measurement to the last, and all but
//! the one that is measured are paused. In each round each system is measured once, in the opposite
//! order of the round before, so that what the machine does beside it hits all of them.

mod near;

use super::{
    Settings,
    group::{Group, Measurement},
    live::Live,
    measure::{self, Repeat},
    nearness::Nearness,
    scenarios::{Kind, Scenario, Subject},
    start::Start,
};
use crate::{
    child::{Interrupted, Waiting},
    job::{Event, Load, Step},
    progress::Progress,
    result::Run,
};
use anyhow::{Context, Error, Result, bail};
use std::{sync::atomic::AtomicBool, time::Duration};

/// What came of a group.
#[derive(Debug, Default)]
pub struct Outcome {
    pub runs: Vec<Run>,
    /// Of the two CPUs, in cycles, in the repeats of each run.
    pub distances: Vec<Vec<f64>>,
    pub skipped: Vec<Skipped>,
    /// 0 where nothing told it.
    pub tsc_hz: u64,
    pub is_interrupted: bool,
}

/// What was in the table and has no run, or one that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// `gateway over memif`
    pub system: String,
    /// Group or measurement.
    pub what: String,
    pub reason: String,
    /// The gateway did not do what it promises. Else this machine does not have what a system needs.
    pub is_failure: bool,
}

/// One group while it is measured.
struct Turns<'a> {
    group: &'a Group,
    settings: &'a Settings,
    start: &'a mut dyn Start,
    nearness: &'a mut Nearness,
    progress: &'a mut Progress,
    stop: &'a AtomicBool,
    outcome: Outcome,
}

/// Measures a group. Whatever fails costs that system's part of it, and is told in the outcome.
pub fn measure(
    group: &Group,
    settings: &Settings,
    start: &mut dyn Start,
    nearness: &mut Nearness,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> Outcome {
    let outcome = Outcome::default();
    let mut turns = Turns { group, settings, start, nearness, progress, stop, outcome };
    let mut live = turns.start_all();
    let mut left = group.estimate(&settings.timing);
    for measurement in &group.measurements {
        if turns.outcome.is_interrupted {
            break;
        }
        turns.measurement(measurement, &mut live);
        let seconds = measurement.seconds(&settings.timing);
        turns.progress.advance(seconds);
        left -= seconds;
    }
    turns.progress.advance(left);
    turns.outcome
}

impl Turns<'_> {
    fn start_all(&mut self) -> Vec<Live> {
        let mut live = Vec::new();
        for subject in self.group.subjects() {
            if self.outcome.is_interrupted {
                break;
            }
            self.progress.measuring(format!("{}: starting", subject.title()));
            match self.start(subject) {
                Ok(system) => live.push(system),
                Err(error) => {
                    // Devices that the kernel may not have, and NATs that are not ours, may be missing.
                    let is_failure = subject.kind.is_gateway() && !subject.io.is_veth();
                    self.skip(subject, self.group.name(), &error, is_failure);
                }
            }
        }
        live
    }

    /// Starts a system and its generator, has all flows established, and pauses it.
    fn start(&mut self, subject: Subject) -> Result<Live> {
        let system = match subject.io.is_inside() {
            true => None,
            false => Some(self.start.system(&self.group.spec(subject))?),
        };
        let devices = system.as_ref().map(|system| system.devices());
        let job = self.group.job(subject, devices, self.settings);
        let generator = self.start.generator(&job, self.stop)?;
        let name = match (subject.kind, &system) {
            (Kind::Peer, Some(peer)) => peer.name().to_owned(),
            _ => subject.kind.name().to_owned(),
        };
        let mut live = Live {
            subject,
            name,
            system,
            generator,
            is_established: false,
            has_others: false,
            throughputs: Vec::new(),
        };
        if let Some(system) = &mut live.system {
            system.ready()?;
        }
        self.establish(&mut live).context("its flows could not be established")?;
        live.pause()?;
        Ok(live)
    }

    /// All rounds of one measurement; what comes of it are runs.
    fn measurement(&mut self, measurement: &Measurement, live: &mut Vec<Live>) {
        let timing = measurement.timing(&self.settings.timing);
        let mut taking_part: Vec<(Subject, Vec<Repeat>)> = measurement
            .subjects
            .iter()
            .filter(|subject| live.iter().any(|live| live.subject == **subject))
            .map(|subject| (*subject, Vec::new()))
            .collect();
        for round in 0..timing.repeats {
            let mut order: Vec<Subject> = taking_part.iter().map(|(subject, _)| *subject).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            self.nearness.begin_round(order.len());
            for subject in order {
                let Some(at) = live.iter().position(|live| live.subject == subject) else {
                    continue;
                };
                self.progress.measuring(format!(
                    "{}: {} ({}/{})",
                    subject.title(),
                    measurement.name(),
                    round + 1,
                    timing.repeats
                ));
                match self.near_turn(measurement, &mut live[at], round == 0) {
                    Ok(repeat) => {
                        let part = taking_part.iter_mut().find(|(of, _)| *of == subject);
                        part.into_iter().for_each(|(_, repeats)| repeats.push(repeat.clone()));
                    }
                    Err(error) => {
                        self.skip(subject, measurement.name(), &error, subject.kind.is_gateway());
                        if live[at].generator.is_broken() {
                            live.remove(at);
                        }
                        // Of too few repeats nothing is told, unless nobody wants more.
                        if !self.outcome.is_interrupted {
                            taking_part.retain(|(of, _)| *of != subject);
                        }
                    }
                }
                if self.outcome.is_interrupted {
                    break;
                }
            }
            if self.outcome.is_interrupted {
                break;
            }
        }
        self.conclude(measurement, &taking_part, live);
    }

    /// Runs from repeats.
    fn conclude(
        &mut self,
        measurement: &Measurement,
        taking_part: &[(Subject, Vec<Repeat>)],
        live: &mut [Live],
    ) {
        let rate = |repeats: &[Repeat]| {
            super::spread::medians(repeats, |repeat| Some(repeat.mpps)).unwrap_or(0.0)
        };
        let rates = taking_part.iter().map(|(_, repeats)| rate(repeats));
        let fastest = rates.fold(0.0, f64::max);
        for (subject, repeats) in taking_part {
            let of_it = live.iter_mut().find(|live| live.subject == *subject);
            let name = match &of_it {
                Some(live) => live.name.clone(),
                None => subject.kind.name().to_owned(),
            };
            if let (Some(live), Scenario::Throughput) = (of_it, measurement.scenario) {
                live.throughputs.push((measurement.load(), rate(repeats) * 1e6));
            }
            let wrong: u64 = repeats.iter().map(|repeat| repeat.wrong).sum();
            if wrong > 0 && subject.kind.is_gateway() {
                let error = Error::msg(format!("{wrong} frames came back otherwise than foretold"));
                self.skip(*subject, measurement.name(), &error, true);
            }
            let remarks = self.remarks(measurement, *subject);
            let run = measure::run(measurement, (*subject, &name), repeats, fastest, remarks);
            let Some(run) = run else { continue };
            self.outcome.runs.push(run);
            let distances = repeats.iter().filter_map(|repeat| repeat.distance);
            self.outcome.distances.push(distances.collect());
        }
    }

    fn remarks(&self, measurement: &Measurement, subject: Subject) -> Vec<String> {
        let seconds = measurement.timing(&self.settings.timing).seconds;
        match measurement.scenario {
            Scenario::Ndr => {
                vec![format!("trials of {seconds} s, loss of at most {}", super::NO_LOSS)]
            }
            Scenario::Capacity => {
                let most = u64::from(self.group.spec(subject).max_sessions);
                vec![format!("configured for {} sessions", admin::number::grouped(most))]
            }
            Scenario::Scaling => {
                vec!["packets by the workers' busy time; each has so many flows".to_owned()]
            }
            Scenario::Throughput
            | Scenario::Mixed(_)
            | Scenario::ZeroChecksums
            | Scenario::Latency(_)
            | Scenario::NewSessions
            | Scenario::Churn(_)
            | Scenario::TearDown => Vec::new(),
        }
    }

    /// One repeat of one system, which is paused before and after.
    fn turn(
        &mut self,
        measurement: &Measurement,
        live: &mut Live,
        unsettled: bool,
    ) -> Result<Repeat> {
        live.resume()?;
        let repeat = self.repeat(measurement, live, unsettled);
        let paused = live.pause();
        let repeat = repeat?;
        paused?;
        Ok(repeat)
    }

    fn repeat(
        &mut self,
        measurement: &Measurement,
        live: &mut Live,
        unsettled: bool,
    ) -> Result<Repeat> {
        if measurement.is_fresh() && live.has_others {
            live.flush()?;
        }
        if !live.is_established {
            self.establish(live)?;
        }
        if unsettled && let Some(step) = measurement.settle() {
            self.ask(live, &step)?;
        }
        let throughput = if let Scenario::Latency(_) = measurement.scenario {
            Some(self.throughput(measurement, live)?)
        } else {
            None
        };
        let Some(step) = measurement.step(&self.settings.timing, throughput) else {
            return live.tear_down();
        };
        let before = live.sample()?;
        let event = self.ask(live, &step)?;
        let after = live.sample()?;
        live.has_others |= !matches!(step, Step::Send { load: Load { new_sessions: 0.0, .. }, .. });
        let counted = before.zip(after).map(|(before, after)| after.since(&before));
        if let Event::Measured(measured) = event {
            self.outcome.tsc_hz = measured.tsc_hz;
            let counted = counted.as_ref().or(measured.inside.as_ref());
            return Ok(Repeat::of(measurement.scenario, &measured, counted));
        }
        let Event::Capacity { opened, seconds, .. } = event else {
            bail!("the generator answered {event:?}");
        };
        let sessions = counted.as_ref().map_or(u64::from(opened), |counted| counted.sessions);
        Ok(Repeat {
            sessions: Some(sessions),
            session_bytes: counted.map(|counted| counted.session_bytes),
            sessions_per_second: (seconds > 0.0).then(|| f64::from(opened) / seconds),
            ..Repeat::default()
        })
    }

    /// What the system took of a load: as it was measured, or in a step for it.
    fn throughput(&mut self, measurement: &Measurement, live: &mut Live) -> Result<f64> {
        let load = Load { latency: false, ..measurement.load() };
        if let Some((_, rate)) = live.throughputs.iter().find(|(of, _)| *of == load) {
            return Ok(*rate);
        }
        let timing = self.settings.timing;
        let step = Step::Send {
            load,
            packets_per_second: None,
            warm_up: timing.warm_up,
            seconds: timing.seconds,
        };
        let event = self.ask(live, &step)?;
        let Event::Measured(measured) = event else {
            bail!("the generator answered {event:?}");
        };
        let received: u64 = measured.received.iter().sum();
        let rate = received as f64 / measured.seconds.max(f64::MIN_POSITIVE);
        live.throughputs.push((load, rate));
        Ok(rate)
    }

    fn establish(&mut self, live: &mut Live) -> Result<()> {
        let event = self.ask(live, &Step::Establish)?;
        let Event::Established { .. } = event else {
            bail!("the generator answered {event:?}");
        };
        live.is_established = true;
        Ok(())
    }

    fn ask(&mut self, live: &mut Live, step: &Step) -> Result<Event> {
        let progress = &self.progress;
        let mut waiting =
            Waiting { stop: self.stop, second: &mut |second| progress.second(second) };
        live.generator.step(step, patience(step, self.group.flows), &mut waiting)
    }

    fn skip(&mut self, subject: Subject, what: String, error: &Error, is_failure: bool) {
        if error.is::<Interrupted>() || error.root_cause().is::<Interrupted>() {
            self.outcome.is_interrupted = true;
            return;
        }
        let (system, reason) = (subject.title(), format!("{error:#}"));
        self.progress.line(&format!("warning: {system}: {what}: skipped: {reason}"));
        self.outcome.skipped.push(Skipped { system, what, reason, is_failure });
    }
}

/// After that a generator will not answer any more.
fn patience(step: &Step, flows: u32) -> Duration {
    // Of the slowest system, ARP included.
    let establish = 30.0 + f64::from(flows) / 20_000.0;
    Duration::from_secs_f64(match step {
        Step::Establish => establish,
        Step::Send { warm_up, seconds, .. } => 15.0 + warm_up + seconds,
        Step::Search { seconds, .. } => 30.0 + 60.0 * (seconds + 1.0),
        Step::NewSessions { seconds, .. } => 30.0 + seconds,
        Step::Capacity { most } => 30.0 + f64::from(*most) / 20_000.0,
    })
}
