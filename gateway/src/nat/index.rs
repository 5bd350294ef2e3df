//! Hash → session id. Buckets of one cache line, bounded probes, no rehash, nothing ever moves.
//!
//! A bucket holds ten entries, each a 16-bit tag of the hash and a session id, and a count of the
//! entries that found it full and went on to another bucket. A look-up that meets a bucket whose
//! count is 0 ends there, so most look-ups, hits and misses, read one line of the index. The buckets
//! of one hash form a walk whose stride comes from the hash, so that full neighbours do not pile up;
//! the number of buckets is prime, so that a walk meets none twice.

use super::{session::SessionId, table::TableMemory};
use crate::{
    memory::{HugeSlice, Pages},
    prefetch::prefetch,
    simd::equal_lanes,
};
use std::io;
use zerocopy::{Immutable, IntoBytes};

/// Entries of a bucket.
const SLOTS: usize = 10;
const EMPTY: u16 = 0;

/// No walk is longer, neither for a look-up nor for an insert.
pub const MAX_PROBES: usize = 48;

/// The index has this many percent more room than entries, so it is at most 87 % full: then 53 % of the
/// buckets are full (37 % after long churn), and all of a walk's with a probability below 10⁻¹³.
const SPARE_PERCENT: usize = 15;

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; SLOTS],
    /// Entries that wanted this bucket, found it full, and live further on in their walk.
    passed_by: u32,
    ids: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");
const EMPTY_BUCKET: Bucket = Bucket { ids: [0; SLOTS], tags: [EMPTY; SLOTS], passed_by: 0 };

impl Bucket {
    /// One bit per slot whose tag is this. Sixteen lanes are compared at once; the last six are not
    /// tags, and their bits are cut off.
    #[inline(always)]
    fn matching(&self, tag: u16) -> u32 {
        let halves: &[[u16; 16]; 2] = zerocopy::transmute_ref!(self);
        equal_lanes(&halves[0], tag) & ((1 << SLOTS) - 1)
    }
}

#[derive(Debug)]
pub struct Index {
    buckets: HugeSlice<Bucket>,
}

/// Every bucket of the walk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkFull;

/// What the tags of one bucket say, before any session was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The first entry with this tag: nearly always the right one.
    Session(SessionId),
    /// No such tag, but the entry may be in the next bucket of the walk.
    Further,
    /// Not in the index.
    Absent,
}

impl Index {
    pub fn new(entries: u32, pages: Pages) -> io::Result<Self> {
        let places = entries as usize + entries as usize * SPARE_PERCENT / 100;
        let buckets = next_prime(places.div_ceil(SLOTS).max(MAX_PROBES));
        Ok(Index { buckets: HugeSlice::new(buckets, EMPTY_BUCKET, pages)? })
    }

    pub(super) fn memory(&self) -> TableMemory {
        TableMemory::of(&self.buckets)
    }

    /// Starts loading the first bucket of the walk.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// Starts loading the second bucket of the walk.
    #[inline(always)]
    pub fn prefetch_second(&self, hash: u64) {
        prefetch(&self.buckets[self.second(hash)]);
    }

