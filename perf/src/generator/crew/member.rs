//! One worker, with the flows that it owns: fills its ports, runs turns of the loop, takes back what these
//! sent.

use super::{meeting::Meeting, ports::Ports};
use crate::{
    generator::{
        engine::{IN2OUT, OUT2IN, Templates, direction_at},
        flows::{Draw, Flows, Known, MOST, Seen, Sizes},
        frames::{L3_LENGTHS, TUNNELLED_L3},
        inside::{Counted, Inside, MACS},
        lane::{Arrival, BATCH, Taker},
        mark::Mark,
        measure::Tally,
        seconds::Published,
        send::Writer,
    },
    job::{Direction, Job, Load},
    plan::{self, Flow},
    system::Sample,
};
use anyhow::{Context, Result, ensure};
use gateway::{
    datapath::{Worker, handoff::Handoff, memory_io::MemoryPacket, steering::Steering},
    nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, Tick},
    verdict::Side,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Packets of a filling: so many that the turns of several workers overlap but for a small part, and few
/// enough to stay in a second-level cache.
const FILLING: usize = 8 * BATCH;
/// Room for the largest frame with its tunnel.
const ROOM: usize = TUNNELLED_L3 + L3_LENGTHS[2];

#[derive(Debug)]
pub(super) struct Member {
    me: usize,
    worker: Worker<MemoryPacket>,
    counted: Counted,
    ports: Ports,
    templates: Templates,
    /// Of its flows, ascending.
    numbers: Vec<u32>,
    flows: Flows,
    meeting: Arc<Meeting>,
    started: Instant,
    window: u16,
    frame: [u8; ROOM],
}

/// What one worker did in a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// In2out, out2in.
    pub(super) sent: [u64; 2],
    pub(super) received: [u64; 2],
    pub(super) received_bytes: [u64; 2],
    pub(super) wrong: u64,
    pub(super) counted: Sample,
}

/// Which packets come next.
struct Draws {
    directions: &'static [usize],
    draw: Draw,
    sizes: Sizes,
}

/// Enters what comes back while flows are opened.
struct Learner<'a> {
    numbers: &'a [u32],
    known: &'a mut [Known],
    wrong: u64,
}

impl Taker for Learner<'_> {
    fn right(&mut self, side: Side, arrival: &Arrival) {
        let Ok(at) = self.numbers.binary_search(&arrival.mark.flow) else { return };
        let known = &mut self.known[at];
        if direction_at(side) == IN2OUT {
            known.set(arrival.source);
            known.mark(Seen::Opened);
        } else {
            known.mark(Seen::Answered);
        }
    }

    fn wrong(&mut self) {
        self.wrong += 1;
    }
}

impl Member {
    /// To be called on its own CPU, whose memory it takes.
    pub(super) fn new(
        job: &Job,
        inside: &Inside,
        handoff: Handoff<MemoryPacket>,
        steering: &Steering,
        meeting: Arc<Meeting>,
        published: Arc<Published>,
    ) -> Result<Self> {
        let me = handoff.me();
        let is_owned = |number: &u32| steering.of_in2out(&key(*number)) == me;
        let numbers = (0..MOST).filter(is_owned).take(job.flows as usize).collect();
        let (worker, counted) = inside.worker(handoff)?;
        worker.settle();
        Ok(Member {
            me,
            worker,
            counted,
            ports: Ports::new(job, published),
            templates: Templates::new(MACS, job.nodes, job.checksums),
            numbers,
            flows: Flows::new(job.flows, job.hugepages)
                .with_context(|| format!("no memory for {} flows", job.flows))?,
            meeting,
            started: Instant::now(),
            window: 0,
            frame: [0; ROOM],
        })
    }

