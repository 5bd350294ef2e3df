//! How long each turn of the loop took, and what came between that was not the loop.

use gateway::tsc::cycles;
use hdrhistogram::Histogram;
use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeVal,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A turn that took longer is looked at more closely.
const SLOW: Duration = Duration::from_micros(50);
/// What no turn may take.
const LIMIT: Duration = Duration::from_micros(200);
/// Clock readings at a time.
const WATCHED: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(super) struct Turns {
    cycles_per_second: f64,
    /// In nanoseconds: those in which the thread kept its CPU, as far as the kernel knows.
    kept: Histogram<u64>,
    /// The slow ones in which the kernel ran somebody else.
    preempted: Histogram<u64>,
    /// The other slow ones that the thread spent for the most part without its CPU: the hypervisor had it.
    stolen: Histogram<u64>,
    /// Of the slow ones that are in `kept`: in how many the thread had to wait for a page.
    faulted: u64,
}

impl Turns {
    pub(super) fn new() -> Self {
        // a tenth of a percent, up to a minute: no allocation later
        let [kept, preempted, stolen] =
            [(); 3].map(|()| Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap());
        Turns { cycles_per_second: cycles_per_second(), kept, preempted, stolen, faulted: 0 }
    }

    /// Counts a turn by the cycles that it says it took.
    pub(super) fn time(&mut self, turn: impl FnOnce() -> u64) {
        let before = usage();
        let nanos = self.nanos(turn());
        self.add(nanos, &before);
    }

    /// For a while, counts how long it takes from one reading of the clock to the next, in place of turns: whatever shows up there, no loop of
    /// ours has caused. Each gap that is long is counted as one, the others as one together.
    pub(super) fn watch_clock(&mut self) {
        let before = usage();
        let began = cycles();
        let (mut last, mut longest) = (began, 0);
        while self.nanos(last - began) < WATCHED.as_nanos() as u64 {
            let now = cycles();
            longest = longest.max(now - last);
            last = now;
        }
        self.add(self.nanos(longest), &before);
    }

    fn add(&mut self, nanos: u64, before: &Usage) {
        let is_slow = nanos > SLOW.as_nanos() as u64;
        let histogram = match is_slow.then(usage) {
            Some(after) if switches(&after) > switches(before) => &mut self.preempted,
            // the kernel takes out of a thread's time what the hypervisor says that it took
            Some(after) if spent(&after) - spent(before) < nanos as f64 / 2e9 => &mut self.stolen,
            Some(after) => {
                let faults = after.minor_page_faults() - before.minor_page_faults();
                self.faulted += u64::from(faults > 0);
                &mut self.kept
            }
            None => &mut self.kept,
        };
        histogram.record(nanos.max(1)).unwrap();
    }

    fn nanos(&self, cycles: u64) -> u64 {
        (cycles as f64 * 1e9 / self.cycles_per_second) as u64
    }

    fn above(&self, limit: Duration) -> u64 {
        let limit = limit.as_nanos() as u64;
        self.kept
            .iter_recorded()
            .filter(|v| v.value_iterated_to() > limit)
            .map(|v| v.count_at_value())
            .sum()
    }

    pub(super) fn text(&self) -> String {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        format!(
            "{} turns, median {:.1} µs, p99.9 {:.1} µs, max {:.1} µs; {} above 50 µs ({} with page faults), {} above 200 µs; \
             left out: {} preempted (max {:.0} µs), {} by the hypervisor (max {:.0} µs)",
            self.kept.len(),
            micros(self.kept.value_at_quantile(0.5)),
            micros(self.kept.value_at_quantile(0.999)),
            micros(self.kept.max()),
            self.above(SLOW),
            self.faulted,
            self.above(LIMIT),
            self.preempted.len(),
            micros(self.preempted.max()),
            self.stolen.len(),
            micros(self.stolen.max()),
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "turns": self.kept.len(),
            "median_ns": self.kept.value_at_quantile(0.5),
            "p99_9_ns": self.kept.value_at_quantile(0.999),
            "max_ns": self.kept.max(),
            "above_200_us": self.above(LIMIT),
            "preempted": self.preempted.len(),
            "stolen": self.stolen.len(),
        })
    }
}

/// Of this thread, so far.
pub(super) fn usage() -> Usage {
    getrusage(UsageWho::RUSAGE_THREAD).unwrap()
}

fn switches(usage: &Usage) -> i64 {
    usage.voluntary_context_switches() + usage.involuntary_context_switches()
}

/// Seconds of CPU time.
pub(super) fn spent(usage: &Usage) -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn cycles_per_second() -> f64 {
    let (began, start) = (Instant::now(), cycles());
    while began.elapsed() < Duration::from_millis(50) {}
    (cycles() - start) as f64 / began.elapsed().as_secs_f64()
}
