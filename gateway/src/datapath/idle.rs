//! What a worker does when no packet comes: it spins, then pauses, then waits, longer step by step.
//!
//! The longest wait is a trade. A wake-up costs 10 to 30 µs of the core (most in a virtual machine), so
//! 1,100 a second are 1 to 3 %. What comes meanwhile lies in the port's receive queue: 900 µs are 90
//! packets at 100 kpps, and 512, which even the smallest queue holds (that of af_packet; a NIC's has 1024
//! descriptors), come at 570 kpps.
//! Any packet ends the waiting, so only the first ones after a silence wait. A worker that waits still
//! turns its loop at least each millisecond: policies, requests and handed-over packets wait no longer.

use std::{fmt, hint, time::Duration};

/// How much latency may be given for an idle core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleMode {
    /// Never sleep.
    Spin,
    /// Spin for a while, then pause, then wait.
    Adaptive,
}

/// With what a thread waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitBy {
    /// The CPU halts until a receive queue is written to (UMWAIT). The kernel counts the core as busy.
    Monitor,
    /// The CPU halts for a time (TPAUSE). The kernel counts the core as busy.
    Pause,
    /// The kernel runs something else, or nothing.
    Sleep,
}

impl WaitBy {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            WaitBy::Monitor => "monitor",
            WaitBy::Pause => "pause",
            WaitBy::Sleep => "sleep",
        }
    }
}

impl fmt::Display for WaitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Who can wait for packets.
pub trait Wait {
    /// Returns when packets may have come, and at the latest `at_most` later, as far as the kernel keeps
    /// time.
    fn wait(&mut self, at_most: Duration);
}

/// Empty turns before the first pause: some tens of microseconds, longer than the gaps of a busy link.
const SPINS: u32 = 256;
/// Pauses before the first wait; each is about two microseconds.
const PAUSES: u32 = 64;
const PAUSE: u32 = 32;
const FIRST_WAIT: Duration = Duration::from_micros(10);
/// Each length is waited so often before it is doubled: a few nodes' health probes, which come every few
/// milliseconds, should not keep a core busy.
const WAITS_PER_STEP: u32 = 2;
/// No wait is longer.
pub const LONGEST_WAIT: Duration = Duration::from_micros(900);

/// What to do after so many empty turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Spin,
    Pause,
    Wait(Duration),
}

impl Rest {
    fn after(empty_turns: u32) -> Self {
        match empty_turns {
            0..=SPINS => Rest::Spin,
            n if n <= SPINS + PAUSES => Rest::Pause,
            n => {
                // 2^16 times the first is far beyond the longest.
                let step = ((n - SPINS - PAUSES - 1) / WAITS_PER_STEP).min(16);
                Rest::Wait((FIRST_WAIT * (1 << step)).min(LONGEST_WAIT))
            }
        }
    }
}

/// One worker's memory of how long it has been idle.
#[derive(Debug)]
pub struct Idle {
    mode: IdleMode,
    empty_turns: u32,
}

impl Idle {
    pub fn new(mode: IdleMode) -> Self {
        Idle { mode, empty_turns: 0 }
    }

    /// Called after each turn with what it received, from wherever.
    #[inline]
    pub fn after_turn(&mut self, received: usize, wait: &mut impl Wait) {
        if received > 0 {
            self.empty_turns = 0;
        } else if self.mode == IdleMode::Adaptive {
            self.rest(wait);
        }
    }

    fn rest(&mut self, wait: &mut impl Wait) {
        self.empty_turns = self.empty_turns.saturating_add(1);
        match Rest::after(self.empty_turns) {
            Rest::Spin => {}
            Rest::Pause => (0..PAUSE).for_each(|_| hint::spin_loop()),
            Rest::Wait(at_most) => wait.wait(at_most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock that only waiting moves.
    #[derive(Default)]
    struct Clock {
        now: Duration,
        longest: Duration,
        waits: u32,
    }

    impl Wait for Clock {
        fn wait(&mut self, at_most: Duration) {
            self.now += at_most;
            self.longest = self.longest.max(at_most);
            self.waits += 1;
        }
    }

    #[test]
    fn the_way_from_spinning_to_the_longest_wait_has_steps() {
        let micros = |n| Rest::Wait(Duration::from_micros(n));
        for (empty_turns, rest) in [
            (0, Rest::Spin),
            (1, Rest::Spin),
            (256, Rest::Spin),
            (257, Rest::Pause),
            (320, Rest::Pause),
            (321, micros(10)),
            (322, micros(10)),
            (323, micros(20)),
            (325, micros(40)),
            (327, micros(80)),
            (329, micros(160)),
            (331, micros(320)),
            (333, micros(640)),
            (335, micros(900)),
            (u32::MAX, micros(900)),
        ] {
            assert_eq!(Rest::after(empty_turns), rest, "{empty_turns}");
        }
    }

    #[test]
    fn who_spins_never_waits_and_any_packet_ends_a_wait() {
        let mut clock = Clock::default();
        let mut idle = Idle::new(IdleMode::Spin);
        (0..10_000).for_each(|_| idle.after_turn(0, &mut clock));
        assert_eq!(clock.waits, 0);
        let mut idle = Idle::new(IdleMode::Adaptive);
        (0..10_000).for_each(|_| idle.after_turn(0, &mut clock));
        assert_eq!(clock.longest, LONGEST_WAIT);
        let waits = clock.waits;
        idle.after_turn(1, &mut clock);
        (0..SPINS + PAUSES).for_each(|_| idle.after_turn(0, &mut clock));
        assert_eq!(clock.waits, waits, "spinning again after one packet");
    }

    proptest! {
        /// A worker that takes 32 packets a turn, each turn lasting 5 µs, and wakes up to 300 µs late.
        #[test]
        fn a_queue_of_512_holds_what_comes_while_a_worker_waits(
            silence in 0..20_000u64, late in 0..300u64, kpps in 1..400u64,
        ) {
            let mut clock = Clock::default();
            let mut idle = Idle::new(IdleMode::Adaptive);
            let start = Duration::from_micros(silence);
            let (mut taken, mut fullest) = (0, 0);
            while clock.now < start + Duration::from_millis(20) {
                let since = clock.now.saturating_sub(start).as_micros() as u64;
                let waiting = since * kpps / 1000 - taken;
                fullest = fullest.max(waiting);
                let received = waiting.min(32);
                taken += received;
                let before = clock.now;
                idle.after_turn(received as usize, &mut clock);
                if clock.now > before {
                    clock.now += Duration::from_micros(late);
                }
                clock.now += Duration::from_micros(5);
            }
            prop_assert!(taken > 0);
            prop_assert!(fullest <= 512, "{fullest}");
        }
    }
}
