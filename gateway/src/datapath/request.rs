//! Questions of the control side to a worker: look at sessions, end sessions, say what would become of a
//! packet, look at neighbours.
//!
//! A session table has one owner, so nobody else reads it. A question comes through a bounded channel
//! and is worked off a bounded number of slots per turn; the answer's memory was allocated by whoever
//! asked.

use super::{
    PacketBuf,
    neighbour_list::{NeighbourPlace, NeighbourRecord, NextHop},
    next_hop::Output,
};
use crate::nat::{
    Nat, Place, PolicyTable, Protocol, SessionRecord, Tick,
    trace::{Fate, Question},
};
use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::{net::IpAddr, sync::Arc};

/// Session slots looked at per turn: some 10 µs where all of them miss the cache.
const SLOTS_PER_TURN: u32 = 128;
/// Neighbours looked at per turn, of one cache line or two each.
const NEIGHBOURS_PER_TURN: usize = 64;
/// Batches of l4_ports that a trace looks up per turn: as many look-ups as a list looks at slots.
const BATCHES_PER_TURN: usize = 2;

/// Which sessions. An empty filter fits all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Internal address.
    pub source: Option<IpAddr>,
    /// Remote address.
    pub destination: Option<IpAddr>,
    pub policy: Option<u32>,
    pub egress_ip: Option<IpAddr>,
    pub protocol: Option<Protocol>,
}

impl SessionFilter {
    pub fn fits(&self, session: &SessionRecord) -> bool {
        fn ok<T: PartialEq>(wanted: Option<T>, value: T) -> bool {
            wanted.is_none_or(|wanted| wanted == value)
        }
        ok(self.source, session.internal.address)
            && ok(self.destination, session.remote.address)
            && ok(self.policy, session.policy)
            && ok(self.egress_ip, session.external.address)
            && ok(self.protocol, session.protocol)
    }
}

/// What a worker is asked to do.
#[derive(Debug)]
pub enum Request {
    /// Show up to `limit` sessions from slot `from` on, in `page`, which has room for them.
    List {
        filter: SessionFilter,
        from: Place,
        limit: usize,
        page: Vec<SessionRecord>,
        reply: Sender<Page>,
    },
    /// End all sessions that fit; the answer is their number.
    Flush { filter: SessionFilter, reply: Sender<u64> },
    /// How many sessions would these policies keep, how many cut?
    Assess { policies: Arc<PolicyTable>, reply: Sender<(u64, u64)> },
    /// What would become of a packet?
    Trace { question: Question, reply: Sender<Foretold> },
    /// Show up to `limit` neighbours from a place on, in `page`, which has room for them.
    Neighbours {
        from: NeighbourPlace,
        limit: usize,
        page: Vec<NeighbourRecord>,
        reply: Sender<NeighbourPage>,
    },
}

/// A packet's fate, and who would get it from the external port (`None`: nobody).
#[derive(Clone, Copy, Debug)]
pub struct Foretold {
    pub fate: Fate,
    pub next_hop: Option<NextHop>,
}

/// Neighbours, and where the next page begins (`None`: this was the last).
#[derive(Debug)]
pub struct NeighbourPage {
    pub neighbours: Vec<NeighbourRecord>,
    pub next: Option<NeighbourPlace>,
}

/// Sessions, and where the next page begins (`None`: this was the last).
#[derive(Debug)]
pub struct Page {
    pub sessions: Vec<SessionRecord>,
    pub next: Option<Place>,
}

/// The worker's end of the channel, with the request that is being worked off.
#[derive(Debug)]
pub struct Requests {
    channel: Receiver<Request>,
    current: Option<(Request, Progress)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The slot to go on with, or neighbour, or number of an l4_port.
    next: u32,
    /// Sessions that fit (were flushed, would be kept), and that did not.
    counted: (u64, u64),
    /// Of a trace whose l4_ports are being counted.
    foretold: Option<Foretold>,
}

impl Requests {
    pub fn new(channel: Receiver<Request>) -> Self {
        Requests { channel, current: None }
    }

