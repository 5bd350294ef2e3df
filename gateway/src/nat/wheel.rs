//! When to look at a session again: a timer wheel of one-second slots.
//!
//! Each armed session hangs in the doubly linked list of one slot. Setting, moving and removing a
//! timer cost O(1). A hit on a session does not touch the wheel: the timer fires at the deadline that
//! was known when it was set, finds that the session was heard since, and is set again.

/// More than the longest default timeout (7440 s), so that a timer is mostly set once per timeout.
/// A deadline beyond the wheel is set to its far end and looked at again there.
const SLOTS: u32 = 8192;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    /// The session before this one, or `SLOT_TAG | slot` for the first of a slot's list.
    previous: u32,
}

const SLOT_TAG: u32 = 1 << 31;
const UNLINKED: Link = Link { next: NONE, previous: NONE };

#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32]>,
    links: Box<[Link]>,
    /// The second whose slot is being emptied; all earlier ones are empty.
    second: u32,
}

impl Wheel {
    pub(super) fn new(sessions: u32) -> Self {
        Wheel {
            heads: vec![NONE; SLOTS as usize].into_boxed_slice(),
            links: vec![UNLINKED; sessions as usize].into_boxed_slice(),
            second: 0,
        }
    }

    /// Sets (or moves) the timer of `id` to `deadline`, in seconds. A deadline in the past fires next.
    pub(super) fn arm(&mut self, id: u32, deadline: u32) {
        self.disarm(id);
        let slot = deadline.clamp(self.second, self.second.saturating_add(SLOTS - 1)) % SLOTS;
        let first = std::mem::replace(&mut self.heads[slot as usize], id);
        self.links[id as usize] = Link { next: first, previous: SLOT_TAG | slot };
        if first != NONE {
            self.links[first as usize].previous = id;
        }
    }

    pub(super) fn disarm(&mut self, id: u32) {
        let link = std::mem::replace(&mut self.links[id as usize], UNLINKED);
        if link.previous == NONE {
            return;
        }
        if link.previous & SLOT_TAG != 0 {
            self.heads[(link.previous & !SLOT_TAG) as usize] = link.next;
        } else {
            self.links[link.previous as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
    }

    /// A session whose timer fires at or before `now`; its timer is off then.
    ///
    /// The walk over empty slots is bounded by the wheel's size, however far the clock jumped.
    pub(super) fn next_due(&mut self, now: u32) -> Option<u32> {
        if now.saturating_sub(self.second) > SLOTS {
            self.second = now - SLOTS;
        }
        while self.second <= now {
            let head = self.heads[(self.second % SLOTS) as usize];
            if head != NONE {
                self.disarm(head);
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
    pub(super) fn armed(&self) -> usize {
        let mut armed = 0;
        for (slot, head) in self.heads.iter().enumerate() {
            let (mut at, mut previous) = (*head, SLOT_TAG | slot as u32);
            while at != NONE {
                assert_eq!(self.links[at as usize].previous, previous, "list of slot {slot}");
                (previous, at) = (at, self.links[at as usize].next);
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

    #[test]
    fn a_clock_that_jumps_over_the_whole_wheel_fires_everything_once() {
        let mut wheel = Wheel::new(3);
        wheel.arm(0, 5);
        wheel.arm(1, 8000);
        wheel.arm(2, 1_000_000);
        let mut fired: Vec<_> = std::iter::from_fn(|| wheel.next_due(900_000)).collect();
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 2], "the far deadline is looked at early, to be set again");
        assert_eq!(wheel.armed(), 0);
    }

    proptest! {
        #[test]
        fn fires_each_timer_at_its_second(ops in proptest::collection::vec((0u32..20, 0u32..300, 0u32..40), 1..200)) {
            let mut wheel = Wheel::new(20);
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now = 0;
            for (id, delay, step) in ops {
                if delay == 0 {
                    wheel.disarm(id);
                    model.remove(&id);
                } else {
                    wheel.arm(id, now + delay);
                    model.insert(id, now + delay);
                }
                now += step;
                let mut fired: Vec<_> = std::iter::from_fn(|| wheel.next_due(now)).collect();
                fired.sort_unstable();
                let due: Vec<_> = model.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
                prop_assert_eq!(&fired, &due);
                model.retain(|_, at| *at > now);
                prop_assert_eq!(wheel.armed(), model.len());
            }
        }
    }
}
