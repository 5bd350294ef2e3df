//! Questions of the control side to a worker: look at sessions, end sessions.
//!
//! A session table has one owner, so nobody else reads it. A question comes through a bounded channel
//! and is worked off a bounded number of slots per turn; the answer's memory was allocated by whoever
//! asked.

use crate::nat::{Nat, Place, PolicyTable, Protocol, SessionRecord, Tick};
use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::{net::IpAddr, sync::Arc};

/// Session slots looked at per turn: some 10 µs where all of them miss the cache.
const SLOTS_PER_TURN: u32 = 128;

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
    /// The slot to go on with.
    next: Place,
    /// Sessions that fit (were flushed, would be kept), and that did not.
    counted: (u64, u64),
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
    pub fn turn(&mut self, nat: &mut Nat, policies: &PolicyTable, now: Tick) {
        let (request, progress) = match self.current.take() {
            Some(current) => current,
            None => match self.channel.try_recv() {
                Ok(request) => {
                    let progress = Progress { next: request.first_slot(), counted: (0, 0) };
                    (request, progress)
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            },
        };
        self.current = request.advance(progress, nat, policies, now);
    }
}

impl Request {
    fn first_slot(&self) -> Place {
        match self {
            Request::List { from, .. } => *from,
            Request::Flush { .. } | Request::Assess { .. } => 0,
        }
    }

    /// A few slots' worth of work; `None` when the request is answered. An asker that went away is no
    /// error: its answer is dropped.
    fn advance(
        mut self,
        mut progress: Progress,
        nat: &mut Nat,
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
            (request, next) => {
                progress.next = next.unwrap_or(u32::MAX);
                Some((request, progress))
            }
        }
    }
}
