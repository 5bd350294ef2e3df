//! How long turns of a loop took: counters by duration, written by one thread, read by others.

use gateway::datapath::counters::Counter;

/// Four to each doubling: bounds are at most a fifth above what they hold.
const PER_DOUBLING: u32 = 4;
const COUNT: usize = (64 * PER_DOUBLING) as usize;

#[derive(Debug)]
pub(super) struct TurnCycles([Counter; COUNT]);

impl Default for TurnCycles {
    fn default() -> Self {
        TurnCycles(std::array::from_fn(|_| Counter::default()))
    }
}

impl TurnCycles {
    #[inline(always)]
    pub(super) fn add(&self, cycles: u64) {
        self.0[bucket(cycles)].add(1);
    }

    /// Those that have counted: (upper bound in cycles, number), ascending.
    pub(super) fn read(&self) -> Vec<(u64, u64)> {
        let all = self.0.iter().enumerate().map(|(i, counter)| (bound(i), counter.get()));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

#[inline(always)]
fn bucket(cycles: u64) -> usize {
    let cycles = cycles.max(u64::from(PER_DOUBLING));
    let doubling = cycles.ilog2();
    // The two bits behind the highest.
    let quarter = (cycles >> (doubling - 2)) as u32 & (PER_DOUBLING - 1);
    (doubling * PER_DOUBLING + quarter) as usize
}

/// The highest that is counted there.
fn bound(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket as u32 / PER_DOUBLING, bucket as u64 % 4);
    let next = (u128::from(PER_DOUBLING) + u128::from(quarter) + 1) << doubling >> 2;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_counted_under_a_bound_that_is_little_above_it() {
        for cycles in (4..5000).chain([1 << 20, (1 << 20) + 12_345, u64::MAX - 1, u64::MAX]) {
            let turns = TurnCycles::default();
            turns.add(cycles);
            turns.add(cycles);
            let [(bound, 2)] = turns.read()[..] else { panic!("{cycles}: {:?}", turns.read()) };
            assert!(bound >= cycles && bound - cycles <= cycles / 4, "{cycles}: {bound}");
        }
    }

    #[test]
    fn bounds_ascend() {
        let bounds: Vec<u64> = (8..COUNT).map(bound).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
    }
}
