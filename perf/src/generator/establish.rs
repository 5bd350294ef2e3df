//! Opening flows in a closed loop: never more under way than any receive queue holds, so that nothing is
//! lost to haste, however slow the system is.

use super::{
    engine::{Engine, IN2OUT, OUT2IN, Templates, direction_at},
    flows::{Draw, Known, Seen, Sizes},
    lane::{Arrival, BATCH, Taker},
    send::{Moment, Numbers, Sender},
};
use crate::job::{Event, FarSide, Frames, Order};
use anyhow::{Result, bail};
use gateway::verdict::Side;
use std::ops::Range;

/// Packets under way. The smallest receive queue, that of af_packet, holds 512.
const UNDER_WAY: usize = 256;
/// Flows that are opened before they are answered: an unanswered flow may be forgotten after seconds.
const CHUNK: usize = 65_536;
/// After so long without a packet those under way are lost.
pub(super) const PATIENCE: f64 = 0.02;
/// After so long without a flow that was news the step has failed.
const HOPE: f64 = 5.0;

/// Enters what comes into the table.
struct Learner<'a> {
    known: &'a mut [Known],
    window: u16,
    direction: usize,
    /// Of this window and direction.
    came: usize,
    news: usize,
    wrong: u64,
}

impl Taker for Learner<'_> {
    #[inline(always)]
    fn right(&mut self, side: Side, arrival: &Arrival) {
        let direction = direction_at(side);
        self.came += usize::from(direction == self.direction && arrival.mark.window == self.window);
        let Some(known) = self.known.get_mut(arrival.mark.flow as usize) else { return };
        if direction == IN2OUT {
            known.set(arrival.source);
            self.news += usize::from(known.mark(Seen::Opened));
        } else {
            self.news += usize::from(known.mark(Seen::Answered));
        }
    }

    fn wrong(&mut self) {
        self.wrong += 1;
    }
}

impl Engine {
    pub(super) fn establish(&mut self) -> Result<Event> {
        let start = self.clock.begin();
        self.is_established = false;
        self.resolve()?;
        let templates = self.templates()?;
        self.flows.known_mut().iter_mut().for_each(Known::forget);
        let flows = self.flows.len() as usize;
        for first in (0..flows).step_by(CHUNK) {
            let chunk = first..(first + CHUNK).min(flows);
            self.exchange(&templates, IN2OUT, chunk.clone())?;
            self.exchange(&templates, OUT2IN, chunk)?;
        }
        self.is_established = true;
        let end = self.clock.tick();
        let seconds = self.clock.seconds_of(end - start);
        Ok(Event::Established { flows: flows as u32, seconds })
    }

    /// Sends one packet of each flow in `range`, and of each that did not come another one.
    fn exchange(
        &mut self,
        templates: &Templates,
        direction: usize,
        range: Range<usize>,
    ) -> Result<()> {
        let wanted = if direction == IN2OUT { Seen::Opened } else { Seen::Answered };
        let (writer, window) = (templates.of(direction), self.next_window());
        let mut sender = idle_sender();
        let (patience, hope) = (self.clock.cycles_of(PATIENCE), self.clock.cycles_of(HOPE));
        let mut missing = range.len();
        let (mut next, mut under_way, mut wrong) = (range.start, 0usize, 0);
        let mut last_came = self.clock.begin();
        let mut last_news = last_came;
        while missing > 0 {
            let now = self.clock.tick();
            if sender.is_ready() && under_way < UNDER_WAY {
                let mut numbers = Numbers::new();
                while next < range.end && numbers.len() < BATCH.min(UNDER_WAY - under_way) {
                    if !self.flows.known()[next].is(wanted) {
                        numbers.push(next as u32);
                    }
                    next += 1;
                }
                sender.write(&writer, &self.flows, &self.pool, &numbers, Moment { window, now });
            }
            under_way += sender.offer(&mut self.lanes[direction]);
            let known = self.flows.known_mut();
            let mut learner = Learner { known, window, direction, came: 0, news: 0, wrong: 0 };
            for lane in &mut self.lanes {
                lane.receive(&mut self.clock, &mut learner);
            }
            let Learner { came, news, wrong: more_wrong, .. } = learner;
            self.lanes.iter_mut().for_each(|lane| lane.answer(&self.pool));
            under_way = under_way.saturating_sub(came);
            // News of the other direction are none here: all of it is in before this one begins.
            missing = missing.saturating_sub(news);
            wrong += more_wrong;
            if came > 0 {
                last_came = now;
            }
            if news > 0 {
                last_news = now;
            }
            if now.saturating_sub(last_came) > patience {
                (under_way, last_came) = (0, now);
            }
            if next == range.end && under_way == 0 && sender.is_ready() {
                next = range.start;
            }
            if now.saturating_sub(last_news) > hope {
                bail!(self.hopeless(direction, &range, missing, wrong));
            }
            self.publish();
        }
        Ok(())
    }

    fn hopeless(
        &self,
        direction: usize,
        range: &Range<usize>,
        missing: usize,
        wrong: u64,
    ) -> String {
        let (what, door) = match (direction, self.far_side) {
            (IN2OUT, FarSide::Wire) => ("packets of pods", "the external device"),
            (IN2OUT, _) => ("flows' first packets", "the external device"),
            (_, FarSide::Wire) => ("answers", "the tunnel device"),
            (_, _) => ("answers", "the tunnel device, in VXLAN to their node"),
        };
        let done = range.end - missing;
        format!(
            "{missing} of {} {what} do not come out of {door}, however often they are sent; \
             {done} flows were done, {wrong} frames came otherwise than foretold",
            range.len()
        )
    }
}

/// For packets whose flows are named one by one.
pub(super) fn idle_sender() -> Sender {
    Sender::new(Draw::new(Order::Sequential, 1, 0.0), Sizes::of(Frames::Smallest))
}
