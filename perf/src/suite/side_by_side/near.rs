//! A turn while the two CPUs are near each other, as far as they can be had so. Distances are measured while
//! all systems are paused.

use super::{super::nearness::LOOK, Turns};
use crate::{
    child::Interrupted,
    suite::{group::Measurement, live::Live, measure::Repeat},
};
use anyhow::{Result, bail};
use std::{sync::atomic::Ordering, thread, time::Instant};

impl Turns<'_> {
    /// Waits for the CPUs, and repeats what they spoiled, within bounds; then it is as it is.
    pub(super) fn near_turn(
        &mut self,
        measurement: &Measurement,
        live: &mut Live,
        is_first: bool,
    ) -> Result<Repeat> {
        if !measurement.crosses_cpus() {
            return self.turn(measurement, live, is_first);
        }
        self.nearness.begin_turn();
        let (mut unsettled, mut wrong) = (is_first, 0);
        loop {
            let mut before = self.distance();
            while self.nearness.waits(before) {
                if self.stop.load(Ordering::Relaxed) {
                    bail!(Interrupted);
                }
                // What expires meanwhile is to be there again.
                unsettled = true;
                thread::sleep(LOOK);
                before = self.distance();
            }
            let began = Instant::now();
            let mut repeat = self.turn(measurement, live, unsettled)?;
            let took = began.elapsed();
            let after = self.distance();
            repeat.distance = before.into_iter().chain(after).reduce(f64::max);
            // What a gateway did wrong it did, however far its CPU was.
            repeat.wrong += wrong;
            if !self.nearness.repeats(repeat.distance, took) {
                return Ok(repeat);
            }
            (unsettled, wrong) = (false, repeat.wrong);
        }
    }

    fn distance(&mut self) -> Option<f64> {
        let distance = self.start.distance();
        distance.into_iter().for_each(|distance| self.nearness.see(distance));
        distance
    }
}
