//! The sessions of one worker and one address family: looking them up, ageing them, ending them.

use super::{
    Direction, FlowKey, Guess, NatConfig, PolicySessions, PolicyTable, SessionCounts, SessionId,
    SessionView, TableHash, TableMemory, Tick, Timeouts,
    l4_port::L4Ports,
    lending::{RETURNS, Returned, STUB_IDLE},
    table::SessionTable,
};
use crate::{memory::Pages, wire::Address};
use arrayvec::ArrayVec;
use rand_chacha::ChaCha8Rng;
use std::{collections::VecDeque, io, sync::Arc};

/// A look-up on its way through the stages of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    pub(super) hash: u64,
    pub(super) guess: Guess,
}

/// A parsed packet of a flow.
pub trait FlowPacket {
    const DIRECTION: Direction;
    type Address: Address;

    fn key(&self) -> &FlowKey<Self::Address>;
}

/// The translation of one family.
///
/// A packet goes through [`Translation::look_up`], [`Translation::locate`],
/// [`Translation::locate_further`] and then [`Translation::in2out`] or [`Translation::out2in`]; a burst
/// goes through each of them as a whole.
#[derive(Debug)]
pub struct Translation<A: Address> {
    pub(super) table: SessionTable<A>,
    pub(super) timeouts: Timeouts,
    pub(super) mss_limit: u16,
    pub(super) l4_ports: L4Ports<A>,
    pub(super) policy_sessions: Arc<PolicySessions>,
    pub(super) counts: SessionCounts,
    /// Slots that lead packets to a borrower.
    pub(super) stubs: u32,
    /// Sessions whose l4_port is another worker's.
    pub(super) borrowed: u32,
    /// Loans that ended and were not yet told to their lenders.
    pub(super) returns: VecDeque<Returned<A>>,
    /// Where the search for sessions of an older epoch goes on; see [`Translation::sweep`].
    sweep: Sweep,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    epoch: u16,
    next: u32,
    /// Slots that are still to be looked at.
    left: u32,
}

/// Sessions whose end is prepared together, so that their cache misses overlap.
const EXPIRE_BATCH: usize = 32;

impl<A: Address> Translation<A> {
    pub(super) fn new(
        config: &NatConfig,
        mut random: ChaCha8Rng,
        policy_sessions: Arc<PolicySessions>,
    ) -> io::Result<Self> {
        let hash = TableHash::new(&mut random);
        let max_sessions = *config.max_sessions.of::<A>();
        // A family that is not translated takes no hugepage.
        let pages = if max_sessions == 0 { Pages::Transparent } else { config.pages };
        Ok(Translation {
            table: SessionTable::new(max_sessions, hash, pages)?,
            timeouts: config.timeouts,
            mss_limit: *config.mss_limit.of::<A>(),
            l4_ports: L4Ports::new(random, config.l4_ports.clone(), max_sessions),
            policy_sessions,
            counts: SessionCounts::default(),
            stubs: 0,
            borrowed: 0,
            returns: VecDeque::with_capacity(RETURNS),
            sweep: Sweep::default(),
        })
    }

    /// Of the sessions and of the books of l4_ports; nothing where there is no room for sessions.
    pub fn memory(&self) -> TableMemory {
        if self.table.capacity() == 0 {
            return TableMemory { bytes: 0, pages: Pages::Huge };
        }
        let TableMemory { bytes, pages } = self.table.memory();
        TableMemory { bytes: bytes + self.l4_ports.bytes(), pages }
    }

    /// First stage: the flow's hash; its line of the index begins to load.
    #[inline(always)]
    pub fn look_up(&self, direction: Direction, key: &FlowKey<A>) -> Lookup {
        let hash = self.table.hash().of(key);
        self.table.prefetch(direction, hash);
        Lookup { hash, guess: Guess::Further }
    }

    /// Second stage: where the session is by that line; it begins to load.
    #[inline(always)]
    pub fn locate(&self, direction: Direction, lookup: &mut Lookup) {
        lookup.guess = self.table.locate(direction, lookup.hash);
    }

    /// The second stage once more, for those that it left [`Guess::Further`].
    #[inline(always)]
    pub fn locate_further(&self, direction: Direction, lookup: &mut Lookup) {
        if lookup.guess == Guess::Further {
            lookup.guess = self.table.locate_further(direction, lookup.hash);
        }
    }

    /// Whether there ever was a session.
    pub(super) fn has_slots(&self) -> bool {
        self.table.slots_used() > 0
    }

