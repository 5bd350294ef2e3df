//! Hash → session id. Buckets of one cache line, bounded probes, no rehash, nothing ever moves.
//!
//! A bucket holds ten entries, each a 16-bit tag of the hash and a session id, and a count of the
//! entries that found it full and went on to another bucket. A look-up that meets a bucket whose
//! count is 0 ends there, so nearly all look-ups, hits and misses, read one line of the index. The
//! buckets of one hash form a walk whose stride comes from the hash, so that full neighbours do not
//! pile up.

use super::session::SessionId;
use crate::prefetch::prefetch;

const SLOTS: usize = 10;
const EMPTY: u16 = 0;

/// No walk is longer, neither for a look-up nor for an insert. With the index at most 80 % full an
/// insert that finds all of them full has a probability below 10⁻⁹.
pub(super) const MAX_PROBES: u32 = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    ids: [u32; SLOTS],
    tags: [u16; SLOTS],
    /// Entries that wanted this bucket, found it full, and live further on in their walk.
    passed_by: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");
const EMPTY_BUCKET: Bucket = Bucket { ids: [0; SLOTS], tags: [EMPTY; SLOTS], passed_by: 0 };

#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Bucket]>,
}

/// Every bucket of the walk is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WalkFull;

impl Index {
    /// Room for `entries` at a load of at most 80 %.
    pub(super) fn new(entries: u32) -> Self {
        let buckets = (entries as usize).div_ceil(SLOTS * 8 / 10).next_power_of_two().max(2);
        Index { buckets: vec![EMPTY_BUCKET; buckets].into_boxed_slice() }
    }

    /// Starts loading the first bucket of the walk.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The first entry of the first bucket whose tag fits: nearly always the right one, but not
    /// checked. Good for prefetching its session.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<SessionId> {
        let bucket = &self.buckets[self.home(hash)];
        let slot = bucket.tags.iter().position(|tag| *tag == tag_of(hash))?;
        Some(SessionId(bucket.ids[slot]))
    }

    /// The entry that `is_it` recognises.
    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        mut is_it: impl FnMut(SessionId) -> bool,
    ) -> Option<SessionId> {
        let tag = tag_of(hash);
        for at in self.walk(hash) {
            let bucket = &self.buckets[at];
            for slot in 0..SLOTS {
                if bucket.tags[slot] == tag && is_it(SessionId(bucket.ids[slot])) {
                    return Some(SessionId(bucket.ids[slot]));
                }
            }
            if bucket.passed_by == 0 {
                return None;
            }
        }
        None
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, id: SessionId) -> Result<(), WalkFull> {
        let free = |bucket: &Bucket| bucket.tags.iter().position(|tag| *tag == EMPTY);
        let (steps, at, slot) = self
            .walk(hash)
            .enumerate()
            .find_map(|(steps, at)| Some((steps, at, free(&self.buckets[at])?)))
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
    pub(super) fn remove(&mut self, hash: u64, id: SessionId) -> bool {
        let tag = tag_of(hash);
        let found = self.walk(hash).enumerate().find_map(|(steps, at)| {
            let bucket = &self.buckets[at];
            let slot = (0..SLOTS).find(|s| bucket.tags[*s] == tag && bucket.ids[*s] == id.0)?;
            Some((steps, at, slot))
        });
        let Some((steps, at, slot)) = found else { return false };
        self.buckets[at].tags[slot] = EMPTY;
        for passed in self.walk(hash).take(steps) {
            self.buckets[passed].passed_by -= 1;
        }
        true
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    /// The buckets where an entry of this hash can be, in order. An odd stride meets each bucket of
    /// a power of two once.
    #[inline]
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.buckets.len() - 1;
        let home = self.home(hash);
        let stride = hash as usize | 1;
        let probes = MAX_PROBES.min(self.buckets.len() as u32);
        (0..probes as usize).map(move |i| home.wrapping_add(i.wrapping_mul(stride)) & mask)
    }

    /// Counts all: for tests.
    pub(super) fn entries(&self) -> usize {
        self.buckets.iter().flat_map(|b| b.tags).filter(|tag| *tag != EMPTY).count()
    }

    #[cfg(test)]
    pub(super) fn passed_by_total(&self) -> u64 {
        self.buckets.iter().map(|b| u64::from(b.passed_by)).sum()
    }
}

#[inline]
fn tag_of(hash: u64) -> u16 {
    (hash as u16).max(EMPTY + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn equal_hashes_fill_the_walk_and_then_the_insert_says_so() {
        let mut index = Index::new(SLOTS as u32 * 64);
        let hash = 0x1234_5678_9abc_def0;
        let room = MAX_PROBES * SLOTS as u32;
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
        assert_eq!((index.entries(), index.passed_by_total()), (0, 0));
    }

    #[test]
    fn a_million_random_hashes_fit_at_the_promised_load() {
        let mut index = Index::new(1 << 20);
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        for id in 0..1 << 20 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            index.insert(x, SessionId(id)).unwrap();
        }
    }

    proptest! {
        /// A small index and hashes that collide often, against a plain map.
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((any::<bool>(), 0u64..12, 0u32..200), 1..600)) {
            let mut index = Index::new(400);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (insert, hash, id) in ops {
                let hash = hash << 32 | (hash % 3);
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
