//! Where a worker's cycles go: by stage of the burst, and how long its turns take. Switched on by
//! `workers.cycle_counters`; off, each lap costs a branch per burst.
//!
//! Only turns that found packets count. Time is read without a fence, so that the stages overlap in the
//! core as they do without being watched: a stage's loads that nobody waited for show up in the next.

use super::counters::Counter;
use crate::tsc;

/// What a turn's time is divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Taking bursts from the ports; and what came before, of the turn's beginning.
    Receive,
    /// Headers read and judged, keys hashed; what belongs to no flow dealt with.
    Classify,
    /// The look-up: index buckets, then sessions.
    Locate,
    /// Translation, next hop and guard; where a session is missing, its making.
    Translate,
    /// Packets and notes of other workers, until they join the stages above.
    Handoff,
    /// Giving bursts to the ports, neighbours that are due.
    Transmit,
    /// Timers, sweeps, requests, counters.
    Upkeep,
}

impl Stage {
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Classify,
        Self::Locate,
        Self::Translate,
        Self::Handoff,
        Self::Transmit,
        Self::Upkeep,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Classify => "classify",
            Stage::Locate => "locate",
            Stage::Translate => "translate",
            Stage::Handoff => "handoff",
            Stage::Transmit => "transmit",
            Stage::Upkeep => "upkeep",
        }
    }
}

/// Written by the worker, read by the control side. All cycles are those of the time stamp counter.
#[derive(Debug)]
pub struct CycleCounters {
    /// Turns that found packets, these packets, and their cycles.
    pub turns: Counter,
    pub packets: Counter,
    pub busy: Counter,
    stages: [Counter; Stage::ALL.len()],
    durations: Box<[Counter; BUCKETS]>,
}

impl Default for CycleCounters {
    fn default() -> Self {
        CycleCounters {
            turns: Counter::default(),
            packets: Counter::default(),
            busy: Counter::default(),
            stages: std::array::from_fn(|_| Counter::default()),
            durations: Box::new(std::array::from_fn(|_| Counter::default())),
        }
    }
}

impl CycleCounters {
    pub fn stage(&self, stage: Stage) -> u64 {
        self.stages[stage as usize].get()
    }

    /// Turns by duration: (cycles that none of them exceeds, number), ascending, without empty ones. The
    /// bounds lie an eighth apart at most.
    pub fn durations(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.durations.iter().enumerate();
        counts.map(|(bucket, n)| (upper_bound(bucket), n.get())).filter(|(_, n)| *n > 0)
    }
}

/// Eight to each power of two, up to 2^40 cycles.
const BUCKETS: usize = 8 * (40 - 2);

fn bucket_of(cycles: u64) -> usize {
    if cycles < 8 {
        return cycles as usize;
    }
    let power = cycles.ilog2() as usize;
    let eighth = (cycles >> (power - 3)) as usize & 7;
    ((power - 2) * 8 + eighth).min(BUCKETS - 1)
}

/// The largest number of cycles in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (power, eighth) = (bucket / 8 + 2, bucket as u64 % 8);
    ((9 + eighth) << (power - 3)) - 1
}

/// The stopwatch of one worker.
#[derive(Debug, Default)]
pub(super) struct Laps {
    is_on: bool,
    start: u64,
    last: u64,
    stages: [u64; Stage::ALL.len()],
}

impl Laps {
    pub(super) fn switch(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    #[inline(always)]
    pub(super) fn start(&mut self) {
        if self.is_on {
            self.start = tsc::unfenced_cycles();
            self.last = self.start;
        }
    }

    /// What has passed since the last lap was this stage.
    #[inline(always)]
    pub(super) fn lap(&mut self, stage: Stage) {
        if self.is_on {
            let time = tsc::unfenced_cycles();
            self.stages[stage as usize] += time.wrapping_sub(self.last);
            self.last = time;
        }
    }

    /// The turn is over, and found so many packets.
    #[inline(always)]
    pub(super) fn finish(&mut self, packets: usize, counters: &CycleCounters) {
        if self.is_on {
            self.tell(packets, counters);
        }
    }

    fn tell(&mut self, packets: usize, counters: &CycleCounters) {
        let stages = std::mem::take(&mut self.stages);
        if packets == 0 {
            return;
        }
        let cycles = self.last.wrapping_sub(self.start);
        counters.turns.add(1);
        counters.packets.add(packets as u64);
        counters.busy.add(cycles);
        for (counter, cycles) in counters.stages.iter().zip(stages) {
            counter.add(cycles);
        }
        counters.durations[bucket_of(cycles)].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_whose_bounds_hold_it() {
        let powers = (0..40).flat_map(|power| [(1u64 << power) - 1, 1 << power, (1 << power) + 1]);
        for cycles in (0..5000).chain(powers) {
            let bucket = bucket_of(cycles);
            assert!(cycles <= upper_bound(bucket), "{cycles}");
            assert!(bucket == 0 || cycles > upper_bound(bucket - 1), "{cycles}");
            // An eighth apart.
            assert!(upper_bound(bucket) - cycles <= cycles / 8, "{cycles}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn only_turns_with_packets_count_and_only_when_switched_on() {
        let (counters, mut laps) = (CycleCounters::default(), Laps::default());
        let turn = |laps: &mut Laps, packets| {
            laps.start();
            for stage in Stage::ALL {
                laps.lap(stage);
            }
            laps.finish(packets, &counters);
        };
        turn(&mut laps, 5);
        assert_eq!((counters.turns.get(), counters.durations().count()), (0, 0));
        laps.switch(true);
        turn(&mut laps, 0);
        assert_eq!((counters.turns.get(), counters.busy.get()), (0, 0));
        turn(&mut laps, 5);
        turn(&mut laps, 7);
        assert_eq!((counters.turns.get(), counters.packets.get()), (2, 12));
        let stages: u64 = Stage::ALL.map(|stage| counters.stage(stage)).iter().sum();
        assert_eq!(stages, counters.busy.get());
        assert_eq!(counters.durations().map(|(_, turns)| turns).sum::<u64>(), 2);
    }
}
