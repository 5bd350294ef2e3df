//! Where workers meet before and after their turns, so that these overlap.

use std::{
    hint,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// They arrive within microseconds, unless one of them is off its CPU: then others may have ours.
const SPINS: u32 = 20_000;

#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Meeting {
    workers: usize,
    arrived: AtomicUsize,
    is_last: AtomicBool,
}

impl Meeting {
    pub(super) fn new(workers: usize) -> Self {
        Meeting { workers, arrived: AtomicUsize::new(0), is_last: AtomicBool::new(false) }
    }

    /// Waits for all others.
    pub(super) fn wait(&self) {
        let arrived = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
        // All have come when the count is a multiple of their number.
        let complete = arrived.next_multiple_of(self.workers);
        let mut spins = 0;
        while self.arrived.load(Ordering::SeqCst) < complete {
            match spins {
                SPINS => thread::yield_now(),
                _ => spins += 1,
            }
            hint::spin_loop();
        }
    }

    /// What one of them says before they wait, all of them know until they wait again.
    pub(super) fn announce(&self, is_last: bool) {
        self.is_last.store(is_last, Ordering::SeqCst);
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_before_all_have_come_and_all_end_together() {
        const WORKERS: usize = 3;
        const TIMES: usize = 50;
        let (meeting, begun) = (Meeting::new(WORKERS), AtomicUsize::new(0));
        thread::scope(|scope| {
            for me in 0..WORKERS {
                let (meeting, begun) = (&meeting, &begun);
                scope.spawn(move || {
                    for times in 1.. {
                        begun.fetch_add(1, Ordering::SeqCst);
                        if me == 0 {
                            meeting.announce(times == TIMES);
                        }
                        meeting.wait();
                        let is_last = meeting.is_last();
                        assert_eq!(begun.load(Ordering::SeqCst), times * WORKERS);
                        meeting.wait();
                        if is_last {
                            return;
                        }
                    }
                });
            }
        });
        assert_eq!(begun.into_inner(), WORKERS * TIMES);
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        let meeting = Meeting::new(1);
        (0..3).for_each(|_| meeting.wait());
    }
}