    /// Looks at the first bucket.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Guess {
        self.guess_in(self.home(hash), hash)
    }

    /// Looks at the second bucket.
    #[inline(always)]
    pub fn guess_second(&self, hash: u64) -> Guess {
        self.guess_in(self.second(hash), hash)
    }

    #[inline(always)]
    fn guess_in(&self, at: usize, hash: u64) -> Guess {
        let bucket = &self.buckets[at];
        match bucket.matching(tag_of(hash)) {
            0 if bucket.passed_by == 0 => Guess::Absent,
            0 => Guess::Further,
            mask => Guess::Session(SessionId(bucket.ids[mask.trailing_zeros() as usize])),
        }
    }

    /// The entry that `is_it` recognises.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(SessionId) -> bool) -> Option<SessionId> {
        for at in self.walk(hash) {
            let bucket = &self.buckets[at];
            let mut mask = bucket.matching(tag_of(hash));
            while mask != 0 {
                let id = SessionId(bucket.ids[mask.trailing_zeros() as usize]);
                if is_it(id) {
                    return Some(id);
                }
                mask &= mask - 1;
            }
            if bucket.passed_by == 0 {
                return None;
            }
        }
        None
    }

    /// Adds an entry that is not there yet.
    pub fn insert(&mut self, hash: u64, id: SessionId) -> Result<(), WalkFull> {
        let (steps, at, slot) = self
            .walk(hash)
            .enumerate()
            .find_map(|(steps, at)| {
                let free = self.buckets[at].matching(EMPTY);
                (free != 0).then(|| (steps, at, free.trailing_zeros() as usize))
            })
            .ok_or(WalkFull)?;
        for passed in self.walk(hash).take(steps) {
            self.buckets[passed].passed_by += 1;
        }
        let bucket = &mut self.buckets[at];
        bucket.tags[slot] = tag_of(hash);
        bucket.ids[slot] = id.0;
        Ok(())
    }

    /// Removes an entry; false where it is not there.
    pub fn remove(&mut self, hash: u64, id: SessionId) -> bool {
        let found = self.walk(hash).enumerate().find_map(|(steps, at)| {
            let bucket = &self.buckets[at];
            let mut mask = bucket.matching(tag_of(hash));
            while mask != 0 {
                let slot = mask.trailing_zeros() as usize;
                if bucket.ids[slot] == id.0 {
                    return Some((steps, at, slot));
                }
                mask &= mask - 1;
            }
            None
        });
        let Some((steps, at, slot)) = found else { return false };
        self.buckets[at].tags[slot] = EMPTY;
        for passed in self.walk(hash).take(steps) {
            self.buckets[passed].passed_by -= 1;
        }
        true
    }

    /// The upper half of the hash, scaled to the number of buckets (Lemire's multiply-shift).
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// From 1 to the number of buckets less one, of the lower half.
    #[inline(always)]
    fn stride(&self, hash: u64) -> usize {
        1 + (((hash & 0xffff_ffff) * (self.buckets.len() as u64 - 1)) >> 32) as usize
    }

    #[inline(always)]
    fn second(&self, hash: u64) -> usize {
        step(self.home(hash), self.stride(hash), self.buckets.len())
    }

    /// The buckets where an entry of this hash can be, in order.
    #[inline(always)]
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (stride, buckets) = (self.stride(hash), self.buckets.len());
        std::iter::successors(Some(self.home(hash)), move |at| Some(step(*at, stride, buckets)))
            .take(MAX_PROBES)
    }

    /// Entries that are there. Looks at everything.
    pub fn entries(&self) -> usize {
        self.buckets.iter().flat_map(|b| b.tags).filter(|tag| *tag != EMPTY).count()
    }

    /// Entries that are not in the first bucket of their walk, each counted once for every bucket that
    /// it passed. Looks at everything.
    pub fn passed_by(&self) -> u64 {
        self.buckets.iter().map(|b| u64::from(b.passed_by)).sum()
    }

    /// The share of buckets that are full, of 1. Looks at everything.
    pub fn full_buckets(&self) -> f64 {
        let full = self.buckets.iter().filter(|b| !b.tags.contains(&EMPTY)).count();
        full as f64 / self.buckets.len() as f64
    }

    /// The share of places that are taken, of 1. Looks at everything.
    pub fn load(&self) -> f64 {
        self.entries() as f64 / (self.buckets.len() * SLOTS) as f64
    }
}

#[inline(always)]
fn step(at: usize, stride: usize, buckets: usize) -> usize {
    let next = at + stride;
    if next >= buckets { next - buckets } else { next }
}

/// The lower bits of the lower half: the stride is made of its upper ones.
#[inline(always)]
fn tag_of(hash: u64) -> u16 {
    (hash as u16).max(EMPTY + 1)
}

