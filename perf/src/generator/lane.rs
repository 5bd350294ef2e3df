//! One of the two devices as the generator holds it: bursts out, frames in, ARP beside.

use super::{
    arp::{self, Arp, ArpFrame},
    clock::Clock,
    frames::FCS,
    judge::{Judge, Judged, Source},
    mark::Mark,
    seconds::Totals,
};
use arrayvec::ArrayVec;
use gateway::{
    datapath::PacketBuf,
    dpdk::{Mbuf, Mempool, RxQueue, TxQueue},
    verdict::Side,
    wire::MacAddress,
};

/// Packets that are made, sent, received together.
pub(super) const BATCH: usize = 32;
pub(super) type Packets = ArrayVec<Mbuf, BATCH>;
/// Bursts that are received before something is sent again, where so many wait.
const MOST_BURSTS: usize = 4;

/// Who is told what came.
pub(super) trait Taker {
    fn right(&mut self, side: Side, arrival: &Arrival);

    /// Otherwise than foretold.
    fn wrong(&mut self);
}

/// A frame that came as foretold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) mark: Mark,
    pub(super) source: Source,
    /// With frame check sequence.
    pub(super) bytes: u64,
    /// When its burst had been received.
    pub(super) at: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    side: Side,
    rx: RxQueue,
    tx: TxQueue,
    judge: Judge,
    nodes: u32,
    burst: Packets,
    answers: ArrayVec<ArpFrame, BATCH>,
    /// The system's MAC on this side, as it said itself.
    pub(super) system: Option<MacAddress>,
    pub(super) totals: Totals,
}

impl Lane {
    pub(super) fn new(side: Side, (rx, tx): (RxQueue, TxQueue), judge: Judge, nodes: u32) -> Self {
        let (burst, answers) = Default::default();
        Lane { side, rx, tx, judge, nodes, burst, answers, system: None, totals: Totals::default() }
    }

    /// Sends packets from the front of `packets`, which hold `bytes` with frame check sequences; returns
    /// how many of both are gone.
    #[inline(always)]
    pub(super) fn send(&mut self, packets: &mut Packets, bytes: &mut u64) -> (usize, u64) {
        let sent = self.tx.tx(packets);
        let left: u64 = packets.iter().map(|packet| packet.data().len() as u64 + FCS).sum();
        let gone = *bytes - left;
        *bytes = left;
        self.totals.tx_packets += sent as u64;
        self.totals.tx_bytes += gone;
        (sent, gone)
    }

    /// Tells `taker` of all that came, up to some bursts; returns how many frames there were.
    #[inline(always)]
    pub(super) fn receive(&mut self, clock: &mut Clock, taker: &mut impl Taker) -> usize {
        let mut received = 0;
        for _ in 0..MOST_BURSTS {
            let count = self.rx.rx(&mut self.burst);
            if count == 0 {
                break;
            }
            let at = clock.tick_after_io();
            self.burst.iter().for_each(Mbuf::prefetch_data);
            let mut all = 0;
            for packet in &self.burst {
                let frame = packet.data();
                let bytes = frame.len() as u64 + FCS;
                all += bytes;
                match self.judge.judge(frame) {
                    Judged::Right(mark, source) => {
                        taker.right(self.side, &Arrival { mark, source, bytes, at });
                    }
                    Judged::Wrong => taker.wrong(),
                    Judged::Other => Self::other(
                        (self.side, self.nodes),
                        frame,
                        &mut self.answers,
                        &mut self.system,
                    ),
                }
            }
            Mbuf::free_bulk(&mut self.burst);
            self.totals.rx_packets += count as u64;
            self.totals.rx_bytes += all;
            received += count;
            if count < BATCH {
                break;
            }
        }
        received
    }

    /// ARP is answered, and all else is nobody's business.
    #[cold]
    fn other(
        (side, nodes): (Side, u32),
        frame: &[u8],
        answers: &mut ArrayVec<ArpFrame, BATCH>,
        system: &mut Option<MacAddress>,
    ) {
        let Some(arp) = Arp::read(frame) else { return };
        if arp.sender.1 == arp::system(side) {
            *system = Some(arp.sender.0);
        }
        if let Some(answer) = arp.answer(side, nodes) {
            // Who finds no room asks again.
            let _ = answers.try_push(answer);
        }
    }

    /// Sends the answers to what was asked.
    #[inline(always)]
    pub(super) fn answer(&mut self, pool: &Mempool) {
        if !self.answers.is_empty() {
            let answers = std::mem::take(&mut self.answers);
            self.say(pool, &answers);
        }
    }

    /// Sends these frames, as far as there is room: for what can be said again.
    #[cold]
    pub(super) fn say(&mut self, pool: &Mempool, frames: &[ArpFrame]) {
        for frames in frames.chunks(BATCH) {
            let mut packets = Packets::new();
            if !pool.alloc_bulk(&mut packets, frames.len()) {
                return;
            }
            for (packet, frame) in packets.iter_mut().zip(frames) {
                // A buffer always has room for so little.
                let _ = packet.fill(&padded(frame));
            }
            let mut bytes = (packets.len() * (60 + FCS as usize)) as u64;
            self.send(&mut packets, &mut bytes);
        }
    }
}

/// Of the smallest length that Ethernet has.
fn padded(frame: &ArpFrame) -> [u8; 60] {
    let mut padded = [0; 60];
    padded[..frame.len()].copy_from_slice(frame);
    padded
}
