//! What is tried once at start: do the maps, the NICs and the workers fit together? A gateway that fails
//! is not ready, and says which check failed.
//!
//! A check is a name and a function; whoever builds the gateway lists them, and further ones are added
//! to that list. They run in order on a thread of their own, so they may wait.

use super::WorkerHandle;
use crate::nat::l4_port::L4PortShare;
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info};

/// Each worker has so long to turn its loop: it does so within microseconds, or a millisecond if it sleeps.
const TURN: Duration = Duration::from_secs(1);
/// What sessions get: RFC 6056's dynamic ports, as wide as the gateway takes them.
const FIRST: u16 = 1024;
const COUNT: u32 = 64_512;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Something to be tried: `Ok` with what was found, `Err` with what is wrong.
pub struct Check {
    pub name: String,
    pub run: Box<dyn FnOnce() -> Result<String, String> + Send>,
}

impl Check {
    pub fn new(
        name: impl Into<String>,
        run: impl FnOnce() -> Result<String, String> + Send + 'static,
    ) -> Self {
        Check { name: name.into(), run: Box::new(run) }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "SelfTestState")]
pub enum State {
    Running,
    Passed,
    Failed,
}

/// A check that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Checked {
    pub name: String,
    /// `passed` or `failed`.
    pub result: State,
    pub detail: String,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SelfTest")]
pub struct Report {
    pub state: State,
    pub checks: Vec<Checked>,
}

/// The self-test of this start.
#[derive(Debug)]
pub struct SelfTest(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    report: Mutex<Report>,
    ended: Condvar,
}

impl SelfTest {
    /// Begins to run the checks.
    pub fn start(checks: Vec<Check>) -> io::Result<Self> {
        let report = Report { state: State::Running, checks: Vec::new() };
        let progress = Arc::new(Progress { report: Mutex::new(report), ended: Condvar::default() });
        let told = Arc::clone(&progress);
        thread::Builder::new().name("self-test".to_owned()).spawn(move || told.run(checks))?;
        Ok(SelfTest(progress))
    }

    pub fn report(&self) -> Report {
        self.0.lock().clone()
    }

