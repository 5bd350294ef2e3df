//! What the pods sent under each policy, as counters that never fall. The kernel's sums are by pod, and go with it: a total over them
//! would fall, and Prometheus would take that for a restart and count all that is left once more.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::abi::{Traffic, TrafficKey};
use crate::maps::Maps;

/// Since the agent began.
#[derive(Debug, Default)]
pub struct PolicyTraffic {
    /// The kernel's sums when they were read last.
    last: BTreeMap<TrafficKey, Traffic>,
    /// By policy id.
    totals: BTreeMap<u32, Traffic>,
}

impl PolicyTraffic {
    /// Begins with what the maps say now.
    pub fn new(maps: &Maps) -> Self {
        // Maps that cannot be read are told at the first request.
        Self { last: maps.traffic().unwrap_or_default(), totals: BTreeMap::new() }
    }

    /// Totals of the policies that `is_in_force`; the others are forgotten.
    pub fn read(
        &mut self,
        maps: &Maps,
        is_in_force: impl Fn(u32) -> bool,
    ) -> Result<&BTreeMap<u32, Traffic>> {
        self.advance(maps.traffic()?);
        self.totals.retain(|id, _| is_in_force(*id));
        Ok(&self.totals)
    }

    fn advance(&mut self, sums: BTreeMap<TrafficKey, Traffic>) {
        for (key, sum) in &sums {
            let before = self.last.get(key).copied().unwrap_or_default();
            // Less than before: it was forgotten meanwhile, and began anew.
            let before = if sum.packets < before.packets { Traffic::default() } else { before };
            let total = self.totals.entry(key.policy_id).or_default();
            total.packets += sum.packets - before.packets;
            total.bytes += sum.bytes.saturating_sub(before.bytes);
        }
        self.last = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    fn sums(of: &[(u8, u32, u64)]) -> BTreeMap<TrafficKey, Traffic> {
        let sum = |&(pod, policy_id, packets): &(u8, u32, u64)| {
            let pod = abi::address([10, 244, 1, pod].into());
            (TrafficKey { pod, policy_id }, Traffic { packets, bytes: 100 * packets })
        };
        of.iter().map(sum).collect()
    }

    #[test]
    fn totals_never_fall() {
        let mut traffic = PolicyTraffic { last: sums(&[(1, 7, 50)]), ..PolicyTraffic::default() };
        for (read, wanted) in [
            // What an agent before this one saw is not counted again.
            (sums(&[(1, 7, 50)]), 0),
            (sums(&[(1, 7, 60), (2, 7, 5)]), 15),
            // pod 1 goes, and comes again
            (sums(&[(2, 7, 6)]), 16),
            (sums(&[(1, 7, 3), (2, 7, 6)]), 19),
            // pod 2 goes and comes between two readings
            (sums(&[(1, 7, 3), (2, 7, 4)]), 23),
            (sums(&[]), 23),
        ] {
            traffic.advance(read);
            let total = traffic.totals[&7];
            assert_eq!((total.packets, total.bytes), (wanted, 100 * wanted));
        }
        traffic.advance(sums(&[(1, 8, 9)]));
        assert_eq!((traffic.totals[&7].packets, traffic.totals[&8].packets), (23, 9));
    }
}
