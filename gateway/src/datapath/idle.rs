//! What a worker does when no packet comes.

use std::{hint, thread, time::Duration};

/// How much latency may be given for an idle core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleMode {
    /// Never sleep.
    Spin,
    /// Spin for a while, then pause, then sleep shortly.
    Adaptive,
}

/// Empty turns before the first pause: some tens of microseconds, longer than the gaps of a busy link.
const SPINS: u32 = 200;
/// Empty turns before the first sleep.
const PAUSES: u32 = 2_000;
const PAUSE: u32 = 32;
/// A port's queue holds what arrives meanwhile: 1024 packets are 10 Mpps for 100 µs.
const SLEEP: Duration = Duration::from_micros(50);

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

    /// Called after each turn with what it received.
    #[inline]
    pub fn after_turn(&mut self, received: usize) {
        if received > 0 {
            self.empty_turns = 0;
        } else if self.mode == IdleMode::Adaptive {
            self.rest();
        }
    }

    fn rest(&mut self) {
        self.empty_turns = self.empty_turns.saturating_add(1);
        if self.empty_turns > PAUSES {
            thread::sleep(SLEEP);
        } else if self.empty_turns > SPINS {
            (0..PAUSE).for_each(|_| hint::spin_loop());
        }
    }
}
