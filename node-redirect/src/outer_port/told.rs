//! What one source told: the latest, and the last that was good, which stays in use while the source is silent or tells rubbish. Pure.
//!
//! A gateway's answer changes with its configuration, its NIC and its `state_dir`, thus at its restarts only: while it cannot be asked, what it told
//! is the best guess, and ports of live flows stay as they are. So it is kept for as long as the agent runs, or until the gateway's tunnel address
//! changes, which may mean another machine. A wrong guess costs the gateway some handing over.

use std::net::IpAddr;

use steering::report::SteeringReport;

use super::choice::NoPorts;
use super::source::SourceError;
use crate::abi::Steering;

pub type Read = Result<SteeringReport, SourceError>;

#[derive(Debug, Default)]
pub struct Told {
    latest: Option<Read>,
    /// When that was, in seconds since 1970.
    latest_at: u64,
    good: Option<Good>,
}

#[derive(Debug)]
struct Good {
    report: SteeringReport,
    of: IpAddr,
    at: u64,
}

/// What ports are chosen by, and what is wrong with the source.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// Or why none.
    pub steering: Result<Steering, String>,
    /// While there is one, `steering` is by what was told before.
    pub problem: Option<String>,
}

impl Told {
    /// False when that was the latest already.
    pub fn take(&mut self, read: Read, now: u64) -> bool {
        let is_same = self.latest.as_ref() == Some(&read);
        let good = self.good.as_mut().filter(|good| read.as_ref() == Ok(&good.report));
        if is_same && let Some(good) = good {
            good.at = now;
        }
        (self.latest, self.latest_at) = (Some(read), now);
        !is_same
    }

    /// When the last good answer was read, in seconds since 1970.
    pub fn good_at(&self) -> Option<u64> {
        self.good.as_ref().map(|good| good.at)
    }

    /// Why the latest cannot be read.
    pub fn error(&self) -> Option<&SourceError> {
        self.latest.as_ref()?.as_ref().err()
    }

    /// For a gateway at `address`: `held` is what the maps have of it, `steering_of` what ports a report leads to there.
    pub fn judge(
        &mut self,
        address: IpAddr,
        held: Option<Steering>,
        steering_of: impl Fn(&SteeringReport) -> Result<Steering, NoPorts>,
    ) -> Judged {
        let problem = match &self.latest {
            None => {
                let steering = held.ok_or_else(|| "the gateway has not answered yet".to_owned());
                return Judged { steering, problem: None };
            }
            Some(Err(error)) => error.to_string(),
            Some(Ok(report)) => match steering_of(report) {
                Err(NoPorts::Wrong(reason)) => reason,
                steering => {
                    self.good =
                        Some(Good { report: report.clone(), of: address, at: self.latest_at });
                    let steering = steering.map_err(|no_ports| no_ports.to_string());
                    return Judged { steering, problem: None };
                }
            },
        };
        self.good = self.good.take().filter(|good| good.of == address);
        let steering = match &self.good {
            Some(good) => steering_of(&good.report).map_err(|no_ports| no_ports.to_string()),
            None => held.ok_or_else(|| problem.clone()),
        };
        Judged { steering, problem: Some(problem) }
    }
}

#[cfg(test)]
mod tests {
    use steering::report::{L4PortMap, ShardMap, SteeringMode};

