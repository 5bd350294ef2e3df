//! ARP: answering for our addresses and the egress IPs, learning neighbours, announcing ourselves.

use super::{
    config::DatapathConfig,
    io::{PacketBuf, PacketIo},
    next_hop::{Output, Turn},
};
use crate::{
    nat::{PolicyTable, Tick},
    verdict::{DropReason, Side},
    wire::{
        Header, MacAddress,
        arp::{ArpPacket, REPLY, REQUEST},
        ethernet::ETHERTYPE_ARP,
    },
};
use std::net::Ipv4Addr;

/// An ARP packet that arrived at `side`, its ARP part at `l3`. A request for an address of ours is
/// answered in its own buffer.
pub fn receive<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    mut frame: I::Buf,
    l3: usize,
) -> Result<(), DropReason> {
    let arp = *ArpPacket::at(frame.data(), l3).ok_or(DropReason::Truncated)?;
    if !arp.is_valid() {
        return Err(DropReason::ArpMalformed);
    }
    let (sender, target) = (Ipv4Addr::from(arp.sender_ip), Ipv4Addr::from(arp.target_ip));
    let config = std::sync::Arc::clone(&output.config);
    let mac = config.port(side).mac;
    let ours = |address| answers_for(&config, turn.policies, side, address);
    if ours(sender) {
        // Another host says that it has our address (RFC 5227 section 2.4).
        output.counters.address_conflicts.add(1);
        return Err(DropReason::ArpNotForUs);
    }
    let asks_us = arp.operation.get() == REQUEST && ours(target);
    // RFC 826: who asks us will be talked to, so it is noted; a known neighbour is brought up to
    // date by anything it says; an answer counts only where there was a question.
    let on_link = config.port(side).is_on_link(sender);
    let known = output.knows(side, sender);
    if on_link {
        output.learn(turn, side, (sender, arp.sender_mac), asks_us);
    }
    if !asks_us {
        return if known { Ok(()) } else { Err(DropReason::ArpNotForUs) };
    }
    frame.keep(0..l3 + size_of::<ArpPacket>());
    if let Some(answer) = ArpPacket::at_mut(frame.data_mut(), l3) {
        *answer = ArpPacket::new(REPLY, (mac, target), (arp.sender_mac, sender));
    }
    output.write_l2(frame.data_mut(), side, arp.sender_mac, ETHERTYPE_ARP);
    output.transmit(turn, side, frame);
    Ok(())
}

/// Who has `target`? `None` where the port has no address to ask from.
pub fn question(config: &DatapathConfig, side: Side, target: Ipv4Addr) -> Option<ArpPacket> {
    let port = config.port(side);
    // The address of the target's own prefix: a neighbour may ignore a sender that is not on-link.
    let sender = port.addresses.iter().find(|a| a.contains(&target)).or(port.addresses.first())?;
    Some(ArpPacket::new(REQUEST, (port.mac, sender.addr()), (MacAddress::default(), target)))
}

fn answers_for(
    config: &DatapathConfig,
    policies: &PolicyTable,
    side: Side,
    address: Ipv4Addr,
) -> bool {
    config.own(side).contains(address)
        || side == Side::External && policies.egress_ips().contains(address)
}

/// Gratuitous ARP for every address of ours: at start, and when the policies bring new egress IPs, so
/// that switches and neighbours learn at once where they are.
#[derive(Debug)]
pub struct Announcer {
    /// What this round announces next: one of the three sets of addresses, and a place in it. `None`
    /// between the rounds.
    next: Option<(u8, usize)>,
    rounds_left: u8,
    next_round: Tick,
    /// What the last rounds announced.
    generation: Option<u64>,
}

/// RFC 5227 section 2.3: two announcements, two seconds apart; one more for a link that is slow to
/// come up.
const ROUNDS: u8 = 3;
const ROUND_MILLIS: u64 = 2_000;
const PER_TURN: usize = 8;

impl Announcer {
    pub fn new() -> Self {
        Announcer { next: None, rounds_left: 0, next_round: Tick::default(), generation: None }
    }

    /// Sends the announcements that are due, a few per turn.
    pub fn tick<I: PacketIo>(&mut self, output: &mut Output<I::Buf>, turn: &mut Turn<'_, I>) {
        if self.generation != Some(turn.policies.generation()) {
            self.generation = Some(turn.policies.generation());
            self.rounds_left = ROUNDS;
            self.next_round = turn.now;
            self.next = None;
        }
        if self.next.is_none() && self.rounds_left > 0 && turn.now >= self.next_round {
            self.rounds_left -= 1;
            self.next_round = turn.now.plus_millis(ROUND_MILLIS);
            self.next = Some((0, 0));
        }
        for _ in 0..PER_TURN {
            let next = self.next_address(&output.config, turn.policies);
            let Some((side, address)) = next else { return };
            let mac = output.config.port(side).mac;
            let arp = ArpPacket::new(REQUEST, (mac, address), (MacAddress::default(), address));
            output.send_arp(turn, side, MacAddress::BROADCAST, arp);
        }
    }

    fn next_address(
        &mut self,
        config: &DatapathConfig,
        policies: &PolicyTable,
    ) -> Option<(Side, Ipv4Addr)> {
        loop {
            let (set, place) = self.next?;
            let (side, addresses) = match set {
                0 => (Side::Tunnel, config.own(Side::Tunnel)),
                1 => (Side::External, config.own(Side::External)),
                2 => (Side::External, policies.egress_ips()),
                _ => {
                    self.next = None;
                    return None;
                }
            };
            match addresses.at_or_after(place) {
                Some((place, address)) => {
                    self.next = Some((set, place + 1));
                    return Some((side, address));
                }
                None => self.next = Some((set + 1, 0)),
            }
        }
    }
}

impl Default for Announcer {
    fn default() -> Self {
        Self::new()
    }
}
