//! The way out: which neighbour gets the packet, its L2 header, the guard, the port.
//!
//! Everything that leaves the gateway, translated or its own, goes through [`Output::transmit`].

use super::{
    arp,
    config::DatapathConfig,
    counters::WorkerCounters,
    guard,
    io::{Burst, PacketBuf, PacketIo},
    nd,
    neighbour::{Ask, Lookup, Neighbours, NeighboursWith, Waiting, WaitingPackets},
};
use crate::{
    nat::{PolicyTable, Tick},
    verdict::{DropReason, Side},
    wire::{
        Address, Both, Header, MacAddress,
        ethernet::{ETHERNET_LEN, ETHERTYPE_VLAN, EthernetHeader},
        vlan::VlanTag,
    },
};
use arrayvec::ArrayVec;
use std::{net::IpAddr, sync::Arc};
use zerocopy::network_endian::U16 as NetU16;

/// How often a full port is asked again before its packets are dropped.
const TX_TRIES: usize = 4;
/// Questions of each family that one turn sends at most to a side; the others wait for the next turn.
const ASKS_PER_TURN: usize = 16;

/// Neighbours that the other workers are told of in a turn; who asked for another asks again.
const HEARD_PER_TURN: usize = 32;

/// One turn of the loop: the ports, the policies in force and the time. The same for all its packets.
#[derive(Debug)]
pub struct Turn<'a, I> {
    pub io: &'a mut I,
    pub policies: &'a PolicyTable,
    pub now: Tick,
}

#[derive(Debug)]
pub struct Output<B> {
    pub config: Arc<DatapathConfig>,
    pub counters: Arc<WorkerCounters>,
    neighbours: [Both<NeighboursWith<B>>; 2],
    /// Neighbours that said their MAC, for the other workers.
    pub heard: Option<ArrayVec<(Side, IpAddr, MacAddress), HEARD_PER_TURN>>,
    /// Frames on their way to each port; sent when full and at the end of the turn.
    leaving: [Burst<B>; 2],
    leaving_bytes: [usize; 2],
}

impl<B: PacketBuf> Output<B> {
    /// `alone`: there is no other worker.
    pub fn new(config: Arc<DatapathConfig>, counters: Arc<WorkerCounters>, alone: bool) -> Self {
        let (neighbours, leaving) = (Default::default(), Default::default());
        let heard = (!alone).then(ArrayVec::new);
        Output { config, counters, neighbours, heard, leaving, leaving_bytes: [0; 2] }
    }