    /// Waits for its end, and no longer than this.
    pub fn wait(&self, at_most: Duration) -> Report {
        let running = |report: &mut Report| report.state == State::Running;
        let waited = self.0.ended.wait_timeout_while(self.0.lock(), at_most, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, checks: Vec<Check>) {
        for Check { name, run } in checks {
            let (result, detail) = match run() {
                Ok(detail) => (State::Passed, detail),
                Err(detail) => {
                    error!(check = name, "self-test failed: {detail}");
                    (State::Failed, detail)
                }
            };
            self.lock().checks.push(Checked { name, result, detail });
        }
        let mut report = self.lock();
        let failed = report.checks.iter().any(|check| check.result == State::Failed);
        report.state = if failed { State::Failed } else { State::Passed };
        if !failed {
            info!(checks = report.checks.len(), "self-test passed");
        }
        drop(report);
        self.ended.notify_all();
    }
}

/// The shard map names every worker, and nobody else.
pub fn shards(map: &[u16], workers: usize) -> Result<String, String> {
    every_one("shard", map, workers)?;
    Ok(format!("{} shards over {workers} workers", map.len()))
}

/// Every l4_port that sessions get is in the share of exactly one worker, that to which `owner` takes what
/// comes back to it.
pub fn l4_ports(shares: &[L4PortShare], owner: impl Fn(u16) -> usize) -> Result<String, String> {
    for l4_port in FIRST..=u16::MAX {
        let owner = owner(l4_port);
        let mut givers = (0..shares.len()).filter(|worker| shares[*worker].contains(l4_port));
        match (givers.next(), givers.next()) {
            (Some(giver), None) if giver == owner => {}
            (Some(giver), None) => {
                return Err(format!(
                    "worker {giver} gives l4_port {l4_port}, whose returns go to worker {owner}"
                ));
            }
            (Some(one), Some(other)) => {
                return Err(format!("workers {one} and {other} both give l4_port {l4_port}"));
            }
            (None, _) => return Err(format!("no worker gives l4_port {l4_port}")),
        }
    }
    let shares: Vec<u32> = shares.iter().map(L4PortShare::len).collect();
    if shares.iter().sum::<u32>() != COUNT || shares.contains(&0) {
        return Err(format!("the workers' shares are {shares:?}, of {COUNT} l4_ports"));
    }
    Ok(format!("{COUNT} l4_ports over {} workers: {shares:?}", shares.len()))
}

/// A NIC's table names every queue of the workers, and no other. Empty: it has none.
pub fn reta(reta: &[u16], queues: usize) -> Result<String, String> {
    if reta.is_empty() {
        return Ok("the driver shows no table".to_owned());
    }
    every_one("entry", reta, queues)?;
    Ok(format!("{} entries over {queues} queues", reta.len()))
}

/// `map` has all numbers below `count`, and only these.
fn every_one(what: &str, map: &[u16], count: usize) -> Result<(), String> {
    if let Some(place) = map.iter().position(|number| usize::from(*number) >= count) {
        return Err(format!("{what} {place} names {}, of {count}", map[place]));
    }
    match (0..count).find(|number| !map.contains(&(*number as u16))) {
        Some(missing) => Err(format!("no {what} names {missing}, of {count}")),
        None => Ok(()),
    }
}

/// Every worker turns its loop, which polls its receive queue of each port and flushes its transmit
/// queues.
pub fn turns(workers: &[WorkerHandle]) -> Result<String, String> {
    let deadline = Instant::now() + TURN;
    for worker in workers {
        let polls = || worker.counters.polls.get();
        // A turn that had begun before may not have polled all queues; the second one has.
        let wanted = polls() + 2;
        while polls() < wanted {
            if Instant::now() > deadline {
                let WorkerHandle { id, core, .. } = worker;
                return Err(format!("worker {id} on core {core} does not turn its loop"));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(format!("{} workers poll their queues", workers.len()))
}

/// Every worker has sent a greeting to every other, through the rings that they hand packets over by.
pub fn handoff(workers: &[WorkerHandle]) -> Result<String, String> {
    let deadline = Instant::now() + TURN;
    let others = workers.len() as u64 - 1;
    for worker in workers {
        while worker.counters.greeted_by.get() < others {
            if Instant::now() > deadline {
                let (id, heard) = (worker.id, worker.counters.greeted_by.get());
                return Err(format!("worker {id} hears {heard} of {others} others"));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(format!("{} workers hear one another", workers.len()))
}

impl Report {
    /// What keeps the gateway from being ready.
    pub fn complaints(&self) -> Vec<String> {
        if self.state == State::Running {
            return vec!["the self-test is running".to_owned()];
        }
        let failed = self.checks.iter().filter(|check| check.result == State::Failed);
        failed.map(|Checked { name, detail, .. }| format!("self-test {name}: {detail}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::steering::{ShardSeed, Steering};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn runs_all_checks_and_one_failure_fails_all() {
        let check = |name: &str, result: Result<&str, &str>| {
            let result = result.map(str::to_owned).map_err(str::to_owned);
            Check::new(name, || result)
        };
        let good = SelfTest::start(vec![check("a", Ok("fine")), check("b", Ok("fine too"))]);
        let report = good.unwrap().wait(PATIENCE);
        assert_eq!((report.state, report.checks.len()), (State::Passed, 2));
        assert!(report.complaints().is_empty());
        let bad = SelfTest::start(vec![check("a", Err("broken")), check("b", Ok("fine"))]).unwrap();
        let report = bad.wait(PATIENCE);
        assert_eq!(report.state, State::Failed);
        assert_eq!(report.complaints(), ["self-test a: broken"]);
        assert_eq!(report.checks[1].result, State::Passed, "the others are tried all the same");
    }

    #[test]
    fn a_check_that_takes_its_time_is_not_waited_for() {
        let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
        let slow = Check::new("slow", move || {
            wait.recv().map_err(|e| e.to_string()).map(|()| String::new())
        });
        let test = SelfTest::start(vec![slow]).unwrap();
        let report = test.wait(Duration::ZERO);
        assert_eq!(report.complaints(), ["the self-test is running"]);
        go_on.send(()).unwrap();
        assert_eq!(test.wait(PATIENCE).state, State::Passed);
    }

    #[test]
    fn the_steering_of_any_number_of_workers_is_sound() {
        for workers in 1..=64 {
            let steering = Steering::new(ShardSeed([7; 16]), workers).unwrap();
            let found = shards(steering.shard_map(), workers).unwrap();
            assert_eq!(found, format!("256 shards over {workers} workers"));
            let shares: Vec<_> = (0..workers).map(|worker| steering.share(worker)).collect();
            let found = l4_ports(&shares, |l4_port| steering.of_residue(l4_port)).unwrap();
            assert!(found.starts_with("64512 l4_ports over"), "{found}");
        }
    }

    #[test]
    fn l4_ports_of_nobody_of_two_or_of_the_wrong_worker_are_found() {
        let share = |residues: &[u16]| L4PortShare::new(4, residues).unwrap();
        let by_parity = |l4_port: u16| usize::from(l4_port % 2);
        for (shares, says) in [
            (vec![share(&[0, 2]), share(&[1, 3])], None),
            (vec![share(&[0, 2]), share(&[1])], Some("no worker gives l4_port 1027")),
            (
                vec![share(&[0, 2]), share(&[1, 2, 3])],
                Some("workers 0 and 1 both give l4_port 1026"),
            ),
            (
                vec![share(&[0, 3]), share(&[1, 2])],
                Some("worker 1 gives l4_port 1026, whose returns go to worker 0"),
            ),
            (
                vec![share(&[0, 2]), share(&[1, 3]), share(&[])],
                Some("the workers' shares are [32256, 32256, 0], of 64512 l4_ports"),
            ),
        ] {
            assert_eq!(l4_ports(&shares, by_parity).err().as_deref(), says);
        }
    }

    #[test]
    fn a_table_names_all_queues_and_no_others() {
        assert_eq!(reta(&[0, 1, 2, 0], 3).unwrap(), "4 entries over 3 queues");
        assert!(reta(&[], 3).is_ok());
        assert_eq!(reta(&[0, 1, 3], 3).unwrap_err(), "entry 2 names 3, of 3");
        assert_eq!(reta(&[0, 2, 0], 3).unwrap_err(), "no entry names 1, of 3");
    }
}
