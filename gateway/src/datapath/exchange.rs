//! What workers do for one another: packets to the owners of their flows, l4_ports lent and given back,
//! neighbours told. The other half of [`super::stages`], which a gateway with one worker never enters.

use super::{
    handoff::{Handed, Handoff, Loan, Note},
    io::{BURST, PacketBuf, PacketIo},
    laps::Stage,
    next_hop::Turn,
    stages::{Flows, Stages},
};
use crate::{
    nat::{FlowPacket, in2out::In2out, lending::Offer, out2in::Out2in},
    verdict::{DropReason, Side},
    wire::{Address, Any},
};
use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Notes of one other worker that a turn works off at most, and loans of each family that it gives back.
const NOTES_PER_TURN: usize = 64;

/// A packet of a flow that has an owner.
pub(super) trait Steered<B>: FlowPacket {
    /// The owner, when it is another worker.
    fn other_owner(&self, handoff: &Handoff<B>) -> Option<usize>;

    fn handed(self, packet: B) -> Handed<B>;
}

impl<A: Address, B: PacketBuf> Steered<B> for In2out<A> {
    #[inline(always)]
    fn other_owner(&self, handoff: &Handoff<B>) -> Option<usize> {
        handoff.other_owner_in2out(&self.key)
    }

    fn handed(self, packet: B) -> Handed<B> {
        Handed::In2out(packet, A::any(self))
    }
}

impl<A: Address, B: PacketBuf> Steered<B> for Out2in<A> {
    #[inline(always)]
    fn other_owner(&self, handoff: &Handoff<B>) -> Option<usize> {
        handoff.other_owner_out2in(&self.key)
    }

    fn handed(self, packet: B) -> Handed<B> {
        Handed::Out2in(packet, A::any(self))
    }
}

