//! Handing packets over between workers: every pair has a bounded ring each way, with one sender and one
//! receiver. Nobody ever waits: what finds a ring full is dropped and counted, so a worker that stands
//! still cannot hold up another.
//!
//! A second, smaller ring beside it bears *notes*: loans that ended, and neighbours that one worker heard
//! of and all need. No packet depends on a note's arrival, and a loan that finds that ring full is told
//! later.

use super::{
    io::{BURST, PacketBuf},
    steering::Steering,
};
use crate::{
    nat::{
        Allotment, FlowKey,
        in2out::In2outs,
        lending::{Loans, Offers},
        out2in::Out2ins,
    },
    verdict::Side,
    wire::{Address, Any, MacAddress},
};
use rtrb::{Consumer, Producer, PushError, RingBuffer, chunks::ReadChunk};
use std::{net::IpAddr, sync::Arc};

/// Packets that wait between two workers at most. As many as the receive queue of a port holds: both are
/// there for the time in which a worker sleeps or is busy.
pub const RING: usize = 1024;
const NOTES: usize = 256;

/// A packet on its way to another worker, with what is known of it.
#[derive(Debug)]
pub enum Handed<B> {
    /// To the owner of its flow.
    In2out(B, Any<In2outs>),
    /// To the owner of its flow, or from a lender to the borrower.
    Out2in(B, Any<Out2ins>),
    /// To a worker that may lend an l4_port: the first packet of a flow, whose owner has none left.
    Borrow { packet: B, input: Any<In2outs>, loan: Loan },
    /// Back to the borrower, with what it may use.
    Lent(B, Any<Offers>),
}

/// Who wants to borrow, and how many others were asked, the receiver included.
#[derive(Clone, Copy, Debug)]
pub struct Loan {
    pub borrower: u16,
    pub asked: u16,
}

impl<B> Handed<B> {
    /// Where the packet was received.
    pub fn side(&self) -> Side {
        match self {
            Handed::Out2in(..) => Side::External,
            Handed::In2out(..) | Handed::Borrow { .. } | Handed::Lent(..) => Side::Tunnel,
        }
    }

    pub fn packet(&self) -> &B {
        match self {
            Handed::In2out(packet, _)
            | Handed::Out2in(packet, _)
            | Handed::Borrow { packet, .. }
            | Handed::Lent(packet, _) => packet,
        }
    }
}

/// What one worker tells another beside packets.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// The first that each worker sends: the way is open.
    Hello,
    /// To the lender: the l4_port is free again.
    Returned(Any<Loans>),
    /// A neighbour said its MAC, and one queue only has received it.
    Neighbour { side: Side, address: IpAddr, mac: MacAddress },
}

/// One worker's ends of all rings, and who owns which flow.
#[derive(Debug)]
pub struct Handoff<B> {
    me: usize,
    steering: Arc<Steering>,
    /// By worker; `None` for itself.
    peers: Box<[Option<Peer<B>>]>,
    /// Whom to greet next.
    greeted: usize,
}

#[derive(Debug)]
struct Peer<B> {
    to: Producer<Handed<B>>,
    from: Consumer<Handed<B>>,
    notes_to: Producer<Note>,
    notes_from: Consumer<Note>,
}

impl<B: PacketBuf> Handoff<B> {
    /// The ends of all workers, in their order.
    pub fn mesh(steering: &Arc<Steering>) -> Vec<Self> {
        let workers = steering.workers();
        let mut all: Vec<Self> = (0..workers)
            .map(|me| {
                let peers = std::iter::repeat_with(|| None).take(workers).collect();
                Handoff { me, steering: Arc::clone(steering), peers, greeted: 0 }
            })
            .collect();
        for one in 0..workers {
            for other in one + 1..workers {
                let ((to, from_one), (back, from_other)) =
                    (RingBuffer::new(RING), RingBuffer::new(RING));
                let (notes_to, notes_from_one) = RingBuffer::new(NOTES);
                let (notes_back, notes_from_other) = RingBuffer::new(NOTES);
                all[one].peers[other] =
                    Some(Peer { to, from: from_other, notes_to, notes_from: notes_from_other });
                all[other].peers[one] = Some(Peer {
                    to: back,
                    from: from_one,
                    notes_to: notes_back,
                    notes_from: notes_from_one,
                });
            }
        }
        all
    }