    /// Live sessions.
    pub fn sessions(&self) -> u32 {
        self.table.len() - self.stubs
    }

    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Ends sessions that were idle too long; looks at no more than `budget` of them.
    pub fn expire(&mut self, now: Tick, budget: usize) {
        let mut left = budget;
        while left > 0 {
            let batch = left.min(EXPIRE_BATCH);
            if self.expire_batch(now.seconds(), batch) < batch {
                return;
            }
            left -= batch;
        }
    }

    /// Returns how many timers had fired.
    fn expire_batch(&mut self, now: u32, most: usize) -> usize {
        let mut due = ArrayVec::<SessionId, EXPIRE_BATCH>::new();
        while due.len() < most {
            let Some(id) = self.table.next_due(now) else { break };
            due.push(id);
        }
        let fired = due.len();
        due.retain(|id| {
            let session = self.table.session(*id);
            let deadline = match session.borrower() {
                Some(_) => now + STUB_IDLE,
                None => session.last_heard + self.timeouts.of(session.state()),
            };
            if deadline > now {
                // A packet came since the timer was set. Hits only note the time on the session's own
                // cache line; the timer catches up here.
                self.table.arm(*id, deadline);
                return false;
            }
            self.table.prefetch_removal(*id);
            true
        });
        for id in due {
            self.remove(id);
            self.counts.expired += 1;
        }
        fired
    }

    /// Whether there are slots that a sweep has not looked at.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.left > 0
    }

    /// Goes on looking for sessions that the policies in force no longer allow, `budget` slots at a
    /// time. Packets check their own session anyway; this ends the ones that are silent.
    pub fn sweep(&mut self, policies: &PolicyTable, budget: u32) {
        let slots = self.table.slots_used();
        if self.sweep.epoch != policies.epoch() {
            // From where it is, all around: begun anew by each of many changes, it would never come to
            // the last slots.
            self.sweep = Sweep { epoch: policies.epoch(), left: slots, ..self.sweep };
        }
        let looked_at = budget.min(self.sweep.left);
        for _ in 0..looked_at {
            let id = SessionId(if self.sweep.next < slots { self.sweep.next } else { 0 });
            self.sweep.next = id.0 + 1;
            if self.is_session(id) && !self.still_allowed(id, policies) {
                self.cut(id);
            }
        }
        self.sweep.left -= looked_at;
    }

    /// Whether the slot holds a session, and no stub.
    fn is_session(&self, id: SessionId) -> bool {
        self.table.is_live(id) && self.table.session(id).borrower().is_none()
    }

    /// Looks at up to `slots` session slots from `first` on and shows the live ones to `visit`, until
    /// it returns false. Returns where to go on, or `None` after the last.
    pub fn visit(
        &self,
        first: u32,
        slots: u32,
        mut visit: impl FnMut(SessionId, SessionView<'_, A>) -> bool,
    ) -> Option<u32> {
        let end = first.saturating_add(slots).min(self.table.slots_used());
        for id in (first..end).map(SessionId) {
            if self.is_session(id) && !visit(id, self.table.view(id)) {
                return Some(id.0 + 1);
            }
        }
        (end < self.table.slots_used()).then_some(end)
    }

    /// Ends one session at an operator's wish.
    pub fn flush(&mut self, id: SessionId) {
        if self.is_session(id) {
            self.remove(id);
            self.counts.flushed += 1;
        }
    }

    /// True while the session's policy is here and still has its egress IP, and its node may still
    /// send for its pod. Then the session is of the current epoch.
    pub(super) fn still_allowed(&mut self, id: SessionId, policies: &PolicyTable) -> bool {
        if self.table.session(id).epoch == policies.epoch() {
            return true;
        }
        let allowed = policies.allows(&self.table.view(id));
        if allowed {
            self.table.session_mut(id).epoch = policies.epoch();
        }
        allowed
    }

    pub(super) fn cut(&mut self, id: SessionId) {
        self.remove(id);
        self.counts.cut += 1;
    }

    /// Removes a session or a stub. Its l4_port is free then, or goes home.
    pub(super) fn remove(&mut self, id: SessionId) {
        let session = self.table.session(id);
        let key = session.out2in_key();
        match session.borrower() {
            Some(_) => self.stubs -= 1,
            None => {
                self.policy_sessions.removed(session.policy());
                self.policy_sessions.l4_ports().gave_back(&key);
            }
        }
        let (pool, l4_port) = (key.pool(), key.ours().l4_port);
        if self.l4_ports.share_of(&pool).contains(l4_port) {
            self.l4_ports.gave_back(&pool, l4_port);
        } else {
            self.borrowed -= 1;
            self.returns.push_back(Returned(key));
        }
        self.table.remove(id);
    }

    /// Panics where the table contradicts itself. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
    }
}
