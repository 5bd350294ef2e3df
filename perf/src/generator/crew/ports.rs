//! The ports of a worker, in memory: what is put on them, and every frame that it sent judged.

use crate::{
    generator::{
        arp::{self, Arp},
        frames::FCS,
        judge::{Judge, Judged},
        lane::{Arrival, Taker},
        seconds::{Published, Totals},
    },
    job::Job,
};
use gateway::{datapath::memory_io::MemoryIo, tsc::cycles, verdict::Side};
use std::sync::Arc;

/// All that are on the ports at once, questions of all nodes included.
const BUFFERS: usize = 1024;

#[derive(Debug)]
pub(super) struct Ports {
    pub(super) io: MemoryIo,
    /// Tunnel, external.
    judges: [Judge; 2],
    nodes: u32,
    totals: [Totals; 2],
    published: Arc<Published>,
}

impl Ports {
    pub(super) fn new(job: &Job, published: Arc<Published>) -> Self {
        Ports {
            io: MemoryIo::with_buffers(BUFFERS),
            judges: Side::ALL.map(|side| Judge::new(side, job.far_side, job.nodes)),
            nodes: job.nodes,
            totals: Default::default(),
            published,
        }
    }

    pub(super) fn put(&mut self, side: Side, frame: &[u8]) {
        self.io.receive(side, frame);
        let totals = &mut self.totals[side.index()];
        totals.tx_packets += 1;
        totals.tx_bytes += frame.len() as u64 + FCS;
    }

    /// Puts on both what tells a worker of all its neighbours.
    pub(super) fn introduce_neighbours(&mut self) {
        for side in Side::ALL {
            for question in arp::questions(side, self.nodes) {
                self.put(side, &question);
            }
        }
    }

    /// Tells `taker` of all that was sent; ARP is answered.
    pub(super) fn take_back(&mut self, taker: &mut impl Taker) {
        let (nodes, at) = (self.nodes, cycles());
        let mut answers = Vec::new();
        for side in Side::ALL {
            let (judge, totals) = (&self.judges[side.index()], &mut self.totals[side.index()]);
            self.io.take_back(side, |frame| {
                let bytes = frame.len() as u64 + FCS;
                totals.rx_packets += 1;
                totals.rx_bytes += bytes;
                match judge.judge(frame) {
                    Judged::Right(mark, source) => {
                        taker.right(side, &Arrival { mark, source, bytes, at });
                    }
                    Judged::Wrong => taker.wrong(),
                    Judged::Other => {
                        let answer = Arp::read(frame).and_then(|arp| arp.answer(side, nodes));
                        answers.extend(answer.map(|answer| (side, answer)));
                    }
                }
            });
        }
        answers.iter().for_each(|(side, answer)| self.put(*side, answer));
        for (side, totals) in Side::ALL.into_iter().zip(&self.totals) {
            self.published.set(side, totals);
        }
    }
}
