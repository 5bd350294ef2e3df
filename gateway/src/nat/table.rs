//! The session table of one worker: slots of one cache line, and an index for each direction.
//!
//! Both directions of a session live and die together: [`SessionTable::insert`] makes both index
//! entries or none, and [`SessionTable::remove`] takes both. All memory is taken at start.

use super::{
    flow::{FlowKey, TableHash},
    index::Index,
    session::{NewSession, Session, SessionId, SessionView},
    wheel::Wheel,
};
use crate::prefetch::prefetch;

#[derive(Debug)]
pub(super) struct SessionTable {
    hash: TableHash,
    in2out: Index,
    out2in: Index,
    /// Slots below its length were used at least once.
    slots: Vec<Session>,
    capacity: u32,
    free: Vec<u32>,
    wheel: Wheel,
    /// When each session began, in seconds, and whether the slot is live: not needed by a hit, so
    /// not on the session's line.
    created: Box<[u32]>,
}

const NOT_LIVE: u32 = u32::MAX;

/// Why a session could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableFull;

impl SessionTable {
    pub(super) fn new(capacity: u32, hash: TableHash) -> Self {
        SessionTable {
            hash,
            in2out: Index::new(capacity),
            out2in: Index::new(capacity),
            slots: Vec::with_capacity(capacity as usize),
            capacity,
            free: Vec::with_capacity(capacity as usize),
            wheel: Wheel::new(capacity),
            created: vec![NOT_LIVE; capacity as usize].into_boxed_slice(),
        }
    }

    pub(super) fn hash(&self) -> &TableHash {
        &self.hash
    }

    pub(super) fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// All live sessions have an id below this.
    pub(super) fn slots_used(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn is_live(&self, id: SessionId) -> bool {
        self.created.get(id.0 as usize).is_some_and(|at| *at != NOT_LIVE)
    }

    pub(super) fn prefetch_in2out(&self, hash: u64) {
        self.in2out.prefetch(hash);
    }

    pub(super) fn prefetch_out2in(&self, hash: u64) {
        self.out2in.prefetch(hash);
    }

    /// Starts loading the session that the bucket's tags point to.
    pub(super) fn prefetch_session_in2out(&self, hash: u64) {
        Self::prefetch_session(&self.slots, self.in2out.guess(hash));
    }

    pub(super) fn prefetch_session_out2in(&self, hash: u64) {
        Self::prefetch_session(&self.slots, self.out2in.guess(hash));
    }

    fn prefetch_session(slots: &[Session], guess: Option<SessionId>) {
        if let Some(session) = guess.and_then(|id| slots.get(id.0 as usize)) {
            prefetch(session);
        }
    }

    #[inline]
    pub(super) fn find_in2out(&self, hash: u64, key: &FlowKey) -> Option<SessionId> {
        self.in2out.find(hash, |id| self.session(id).in2out_key() == *key)
    }

    #[inline]
    pub(super) fn find_out2in(&self, hash: u64, key: &FlowKey) -> Option<SessionId> {
        self.out2in.find(hash, |id| self.session(id).out2in_key() == *key)
    }

    #[inline]
    pub(super) fn session(&self, id: SessionId) -> &Session {
        &self.slots[id.0 as usize]
    }

    #[inline]
    pub(super) fn session_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.slots[id.0 as usize]
    }

    pub(super) fn view(&self, id: SessionId) -> SessionView {
        SessionView::new(self.session(id), self.created[id.0 as usize])
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Adds a session that neither index holds yet; its timer is set to `deadline`.
    pub(super) fn insert(
        &mut self,
        new: &NewSession,
        deadline: u32,
    ) -> Result<SessionId, TableFull> {
        let session = Session::new(new);
        let (forward, back) =
            (self.hash.of(&session.in2out_key()), self.hash.of(&session.out2in_key()));
        let id = self.take_slot(session).ok_or(TableFull)?;
        if self.in2out.insert(forward, id).is_err() {
            self.free.push(id.0);
            return Err(TableFull);
        }
        if self.out2in.insert(back, id).is_err() {
            self.in2out.remove(forward, id);
            self.free.push(id.0);
            return Err(TableFull);
        }
        self.created[id.0 as usize] = new.now;
        self.wheel.arm(id.0, deadline);
        Ok(id)
    }

    fn take_slot(&mut self, session: Session) -> Option<SessionId> {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = session;
            return Some(SessionId(id));
        }
        if self.slots.len() as u32 == self.capacity {
            return None;
        }
        self.slots.push(session);
        Some(SessionId(self.slots.len() as u32 - 1))
    }

    /// Removes a live session from both directions.
    pub(super) fn remove(&mut self, id: SessionId) {
        let session = self.session(id);
        let (forward, back) =
            (self.hash.of(&session.in2out_key()), self.hash.of(&session.out2in_key()));
        let both = self.in2out.remove(forward, id) & self.out2in.remove(back, id);
        debug_assert!(both, "a live session is in both indexes");
        self.wheel.disarm(id.0);
        self.created[id.0 as usize] = NOT_LIVE;
        self.free.push(id.0);
    }

    pub(super) fn arm(&mut self, id: SessionId, deadline: u32) {
        self.wheel.arm(id.0, deadline);
    }

    pub(super) fn next_due(&mut self, now: u32) -> Option<SessionId> {
        self.wheel.next_due(now).map(SessionId)
    }

    /// Every live session is found by both of its keys, and nothing else is in the table.
    pub(super) fn check_invariants(&self) {
        let live: Vec<_> =
            (0..self.slots_used()).map(SessionId).filter(|id| self.is_live(*id)).collect();
        for id in &live {
            let session = self.session(*id);
            let (forward, back) = (session.in2out_key(), session.out2in_key());
            assert_eq!(self.find_in2out(self.hash.of(&forward), &forward), Some(*id));
            assert_eq!(self.find_out2in(self.hash.of(&back), &back), Some(*id));
        }
        assert_eq!(live.len(), self.len() as usize);
        assert_eq!(self.in2out.entries(), live.len());
        assert_eq!(self.out2in.entries(), live.len());
        assert_eq!(self.wheel.armed(), live.len());
    }
}
