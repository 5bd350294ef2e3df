//! Sending in the open: as fast as devices take packets, or at a rate, whatever comes back; then counting
//! what did.

use super::{
    engine::{Engine, IN2OUT, OUT2IN, Templates, direction_at},
    flows::{Draw, Sizes},
    lane::{Arrival, BATCH, Taker},
    latency::Latencies,
    pace::Pace,
    search::Search,
    send::{Moment, Sender},
};
use crate::job::{Direction, Event, Frames, Load, Measured, Order, Trial};
use anyhow::{Context, Result, bail};
use gateway::verdict::Side;

/// Until all came, or nothing has come for so long, but no longer than the other, packets are under way.
const QUIET: f64 = 0.02;
const LONGEST_DRAIN: f64 = 0.2;
/// As many of each direction are sent, but for so many.
const LEAD: u64 = 4 * BATCH as u64;
/// Before a trial of a search counts.
const TRIAL_WARM_UP: f64 = 0.05;
/// Trials that fail while the generator itself was off its CPU are repeated so often.
const REPEATS: usize = 2;

/// What is sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) load: Load,
    /// Both directions together.
    pub(super) per_second: Option<f64>,
    pub(super) warm_up: f64,
    pub(super) seconds: f64,
    /// What a full ring does not take is lost, as on a wire, which does not wait.
    pub(super) lose_unsent: bool,
}

/// Counts what comes of one window.
#[derive(Debug)]
pub(super) struct Tally {
    window: u16,
    pub(super) received: [u64; 2],
    pub(super) bytes: [u64; 2],
    pub(super) wrong: u64,
    latencies: Option<Latencies>,
}

impl Tally {
    pub(super) fn new(window: u16, latencies: Option<Latencies>) -> Self {
        Tally { window, received: [0; 2], bytes: [0; 2], wrong: 0, latencies }
    }
}

impl Taker for Tally {
    #[inline(always)]
    fn right(&mut self, side: Side, arrival: &Arrival) {
        // The rest is of the warm-up, or of an earlier step.
        if arrival.mark.window == self.window {
            let direction = direction_at(side);
            self.received[direction] += 1;
            self.bytes[direction] += arrival.bytes;
            if let Some(latencies) = &mut self.latencies {
                latencies.record(arrival.at.saturating_sub(arrival.mark.stamp));
            }
        }
    }

    #[cold]
    fn wrong(&mut self) {
        self.wrong += 1;
    }
}

/// Who sends in a run.
struct Senders {
    /// In2out, out2in.
    each: [Option<(Sender, Pace)>; 2],
    lose_unsent: bool,
    /// Both directions, without a rate: then the faster waits for the slower.
    balanced: bool,
}

impl Senders {
    fn new(run: &Run, flows: u32, (hz, now): (u64, u64)) -> Self {
        let load = run.load;
        let is_both = load.direction == Direction::Both;
        let sender = |direction: Direction, share: f64| {
            (load.direction == direction || is_both).then(|| {
                let rate = run.per_second.map(|rate| if is_both { rate / 2.0 } else { rate });
                let pace = rate.map(|rate| Pace::per_second(rate, hz, now));
                let draw = Draw::new(load.order, flows, share);
                (Sender::new(draw, Sizes::of(load.frames)), pace.unwrap_or(Pace::unlimited()))
            })
        };
        Senders {
            each: [sender(Direction::In2out, load.new_sessions), sender(Direction::Out2in, 0.0)],
            lose_unsent: run.lose_unsent,
            balanced: is_both && run.per_second.is_none(),
        }
    }

    fn sent(&self) -> [u64; 2] {
        let sent = |sender: &Option<(Sender, Pace)>| sender.as_ref().map_or(0, |(s, _)| s.sent);
        [sent(&self.each[IN2OUT]), sent(&self.each[OUT2IN])]
    }

    /// A burst for this direction is due.
    #[inline(always)]
    fn due(&mut self, direction: usize, now: u64) -> usize {
        let ahead = |sent: [u64; 2]| sent[direction] > sent[1 - direction] + LEAD;
        let waits = self.balanced && ahead(self.sent());
        match &mut self.each[direction] {
            Some((sender, pace)) if sender.is_ready() && !waits => pace.take(now, BATCH),
            _ => 0,
        }
    }

    /// What no device has taken is thrown away, and where the next window begins nothing was sent in it.
    fn give_up(&mut self) {
        for (sender, _) in self.each.iter_mut().flatten() {
            sender.give_up();
        }
    }

    fn begin(&mut self) {
        self.give_up();
        for (sender, _) in self.each.iter_mut().flatten() {
            sender.sent = 0;
        }
    }
}

impl Engine {
    pub(super) fn send(
        &mut self,
        load: Load,
        per_second: Option<f64>,
        warm_up: f64,
        seconds: f64,
    ) -> Result<Event> {
        let run = Run { load, per_second, warm_up, seconds, lose_unsent: false };
        self.measure(&run).map(Box::new).map(Event::Measured)
    }

