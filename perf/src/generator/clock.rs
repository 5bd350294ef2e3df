//! The generator's watch on itself: was it off its CPU?

use gateway::tsc::cycles;

/// Reads the time stamp counter, and counts readings that came late.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) hz: u64,
    last: u64,
    late: u64,
    long: u64,
    /// Readings more than [`LATE_US`] after the one before, and the longest time between two.
    pub(super) preempted: u64,
    pub(super) longest: u64,
    /// All times of more than [`LONG_US`] between two.
    pub(super) off: u64,
    /// Where sending and receiving are work of the kernel, which may well take longer.
    ignores_io: bool,
}

const LATE_US: u64 = 10;
/// No part of the loop takes so long, nor does an interrupt.
const LONG_US: u64 = 100;

impl Clock {
    pub(super) fn new(hz: u64, ignores_io: bool) -> Self {
        let [late, long] = [LATE_US, LONG_US].map(|us| hz / 1_000_000 * us);
        Clock { hz, last: cycles(), late, long, preempted: 0, longest: 0, off: 0, ignores_io }
    }

    /// What follows is counted from 0.
    pub(super) fn begin(&mut self) -> u64 {
        (self.preempted, self.longest, self.off) = (0, 0, 0);
        self.last = cycles();
        self.last
    }

    /// The counter; to be called between any two parts of the loop that take at most some microseconds.
    #[inline(always)]
    pub(super) fn tick(&mut self) -> u64 {
        let now = cycles();
        self.see(now);
        now
    }

    /// The same behind a call of a driver.
    #[inline(always)]
    pub(super) fn tick_after_io(&mut self) -> u64 {
        let now = cycles();
        if self.ignores_io {
            self.last = now;
        } else {
            self.see(now);
        }
        now
    }

    #[inline(always)]
    fn see(&mut self, now: u64) {
        let gap = now.saturating_sub(self.last);
        self.last = now;
        if gap > self.late {
            self.preempted += 1;
            self.longest = self.longest.max(gap);
            if gap > self.long {
                self.off += gap;
            }
        }
    }

    pub(super) fn cycles_of(&self, seconds: f64) -> u64 {
        (seconds.max(0.0) * self.hz as f64) as u64
    }

    pub(super) fn seconds_of(&self, cycles: u64) -> f64 {
        cycles as f64 / self.hz as f64
    }

    pub(super) fn micros_of(&self, cycles: u64) -> f64 {
        self.seconds_of(cycles) * 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_late_readings_count_and_those_of_the_kernels_work_do_not() {
        let mut clock = Clock::new(1_000_000_000, false);
        let start = clock.begin();
        clock.last = start;
        for (after, preempted, longest, off) in [
            (10_000, 0, 0, 0),
            (20_001, 1, 10_001, 0),
            (20_500, 1, 10_001, 0),
            (60_500, 2, 40_000, 0),
            (260_500, 3, 200_000, 200_000),
            (360_501, 4, 200_000, 300_001),
        ] {
            clock.see(start + after);
            let seen = (clock.preempted, clock.longest, clock.off);
            assert_eq!(seen, (preempted, longest, off), "{after}");
        }
        let mut clock = Clock::new(1_000_000, true);
        clock.begin();
        clock.last = 0;
        clock.tick_after_io();
        assert_eq!(clock.preempted, 0);
        clock.last = 0;
        clock.tick();
        assert_eq!(clock.preempted, 1);
    }
}
