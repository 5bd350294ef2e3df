//! When to look at a session again: a timer wheel of one-second slots.
//!
//! Each armed session hangs in the doubly linked list of one slot. Setting, moving and removing a
//! timer cost O(1). A hit on a session does not touch the wheel: the timer fires at the deadline that
//! was known when it was set, finds that the session was heard since, and is set again.

use super::table::Aside;

/// More than the longest default timeout (7440 s), so that a timer is mostly set once per timeout.
/// A deadline beyond the wheel is set to its far end and looked at again there.
const SLOTS: u32 = 8192;
pub(super) const NONE: u32 = u32::MAX;

/// A session's place in the list of its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) next: u32,
    /// The session before this one, or `SLOT_TAG | slot` for the first of a slot's list.
    previous: u32,
}

const SLOT_TAG: u32 = 1 << 31;
pub(super) const UNLINKED: Link = Link { next: NONE, previous: NONE };

/// The lists' heads. The links stand with what else is kept of each session.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32]>,
    /// The second whose slot is being emptied; all earlier ones are empty.
    second: u32,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Wheel { heads: vec![NONE; SLOTS as usize].into_boxed_slice(), second: 0 }
    }

    /// Bytes of the heads.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.heads)
    }

    /// Sets the timer of `id`, which is off, to `deadline`, in seconds. One in the past fires next.
    pub(super) fn arm(&mut self, sessions: &mut [Aside], id: u32, deadline: u32) {
        let slot = deadline.clamp(self.second, self.second.saturating_add(SLOTS - 1)) % SLOTS;
        let first = std::mem::replace(&mut self.heads[slot as usize], id);
        sessions[id as usize].link = Link { next: first, previous: SLOT_TAG | slot };
        if first != NONE {
            sessions[first as usize].link.previous = id;
        }
    }

    /// Takes the timer of `id` off, if it is set.
    pub(super) fn disarm(&mut self, sessions: &mut [Aside], id: u32) {
        let link = std::mem::replace(&mut sessions[id as usize].link, UNLINKED);
        if link.previous == NONE {
            return;
        }
        if link.previous & SLOT_TAG != 0 {
            self.heads[(link.previous & !SLOT_TAG) as usize] = link.next;
        } else {
            sessions[link.previous as usize].link.next = link.next;
        }
        if link.next != NONE {
            sessions[link.next as usize].link.previous = link.previous;
        }
    }

    /// A session whose timer fires at or before `now`; its timer is off then.
    ///
    /// The walk over empty slots is bounded by the wheel's size, however far the clock jumped.
    pub(super) fn next_due(&mut self, sessions: &mut [Aside], now: u32) -> Option<u32> {
        if now.saturating_sub(self.second) > SLOTS {
            self.second = now - SLOTS;
        }
        while self.second <= now {
            let head = self.heads[(self.second % SLOTS) as usize];
            if head != NONE {
                self.disarm(sessions, head);
                return Some(head);
            }
            if self.second == now {
                return None;
            }
            self.second += 1;
        }
        None
    }

    /// Timers that are set. Walks all of them, and panics where a list is broken: for tests.
    pub(super) fn armed(&self, sessions: &[Aside]) -> usize {
        let mut armed = 0;
        for (slot, head) in self.heads.iter().enumerate() {
            let (mut at, mut previous) = (*head, SLOT_TAG | slot as u32);
            while at != NONE {
                let link = sessions[at as usize].link;
                assert_eq!(link.previous, previous, "list of slot {slot}");
                (previous, at) = (at, link.next);
                armed += 1;
            }
        }
        armed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    struct Timers {
        wheel: Wheel,
        sessions: Vec<Aside>,
    }

    impl Timers {
        fn new(sessions: usize) -> Self {
            Timers { wheel: Wheel::new(), sessions: vec![Aside::FREE; sessions] }
        }

        fn arm(&mut self, id: u32, deadline: u32) {
            self.wheel.disarm(&mut self.sessions, id);
            self.wheel.arm(&mut self.sessions, id, deadline);
        }

        /// All that are due, by number.
        fn due(&mut self, now: u32) -> Vec<u32> {
            let next = || self.wheel.next_due(&mut self.sessions, now);
            let mut fired: Vec<_> = std::iter::from_fn(next).collect();
            fired.sort_unstable();
            fired
        }
    }

    #[test]
    fn a_clock_that_jumps_over_the_whole_wheel_fires_everything_once() {
        let mut timers = Timers::new(3);
        timers.arm(0, 5);
        timers.arm(1, 8000);
        timers.arm(2, 1_000_000);
        let fired = timers.due(900_000);
        assert_eq!(fired, [0, 1, 2], "the far deadline is looked at early, to be set again");
        assert_eq!(timers.wheel.armed(&timers.sessions), 0);
    }

    proptest! {
        #[test]
        fn fires_each_timer_at_its_second(ops in proptest::collection::vec((0u32..20, 0u32..300, 0u32..40), 1..200)) {
            let mut timers = Timers::new(20);
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now = 0;
            for (id, delay, step) in ops {
                if delay == 0 {
                    timers.wheel.disarm(&mut timers.sessions, id);
                    model.remove(&id);
                } else {
                    timers.arm(id, now + delay);
                    model.insert(id, now + delay);
                }
                now += step;
                let fired = timers.due(now);
                let due: Vec<_> = model.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
                prop_assert_eq!(&fired, &due);
                model.retain(|_, at| *at > now);
                prop_assert_eq!(timers.wheel.armed(&timers.sessions), model.len());
            }
        }
    }
}
