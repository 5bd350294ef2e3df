//! Whether the two CPUs are as near to each other as they can be, and what is done where they are not: a
//! hypervisor moves them every few seconds, and what goes from the one to the other then costs up to twice
//! as much. Decisions only: `side_by_side` measures, waits and repeats.

use std::time::Duration;

/// CPUs are apart that are so many times as far from each other as at best.
pub const APART: f64 = 1.5;
/// How long CPUs that are apart are left alone before they are looked at again.
pub const LOOK: Duration = Duration::from_millis(100);
/// Before each repeat.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const MOST_AGAIN: usize = 2;

/// What a run knows of its CPUs, and what it may yet spend on waiting for them.
#[derive(Debug)]
pub struct Nearness {
    near: Option<f64>,
    budget: Duration,
    /// Of the budget, what each turn of this round may take.
    share: Duration,
    /// What this turn has left of it.
    left: Duration,
    wait: Duration,
    again: usize,
}

impl Nearness {
    /// Of a run that may spend so many seconds.
    pub fn new(seconds: f64) -> Self {
        let budget = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let none = Duration::ZERO;
        Nearness { near: None, budget, share: none, left: none, wait: none, again: 0 }
    }

    /// The least distance that was seen, in cycles.
    pub fn near(&self) -> Option<f64> {
        self.near
    }

    /// Learns from each distance that is measured.
    pub fn see(&mut self, distance: f64) {
        self.near = Some(self.near.map_or(distance, |near| near.min(distance)));
    }

    /// CPUs whose distance could not be measured are taken as near.
    pub fn are_apart(&self, distance: Option<f64>) -> bool {
        distance.zip(self.near).is_some_and(|(distance, near)| distance > APART * near)
    }

    /// What is left is shared before anybody takes of it: each system may wait as long as the others.
    pub fn begin_round(&mut self, systems: usize) {
        let systems = u32::try_from(systems).unwrap_or(u32::MAX).max(1);
        self.share = self.budget / systems;
    }

    /// One system's repeat.
    pub fn begin_turn(&mut self) {
        (self.left, self.wait, self.again) = (self.share, LONGEST_WAIT, MOST_AGAIN);
    }

    /// Before a repeat: whether the CPUs are to be left alone for [`LOOK`] first.
    pub fn waits(&mut self, distance: Option<f64>) -> bool {
        let waits = self.are_apart(distance) && self.wait >= LOOK && self.spend(LOOK);
        if waits {
            self.wait -= LOOK;
        }
        waits
    }

    /// After a repeat that took so long: whether another is to replace it.
    pub fn repeats(&mut self, distance: Option<f64>, took: Duration) -> bool {
        let repeats = self.are_apart(distance) && self.again > 0 && self.spend(took);
        if repeats {
            (self.wait, self.again) = (LONGEST_WAIT, self.again - 1);
        }
        repeats
    }

    /// Whether there is so much left.
    fn spend(&mut self, time: Duration) -> bool {
        let Some(left) = self.left.checked_sub(time) else { return false };
        self.left = left;
        self.budget = self.budget.saturating_sub(time);
        true
    }
}

#[cfg(test)]
mod tests;
