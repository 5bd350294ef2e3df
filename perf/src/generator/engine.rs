//! What runs on the generator's core: both devices, the flows, and the steps, one after the other.

use super::{
    Steps, arp,
    clock::Clock,
    ends::Ends,
    flows::Flows,
    frames::{In2outFrames, Out2inFrames},
    judge::Judge,
    lane::{Arrival, Lane, Taker},
    ring_gateway::Pulse,
    seconds::Published,
    send::Writer,
};
use crate::job::{Checksums, Event, FarSide, Job, Step};
use anyhow::{Context, Result, bail};
use gateway::{dpdk::Mempool, verdict::Side, wire::MacAddress};
use std::{sync::Arc, thread, time::Duration};

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) far_side: FarSide,
    pub(super) nodes: u32,
    checksums: Checksums,
    /// Tunnel, external.
    pub(super) lanes: [Lane; 2],
    pub(super) pool: Mempool,
    pub(super) flows: Flows,
    pub(super) clock: Clock,
    pub(super) published: Arc<Published>,
    /// Of the gateway in this process, if there is one.
    pub(super) pulse: Option<Arc<Pulse>>,
    pub(super) is_established: bool,
    window: u16,
}

/// The frames of both directions, to the system's present MACs.
#[derive(Debug)]
pub(super) struct Templates {
    in2out: In2outFrames,
    out2in: Out2inFrames,
}

impl Templates {
    /// To the ports of a system with these MACs: tunnel, external.
    pub(super) fn new(macs: [MacAddress; 2], nodes: u32, checksums: Checksums) -> Self {
        Templates {
            in2out: In2outFrames::new(macs[0], nodes, checksums),
            out2in: Out2inFrames::new(macs[1], checksums),
        }
    }

    pub(super) fn of(&self, direction: usize) -> Writer<'_> {
        match direction {
            IN2OUT => Writer::In2out(&self.in2out),
            _ => Writer::Out2in(&self.out2in),
        }
    }
}

/// Directions as indices; in2out is sent by the lane of the same number, the tunnel's, and comes by the
/// other.
pub(super) const IN2OUT: usize = 0;
pub(super) const OUT2IN: usize = 1;

/// Of the direction of what comes at this side.
#[inline(always)]
pub(super) fn direction_at(side: Side) -> usize {
    1 - side.index()
}

const ARP_EVERY: Duration = Duration::from_millis(100);
const ARP_TRIES: u32 = 100;

/// For times in which nothing is expected but ARP.
struct Nobody;

impl Taker for Nobody {
    fn right(&mut self, _side: Side, _arrival: &Arrival) {}

    fn wrong(&mut self) {}
}

/// Nothing runs between steps.
impl Steps for Engine {
    fn step(&mut self, step: &Step) -> Event {
        self.run(true);
        let result = self.fresh_start().and_then(|()| match *step {
            Step::Establish => self.establish(),
            Step::Send { load, packets_per_second, warm_up, seconds } => {
                self.send(load, packets_per_second, warm_up, seconds)
            }
            Step::Search { load, loss, seconds } => self.search(load, loss, seconds),
            Step::NewSessions { per_second, seconds } => self.new_sessions(per_second, seconds),
            Step::Capacity { most } => self.capacity(most),
        });
        self.publish();
        self.run(false);
        result.unwrap_or_else(|error| Event::Failed(format!("{error:#}")))
    }
}

impl Engine {
    pub(super) fn new(job: &Job, ends: &mut Ends, hz: u64) -> Result<Self> {
        let flows = Flows::new(job.flows, job.hugepages)
            .with_context(|| format!("no memory for {} flows", job.flows))?;
        let judge = |side| Judge::new(side, job.far_side, job.nodes);
        let [tunnel, external] = ends.queues.take().context("the devices are in use")?;
        Ok(Engine {
            far_side: job.far_side,
            nodes: job.nodes,
            checksums: job.checksums,
            lanes: [
                Lane::new(Side::Tunnel, tunnel, judge(Side::Tunnel), job.nodes),
                Lane::new(Side::External, external, judge(Side::External), job.nodes),
            ],
            pool: ends.pool,
            flows,
            clock: Clock::new(hz, ends.is_kernels),
            published: Arc::clone(&ends.published),
            pulse: ends.pulse.clone(),
            is_established: false,
            window: 0,
        })
    }

    fn run(&self, runs: bool) {
        if let Some(pulse) = &self.pulse {
            pulse.run(runs);
        }
    }

    /// Takes what came while nobody looked, and answers what was asked meanwhile.
    fn fresh_start(&mut self) -> Result<()> {
        while self.receive(&mut Nobody) > 0 {}
        self.clock.begin();
        Ok(())
    }

    /// One burst or some from each device; returns how many frames there were.
    #[inline(always)]
    pub(super) fn receive(&mut self, taker: &mut impl Taker) -> usize {
        let mut received = 0;
        for lane in &mut self.lanes {
            received += lane.receive(&mut self.clock, taker);
            lane.answer(&self.pool);
        }
        received
    }

    #[inline(always)]
    pub(super) fn publish(&self) {
        for (side, lane) in Side::ALL.into_iter().zip(&self.lanes) {
            self.published.set(side, &lane.totals);
        }
    }

    /// A number that no packet under way has.
    pub(super) fn next_window(&mut self) -> u16 {
        self.window = self.window.wrapping_add(1);
        self.window
    }

    /// Frames to the system as it is known.
    pub(super) fn templates(&self) -> Result<Templates> {
        let mac = |side: Side| match (self.lanes[side.index()].system, self.far_side) {
            (Some(mac), _) => Ok(mac),
            // A wire looks at no MAC.
            (None, FarSide::Wire) => Ok(MacAddress([2, 0, 0, 0, 0, 1])),
            (None, FarSide::Nat | FarSide::Router) => {
                bail!("nothing is known of the system's {side} port: Establish must come first")
            }
        };
        let macs = [mac(Side::Tunnel)?, mac(Side::External)?];
        Ok(Templates::new(macs, self.nodes, self.checksums))
    }

    /// Asks for the system until it has answered on both sides.
    pub(super) fn resolve(&mut self) -> Result<()> {
        if self.far_side == FarSide::Wire {
            return Ok(());
        }
        self.lanes.iter_mut().for_each(|lane| lane.system = None);
        for _ in 0..ARP_TRIES {
            for (side, lane) in Side::ALL.into_iter().zip(&mut self.lanes) {
                if lane.system.is_none() {
                    lane.say(&self.pool, &arp::questions(side, self.nodes));
                }
            }
            let until = std::time::Instant::now() + ARP_EVERY;
            while std::time::Instant::now() < until {
                self.receive(&mut Nobody);
                if self.lanes.iter().all(|lane| lane.system.is_some()) {
                    return Ok(());
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
        let silent: Vec<_> = Side::ALL
            .into_iter()
            .filter(|side| self.lanes[side.index()].system.is_none())
            .map(|side| format!("{} on the {side} device", arp::system(side)))
            .collect();
        bail!("no answer to ARP from {} within {:?}", silent.join(" and "), ARP_EVERY * ARP_TRIES)
    }
}
