//! Questions of the control side to a worker: look at sessions, end sessions.
//!
//! A session table has one owner, so nobody else reads it. A question comes through a bounded channel
//! and is worked off a bounded number of slots per turn; the answer's memory was allocated by whoever
//! asked.

use crate::nat::{Nat, Protocol, SessionId, SessionView};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::net::Ipv4Addr;

/// Session slots looked at per turn: some 10 µs where all of them miss the cache.
const SLOTS_PER_TURN: u32 = 128;

/// Which sessions. An empty filter fits all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Internal address.
    pub source: Option<Ipv4Addr>,
    /// Remote address.
    pub destination: Option<Ipv4Addr>,
    pub policy: Option<u32>,
    pub egress_ip: Option<Ipv4Addr>,
    pub protocol: Option<Protocol>,
}

impl SessionFilter {
    pub fn fits(&self, session: &SessionView) -> bool {
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
    /// Show sessions from slot `from` on, until `page` is at its capacity.
    List { filter: SessionFilter, from: u32, page: Vec<SessionView>, reply: Sender<Page> },
    /// End all sessions that fit; the answer is their number.
    Flush { filter: SessionFilter, reply: Sender<u64> },
}

/// Sessions, and where the next page begins (`None`: this was the last).
#[derive(Debug)]
pub struct Page {
    pub sessions: Vec<SessionView>,
    pub next: Option<u32>,
}

/// The worker's end of the channel, with the request that is being worked off.
#[derive(Debug)]
pub struct Requests {
    channel: Receiver<Request>,
    current: Option<(Request, Progress)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    next: u32,
    flushed: u64,
}

impl Requests {
    pub fn new(channel: Receiver<Request>) -> Self {
        Requests { channel, current: None }
    }

    /// Goes on with the current request, or takes the next one.
    pub fn turn(&mut self, nat: &mut Nat) {
        if self.current.is_none() {
            match self.channel.try_recv() {
                Ok(request) => {
                    let next = match &request {
                        Request::List { from, .. } => *from,
                        Request::Flush { .. } => 0,
                    };
                    self.current = Some((request, Progress { next, flushed: 0 }));
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
        if let Some((request, progress)) = self.current.take() {
            self.current = advance(request, progress, nat);
        }
    }
}

/// A few slots' worth of work; `None` when the request is answered. An asker that went away is no
/// error: its answer is dropped.
fn advance(request: Request, mut progress: Progress, nat: &mut Nat) -> Option<(Request, Progress)> {
    match request {
        Request::List { filter, from, mut page, reply } => {
            let limit = page.capacity();
            let next = nat.visit(progress.next, SLOTS_PER_TURN, |_, session| {
                if page.len() < limit && filter.fits(&session) {
                    page.push(session);
                }
                page.len() < limit
            });
            match next {
                Some(next) if page.len() < limit => {
                    progress.next = next;
                    Some((Request::List { filter, from, page, reply }, progress))
                }
                next => {
                    let _ = reply.try_send(Page { sessions: page, next });
                    None
                }
            }
        }
        Request::Flush { filter, reply } => {
            let mut fitting = arrayvec::ArrayVec::<SessionId, { SLOTS_PER_TURN as usize }>::new();
            let next = nat.visit(progress.next, SLOTS_PER_TURN, |id, session| {
                if filter.fits(&session) {
                    fitting.push(id);
                }
                true
            });
            progress.flushed += fitting.len() as u64;
            for id in fitting {
                nat.flush(id);
            }
            match next {
                Some(next) => {
                    progress.next = next;
                    Some((Request::Flush { filter, reply }, progress))
                }
                None => {
                    let _ = reply.try_send(progress.flushed);
                    None
                }
            }
        }
    }
}
