//! Bitmaps of the free l4_ports of those pools where random tries fail.
//!
//! A bitmap begins empty and grows: each new session of its pool searches some more of the share in the
//! session table, and takes a free l4_port of what is known by then. What begins and ends meanwhile is
//! noted where it is known already, and is found later where it is not. The search starts anywhere, so
//! that nobody knows which l4_ports come first.
//!
//! A bitmap is kept while at least half of what it knows is taken; while it grows, three quarters must be,
//! lest it come and go. A complete one thus stands for at least half a share of live sessions, and
//! `max_sessions / (half a share)` of them is all there can be. There is one more than that: so where none is
//! unused, one is incomplete, and whoever needs one takes that. Its pool begins again when its tries fail.
//! Of a share of 64,512 a bitmap takes 8 KiB, which is a quarter of a byte for each of its sessions.

use super::{BATCH, PoolShare, below, bitmap::Bitmap};
use crate::nat::flow::{
    Address, Endpoint, ExternalEndpoint, FlowKey, Protocol, RemoteEndpoint, TableHash,
};
use arrayvec::ArrayVec;
use rand_chacha::ChaCha8Rng;

/// How much of the share a new session of a pool with an incomplete bitmap searches at least.
const STEP: u32 = 512;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<A: Address> {
    pool: FlowKey<A>,
    /// By place: the number of an l4_port in the share, less that of the first that was searched.
    free: Bitmap,
    /// The number in the share of the l4_port at place 0.
    origin: u32,
    /// Places below are known.
    known: u32,
    /// How many of these are taken.
    taken: u32,
    /// In the list of its bucket, or of the unused slots.
    next: u32,
}

impl<A: Address> Slot<A> {
    /// `index` numbers an l4_port in a share of `len`.
    #[inline]
    fn place_of(&self, index: u32, len: u32) -> u32 {
        if index >= self.origin { index - self.origin } else { index + len - self.origin }
    }

    #[inline]
    fn index_of(&self, place: u32, len: u32) -> u32 {
        let index = place + self.origin;
        if index >= len { index - len } else { index }
    }

    /// Learns about the next l4_ports of the share.
    fn search(&mut self, share: &PoolShare<'_>, taken: &mut impl FnMut(&[u16]) -> u64) {
        let len = share.len();
        let end = (self.known + STEP).min(len);
        while self.known < end {
            let mut l4_ports = [0; BATCH];
            let batch = BATCH.min((end - self.known) as usize);
            for (place, l4_port) in (self.known..).zip(&mut l4_ports[..batch]) {
                *l4_port = share.nth(self.index_of(place, len)).unwrap_or_default();
            }
            let taken = taken(&l4_ports[..batch]);
            for bit in 0..batch as u32 {
                if taken & 1 << bit == 0 {
                    self.free.insert(self.known + bit);
                } else {
                    self.taken += 1;
                }
            }
            self.known += batch as u32;
        }
    }

    /// One of the free ones that are known, each as likely as any other.
    fn any_free(&self, random: &mut ChaCha8Rng) -> Option<u32> {
        self.free.nth(below(random, self.known - self.taken))
    }
}

#[derive(Debug)]
pub(super) struct HeavyPools<A: Address> {
    hash: TableHash,
    slots: Box<[Slot<A>]>,
    /// By hash: the first slot of a list.
    buckets: Box<[u32]>,
    /// The first of the list of unused slots.
    unused: u32,
    len: usize,
}