    pub(super) fn new_sessions(&mut self, per_second: Option<f64>, seconds: f64) -> Result<Event> {
        let load = Load {
            direction: Direction::In2out,
            frames: Frames::Smallest,
            order: Order::Sequential,
            new_sessions: 1.0,
            latency: false,
        };
        self.send(load, per_second, 0.0, seconds)
    }

    pub(super) fn search(&mut self, load: Load, loss: f64, seconds: f64) -> Result<Event> {
        let run =
            Run { load, per_second: None, warm_up: TRIAL_WARM_UP, seconds, lose_unsent: false };
        let most = self.measure(&run)?;
        let most: u64 = most.received.iter().sum::<u64>();
        let (mut trials, mut best) = (Vec::new(), None);
        let mut search = Search::from(most as f64 / seconds);
        while let Some(rate) = search.next() {
            let run = Run { per_second: Some(rate), lose_unsent: true, ..run };
            let mut repeats = 0;
            let (measured, lost) = loop {
                let measured = self.measure(&run)?;
                let sent: u64 = measured.sent.iter().sum();
                let received: u64 = measured.received.iter().sum();
                let lost = 1.0 - received as f64 / sent.max(1) as f64;
                if lost <= loss || measured.preempted == 0 || repeats == REPEATS {
                    break (measured, lost);
                }
                repeats += 1;
            };
            let passed = lost <= loss && measured.sent.iter().any(|sent| *sent > 0);
            trials.push(Trial { packets_per_second: rate, loss: lost, passed });
            search.tried(rate, passed);
            if passed {
                best = Some(measured);
            }
        }
        let tried = trials.len();
        let mut best = best.with_context(|| {
            format!("packets are lost at every rate: {tried} trials of {seconds} s, loss {loss}")
        })?;
        best.trials = trials;
        Ok(Event::Measured(Box::new(best)))
    }

    fn measure(&mut self, run: &Run) -> Result<Measured> {
        let load = run.load;
        let templates = self.templates()?;
        if load.direction != Direction::In2out && (!self.is_established || self.flows.len() == 0) {
            bail!("answers need flows that were opened: Establish must come first");
        }
        let latencies = load.latency.then(Latencies::new).flatten();
        let (warm, counted) = (self.next_window(), self.next_window());
        let mut tally = Tally::new(counted, latencies);

        let start = self.clock.begin();
        let mut senders = Senders::new(run, self.flows.len(), (self.clock.hz, start));
        let until = start + self.clock.cycles_of(run.warm_up);
        self.turn_until(until, warm, &templates, &mut senders, &mut tally);
        senders.begin();
        let before = self.pulse.as_ref().map(|pulse| pulse.sample());
        let start = self.clock.begin();
        let until = start + self.clock.cycles_of(run.seconds);
        let end = self.turn_until(until, counted, &templates, &mut senders, &mut tally);
        let (preempted, longest, off) = (self.clock.preempted, self.clock.longest, self.clock.off);
        senders.give_up();
        self.drain(senders.sent(), &mut tally);

        if !self.flows.has_fresh() {
            bail!(
                "there are no more flows that were not sent in this job: start another generator"
            );
        }
        let inside =
            self.pulse.as_ref().zip(before).map(|(pulse, before)| pulse.sample().since(&before));
        Ok(Measured {
            seconds: self.clock.seconds_of(end - start),
            tsc_hz: self.clock.hz,
            sent: senders.sent(),
            received: tally.received,
            received_bytes: tally.bytes,
            wrong: tally.wrong,
            preempted,
            longest_gap_us: self.clock.micros_of(longest),
            off_us: self.clock.micros_of(off),
            latency: tally.latencies.map(|latencies| latencies.summary(self.clock.hz)),
            trials: Vec::new(),
            inside,
        })
    }

    /// The loop: a burst out in each direction, all that came in. Returns when it ended.
    fn turn_until(
        &mut self,
        until: u64,
        window: u16,
        templates: &Templates,
        senders: &mut Senders,
        tally: &mut Tally,
    ) -> u64 {
        let mut now = self.clock.tick();
        while now < until {
            for direction in [IN2OUT, OUT2IN] {
                let due = senders.due(direction, now);
                let lose = senders.lose_unsent;
                let Some((sender, _)) = &mut senders.each[direction] else { continue };
                if due > 0 {
                    let moment = Moment { window, now: self.clock.tick() };
                    let writer = templates.of(direction);
                    sender.make(&writer, &mut self.flows, &self.pool, due, moment);
                    self.clock.tick();
                }
                sender.offer(&mut self.lanes[direction]);
                if lose {
                    sender.sent += sender.give_up();
                }
                self.clock.tick_after_io();
            }
            self.receive(tally);
            self.publish();
            now = self.clock.tick();
        }
        now
    }

    /// Waits for what is under way.
    fn drain(&mut self, sent: [u64; 2], tally: &mut Tally) {
        let start = self.clock.tick();
        let (quiet, longest) = (self.clock.cycles_of(QUIET), self.clock.cycles_of(LONGEST_DRAIN));
        let mut last = start;
        while tally.received != sent {
            let received = self.receive(tally);
            let now = self.clock.tick();
            if received > 0 {
                last = now;
            }
            if now - last > quiet || now - start > longest {
                break;
            }
        }
        self.publish();
    }
}
