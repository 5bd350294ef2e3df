//! The session table of one worker: slots of one cache line, and an index for each direction.
//!
//! Both directions of a session live and die together: [`SessionTable::insert`] makes both index
//! entries or none, and [`SessionTable::remove`] takes both. All memory is taken at start, in
//! hugepages where there are any.
//!
//! A look-up is split so that the cache misses of a burst overlap: [`SessionTable::prefetch`] for all
//! packets, then [`SessionTable::locate`] for all, then [`SessionTable::find_at`] for each.

use super::{
    flow::{Address, FlowKey, TableHash},
    index::{Guess, Index},
    session::{NewSession, Session, SessionId, SessionView},
    wheel::{Link, NONE, UNLINKED, Wheel},
};
use crate::{
    memory::{HugeSlice, Pages},
    prefetch::prefetch,
};
use std::{io, net::Ipv4Addr, ops};

/// Which way a packet goes, and so which index knows its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In2out,
    Out2in,
}

/// Memory that a table takes, and the worst kind of pages in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMemory {
    pub bytes: usize,
    pub pages: Pages,
}

impl TableMemory {
    pub(super) fn of<T>(slice: &HugeSlice<T>) -> Self {
        TableMemory { bytes: slice.bytes(), pages: slice.pages() }
    }
}

impl ops::Add for TableMemory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        TableMemory { bytes: self.bytes + other.bytes, pages: self.pages.max(other.pages) }
    }
}

#[derive(Debug)]
pub struct SessionTable<A: Address = Ipv4Addr> {
    hash: TableHash,
    in2out: Index,
    out2in: Index,
    sessions: HugeSlice<Session<A>>,
    asides: HugeSlice<Aside>,
    wheel: Wheel,
    /// Slots below were used at least once.
    used: u32,
    /// The first of a list through the links of free slots below `used`.
    first_free: u32,
    len: u32,
}

/// What is kept of a session and a hit does not need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside {
    /// In the timer wheel; in the list of free slots, when it is one.
    pub(super) link: Link,
    /// When the session began, in seconds.
    created: u32,
}

const NOT_LIVE: u32 = u32::MAX;

impl Aside {
    pub(super) const FREE: Self = Aside { link: UNLINKED, created: NOT_LIVE };
}