impl<A: Address> HeavyPools<A> {
    pub(super) fn new(hash: TableHash, share_len: u32, max_sessions: u32) -> Self {
        let complete = max_sessions.checked_div(share_len.div_ceil(2));
        let capacity = complete.map_or(0, |complete| complete + 1);
        let anyone = Endpoint::new(A::UNSPECIFIED, 0);
        let (external, remote) = (ExternalEndpoint(anyone), RemoteEndpoint(anyone));
        let pool = FlowKey::out2in(Protocol::Tcp, external, remote);
        let slot = |i: u32| Slot {
            pool,
            free: Bitmap::new(share_len),
            origin: 0,
            known: 0,
            taken: 0,
            next: if i + 1 < capacity { i + 1 } else { NONE },
        };
        HeavyPools {
            hash,
            slots: (0..capacity).map(slot).collect(),
            buckets: vec![NONE; capacity as usize].into(),
            unused: if capacity > 0 { 0 } else { NONE },
            len: 0,
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let bitmaps: usize = self.slots.iter().map(|slot| slot.free.bytes()).sum();
        bitmaps + size_of_val(&*self.slots) + size_of_val(&*self.buckets)
    }

    pub(super) fn contains(&self, pool: &FlowKey<A>) -> bool {
        !self.is_empty() && self.find(pool).is_some()
    }

    fn find(&self, pool: &FlowKey<A>) -> Option<usize> {
        self.list(self.bucket(pool)).find(|at| self.slots[*at].pool == *pool)
    }

    fn bucket(&self, pool: &FlowKey<A>) -> usize {
        (((self.hash.of(pool) >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn list(&self, bucket: usize) -> impl Iterator<Item = usize> {
        let slot = |id: u32| (id != NONE).then_some(id as usize);
        std::iter::successors(slot(self.buckets[bucket]), move |at| slot(self.slots[*at].next))
    }

    /// A free l4_port of a pool whose random tries failed, or that has a bitmap.
    pub(super) fn pick(
        &mut self,
        pool: &FlowKey<A>,
        random: &mut ChaCha8Rng,
        share: &PoolShare<'_>,
        taken: &mut impl FnMut(&[u16]) -> u64,
    ) -> Option<u16> {
        let len = share.len();
        let Some(at) = self.find(pool).or_else(|| self.begin(pool, below(random, len), len)) else {
            // There are more sessions than was said. Slow, but no less right.
            return search_once(below(random, len), share, taken);
        };
        let slot = &mut self.slots[at];
        let was_complete = slot.known == len;
        let place = loop {
            if slot.known < len {
                slot.search(share, taken);
            }
            let place = slot.any_free(random);
            if place.is_some() || slot.known == len {
                break place;
            }
        };
        let picked = place.and_then(|place| share.nth(slot.index_of(place, len)));
        if !was_complete && slot.taken * 4 < slot.known * 3 {
            self.end(at);
        }
        picked
    }

    /// An empty bitmap for the pool; `None` where all are complete, and so in use.
    fn begin(&mut self, pool: &FlowKey<A>, origin: u32, share_len: u32) -> Option<usize> {
        if self.unused == NONE {
            let incomplete = self.slots.iter().position(|slot| slot.known < share_len)?;
            self.end(incomplete);
        }
        let (id, bucket) = (self.unused, self.bucket(pool));
        let slot = &mut self.slots[id as usize];
        self.unused = slot.next;
        slot.next = std::mem::replace(&mut self.buckets[bucket], id);
        slot.free.clear();
        (slot.pool, slot.origin, slot.known, slot.taken) = (*pool, origin, 0, 0);
        self.len += 1;
        Some(id as usize)
    }

    fn end(&mut self, at: usize) {
        let bucket = self.bucket(&self.slots[at].pool);
        let before = self.list(bucket).take_while(|slot| *slot != at).last();
        let next = std::mem::replace(&mut self.slots[at].next, self.unused);
        match before {
            Some(before) => self.slots[before].next = next,
            None => self.buckets[bucket] = next,
        }
        self.unused = at as u32;
        self.len -= 1;
    }

    /// An l4_port became free, or was taken.
    #[inline(never)]
    pub(super) fn note(
        &mut self,
        pool: &FlowKey<A>,
        share: &PoolShare<'_>,
        l4_port: u16,
        is_free: bool,
    ) {
        let Some(at) = self.find(pool) else { return };
        let Some(index) = share.index_of(l4_port) else { return };
        let slot = &mut self.slots[at];
        let place = slot.place_of(index, share.len());
        if place >= slot.known || slot.free.contains(place) == is_free {
            return;
        }
        if is_free {
            slot.free.insert(place);
            slot.taken -= 1;
            if slot.taken * 2 < slot.known {
                self.end(at);
            }
        } else {
            slot.free.remove(place);
            slot.taken += 1;
        }
    }
}

/// The first free l4_port from the given one on.
fn search_once(
    origin: u32,
    share: &PoolShare<'_>,
    taken: &mut impl FnMut(&[u16]) -> u64,
) -> Option<u16> {
    let mut indexes = (origin..share.len()).chain(0..origin);
    loop {
        let batch: ArrayVec<u16, BATCH> =
            indexes.by_ref().take(BATCH).filter_map(|index| share.nth(index)).collect();
        if batch.is_empty() {
            return None;
        }
        if let Some(l4_port) = batch.get(taken(&batch).trailing_ones() as usize) {
            return Some(*l4_port);
        }
    }
}
