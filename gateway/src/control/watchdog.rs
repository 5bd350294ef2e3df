//! Looks after the workers: one whose loop does not turn is told within a second, once, and again when
//! it goes on. A packet cannot make a worker stop, so this is a defect, or somebody took its core away.

use super::WorkerHandle;
use crate::datapath::WorkerCounters;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tracing::{error, info};

const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row that find a worker where it was. Counted in looks and not in time, so that a machine
/// that stood still as a whole, watchdog and all, is no reason for an alarm.
const LOOKS: u32 = 8;

/// A thread that looks, until the value is dropped.
#[derive(Debug)]
pub struct Watchdog {
    stalled: Arc<[AtomicBool]>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watchdog {
    pub fn start(workers: &[WorkerHandle]) -> io::Result<Self> {
        let stalled: Arc<[AtomicBool]> = workers.iter().map(|_| AtomicBool::new(false)).collect();
        let mut watched: Vec<Watched> = workers.iter().map(Watched::new).collect();
        let (stop, stopped) = bounded::<()>(0);
        let told = Arc::clone(&stalled);
        let look = move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                for (worker, stalled) in watched.iter_mut().zip(&*told) {
                    stalled.store(worker.look(), Ordering::Release);
                }
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(look)?;
        Ok(Watchdog { stalled, thread: Some((stop, thread)) })
    }

    /// Whether the worker in that place stood still when it was last looked at.
    pub fn is_stalled(&self, worker: usize) -> bool {
        self.stalled.get(worker).is_some_and(|stalled| stalled.load(Ordering::Acquire))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// One worker and what was seen of it.
struct Watched {
    id: usize,
    core: usize,
    counters: Arc<WorkerCounters>,
    pulse: Pulse,
}

impl Watched {
    fn new(worker: &WorkerHandle) -> Self {
        let (id, core) = (worker.id, worker.core);
        Watched { id, core, counters: Arc::clone(&worker.counters), pulse: Pulse::default() }
    }

    /// Whether it stands still; a change is logged.
    fn look(&mut self) -> bool {
        let (worker, core) = (self.id, self.core);
        match self.pulse.look(self.counters.polls.get()) {
            Some(true) => error!(
                worker,
                core, "worker stands still: no packet of its flows is forwarded. Who has its core?"
            ),
            Some(false) => info!(worker, core, "worker turns again"),
            None => {}
        }
        self.pulse.is_stalled()
    }
}

/// Whether a count goes up.
#[derive(Debug, Default)]
struct Pulse {
    count: u64,
    looks: u32,
}

impl Pulse {
    /// `Some` when it began (`true`) or ceased (`false`) to stand still.
    fn look(&mut self, count: u64) -> Option<bool> {
        let was_stalled = self.is_stalled();
        if self.count == count {
            self.looks = self.looks.saturating_add(1);
        } else {
            *self = Pulse { count, looks: 0 };
        }
        (self.is_stalled() != was_stalled).then_some(self.is_stalled())
    }

    fn is_stalled(&self) -> bool {
        self.looks >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_once_and_its_end_once() {
        let mut pulse = Pulse::default();
        for (count, times, told) in [
            (0, 7, None),
            // The first of them saw it move.
            (1, 8, None),
            (1, 1, Some(true)),
            (1, 100, None),
            (2, 1, Some(false)),
            (2, 7, None),
            (2, 9, Some(true)),
            (3, 5, Some(false)),
        ] {
            let all: Vec<bool> = (0..times).filter_map(|_| pulse.look(count)).collect();
            assert_eq!(all, Vec::from_iter(told), "{count}, {times} times");
        }
    }

    #[test]
    fn a_stall_is_noticed_within_a_second() {
        assert!(LOOK * (LOOKS + 1) < Duration::from_secs(1));
    }
}