    use super::*;
    use crate::abi::{MAX_WORKERS, PORTS_PER_WORKER, SHARDS};

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));

    /// Reports are told apart by their reason.
    fn report(reason: &str) -> SteeringReport {
        SteeringReport {
            workers: Vec::new(),
            shard: ShardMap { seed: String::new(), hash: String::new(), map: Vec::new() },
            l4_ports: L4PortMap { residues: 1, map: vec![0] },
            ports: Vec::new(),
            mode: SteeringMode::Handoff,
            reason: reason.to_owned(),
            idle: String::new(),
        }
    }

    fn steering(key: u64) -> Steering {
        let hashes = [[0; PORTS_PER_WORKER]; MAX_WORKERS];
        Steering { keys: [key, 0], worker_of: [0; SHARDS], hashes }
    }

    fn steering_of(report: &SteeringReport) -> Result<Steering, NoPorts> {
        match report.reason.parse() {
            Ok(key) => Ok(steering(key)),
            Err(_) if report.reason == "one worker" => Err(NoPorts::Plain(report.reason.clone())),
            Err(_) => Err(NoPorts::Wrong(report.reason.clone())),
        }
    }

    fn silent() -> Read {
        Err(SourceError::Unreachable("silent".to_owned()))
    }

    #[test]
    fn the_last_good_answer_stays_until_the_next_or_until_the_address_changes() {
        type Step = (Read, IpAddr, Result<u64, &'static str>, Option<&'static str>, Option<u64>);
        let ok = |reason: &str| Ok(report(reason));
        // Each a second later: what is read, at which address · key of the steering or why none, what is wrong, when the last good one was read.
        let steps: [Step; 13] = [
            (silent(), ADDRESS, Err("silent"), Some("silent"), None),
            (ok("rubbish"), ADDRESS, Err("rubbish"), Some("rubbish"), None),
            (ok("1"), ADDRESS, Ok(1), None, Some(3)),
            (silent(), ADDRESS, Ok(1), Some("silent"), Some(3)),
            (ok("rubbish"), ADDRESS, Ok(1), Some("rubbish"), Some(3)),
            (ok("1"), ADDRESS, Ok(1), None, Some(6)),
            (ok("1"), ADDRESS, Ok(1), None, Some(7)),
            (ok("2"), ADDRESS, Ok(2), None, Some(8)),
            (silent(), OTHER, Err("silent"), Some("silent"), None),
            (silent(), ADDRESS, Err("silent"), Some("silent"), None),
            (ok("one worker"), ADDRESS, Err("one worker"), None, Some(11)),
            (silent(), ADDRESS, Err("one worker"), Some("silent"), Some(11)),
            (ok("3"), OTHER, Ok(3), None, Some(13)),
        ];
        let mut told = Told::default();
        for (now, (read, address, key, problem, good_at)) in (1..).zip(steps) {
            told.take(read, now);
            let wanted = Judged {
                steering: key.map(steering).map_err(str::to_owned),
                problem: problem.map(str::to_owned),
            };
            assert_eq!(told.judge(address, None, steering_of), wanted, "second {now}");
            assert_eq!(told.good_at(), good_at, "second {now}");
        }
    }

    #[test]
    fn what_an_agent_before_left_in_the_maps_stays_until_the_first_good_answer() {
        let mut told = Told::default();
        let held = Some(steering(9));
        let by_held = |problem: Option<&str>| Judged {
            steering: Ok(steering(9)),
            problem: problem.map(str::to_owned),
        };
        assert_eq!(told.judge(ADDRESS, held, steering_of), by_held(None));
        told.take(silent(), 1);
        assert_eq!(told.judge(ADDRESS, held, steering_of), by_held(Some("silent")));
        told.take(Ok(report("one worker")), 2);
        assert_eq!(
            told.judge(ADDRESS, held, steering_of),
            Judged { steering: Err("one worker".to_owned()), problem: None }
        );
    }

    #[test]
    fn only_what_differs_is_to_be_judged_again_and_each_good_answer_is_dated() {
        let mut told = Told::default();
        assert!(told.take(Ok(report("1")), 1));
        told.judge(ADDRESS, None, steering_of).steering.unwrap();
        assert!(!told.take(Ok(report("1")), 5));
        assert_eq!(told.good_at(), Some(5));
        assert!(told.take(silent(), 6));
        assert!(!told.take(silent(), 7));
        assert_eq!((told.good_at(), told.error().is_some()), (Some(5), true));
    }
}
