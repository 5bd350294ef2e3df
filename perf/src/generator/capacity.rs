//! How many sessions there is room for.

use super::{
    engine::{Engine, IN2OUT, direction_at},
    establish::{PATIENCE, idle_sender},
    lane::{Arrival, BATCH, Taker},
    send::{Moment, Numbers},
};
use crate::job::Event;
use anyhow::{Result, bail};
use gateway::verdict::Side;

/// Sessions that are tried at once, and how many tries of the last are judged: 10,000 sessions.
const TRIED: u64 = 250;
const JUDGED: usize = 40;

/// Counts what left by the external port.
struct Opened {
    window: u16,
    count: u64,
}

impl Taker for Opened {
    fn right(&mut self, side: Side, arrival: &Arrival) {
        let is_ours = direction_at(side) == IN2OUT && arrival.mark.window == self.window;
        self.count += u64::from(is_ours);
    }

    fn wrong(&mut self) {}
}

impl Engine {
    /// Opens sessions of fresh flows until the system refuses one in two, in a closed loop.
    pub(super) fn capacity(&mut self, most: u32) -> Result<Event> {
        let most = u64::from(most);
        let templates = self.templates()?;
        let writer = templates.of(IN2OUT);
        let mut sender = idle_sender();
        let patience = self.clock.cycles_of(PATIENCE);
        let start = self.clock.begin();
        // One window for all: who comes late was opened nevertheless.
        let mut opened = Opened { window: self.next_window(), count: 0 };
        let (mut tried, mut last_came) = (0, start);
        let mut judged = [0; JUDGED];
        for round in 0.. {
            if opened.count >= most || judged.iter().sum::<u64>() * 2 >= TRIED * JUDGED as u64 {
                break;
            }
            if !self.flows.has_fresh() {
                bail!("there are no more flows: {} of {tried} were opened", opened.count);
            }
            let (tried_before, opened_before) = (tried, opened.count);
            let until = tried + TRIED.min(most - opened.count);
            let mut last = self.clock.tick();
            while opened.count - opened_before < until - tried_before {
                let now = self.clock.tick();
                if sender.is_ready() && tried < until {
                    let mut numbers = Numbers::new();
                    let count = (until - tried).min(BATCH as u64);
                    (0..count).for_each(|_| numbers.push(self.flows.fresh()));
                    tried += count;
                    let moment = Moment { window: opened.window, now };
                    sender.write(&writer, &self.flows, &self.pool, &numbers, moment);
                }
                let sent = sender.offer(&mut self.lanes[IN2OUT]);
                let before = opened.count;
                self.receive(&mut opened);
                if opened.count > before {
                    last_came = now;
                }
                if sent > 0 || opened.count > before {
                    last = now;
                }
                if now.saturating_sub(last) > patience {
                    break;
                }
            }
            judged[round % JUDGED] =
                (until - tried_before).saturating_sub(opened.count - opened_before);
            self.publish();
        }
        let (opened, seconds) = (opened.count, self.clock.seconds_of(last_came - start));
        Ok(Event::Capacity { opened: opened as u32, refused: (tried - opened) as u32, seconds })
    }
}
