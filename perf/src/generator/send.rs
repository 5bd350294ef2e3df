//! Makes packets: draws flows, takes buffers, writes frames.

use super::{
    flows::{Draw, Flows, Sizes},
    frames::{FCS, In2outFrames, Out2inFrames},
    lane::{BATCH, Lane, Packets},
    mark::Mark,
};
use arrayvec::ArrayVec;
use gateway::{datapath::PacketBuf, dpdk::Mempool};

pub(super) type Numbers = ArrayVec<u32, BATCH>;

/// One direction of what is sent: what there is to send, and what a full ring has not taken yet.
#[derive(Debug)]
pub(super) struct Sender {
    draw: Draw,
    sizes: Sizes,
    unsent: Packets,
    unsent_bytes: u64,
    /// Given to the device, in the present window.
    pub(super) sent: u64,
}

/// What all packets of a burst have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) window: u16,
    pub(super) now: u64,
}

/// Frames of either direction.
#[derive(Debug)]
pub(super) enum Writer<'a> {
    In2out(&'a In2outFrames),
    Out2in(&'a Out2inFrames),
}

impl Sender {
    pub(super) fn new(draw: Draw, sizes: Sizes) -> Self {
        Sender { draw, sizes, unsent: Packets::new(), unsent_bytes: 0, sent: 0 }
    }

    /// Whether the last burst is gone, so that another one can be made.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Makes a burst of `count` packets at most.
    #[inline(always)]
    pub(super) fn make(
        &mut self,
        writer: &Writer<'_>,
        flows: &mut Flows,
        pool: &Mempool,
        count: usize,
        moment: Moment,
    ) {
        let mut numbers = Numbers::new();
        for _ in 0..count.min(BATCH) {
            let fresh = matches!(writer, Writer::In2out(_)) && self.draw.wants_fresh();
            numbers.push(if fresh { flows.fresh() } else { self.draw.known() });
        }
        self.write(writer, flows, pool, &numbers, moment);
    }

    /// Makes a burst of packets of these flows.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        writer: &Writer<'_>,
        flows: &Flows,
        pool: &Mempool,
        numbers: &Numbers,
        moment: Moment,
    ) {
        let Moment { window, now: stamp } = moment;
        if numbers.is_empty() || !pool.alloc_bulk(&mut self.unsent, numbers.len()) {
            return;
        }
        match writer {
            Writer::In2out(frames) => {
                for (packet, &flow) in self.unsent.iter_mut().zip(numbers) {
                    let size = self.sizes.next();
                    let len = frames.len(size);
                    // A buffer has room for the largest frame.
                    let _ = packet.resize(len);
                    frames.write(packet.data_mut(), size, Mark { window, flow, stamp });
                    self.unsent_bytes += len as u64 + FCS;
                }
            }
            Writer::Out2in(frames) => {
                // All look-ups first: their cache misses are waited for together.
                let mut known = ArrayVec::<_, BATCH>::new();
                known.extend(numbers.iter().map(|&flow| flows.known()[flow as usize].to()));
                for ((packet, &flow), to) in self.unsent.iter_mut().zip(numbers).zip(known) {
                    let size = self.sizes.next();
                    let len = frames.len(size);
                    let _ = packet.resize(len);
                    frames.write(packet.data_mut(), size, to, Mark { window, flow, stamp });
                    self.unsent_bytes += len as u64 + FCS;
                }
            }
        }
    }

    /// Gives what was made to the device; what it does not take is offered again.
    #[inline(always)]
    pub(super) fn offer(&mut self, lane: &mut Lane) -> usize {
        if self.unsent.is_empty() {
            return 0;
        }
        let (sent, _) = lane.send(&mut self.unsent, &mut self.unsent_bytes);
        self.sent += sent as u64;
        sent
    }

    /// Throws away what no device took; returns how much that was.
    #[inline(always)]
    pub(super) fn give_up(&mut self) -> u64 {
        let count = self.unsent.len() as u64;
        if count > 0 {
            gateway::dpdk::Mbuf::free_bulk(&mut self.unsent);
            self.unsent_bytes = 0;
        }
        count
    }
}