fn next_prime(from: usize) -> usize {
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (from.max(2)..).find(is_prime).expect("there is always a larger prime")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, TableHash};
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
    use std::{collections::HashMap, net::Ipv4Addr};

    fn index(entries: u32) -> Index {
        Index::new(entries, Pages::Transparent).unwrap()
    }

    fn random(mut x: u64) -> impl FnMut() -> u64 {
        move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        }
    }

    #[test]
    fn equal_hashes_fill_the_walk_and_then_the_insert_says_so() {
        let mut index = index(SLOTS as u32 * 64);
        let hash = 0x1234_5678_9abc_def0;
        let room = (MAX_PROBES * SLOTS) as u32;
        for id in 0..room {
            index.insert(hash, SessionId(id)).unwrap();
        }
        assert_eq!(index.insert(hash, SessionId(room)), Err(WalkFull));
        for id in 0..room {
            assert_eq!(index.find(hash, |found| found.0 == id), Some(SessionId(id)));
        }
        for id in 0..room {
            assert!(index.remove(hash, SessionId(id)));
        }
        assert_eq!((index.entries(), index.passed_by()), (0, 0));
    }

    /// The promised load, and twice the entries again in churn while it is full.
    #[test]
    fn a_full_table_of_random_hashes_fits_and_stays_so_under_churn() {
        const N: u32 = 1 << 20;
        let (mut index, mut next) = (index(N), random(0x9e37_79b9_7f4a_7c15));
        let mut hashes: Vec<u64> = (0..N).map(|_| next()).collect();
        for (id, hash) in hashes.iter().enumerate() {
            index.insert(*hash, SessionId(id as u32)).unwrap();
        }
        assert!((0.85..0.88).contains(&index.load()), "{}", index.load());
        // What MAX_PROBES is chosen by: a walk is full with this to the power of its length.
        assert!(index.full_buckets() < 0.55, "{}", index.full_buckets());
        for _ in 0..2 * N {
            let id = (next() % u64::from(N)) as usize;
            assert!(index.remove(hashes[id], SessionId(id as u32)));
            hashes[id] = next();
            index.insert(hashes[id], SessionId(id as u32)).unwrap();
        }
        assert_eq!(index.entries(), N as usize);
        assert!(index.full_buckets() < 0.5, "{}", index.full_buckets());
        // A look-up reads little more than one and a half lines; before the churn it was 1.14.
        assert!(index.passed_by() < u64::from(N) * 6 / 10, "{}", index.passed_by());
    }

    /// One pod and all its l4_ports, remote by remote; and a block of pods, l4_ports and remotes. With a
    /// hash that is only universal some secrets put thousands of such keys on few buckets.
    #[test]
    fn rows_and_blocks_of_keys_fill_the_index_as_random_ones_do() {
        const N: u32 = 500_000;
        type Key = fn(u32) -> (u32, u16, u32);
        let row: Key = |i| (1, i as u16, i >> 16);
        let block: Key = |i| (i & 0xff, (i >> 8) as u16 & 0xff, i >> 16);
        for (key, seed) in [row, block].into_iter().flat_map(|key| (0..4).map(move |s| (key, s))) {
            let hash = TableHash::new(&mut ChaCha8Rng::from_seed([seed; 32]));
            let mut index = index(N);
            for i in 0..N {
                let (pod, l4_port, remote) = key(i);
                let end = |address, l4_port| Endpoint::new(Ipv4Addr::from_bits(address), l4_port);
                let internal = InternalEndpoint(end(0x0a00_0000 + pod, l4_port));
                let remote = RemoteEndpoint(end(0xc612_0000 + remote, 443));
                let key = FlowKey::in2out(0, Protocol::Udp, internal, remote);
                assert_eq!(
                    index.insert(hash.of(&key), SessionId(i)),
                    Ok(()),
                    "key {i}, seed {seed}"
                );
            }
            let passed_by = index.passed_by() as f64 / f64::from(N);
            assert!((0.12..0.15).contains(&passed_by), "{passed_by}");
        }
    }

    #[test]
    fn a_guess_sees_what_a_look_up_would_find_in_the_first_two_buckets() {
        let mut index = index(1000);
        let hash = 7 << 40 | 0xbeef;
        assert_eq!(index.guess(hash), Guess::Absent);
        for id in 0..SLOTS as u32 {
            index.insert(hash ^ u64::from(id + 1), SessionId(id)).unwrap();
        }
        assert_eq!(index.guess(hash), Guess::Absent);
        index.insert(hash, SessionId(99)).unwrap();
        assert_eq!(index.guess(hash), Guess::Further);
        assert_eq!(index.guess_second(hash), Guess::Session(SessionId(99)));
        index.remove(hash ^ 1, SessionId(0));
        index.insert(hash, SessionId(5)).unwrap();
        assert_eq!(index.guess(hash), Guess::Session(SessionId(5)));
    }

    proptest! {
        /// A small index and hashes that collide often, in bucket and in tag, against a plain map.
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((any::<bool>(), 0u64..12, 0u32..200), 1..600)) {
            let mut index = index(400);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (insert, hash, id) in ops {
                let hash = hash << 60 | (hash % 3);
                match model.get(&id).copied() {
                    None if insert => {
                        prop_assert_eq!(index.insert(hash, SessionId(id)), Ok(()));
                        model.insert(id, hash);
                    }
                    Some(known) if !insert => {
                        prop_assert!(index.remove(known, SessionId(id)));
                        model.remove(&id);
                    }
                    _ => {}
                }
                for (id, hash) in &model {
                    prop_assert_eq!(index.find(*hash, |f| f.0 == *id), Some(SessionId(*id)));
                }
                prop_assert_eq!(index.entries(), model.len());
            }
        }
    }
}
