//! ARP (RFC 826): answering for our addresses and the egress IPs, asking for neighbours, learning them.

use super::{
    config::DatapathConfig,
    io::{PacketBuf, PacketIo},
    neighbour::Ask,
    next_hop::{Output, Turn},
};
use crate::{
    nat::PolicyTable,
    verdict::{DropReason, Side},
    wire::{
        Address, Header, MacAddress,
        arp::{ArpPacket, REPLY, REQUEST},
        ethernet::ETHERTYPE_ARP,
    },
};
use std::net::Ipv4Addr;
use zerocopy::IntoBytes;

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
    let on_link = config.port(side).is_on_link(sender.into());
    let known = output.neighbours(side).is_known(sender);
    if on_link {
        output.learn(turn, side, (sender, arp.sender_mac), asks_us);
    }
    if !asks_us {
        // Another worker may have asked: it is told of any answer.
        let may_be_awaited = !output.is_alone() && arp.operation.get() == REPLY && on_link;
        return if known || may_be_awaited { Ok(()) } else { Err(DropReason::ArpNotForUs) };
    }
    frame.keep(0..l3 + size_of::<ArpPacket>());
    if let Some(answer) = ArpPacket::at_mut(frame.data_mut(), l3) {
        *answer = ArpPacket::new(REPLY, (mac, target), (arp.sender_mac, sender));
    }
    output.write_l2(frame.data_mut(), side, arp.sender_mac, ETHERTYPE_ARP);
    output.transmit(turn, side, frame);
    Ok(())
}

/// Asks who has `target`; nothing where the port has no IPv4 address to ask from.
pub fn ask<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    Ask { target, mac }: Ask<Ipv4Addr>,
) {
    let port = output.config.port(side);
    // The address of the target's own prefix: a neighbour may ignore a sender that is not on-link.
    let Some(sender) = port.source_for(target) else { return };
    let question = ArpPacket::new(REQUEST, (port.mac, sender), (MacAddress::default(), target));
    let to = mac.unwrap_or(MacAddress::BROADCAST);
    output.send(turn, side, to, (ETHERTYPE_ARP, question.as_bytes()));
}

/// Says that `address` is ours: gratuitous ARP (RFC 5227 section 2.3).
pub fn announce<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    address: Ipv4Addr,
) {
    let mac = output.config.port(side).mac;
    let announcement = ArpPacket::new(REQUEST, (mac, address), (MacAddress::default(), address));
    output.send(turn, side, MacAddress::BROADCAST, (ETHERTYPE_ARP, announcement.as_bytes()));
}

/// Whether `address` is the port's own, or an egress IP at the external one.
pub(super) fn answers_for<A: Address>(
    config: &DatapathConfig,
    policies: &PolicyTable,
    side: Side,
    address: A,
) -> bool {
    config.own(side).contains(address)
        || side == Side::External && policies.egress_ips().contains(address)
}
