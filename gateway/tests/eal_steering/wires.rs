//! A gateway on some kind of queues.

use super::*;

/// In memory, or DPDK's rings.
pub(crate) trait Wires {
    fn receive(&mut self, side: Side, queue: usize, frame: &[u8]);
    /// Turns of all workers until nothing moves: what left by each side.
    fn turn(&mut self) -> [Vec<Vec<u8>>; 2];
    fn handed_over(&self) -> u64;
    fn sessions(&self) -> u32;
    fn dropped(&self) -> u64;
}

impl Wires for Gateway {
    fn receive(&mut self, side: Side, queue: usize, frame: &[u8]) {
        self.ios[queue].receive(side, frame);
    }

    fn turn(&mut self) -> [Vec<Vec<u8>>; 2] {
        self.poll();
        Side::ALL.map(|side| self.take(side))
    }

    fn handed_over(&self) -> u64 {
        Gateway::handed_over(self)
    }

    fn sessions(&self) -> u32 {
        Gateway::sessions(self).iter().sum()
    }

    fn dropped(&self) -> u64 {
        self.drops().values().sum()
    }
}

impl Wires for Rings {
    fn receive(&mut self, side: Side, queue: usize, frame: &[u8]) {
        self.send(side, queue, frame);
    }

    fn turn(&mut self) -> [Vec<Vec<u8>>; 2] {
        self.poll()
    }

    fn handed_over(&self) -> u64 {
        let of_all = self.workers.iter().flat_map(|(parts, _)| &parts.counters.handed_over);
        of_all.map(|count| count.get()).sum()
    }

    fn sessions(&self) -> u32 {
        self.workers.iter().map(|(parts, _)| parts.worker.nat().sessions()).sum()
    }

    fn dropped(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.drops(*reason)).sum()
    }
}