/// Why a session could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl<A: Address> SessionTable<A> {
    /// Room for `capacity` sessions, fewer than 2^31.
    pub fn new(capacity: u32, hash: TableHash, pages: Pages) -> io::Result<Self> {
        Ok(SessionTable {
            hash,
            in2out: Index::new(capacity, pages)?,
            out2in: Index::new(capacity, pages)?,
            sessions: HugeSlice::new(capacity as usize, Session::empty(), pages)?,
            asides: HugeSlice::new(capacity as usize, Aside::FREE, pages)?,
            wheel: Wheel::new(),
            used: 0,
            first_free: NONE,
            len: 0,
        })
    }

    pub fn memory(&self) -> TableMemory {
        let slices = TableMemory::of(&self.sessions) + TableMemory::of(&self.asides);
        let mut all = slices + self.in2out.memory() + self.out2in.memory();
        all.bytes += self.wheel.bytes() + size_of::<Self>();
        all
    }

    #[inline(always)]
    pub fn hash(&self) -> &TableHash {
        &self.hash
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_full(&self) -> bool {
        self.len as usize == self.capacity()
    }

    /// All live sessions have an id below this.
    pub(super) fn slots_used(&self) -> u32 {
        self.used
    }

    pub fn is_live(&self, id: SessionId) -> bool {
        self.asides.get(id.0 as usize).is_some_and(|aside| aside.created != NOT_LIVE)
    }

    #[inline(always)]
    fn index(&self, direction: Direction) -> &Index {
        match direction {
            Direction::In2out => &self.in2out,
            Direction::Out2in => &self.out2in,
        }
    }

    /// Starts loading the first line of the index that a look-up will read.
    #[inline(always)]
    pub fn prefetch(&self, direction: Direction, hash: u64) {
        self.index(direction).prefetch(hash);
    }

    /// Where the session most likely is, by that line; and starts loading what is to be read next: the
    /// session, or another line of the index.
    #[inline(always)]
    pub fn locate(&self, direction: Direction, hash: u64) -> Guess {
        let index = self.index(direction);
        let guess = index.guess(hash);
        match guess {
            Guess::Session(id) => self.prefetch_session(id),
            Guess::Further => index.prefetch_second(hash),
            Guess::Absent => {}
        }
        guess
    }

    /// [`SessionTable::locate`] for those that it told to be [`Guess::Further`].
    #[inline]
    pub fn locate_further(&self, direction: Direction, hash: u64) -> Guess {
        let guess = self.index(direction).guess_second(hash);
        if let Guess::Session(id) = guess {
            self.prefetch_session(id);
        }
        guess
    }

    #[inline(always)]
    fn prefetch_session(&self, id: SessionId) {
        if let Some(session) = self.sessions.get(id.0 as usize) {
            prefetch(session);
            if size_of::<Session<A>>() > 64 {
                prefetch(&session.vtep);
            }
        }
    }

    /// The session of `key`, looked for first where it most likely is.
    #[inline(always)]
    pub fn find_at(
        &self,
        guess: Guess,
        direction: Direction,
        hash: u64,
        key: &FlowKey<A>,
    ) -> Option<SessionId> {
        match guess {
            // An earlier packet of the burst may have ended that session. Then its slot is empty, and
            // no packet has an empty slot's key: the parser lets no TCP segment with l4_port 0 through.
            Guess::Session(id) if self.key(direction, id) == *key => Some(id),
            Guess::Session(_) | Guess::Further | Guess::Absent => self.find(direction, hash, key),
        }
    }

    /// The session of `key`.
    pub fn find(&self, direction: Direction, hash: u64, key: &FlowKey<A>) -> Option<SessionId> {
        self.index(direction).find(hash, |id| self.key(direction, id) == *key)
    }

    #[inline(always)]
    fn key(&self, direction: Direction, id: SessionId) -> FlowKey<A> {
        match direction {
            Direction::In2out => self.session(id).in2out_key(),
            Direction::Out2in => self.session(id).out2in_key(),
        }
    }

    #[inline(always)]
    pub fn session(&self, id: SessionId) -> &Session<A> {
        &self.sessions[id.0 as usize]
    }

    #[inline(always)]
    pub(super) fn session_mut(&mut self, id: SessionId) -> &mut Session<A> {
        &mut self.sessions[id.0 as usize]
    }

    pub fn view(&self, id: SessionId) -> SessionView<'_, A> {
        SessionView { session: self.session(id), created: self.asides[id.0 as usize].created }
    }

    /// Adds a session that neither index holds yet; its timer is set to `deadline`. `in2out` and
    /// `out2in` are the hashes of its keys.
    pub fn insert(
        &mut self,
        new: &NewSession<A>,
        in2out: u64,
        out2in: u64,
        deadline: u32,
    ) -> Result<SessionId, TableFull> {
        let id = self.take_slot().ok_or(TableFull)?;
        if self.in2out.insert(in2out, id).is_err() {
            self.give_slot_back(id);
            return Err(TableFull);
        }
        if self.out2in.insert(out2in, id).is_err() {
            self.in2out.remove(in2out, id);
            self.give_slot_back(id);
            return Err(TableFull);
        }
        self.sessions[id.0 as usize] = Session::new(new);
        self.asides[id.0 as usize].created = new.now;
        self.wheel.arm(&mut self.asides, id.0, deadline);
        self.len += 1;
        Ok(id)
    }

    fn take_slot(&mut self) -> Option<SessionId> {
        let id = self.first_free;
        if id != NONE {
            self.first_free =
                std::mem::replace(&mut self.asides[id as usize], Aside::FREE).link.next;
            return Some(SessionId(id));
        }
        let fresh = self.used;
        ((fresh as usize) < self.sessions.len()).then(|| {
            self.used += 1;
            SessionId(fresh)
        })
    }

    fn give_slot_back(&mut self, id: SessionId) {
        let aside = &mut self.asides[id.0 as usize];
        *aside = Aside::FREE;
        aside.link.next = std::mem::replace(&mut self.first_free, id.0);
    }

    /// Removes a live session from both directions.
    pub fn remove(&mut self, id: SessionId) {
        let session = self.session(id);
        let (in2out, out2in) =
            (self.hash.of(&session.in2out_key()), self.hash.of(&session.out2in_key()));
        let both = self.in2out.remove(in2out, id) & self.out2in.remove(out2in, id);
        debug_assert!(both, "a live session is in both indexes");
        self.wheel.disarm(&mut self.asides, id.0);
        self.sessions[id.0 as usize] = Session::empty();
        self.give_slot_back(id);
        self.len -= 1;
    }

    /// Starts loading the index lines that [`SessionTable::remove`] will write.
    pub fn prefetch_removal(&self, id: SessionId) {
        let session = self.session(id);
        self.in2out.prefetch(self.hash.of(&session.in2out_key()));
        self.out2in.prefetch(self.hash.of(&session.out2in_key()));
    }

    /// Sets the session's timer anew.
    pub fn arm(&mut self, id: SessionId, deadline: u32) {
        self.wheel.disarm(&mut self.asides, id.0);
        self.wheel.arm(&mut self.asides, id.0, deadline);
    }

    /// A session whose timer fires at or before `now`, its timer off; its session begins to load.
    pub fn next_due(&mut self, now: u32) -> Option<SessionId> {
        let id = self.wheel.next_due(&mut self.asides, now).map(SessionId)?;
        self.prefetch_session(id);
        Some(id)
    }

    /// Every live session is found by both of its keys, and nothing else is in the table. Panics where
    /// that is not so. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        let live: Vec<_> =
            (0..self.slots_used()).map(SessionId).filter(|id| self.is_live(*id)).collect();
        for id in &live {
            for direction in [Direction::In2out, Direction::Out2in] {
                let key = self.key(direction, *id);
                assert_eq!(self.find(direction, self.hash.of(&key), &key), Some(*id));
            }
        }
        assert_eq!(live.len(), self.len() as usize);
        assert_eq!(self.in2out.entries(), live.len());
        assert_eq!(self.out2in.entries(), live.len());
        assert_eq!(self.wheel.armed(&self.asides), live.len());
        let next = |id: &u32| Some(self.asides[*id as usize].link.next).filter(|id| *id != NONE);
        let first = Some(self.first_free).filter(|id| *id != NONE);
        assert_eq!(std::iter::successors(first, next).count(), self.used as usize - live.len());
    }
}