impl<B: PacketBuf> Stages<'_, B> {
    /// A packet that is another worker's.
    #[inline]
    pub(super) fn hand_over(&mut self, to: usize, handed: Handed<B>) {
        match self.handoff.send(to, handed) {
            Ok(()) => self.output.counters.handed_over[to].add(1),
            Err(refused) => self.refused(refused),
        }
    }

    /// The ring to the other worker is full.
    #[cold]
    fn refused(&mut self, handed: Handed<B>) {
        self.output.drop(handed.side(), DropReason::HandoffFull);
        // The borrower will never know of the loan.
        match handed {
            Handed::Lent(_, Any::V4(offer)) => self.nat.of_mut().take_back(&offer.declined()),
            Handed::Lent(_, Any::V6(offer)) => self.nat.of_mut().take_back(&offer.declined()),
            Handed::In2out(..) | Handed::Out2in(..) | Handed::Borrow { .. } => {}
        }
    }

    /// A burst from each other worker, and its notes; then what is to be told to others. Returns how many
    /// packets came.
    pub(super) fn other_workers<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>) -> usize {
        let mut received = 0;
        for from in 0..self.handoff.workers() {
            received += self.handed_burst(turn, from);
            for _ in 0..NOTES_PER_TURN {
                let Some(note) = self.handoff.next_note(from) else { break };
                self.noted(turn, note);
            }
        }
        self.give_back::<Ipv4Addr>();
        self.give_back::<Ipv6Addr>();
        self.tell_neighbours();
        self.handoff.greet();
        self.laps.lap(Stage::Handoff);
        received
    }

    fn handed_burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, from: usize) -> usize {
        let Some(burst) = self.handoff.receive(from) else { return 0 };
        let (received, nat) = (burst.len(), &*self.nat);
        let (mut out_v4, mut out_v6) = (Flows::new(), Flows::new());
        let (mut in_v4, mut in_v6) = (Flows::new(), Flows::new());
        let mut loans = ArrayVec::<Handed<B>, BURST>::new();
        for handed in burst {
            match handed {
                Handed::In2out(packet, Any::V4(input)) => out_v4.add(nat, packet, input),
                Handed::In2out(packet, Any::V6(input)) => out_v6.add(nat, packet, input),
                Handed::Out2in(packet, Any::V4(input)) => in_v4.add(nat, packet, input),
                Handed::Out2in(packet, Any::V6(input)) => in_v6.add(nat, packet, input),
                loan @ (Handed::Borrow { .. } | Handed::Lent(..)) => loans.push(loan),
            }
        }
        // A loan is settled before the packets that came with it: they may be of its flow.
        for loan in loans {
            self.settle(turn, loan);
        }
        self.laps.lap(Stage::Handoff);
        self.in2out_all::<Ipv4Addr, I>(turn, &mut out_v4);
        self.in2out_all::<Ipv6Addr, I>(turn, &mut out_v6);
        self.out2in_all::<Ipv4Addr, I>(turn, &mut in_v4);
        self.out2in_all::<Ipv6Addr, I>(turn, &mut in_v6);
        received
    }

    #[cold]
    fn settle<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, handed: Handed<B>) {
        match handed {
            Handed::Borrow { packet, input: Any::V4(input), loan } => {
                self.lend(turn, packet, input, loan);
            }
            Handed::Borrow { packet, input: Any::V6(input), loan } => {
                self.lend(turn, packet, input, loan);
            }
            Handed::Lent(packet, Any::V4(offer)) => self.lent(turn, packet, &offer),
            Handed::Lent(packet, Any::V6(offer)) => self.lent(turn, packet, &offer),
            Handed::In2out(..) | Handed::Out2in(..) => {}
        }
    }

    /// The first packet of a flow for which this worker has no l4_port left: the others are asked.
    #[cold]
    pub(super) fn borrow<A: Address>(&mut self, packet: B, input: In2out<A>) {
        let me = self.handoff.me();
        let loan = Loan { borrower: me as u16, asked: 1 };
        let next = (me + 1) % self.handoff.workers();
        self.hand_over(next, Handed::Borrow { packet, input: A::any(input), loan });
    }

    /// Another worker has no l4_port left for this packet's flow.
    #[cold]
    fn lend<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        packet: B,
        input: In2out<A>,
        mut loan: Loan,
    ) {
        let borrower = usize::from(loan.borrower);
        match self.nat.of_mut::<A>().lend(&input, borrower, turn.policies, turn.now) {
            Ok(offer) => self.hand_over(borrower, Handed::Lent(packet, A::any(offer))),
            // Full is this table, not that of the next worker.
            Err(DropReason::L4PortsExhausted | DropReason::SessionsFull)
                if usize::from(loan.asked) + 1 < self.handoff.workers() =>
            {
                loan.asked += 1;
                let next = (self.handoff.me() + 1) % self.handoff.workers();
                self.hand_over(next, Handed::Borrow { packet, input: A::any(input), loan });
            }
            Err(DropReason::SessionsFull) => {
                self.output.drop(Side::Tunnel, DropReason::L4PortsExhausted);
            }
            Err(reason) => self.output.drop(Side::Tunnel, reason),
        }
    }

    /// Another worker lends what this one asked for.
    #[cold]
    fn lent<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        offer: &Offer<A>,
    ) {
        let (nat, policies) = (self.nat.of_mut::<A>(), turn.policies);
        let translated = nat.in2out_borrowed(packet.data_mut(), offer, policies, turn.now);
        self.leave(turn, packet, &offer.input, translated);
    }

    /// Tells the lenders of loans that ended.
    fn give_back<A: Address>(&mut self) {
        for _ in 0..NOTES_PER_TURN {
            let Some(returned) = self.nat.of_mut::<A>().next_return() else { return };
            let lender = self.handoff.owner_of_l4_port(&returned.0);
            if !self.handoff.note(lender, Note::Returned(A::any(returned))) {
                // Its ring is full of notes: later.
                return self.nat.of_mut().return_later(returned);
            }
        }
    }

    /// Tells all of neighbours that one queue heard.
    fn tell_neighbours(&mut self) {
        let Some(heard) = &mut self.output.heard else { return };
        for (side, address, mac) in heard.drain(..) {
            self.handoff.note_all(Note::Neighbour { side, address, mac });
        }
    }

    fn noted<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, note: Note) {
        match note {
            Note::Hello => self.output.counters.greeted_by.add(1),
            Note::Returned(Any::V4(returned)) => self.nat.of_mut().take_back(&returned),
            Note::Returned(Any::V6(returned)) => self.nat.of_mut().take_back(&returned),
            Note::Neighbour { side, address: IpAddr::V4(address), mac } => {
                self.output.release(turn, side, (address, mac), false);
            }
            Note::Neighbour { side, address: IpAddr::V6(address), mac } => {
                self.output.release(turn, side, (address, mac), false);
            }
        }
    }
}
