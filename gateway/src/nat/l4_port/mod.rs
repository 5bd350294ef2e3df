//! Choosing the external l4_port of a new session.
//!
//! An external tuple (egress IP, l4_port, remote endpoint, protocol) is taken exactly when the out2in
//! index holds it, so the index is the only book of l4_ports: finding none there and inserting is the
//! reservation, and removing the session gives the l4_port back. The same l4_port serves any number
//! of remotes (RFC 7857 section 3): all that differ only in the l4_port are a *pool*, and a worker may
//! give out its [`Allotment`] of each: an [`L4PortShare`], of the l4_ports themselves or of the names that a
//! [`Prediction`] gives them.
//!
//! A session is refused only when none of the share is free:
//!
//! | pool | how | look-ups in the index |
//! |---|---|---|
//! | light | random tries | 1 while few are taken; never more than 32, in 6 batches |
//! | becoming heavy: all tries failed | a bitmap of the free ones grows by 512 l4_ports at each new session | 512; more while none of these is free |
//! | heavy | the bitmap | none |
//!
//! What somebody who means harm can make a new session cost, at 75 cycles for a look-up that the caller
//! has prefetched and that finds its l4_port taken (it reads an index line and a session line): all tries
//! fail once in 29 where 9/10 are taken, once in 10,000 where 3/4 are. Then a bitmap begins. The whole
//! share of an only worker has 64,512 l4_ports, so 126 new sessions search it, 38,000 cycles each; until
//! it has to be done again, a quarter of the share must end and begin anew, so that the search comes to
//! 300 cycles for each of these sessions. One session bears all of it, 5 million cycles or 2 ms, only
//! where its pool is as good as full without a bitmap. That takes luck, for a pool fills through the stages
//! above, or a bitmap that was lost while incomplete (module `heavy`); and it is not repeated, for such a
//! pool's bitmap is complete then, and is not lost. To be refused costs some tens of cycles.

mod allotment;
mod bitmap;
mod heavy;
mod prediction;
mod share;
mod usage;

pub use allotment::{Allotment, PoolShare};
pub use prediction::{Prediction, UnfitKey};
pub use share::{InvalidShare, L4PortShare};
pub use usage::L4PortUsage;

use super::flow::{Address, FlowKey, TableHash};
use heavy::HeavyPools;
use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

/// 1024–65535: RFC 6056 section 3.2 asks for the whole range above the well-known ports.
const FIRST: u16 = 1024;
const COUNT: u32 = 65_536 - FIRST as u32;

/// The most l4_ports that are asked about at once.
pub const BATCH: usize = 64;

/// Random tries, by batches whose look-ups overlap: nearly always the first is free. 32 of them: of a
/// pool that is 9/10 full they fail once in 29, of one that is 1/2 full once in 4 thousand millions.
const TRIES: [usize; 6] = [1, 1, 2, 4, 8, MOST_TRIES];
const MOST_TRIES: usize = 16;

/// The l4_ports of one worker and address family.
#[derive(Debug)]
pub struct L4Ports<A: Address> {
    /// Keyed by the start's secret: RFC 6056 section 3.3.1, unpredictable from outside.
    random: ChaCha8Rng,
    allotment: Allotment,
    heavy: HeavyPools<A>,
}

impl<A: Address> L4Ports<A> {
    /// Takes all memory that it will need: for a share of 1,000 l4_ports or more less than half a byte for
    /// each of `max_sessions`, and one bitmap.
    pub fn new(mut random: ChaCha8Rng, allotment: Allotment, max_sessions: u32) -> Self {
        let hash = TableHash::new(&mut random);
        let heavy = HeavyPools::new(hash, allotment.len(), max_sessions);
        L4Ports { random, allotment, heavy }
    }

    /// L4_ports of any pool that may be given out.
    pub fn len(&self) -> u32 {
        self.allotment.len()
    }

    pub fn is_empty(&self) -> bool {
        self.allotment.is_empty()
    }

    /// What may be given out of a pool.
    #[inline(always)]
    pub fn share_of(&self, pool: &FlowKey<A>) -> PoolShare<'_> {
        self.allotment.of(pool)
    }

    /// A free l4_port of the share, random; `None` where all are taken. It is reserved by inserting the
    /// session and telling [`L4Ports::took`].
    ///
    /// `pool`: see [`FlowKey::pool`]. `taken` is asked about up to [`BATCH`] l4_ports at once,
    /// so that it can prefetch, and sets the bit of each that is taken (the lowest for the first).
    pub fn pick(&mut self, pool: &FlowKey<A>, mut taken: impl FnMut(&[u16]) -> u64) -> Option<u16> {
        if self.allotment.is_empty() {
            return None;
        }
        let Self { random, allotment, heavy } = self;
        let share = allotment.of(pool);
        if !heavy.contains(pool)
            && let Some(l4_port) = try_some(random, &share, &mut taken)
        {
            return Some(l4_port);
        }
        heavy.pick(pool, random, &share, &mut taken)
    }

    /// The session table holds this l4_port of the pool from here on. To be told of every insert: a bitmap
    /// believes it.
    #[inline(always)]
    pub fn took(&mut self, pool: &FlowKey<A>, l4_port: u16) {
        if !self.heavy.is_empty() {
            self.heavy.note(pool, &self.allotment.of(pool), l4_port, false);
        }
    }

    /// The session table holds it no longer. To be told of every removal.
    #[inline(always)]
    pub fn gave_back(&mut self, pool: &FlowKey<A>, l4_port: u16) {
        if !self.heavy.is_empty() {
            self.heavy.note(pool, &self.allotment.of(pool), l4_port, true);
        }
    }

    /// Pools that have a bitmap, and how many could.
    pub fn bitmaps(&self) -> (usize, usize) {
        (self.heavy.len(), self.heavy.capacity())
    }

    /// Memory that it takes beside its own, in bytes.
    pub fn bytes(&self) -> usize {
        self.heavy.bytes()
    }
}

fn try_some(
    random: &mut ChaCha8Rng,
    share: &PoolShare<'_>,
    taken: &mut impl FnMut(&[u16]) -> u64,
) -> Option<u16> {
    TRIES.iter().find_map(|tries| {
        let mut candidates = [FIRST; MOST_TRIES];
        for candidate in &mut candidates[..*tries] {
            *candidate = share.nth(below(random, share.len()))?;
        }
        let candidates = &candidates[..*tries];
        candidates.get(taken(candidates).trailing_ones() as usize).copied()
    })
}

/// A uniform number below `n` without a division (Lemire's multiply-shift); the bias of `n` / 2^32 is
/// no help to a guesser.
#[inline]
fn below(random: &mut ChaCha8Rng, n: u32) -> u32 {
    ((u64::from(random.next_u32()) * u64::from(n)) >> 32) as u32
}