    /// Sends an IP packet towards `destination` through `side`. The packet begins behind the room
    /// for the port's L2 header.
    #[inline(always)]
    pub fn forward<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        destination: A,
        mut packet: B,
    ) {
        let Some(next_hop) = self.config.next_hop(side, destination) else {
            return self.drop(side, DropReason::NoNextHop);
        };
        let neighbours = self.neighbours[side.index()].of_mut::<A>();
        let mac = match neighbours.lookup(next_hop, turn.now) {
            Lookup::Known(mac) => mac,
            Lookup::Stale(mac) => {
                neighbours.ask(next_hop, turn.now);
                mac
            }
            Lookup::Unknown => return self.wait(turn, side, next_hop, packet),
        };
        self.write_l2(packet.data_mut(), side, mac, A::ETHERTYPE);
        self.transmit(turn, side, packet);
    }

    /// [`Output::forward`] towards an address of either family, as the outer packets of nodes.
    #[inline(always)]
    pub fn forward_any<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        destination: IpAddr,
        packet: B,
    ) {
        match destination {
            IpAddr::V4(destination) => self.forward(turn, side, destination, packet),
            IpAddr::V6(destination) => self.forward(turn, side, destination, packet),
        }
    }

    #[cold]
    fn wait<A: Address, I>(&mut self, turn: &Turn<'_, I>, side: Side, next_hop: A, packet: B) {
        let waiting = Waiting { packet, epoch: turn.policies.epoch() };
        let neighbours = self.neighbours[side.index()].of_mut::<A>();
        if neighbours.wait(next_hop, waiting, turn.now).is_err() {
            self.drop(side, DropReason::NeighbourQueueFull);
        }
    }

    /// A neighbour said its MAC: what waited for it goes.
    pub fn learn<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        neighbour: (A, MacAddress),
        create: bool,
    ) {
        let (address, mac) = neighbour;
        if let Some(heard) = &mut self.heard {
            let _ = heard.try_push((side, address.into(), mac));
        }
        self.release(turn, side, neighbour, create);
    }

    /// What a neighbour's MAC lets go: here, or heard of from another worker.
    pub fn release<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        (address, mac): (A, MacAddress),
        create: bool,
    ) {
        let neighbours = self.neighbours[side.index()].of_mut::<A>();
        for waiting in neighbours.learn(address, mac, create, turn.now) {
            let Waiting { mut packet, epoch } = waiting;
            // Let through under policies that are no longer in force: it may not leave under these.
            if epoch != turn.policies.epoch() {
                self.drop(side, DropReason::PolicyChanged);
                continue;
            }
            self.write_l2(packet.data_mut(), side, mac, A::ETHERTYPE);
            self.transmit(turn, side, packet);
        }
    }

    /// The frame is complete but for the guard.
    #[inline(always)]
    pub fn transmit<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, side: Side, frame: B) {
        if side == Side::External
            && let Err(reason) = guard::check(frame.data(), &self.config, turn.policies)
        {
            return self.drop(side, reason);
        }
        if self.leaving[side.index()].is_full() {
            self.flush_side(turn.io, side);
        }
        self.leaving_bytes[side.index()] += frame.data().len();
        self.leaving[side.index()].push(frame);
    }

    /// Questions that are due, neighbours that stay silent, and everything that is still to be sent.
    pub fn finish<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>) {
        for side in Side::ALL {
            self.ask_neighbours(turn, side);
            self.flush_side(turn.io, side);
        }
    }

    /// Asks for the configured next hops, so that their MACs are known before the first packet.
    pub fn ask_for_gateways(&mut self, now: Tick) {
        for side in Side::ALL {
            for gateway in &self.config.port(side).gateways {
                let neighbours = &mut self.neighbours[side.index()];
                match gateway {
                    IpAddr::V4(gateway) => neighbours.v4.ask(*gateway, now),
                    IpAddr::V6(gateway) => neighbours.v6.ask(*gateway, now),
                };
            }
        }
    }

    fn ask_neighbours<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, side: Side) {
        if self.neighbours[side.index()].v4.has_questions() {
            for ask in self.due_asks(side, turn.now) {
                arp::ask(self, turn, side, ask);
            }
        }
        if self.neighbours[side.index()].v6.has_questions() {
            for ask in self.due_asks(side, turn.now) {
                nd::ask(self, turn, side, ask);
            }
        }
    }

    fn due_asks<A: Address>(&mut self, side: Side, now: Tick) -> ArrayVec<Ask<A>, ASKS_PER_TURN> {
        let counters = &self.counters;
        let give_up = |waiting: WaitingPackets<B>| {
            for _ in waiting {
                counters.dropped(side, DropReason::NeighbourUnresolved);
            }
        };
        let mut asks = ArrayVec::new();
        self.neighbours[side.index()].of_mut::<A>().tick(now, &mut asks, give_up);
        asks
    }

    /// Sends a packet of our own, which begins with its L3 header, in a new buffer.
    pub fn send<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        to: MacAddress,
        (ethertype, packet): (u16, &[u8]),
    ) {
        let Some(mut frame) = turn.io.alloc() else {
            return self.drop(side, DropReason::NoBuffer);
        };
        if !frame.fill(packet) || !frame.prepend(self.config.port(side).l2_len()) {
            return self.drop(side, DropReason::NoHeadroom);
        }
        self.write_l2(frame.data_mut(), side, to, ethertype);
        self.transmit(turn, side, frame);
    }

    /// Writes the port's L2 header into the first bytes of the frame.
    #[inline(always)]
    pub fn write_l2(&self, frame: &mut [u8], side: Side, to: MacAddress, ethertype: u16) {
        let port = self.config.port(side);
        let Some(header) = EthernetHeader::at_mut(frame, 0) else { return };
        header.destination = to;
        header.source = port.mac;
        if port.vlan == 0 {
            header.ethertype = NetU16::new(ethertype);
            return;
        }
        header.ethertype = NetU16::new(ETHERTYPE_VLAN);
        if let Some(tag) = VlanTag::at_mut(frame, ETHERNET_LEN) {
            *tag = VlanTag { control: NetU16::new(port.vlan), ethertype: NetU16::new(ethertype) };
        }
    }

    fn flush_side<I: PacketIo<Buf = B>>(&mut self, io: &mut I, side: Side) {
        let leaving = &mut self.leaving[side.index()];
        if leaving.is_empty() {
            return;
        }
        let counters = self.counters.port(side);
        let (packets, bytes) =
            (leaving.len(), std::mem::take(&mut self.leaving_bytes[side.index()]));
        for _ in 0..TX_TRIES {
            io.tx(side, leaving);
            if leaving.is_empty() {
                break;
            }
        }
        // A port that stays full is behind; holding packets for it would only add delay.
        let unsent = leaving.iter().map(|f| f.data().len()).sum::<usize>();
        counters.tx_packets.add((packets - leaving.len()) as u64);
        counters.tx_bytes.add((bytes - unsent) as u64);
        for _ in leaving.drain(..) {
            self.counters.dropped(side, DropReason::TxFull);
        }
    }

    pub fn is_alone(&self) -> bool {
        self.heard.is_none()
    }

    pub fn neighbour_count(&self) -> usize {
        self.neighbours.iter().map(|both| both.v4.len() + both.v6.len()).sum()
    }

    pub fn neighbours<A: Address>(&self, side: Side) -> &Neighbours<A, B> {
        self.neighbours[side.index()].of()
    }

    #[inline]
    pub fn drop(&self, side: Side, reason: DropReason) {
        self.counters.dropped(side, reason);
    }
}