    /// Whether a request is half answered.
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Goes on with the current request, or takes the next one.
    pub fn turn<B: PacketBuf>(
        &mut self,
        nat: &mut Nat,
        output: &Output<B>,
        policies: &PolicyTable,
        now: Tick,
    ) {
        let (request, progress) = match self.current.take() {
            Some(current) => current,
            None => match self.channel.try_recv() {
                Ok(request) => {
                    let progress = Progress { next: request.first(), ..Progress::default() };
                    (request, progress)
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            },
        };
        self.current = request.advance(progress, (nat, output), policies, now);
    }
}

impl Request {
    /// What to begin with.
    fn first(&self) -> u32 {
        match self {
            Request::List { from, .. } | Request::Neighbours { from, .. } => *from,
            Request::Flush { .. } | Request::Assess { .. } | Request::Trace { .. } => 0,
        }
    }

    /// A few slots' worth of work; `None` when the request is answered. An asker that went away is no
    /// error: its answer is dropped.
    fn advance<B: PacketBuf>(
        mut self,
        mut progress: Progress,
        (nat, output): (&mut Nat, &Output<B>),
        in_force: &PolicyTable,
        now: Tick,
    ) -> Option<(Self, Progress)> {
        let next = match &mut self {
            Request::List { filter, limit, page, .. } => {
                nat.visit(progress.next, SLOTS_PER_TURN, in_force, now, |_, session| {
                    if filter.fits(&session) {
                        page.push(session);
                    }
                    page.len() < *limit
                })
            }
            Request::Flush { filter, .. } => {
                let mut fitting = ArrayVec::<Place, { SLOTS_PER_TURN as usize }>::new();
                let next =
                    nat.visit(progress.next, SLOTS_PER_TURN, in_force, now, |place, session| {
                        if filter.fits(&session) {
                            fitting.push(place);
                        }
                        true
                    });
                progress.counted.0 += fitting.len() as u64;
                for place in fitting {
                    nat.flush(place);
                }
                next
            }
            Request::Assess { policies, .. } => {
                let ((kept, cut), next) = nat.assess(progress.next, SLOTS_PER_TURN, policies);
                progress.counted.0 += kept;
                progress.counted.1 += cut;
                next
            }
            Request::Trace { question, .. } => {
                let foretold = progress.foretold.get_or_insert_with(|| Foretold {
                    fate: nat.foretell(question, in_force, now),
                    next_hop: output.next_hop_of(question.destination(), now),
                });
                let mut next = Some(progress.next);
                for _ in 0..BATCHES_PER_TURN {
                    let Some(first) = next else { break };
                    next = nat.count_l4_ports(question, &mut foretold.fate, first);
                }
                next
            }
            Request::Neighbours { limit, page, .. } => {
                output.list_neighbours(progress.next, NEIGHBOURS_PER_TURN, now, |neighbour| {
                    page.push(neighbour);
                    page.len() < *limit
                })
            }
        };
        match (self, next) {
            (Request::List { page: sessions, limit, reply, .. }, next)
                if next.is_none() || sessions.len() >= limit =>
            {
                let _ = reply.try_send(Page { sessions, next });
                None
            }
            (Request::Flush { reply, .. }, None) => {
                let _ = reply.try_send(progress.counted.0);
                None
            }
            // Whoever asked holds the policies too, so that they are not freed here.
            (Request::Assess { reply, .. }, None) => {
                let _ = reply.try_send(progress.counted);
                None
            }
            (Request::Trace { reply, .. }, None) => {
                // The first turn has asked, whatever else it did.
                if let Some(foretold) = progress.foretold {
                    let _ = reply.try_send(foretold);
                }
                None
            }
            (Request::Neighbours { page: neighbours, limit, reply, .. }, next)
                if next.is_none() || neighbours.len() >= limit =>
            {
                let _ = reply.try_send(NeighbourPage { neighbours, next });
                None
            }
            (request, next) => {
                progress.next = next.unwrap_or(u32::MAX);
                Some((request, progress))
            }
        }
    }
}
