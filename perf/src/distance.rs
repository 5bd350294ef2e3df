//! How far two CPUs are from each other: how long a cache line takes that the one has written and the
//! other reads. A hypervisor moves virtual CPUs from core to core, so that it changes while we look.

use gateway::tsc::cycles;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// So short that most of them are over before something else wants the CPU.
const ROUND_TRIPS: u32 = 100;
const BATCHES: u32 = 40;
/// Of CPUs that others want, too.
const PATIENCE: Duration = Duration::from_millis(20);
/// Reading the clock takes longer than the line, and is done but now and then.
const LOOKS: u32 = 1024;

/// Cycles of the time stamp counter that a cache line takes from one CPU to the other, on the best of many
/// short ways. `None` where there is no counter, or the CPUs could not be had in time.
pub fn between(cpus: [usize; 2]) -> Option<f64> {
    let (line, until) = (Line(AtomicU32::new(0)), Instant::now() + PATIENCE);
    thread::scope(|scope| {
        let [first, _] = [0, 1].map(|player: u32| {
            let (line, cpu) = (&line, cpus[player as usize]);
            scope.spawn(move || play(player, cpu, line, until))
        });
        first.join().ok().flatten()
    })
}

/// Alone in its cache line, and in the one beside it that some CPUs fetch too.
#[repr(align(128))]
struct Line(AtomicU32);

impl Line {
    /// Whether it is `turn` before it is too late.
    fn comes_to(&self, turn: u32, until: Instant) -> bool {
        loop {
            if (0..LOOKS).any(|_| self.0.load(Ordering::Acquire) == turn) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
        }
    }
}

/// Has every other turn. Cycles one way, of the best batch.
fn play(player: u32, cpu: usize, line: &Line, until: Instant) -> Option<f64> {
    pin(cpu)?;
    let mut best = None;
    for batch in 0..BATCHES {
        let began = cycles();
        for trip in 0..ROUND_TRIPS {
            let turn = 2 * (batch * ROUND_TRIPS + trip) + player;
            if !line.comes_to(turn, until) {
                return best;
            }
            line.0.store(turn + 1, Ordering::Release);
        }
        let took = cycles().wrapping_sub(began);
        let one_way = took as f64 / f64::from(2 * ROUND_TRIPS);
        best = Some(best.map_or(one_way, |best: f64| best.min(one_way)));
    }
    best.filter(|cycles| *cycles > 0.0)
}

/// This thread.
fn pin(cpu: usize) -> Option<()> {
    let mut only = CpuSet::new();
    only.set(cpu).ok()?;
    sched_setaffinity(Pid::from_raw(0), &only).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cpus_are_as_far_as_a_cache_line_can_be() {
        if cfg!(not(target_arch = "x86_64")) || thread::available_parallelism().unwrap().get() < 2 {
            return;
        }
        // Others may hold both CPUs for long.
        let found = (0..50).find_map(|_| between([0, 1])).unwrap();
        assert!((10.0..20_000.0).contains(&found), "{found}");
    }

    #[test]
    fn cpus_that_cannot_be_had_are_not_waited_for() {
        for cpus in [[0, 0], [0, 100_000], [100_000, 0]] {
            let began = Instant::now();
            assert_eq!(between(cpus), None, "{cpus:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{cpus:?}");
        }
    }
}
