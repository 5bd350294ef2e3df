//! A set of small numbers in two levels: a bit for each, and above it how many there are in each group of
//! words, so that the n-th is found without looking at all of them.

/// Words of a group: for the 1,008 words of 64,512 numbers as many as there are groups.
const GROUP: usize = 32;

/// For 64,512 numbers 8 KiB; a search reads the 32 counts and the words of one group at most.
#[derive(Debug)]
pub(super) struct Bitmap {
    words: Box<[u64]>,
    /// Numbers in each group.
    counts: Box<[u16]>,
}

impl Bitmap {
    /// For numbers below `len`. Any content: [`Bitmap::clear`] comes before the first use. The pages are
    /// written here, so that none is missing later.
    pub(super) fn new(len: u32) -> Self {
        let words = len.div_ceil(u64::BITS) as usize;
        Bitmap {
            words: vec![u64::MAX; words].into(),
            counts: vec![u16::MAX; words.div_ceil(GROUP)].into(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.counts)
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.counts.fill(0);
    }

    #[inline]
    pub(super) fn contains(&self, number: u32) -> bool {
        self.words[number as usize / 64] & 1 << (number % 64) != 0
    }

    /// Adds a number that is not there.
    #[inline]
    pub(super) fn insert(&mut self, number: u32) {
        debug_assert!(!self.contains(number));
        let word = number as usize / 64;
        self.words[word] |= 1 << (number % 64);
        self.counts[word / GROUP] += 1;
    }

    /// Removes a number that is there.
    #[inline]
    pub(super) fn remove(&mut self, number: u32) {
        debug_assert!(self.contains(number));
        let word = number as usize / 64;
        self.words[word] &= !(1 << (number % 64));
        self.counts[word / GROUP] -= 1;
    }

    /// The number that has `rank` others below it.
    pub(super) fn nth(&self, rank: u32) -> Option<u32> {
        let mut rank = rank;
        let mut skip = |count: u32| {
            let is_here = rank < count;
            if !is_here {
                rank -= count;
            }
            is_here
        };
        let group = self.counts.iter().position(|count| skip(u32::from(*count)))?;
        let words = self.words[group * GROUP..].iter().take(GROUP);
        let at = group * GROUP + words.map(|word| word.count_ones()).position(skip)?;
        let above = (0..rank).fold(self.words[at], |word, _| word & (word - 1));
        Some(at as u32 * u64::BITS + above.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_tree(
            len in prop::sample::select(vec![1u32, 63, 64, 65, 2048, 2049, 64_512]),
            ops in prop::collection::vec((any::<u32>(), any::<u32>()), 1..300),
        ) {
            let (mut bitmap, mut model) = (Bitmap::new(len), BTreeSet::new());
            bitmap.clear();
            for (number, rank) in ops {
                // Now and then one that is there.
                let known = bitmap.nth(rank % 64).filter(|_| rank.is_multiple_of(3));
                let number = known.unwrap_or(number % len);
                prop_assert_eq!(bitmap.contains(number), model.contains(&number));
                if model.insert(number) {
                    bitmap.insert(number);
                } else {
                    bitmap.remove(number);
                    model.remove(&number);
                }
                let rank = rank % (model.len() as u32 + 2);
                prop_assert_eq!(bitmap.nth(rank), model.iter().nth(rank as usize).copied());
            }
        }
    }
}