    /// Of the only worker of a gateway.
    pub fn alone() -> Self {
        let steering = Arc::new(Steering::alone());
        Handoff { me: 0, steering, peers: Box::new([None]), greeted: 0 }
    }

    pub fn me(&self) -> usize {
        self.me
    }

    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    #[inline(always)]
    pub fn is_alone(&self) -> bool {
        self.peers.len() == 1
    }

    /// The external l4_ports that this worker may give out.
    pub fn l4_ports(&self) -> Allotment {
        self.steering.allotment(self.me)
    }

    /// The owner of a flow, when it is another worker.
    #[inline(always)]
    pub fn other_owner_in2out<A: Address>(&self, key: &FlowKey<A>) -> Option<usize> {
        if self.is_alone() {
            return None;
        }
        Some(self.steering.of_in2out(key)).filter(|owner| *owner != self.me)
    }

    /// The owner of a packet from the world, when it is another worker.
    #[inline(always)]
    pub fn other_owner_out2in<A: Address>(&self, key: &FlowKey<A>) -> Option<usize> {
        if self.is_alone() {
            return None;
        }
        Some(self.steering.of_out2in(key)).filter(|owner| *owner != self.me)
    }

    /// Who gives out the l4_port of an out2in key.
    pub fn owner_of_l4_port<A: Address>(&self, key: &FlowKey<A>) -> usize {
        self.steering.of_out2in(key)
    }

    /// Sends a packet to worker `to`; given back where its ring is full.
    #[inline]
    pub fn send(&mut self, to: usize, handed: Handed<B>) -> Result<(), Handed<B>> {
        let Some(Some(peer)) = self.peers.get_mut(to) else { return Err(handed) };
        peer.to.push(handed).map_err(|PushError::Full(handed)| handed)
    }

    /// Up to a burst of packets from worker `from`, to be taken out of the chunk. Their headers begin to load.
    #[inline]
    pub fn receive(&mut self, from: usize) -> Option<ReadChunk<'_, Handed<B>>> {
        let from = &mut self.peers.get_mut(from)?.as_mut()?.from;
        let waiting = from.slots().min(BURST);
        if waiting == 0 {
            return None;
        }
        let chunk = from.read_chunk(waiting).ok()?;
        let (first, second) = chunk.as_slices();
        // Both lines of a packet are in the sender's cache, and the first leads to the second.
        for handed in first.iter().chain(second) {
            handed.packet().prefetch_buffer();
        }
        for handed in first.iter().chain(second) {
            handed.packet().prefetch(handed.side());
        }
        Some(chunk)
    }

    /// A note to one worker; false where there is no room.
    #[must_use]
    pub fn note(&mut self, to: usize, note: Note) -> bool {
        match self.peers.get_mut(to) {
            Some(Some(peer)) => peer.notes_to.push(note).is_ok(),
            _ => true,
        }
    }

    /// A note to all others; who has no room does without.
    pub fn note_all(&mut self, note: Note) {
        for to in 0..self.workers() {
            let _ = self.note(to, note);
        }
    }

    /// A note from worker `from`.
    pub fn next_note(&mut self, from: usize) -> Option<Note> {
        self.peers.get_mut(from)?.as_mut()?.notes_from.pop().ok()
    }

    /// Greets the other workers, each once.
    pub fn greet(&mut self) {
        while self.greeted < self.workers() && self.note(self.greeted, Note::Hello) {
            self.greeted += 1;
        }
    }
}
