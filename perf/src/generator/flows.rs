//! Which flow a packet is of, and what is known of each.

use super::{frames::Destination, judge::Source};
use crate::job::Order;
use gateway::memory::{HugeSlice, Pages};
use std::io;

/// What the system made of a flow, 8 bytes: only what an answer needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    address: u32,
    l4_port: u16,
    state: u16,
}

/// What has been seen of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It came out of the external port.
    Opened = 1,
    /// Its answer came back in the tunnel.
    Answered = 2,
}

impl Known {
    #[inline(always)]
    pub(super) fn is(&self, seen: Seen) -> bool {
        self.state & seen as u16 != 0
    }

    /// Whether that is news.
    #[inline(always)]
    pub(super) fn mark(&mut self, seen: Seen) -> bool {
        let is_news = !self.is(seen);
        self.state |= seen as u16;
        is_news
    }

    /// Where its answers go to.
    #[inline(always)]
    pub(super) fn to(&self) -> Destination {
        Destination { address: self.address, l4_port: self.l4_port }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, source: Source) {
        (self.address, self.l4_port) = (source.address, source.l4_port);
    }

    pub(super) fn forget(&mut self) {
        self.state = 0;
    }
}

/// All flows of the job, in hugepages where there are some.
#[derive(Debug)]
pub(super) struct Flows {
    known: HugeSlice<Known>,
    /// Number of the next flow that nobody has seen.
    fresh: u32,
}

/// Above it `plan::Flow::number` repeats itself.
pub(super) const MOST: u32 = 1_000_000_000;

impl Flows {
    pub(super) fn new(count: u32, hugepages: bool) -> io::Result<Self> {
        let pages = if hugepages { Pages::Huge } else { Pages::Transparent };
        let known = HugeSlice::new(count as usize, Known::default(), pages)?;
        Ok(Flows { known, fresh: count })
    }

    pub(super) fn len(&self) -> u32 {
        self.known.len() as u32
    }

    pub(super) fn known(&self) -> &[Known] {
        &self.known
    }

    pub(super) fn known_mut(&mut self) -> &mut [Known] {
        &mut self.known
    }

    pub(super) fn has_fresh(&self) -> bool {
        self.fresh < MOST
    }

    /// The number of a flow that is none of the job's and was never sent.
    #[inline(always)]
    pub(super) fn fresh(&mut self) -> u32 {
        let number = self.fresh;
        self.fresh = self.fresh.saturating_add(1);
        number
    }
}

/// Draws flows in the wanted order.
#[derive(Debug)]
pub(super) struct Draw {
    order: Order,
    flows: u32,
    next: u32,
    random: u64,
    /// Of 2^32 packets, how many are of fresh flows.
    fresh: u64,
    fresh_due: u64,
}

impl Draw {
    /// `share`: how many packets are to be of fresh flows, 0 to 1.
    pub(super) fn new(order: Order, flows: u32, share: f64) -> Self {
        let fresh = (share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        // Without flows of the job every packet is of a fresh one.
        let fresh = if flows == 0 { 1 << 32 } else { fresh };
        Draw { order, flows, next: 0, random: 0x9e37_79b9_7f4a_7c15, fresh, fresh_due: 0 }
    }

    /// Whether the next packet is of a fresh flow: spread evenly.
    #[inline(always)]
    pub(super) fn wants_fresh(&mut self) -> bool {
        self.fresh_due += self.fresh;
        let due = self.fresh_due >> 32 != 0;
        self.fresh_due &= 0xffff_ffff;
        due
    }

    /// One of the job's flows.
    #[inline(always)]
    pub(super) fn known(&mut self) -> u32 {
        match self.order {
            Order::Random => {
                // Xorshift (Marsaglia 2003); its upper half is multiplied down, which needs no division.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                (((self.random >> 32) * u64::from(self.flows)) >> 32) as u32
            }
            Order::Sequential => {
                let number = self.next;
                self.next = if number + 1 == self.flows { 0 } else { number + 1 };
                number
            }
        }
    }
}

/// Which of the three lengths of frames comes next. The usual mix is, of twelve, seven small, four middle, one
/// large, spread so that no two large or middle ones follow each other.
#[derive(Debug)]
pub(super) struct Sizes {
    sequence: &'static [u8],
    next: usize,
}

impl Sizes {
    pub(super) fn of(frames: crate::job::Frames) -> Self {
        use crate::job::Frames;
        let sequence: &[u8] = match frames {
            Frames::Smallest => &[0],
            Frames::Imix => &[0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0],
            Frames::Largest => &[2],
        };
        Sizes { sequence, next: 0 }
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> usize {
        let size = self.sequence[self.next];
        self.next = if self.next + 1 == self.sequence.len() { 0 } else { self.next + 1 };
        usize::from(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Frames;

    #[test]
    fn a_random_order_meets_all_flows_about_as_often() {
        let mut draw = Draw::new(Order::Random, 100, 0.0);
        let mut met = [0; 100];
        (0..100_000).for_each(|_| met[draw.known() as usize] += 1);
        assert!(met.iter().all(|times| (800..1200).contains(times)), "{met:?}");
    }

    #[test]
    fn a_sequential_order_begins_again_after_the_last() {
        let mut draw = Draw::new(Order::Sequential, 3, 0.0);
        let drawn: Vec<u32> = (0..7).map(|_| draw.known()).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn fresh_flows_come_in_their_share_and_never_again() {
        for (share, flows, expected) in
            [(0.0, 5, 0), (0.25, 5, 250), (0.001, 5, 1), (1.0, 5, 1000), (0.0, 0, 1000)]
        {
            let mut draw = Draw::new(Order::Random, flows, share);
            let fresh = (0..1000).filter(|_| draw.wants_fresh()).count();
            assert!(fresh.abs_diff(expected) <= 1, "{share}: {fresh}");
        }
        let mut flows = Flows::new(10, false).unwrap();
        assert_eq!([flows.fresh(), flows.fresh(), flows.fresh()], [10, 11, 12]);
    }

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let mut sizes = Sizes::of(Frames::Imix);
        let mut counts = [0; 3];
        (0..24).for_each(|_| counts[sizes.next()] += 1);
        assert_eq!(counts, [14, 8, 2]);
        assert_eq!([Sizes::of(Frames::Smallest).next(), Sizes::of(Frames::Largest).next()], [0, 2]);
    }

    #[test]
    fn a_flow_is_news_once() {
        let mut known = Known::default();
        assert_eq!(size_of::<Known>(), 8);
        assert!(known.mark(Seen::Opened) && !known.mark(Seen::Opened));
        assert!(known.is(Seen::Opened) && !known.is(Seen::Answered));
        assert!(known.mark(Seen::Answered) && known.is(Seen::Opened));
        known.forget();
        assert!(!known.is(Seen::Opened) && !known.is(Seen::Answered));
    }
}
