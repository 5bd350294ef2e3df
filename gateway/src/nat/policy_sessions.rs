//! Live sessions per policy, and the l4_ports that they hold: written by the worker when a session begins or ends, read by metrics.

use super::l4_port::L4PortUsage;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// More policies than a gateway is made for (10,000) at a load below one.
const PLACES: usize = 16_384;

/// A fixed table with a single writer: one place per policy id that ever had a session. Ids that find it
/// full share one counter.
#[derive(Debug)]
pub struct PolicySessions {
    places: Box<[Place]>,
    others: AtomicU64,
    l4_ports: L4PortUsage,
}

#[derive(Debug, Default)]
struct Place {
    policy: AtomicU32,
    sessions: AtomicU64,
}

impl PolicySessions {
    pub(super) fn added(&self, policy: u32) {
        let count = self.place(policy);
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn removed(&self, policy: u32) {
        let count = self.place(policy);
        count.store(count.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Of the same sessions.
    pub fn l4_ports(&self) -> &L4PortUsage {
        &self.l4_ports
    }

    /// (policy id, live sessions), for every policy that ever had one.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.places
            .iter()
            .map(|place| (place.policy.load(Relaxed), place.sessions.load(Relaxed)))
            .filter(|(policy, _)| *policy != 0)
    }

    pub fn total(&self) -> u64 {
        self.iter().map(|(_, sessions)| sessions).sum::<u64>() + self.others.load(Relaxed)
    }

    fn place(&self, policy: u32) -> &AtomicU64 {
        let home = policy.wrapping_mul(0x9e37_79b9) as usize >> 8;
        for step in 0..PLACES {
            let place = &self.places[(home + step) % PLACES];
            let known = place.policy.load(Relaxed);
            if known == 0 {
                place.policy.store(policy, Relaxed);
            }
            if known == 0 || known == policy {
                return &place.sessions;
            }
        }
        &self.others
    }
}

impl Default for PolicySessions {
    fn default() -> Self {
        PolicySessions {
            places: std::iter::repeat_with(Place::default).take(PLACES).collect(),
            others: AtomicU64::default(),
            l4_ports: L4PortUsage::default(),
        }
    }
}
