//! What a system counted, in all or in a time.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counted since start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the time stamp counter: turns of the loop that found packets.
    pub busy_cycles: u64,
    /// Packets of these turns.
    pub packets: u64,
    pub turns: u64,
    /// Cycles by stage, where the system tells them.
    pub stages: BTreeMap<String, u64>,
    /// Duration of busy turns: (upper bound in cycles, number), ascending.
    pub turn_cycles: Vec<(u64, u64)>,
    pub sessions: u64,
    pub sessions_created: u64,
    pub sessions_ended: u64,
    /// Memory of the session table.
    pub session_bytes: u64,
    pub drops: BTreeMap<String, u64>,
}

impl Sample {
    /// What was counted since `before`; sessions and memory as they are now.
    pub fn since(&self, before: &Sample) -> Sample {
        let less = |after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let was = |name: &String| before.get(name).copied().unwrap_or(0);
            after.iter().map(|(name, n)| (name.clone(), n.saturating_sub(was(name)))).collect()
        };
        let turns: BTreeMap<u64, u64> = before.turn_cycles.iter().copied().collect();
        let was = |bound: &u64| turns.get(bound).copied().unwrap_or(0);
        Sample {
            busy_cycles: self.busy_cycles.saturating_sub(before.busy_cycles),
            packets: self.packets.saturating_sub(before.packets),
            turns: self.turns.saturating_sub(before.turns),
            stages: less(&self.stages, &before.stages),
            turn_cycles: self
                .turn_cycles
                .iter()
                .map(|(bound, number)| (*bound, number.saturating_sub(was(bound))))
                .collect(),
            sessions: self.sessions,
            sessions_created: self.sessions_created.saturating_sub(before.sessions_created),
            sessions_ended: self.sessions_ended.saturating_sub(before.sessions_ended),
            session_bytes: self.session_bytes,
            drops: less(&self.drops, &before.drops),
        }
    }

    /// With what another worker of the same system counted.
    pub fn add(&mut self, other: &Sample) {
        let add = |all: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>| {
            more.iter().for_each(|(name, n)| *all.entry(name.clone()).or_default() += n);
        };
        self.busy_cycles += other.busy_cycles;
        self.packets += other.packets;
        self.turns += other.turns;
        add(&mut self.stages, &other.stages);
        let mut turns: BTreeMap<u64, u64> = self.turn_cycles.iter().copied().collect();
        other.turn_cycles.iter().for_each(|(bound, n)| *turns.entry(*bound).or_default() += n);
        self.turn_cycles = turns.into_iter().collect();
        self.sessions += other.sessions;
        self.sessions_created += other.sessions_created;
        self.sessions_ended += other.sessions_ended;
        self.session_bytes += other.session_bytes;
        add(&mut self.drops, &other.drops);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_between_two_samples() {
        let before = Sample {
            busy_cycles: 50_000,
            packets: 100,
            turn_cycles: vec![(100, 5)],
            sessions: 9,
            ..Sample::default()
        };
        let mut after = Sample { sessions: 3, ..before.clone() };
        (after.busy_cycles, after.packets) = (90_000, 180);
        after.turn_cycles = vec![(100, 7), (200, 1)];
        after.stages.insert("parse".into(), 7);
        let between = after.since(&before);
        assert_eq!((between.busy_cycles, between.packets, between.sessions), (40_000, 80, 3));
        assert_eq!(between.turn_cycles, [(100, 2), (200, 1)]);
        assert_eq!(between.stages["parse"], 7);
    }
}
