//! Where a worker's cycles go: by stage of the burst, and how long its turns take. Switched on by
//! `workers.cycle_counters`; off, each lap costs a branch per burst.
//!
//! Only turns that found packets count. Each turn is timed as a whole; its stages are in one turn of
//! seven, and stand for those of the others, since reading the counter ten times costs a packet
//! of a full burst as much as its look-up. Time is read without a fence, so that the stages overlap in the
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

/// Odd, so that it meets each turn of any rhythm of two or four.
const STAGES_EVERY: u8 = 7;

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
    /// Estimated; the sum of all stages comes to [`Self::busy`] but for a few per cent.
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
    /// Whether this turn's stages are timed, and how many turns' are not before the next.
    in_stages: bool,
    skip: u8,
    start: u64,
    last: u64,
    stages: [u64; Stage::ALL.len()],
}

impl Laps {
    pub(super) fn switch(&mut self, is_on: bool) {
        self.is_on = is_on;
        self.in_stages = false;
    }

    #[inline(always)]
    pub(super) fn start(&mut self) {
        if self.is_on {
            self.start = tsc::unfenced_cycles();
            self.last = self.start;
            self.in_stages = self.skip == 0;
            self.skip = self.skip.checked_sub(1).unwrap_or(STAGES_EVERY - 1);
        }
    }

    /// What has passed since the last lap was this stage.
    #[inline(always)]
    pub(super) fn lap(&mut self, stage: Stage) {
        if self.in_stages {
            let time = tsc::unfenced_cycles();
            self.stages[stage as usize] += time.wrapping_sub(self.last);
            self.last = time;
        }
    }

    /// The turn is over with this stage, and found so many packets.
    #[inline(always)]
    pub(super) fn finish(&mut self, stage: Stage, packets: usize, counters: &CycleCounters) {
        if self.is_on {
            self.tell(stage, packets, counters);
        }
    }

    fn tell(&mut self, stage: Stage, packets: usize, counters: &CycleCounters) {
        let end = tsc::unfenced_cycles();
        let mut stages = std::mem::take(&mut self.stages);
        if packets == 0 {
            return;
        }
        let cycles = end.wrapping_sub(self.start);
        counters.turns.add(1);
        counters.packets.add(packets as u64);
        counters.busy.add(cycles);
        counters.durations[bucket_of(cycles)].add(1);
        if self.in_stages {
            stages[stage as usize] += end.wrapping_sub(self.last);
            for (counter, cycles) in counters.stages.iter().zip(stages) {
                counter.add(cycles * u64::from(STAGES_EVERY));
            }
        }
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

    /// A turn that goes through all stages and finds so many packets.
    fn turn(laps: &mut Laps, packets: usize, counters: &CycleCounters) {
        laps.start();
        for stage in &Stage::ALL[..Stage::ALL.len() - 1] {
            laps.lap(*stage);
        }
        laps.finish(Stage::Upkeep, packets, counters);
    }

    #[test]
    fn only_turns_with_packets_count_and_only_when_switched_on() {
        let (counters, mut laps) = (CycleCounters::default(), Laps::default());
        turn(&mut laps, 5, &counters);
        assert_eq!((counters.turns.get(), counters.durations().count()), (0, 0));
        laps.switch(true);
        turn(&mut laps, 0, &counters);
        assert_eq!((counters.turns.get(), counters.busy.get()), (0, 0));
        turn(&mut laps, 5, &counters);
        turn(&mut laps, 7, &counters);
        assert_eq!((counters.turns.get(), counters.packets.get()), (2, 12));
        assert_eq!(counters.durations().map(|(_, turns)| turns).sum::<u64>(), 2);
    }

    #[test]
    fn the_stages_of_one_turn_stand_for_those_of_the_next() {
        let (counters, mut laps) = (CycleCounters::default(), Laps::default());
        let stages = || Stage::ALL.map(|stage| counters.stage(stage)).iter().sum::<u64>();
        laps.switch(true);
        turn(&mut laps, 1, &counters);
        let first = stages();
        assert_eq!(first, counters.busy.get() * u64::from(STAGES_EVERY));
        for _ in 1..STAGES_EVERY {
            turn(&mut laps, 1, &counters);
            assert_eq!(stages(), first);
        }
        // An empty turn takes its place in the row, and leaves nothing behind.
        turn(&mut laps, 0, &counters);
        assert_eq!(stages(), first);
        for _ in 1..STAGES_EVERY {
            turn(&mut laps, 1, &counters);
        }
        let before = counters.busy.get();
        turn(&mut laps, 1, &counters);
        assert_eq!(stages() - first, (counters.busy.get() - before) * u64::from(STAGES_EVERY));
    }
}