    /// Opens all its flows and has each answered once, at its own pace.
    pub(super) fn establish(&mut self) -> Result<Part> {
        self.meet_neighbours();
        self.flows.known_mut().iter_mut().for_each(Known::forget);
        let (window, count) = (self.next_window(), self.numbers.len());
        let mut wrong = 0;
        for first in (0..count).step_by(BATCH) {
            for direction in [IN2OUT, OUT2IN] {
                (first..count.min(first + BATCH)).for_each(|at| self.put(direction, at, 0, window));
                self.turns();
                let (numbers, known) = (self.numbers.as_slice(), self.flows.known_mut());
                let mut learner = Learner { numbers, known, wrong: 0 };
                self.ports.take_back(&mut learner);
                wrong += learner.wrong;
            }
        }
        let missing = |seen| self.flows.known().iter().filter(|known| !known.is(seen)).count();
        let (closed, unanswered) = (missing(Seen::Opened), missing(Seen::Answered));
        ensure!(
            (closed, unanswered, wrong) == (0, 0, 0),
            "of worker {}'s {count} flows {closed} were not opened and {unanswered} not answered, \
             {wrong} frames came otherwise than foretold",
            self.me
        );
        Ok(Part::default())
    }

    /// Sends in step with all others; what happens in the first `warm_up` seconds does not count.
    pub(super) fn send(&mut self, load: &Load, warm_up: f64, seconds: f64) -> Part {
        self.meet_neighbours();
        let directions: &[usize] = match load.direction {
            Direction::In2out => &[IN2OUT],
            Direction::Out2in => &[OUT2IN],
            Direction::Both => &[IN2OUT, OUT2IN],
        };
        let draw = Draw::new(load.order, self.numbers.len() as u32, 0.0);
        let mut draws = Draws { directions, draw, sizes: Sizes::of(load.frames) };
        self.fill_and_turn(&mut draws, warm_up);
        let before = self.counted.sample();
        let (tally, sent) = self.fill_and_turn(&mut draws, seconds);
        Part {
            sent,
            received: tally.received,
            received_bytes: tally.bytes,
            wrong: tally.wrong,
            counted: self.counted.sample().since(&before),
        }
    }

    /// Until the first worker's time is over.
    fn fill_and_turn(&mut self, draws: &mut Draws, seconds: f64) -> (Tally, [u64; 2]) {
        let until = Instant::now() + Duration::from_secs_f64(seconds.max(0.0));
        let window = self.next_window();
        let (mut tally, mut sent) = (Tally::new(window, None), [0; 2]);
        loop {
            for _ in 0..FILLING / draws.directions.len() {
                for &direction in draws.directions {
                    let (at, size) = (draws.draw.known() as usize, draws.sizes.next());
                    self.put(direction, at, size, window);
                    sent[direction] += 1;
                }
            }
            if self.me == 0 {
                self.meeting.announce(Instant::now() >= until);
            }
            self.meeting.wait();
            let is_last = self.meeting.is_last();
            self.turns();
            self.meeting.wait();
            self.ports.take_back(&mut tally);
            if is_last {
                return (tally, sent);
            }
        }
    }

    /// Turns of the loop, until they have taken all that is on the ports.
    fn turns(&mut self) {
        while self.ports.io.has_arriving() {
            let now = Tick::from_millis(self.started.elapsed().as_millis() as u64);
            self.worker.poll_once(&mut self.ports.io, now);
        }
    }

    /// Neighbours are forgotten while others are measured.
    fn meet_neighbours(&mut self) {
        self.ports.introduce_neighbours();
        self.turns();
        let window = self.next_window();
        self.ports.take_back(&mut Tally::new(window, None));
    }

    /// A packet of the flow at this place.
    fn put(&mut self, direction: usize, at: usize, size: usize, window: u16) {
        let mark = Mark { window, flow: self.numbers[at], stamp: 0 };
        let frame = match self.templates.of(direction) {
            Writer::In2out(frames) => {
                let frame = &mut self.frame[..frames.len(size)];
                frames.write(frame, size, mark);
                frame
            }
            Writer::Out2in(frames) => {
                let frame = &mut self.frame[..frames.len(size)];
                frames.write(frame, size, self.flows.known()[at].to(), mark);
                frame
            }
        };
        self.ports.put(Side::ALL[direction], frame);
    }

    fn next_window(&mut self) -> u16 {
        self.window = self.window.wrapping_add(1);
        self.window
    }
}

/// By which a flow's owner is found.
fn key(number: u32) -> FlowKey {
    let Flow { pod, l4_port, remote } = Flow::number(number);
    let internal = InternalEndpoint(Endpoint::new(pod, l4_port));
    let remote = RemoteEndpoint(Endpoint::new(remote, plan::REMOTE_L4_PORT));
    FlowKey::in2out(0, Protocol::Udp, internal, remote)
}

#[cfg(test)]
mod tests;
