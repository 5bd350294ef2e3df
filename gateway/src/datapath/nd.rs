//! Neighbor Discovery (RFC 4861): answering for our addresses and the egress IPs, asking for neighbours,
//! learning them; and Duplicate Address Detection (RFC 4862).

use super::{
    arp::answers_for,
    io::{PacketBuf, PacketIo},
    neighbour::Ask,
    next_hop::{Output, Turn},
};
use crate::{
    verdict::{DropReason, Side},
    wire::{
        Header, MacAddress,
        ethernet::ETHERTYPE_IPV6,
        icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION},
        ipv6::IPV6_LEN,
        nd::{
            NeighborMessage, OVERRIDE, SOLICITED, SOURCE_LINK_ADDRESS, TARGET_LINK_ADDRESS,
            all_nodes, group_mac, link_address, solicited_node,
        },
        parse::IpPacket,
    },
};
use std::net::Ipv6Addr;

/// A Neighbor Discovery message that arrived at `side`. A question for an address of ours is answered in
/// its own buffer.
pub fn receive<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    frame: I::Buf,
    packet: IpPacket<Ipv6Addr>,
) -> Result<(), DropReason> {
    let (message, mac) = read(frame.data(), &packet)?;
    let config = std::sync::Arc::clone(&output.config);
    let ours = |address| answers_for(&config, turn.policies, side, address);
    let (source, target) = (packet.source, Ipv6Addr::from(message.target));
    let is_question = message.icmp_type == NEIGHBOR_SOLICITATION;
    if ours(source) || !is_question && ours(target) {
        // Another host says that it has our address (RFC 4862 section 5.4.4).
        output.counters.address_conflicts.add(1);
        return Err(DropReason::NdNotForUs);
    }
    if !is_question {
        return advertised(output, turn, side, target, message.flags[0], mac);
    }
    if !ours(target) {
        return Err(DropReason::NdNotForUs);
    }
    if source.is_unspecified() {
        // Another host is about to take our address (RFC 4862 section 5.4.3): all are told that it is ours.
        output.counters.address_conflicts.add(1);
        let to = (all_nodes(), Some(group_mac(all_nodes())));
        return answer(output, turn, side, frame, (target, to, OVERRIDE));
    }
    // RFC 4861 section 7.2.3: who asks us will be talked to, so it is noted.
    if let Some(mac) = mac
        && config.port(side).is_on_link(source.into())
    {
        output.learn(turn, side, (source, mac), true);
    }
    answer(output, turn, side, frame, (target, (source, mac), SOLICITED | OVERRIDE))
}

/// The message, and the MAC of whom it is about, where it says it.
fn read(
    frame: &[u8],
    packet: &IpPacket<Ipv6Addr>,
) -> Result<(NeighborMessage, Option<MacAddress>), DropReason> {
    let bytes = &frame[packet.l4()..packet.end()];
    // Routers are configured here, not discovered.
    let icmp_type = *bytes.first().ok_or(DropReason::NdMalformed)?;
    let kind = match icmp_type {
        NEIGHBOR_SOLICITATION => SOURCE_LINK_ADDRESS,
        NEIGHBOR_ADVERTISEMENT => TARGET_LINK_ADDRESS,
        _ => return Err(DropReason::NdNotForUs),
    };
    let message = *NeighborMessage::at(bytes, 0).ok_or(DropReason::NdMalformed)?;
    let mac = link_address(&bytes[NeighborMessage::LEN..], kind).ok_or(DropReason::NdMalformed)?;
    // RFC 6980 section 5 wants messages with a fragment header discarded; nobody sends any with another
    // extension header.
    let is_extended = packet.l4() - packet.l3() != IPV6_LEN;
    // Section 7.1.1: who has no address yet has no link-layer address to tell either.
    let is_odd_probe = packet.source.is_unspecified() && mac.is_some();
    if packet.ttl != 255 || is_extended || is_odd_probe || !message.is_valid(bytes, packet) {
        return Err(DropReason::NdMalformed);
    }
    Ok((message, mac))
}

/// Says in `frame`, whose message is not needed any more, that `target` is ours. Who asked without telling
/// its MAC is asked for it first (RFC 4861 section 7.2.4).
fn answer<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    mut frame: I::Buf,
    (target, (to, mac), flags): (Ipv6Addr, (Ipv6Addr, Option<MacAddress>), u8),
) -> Result<(), DropReason> {
    let port = output.config.port(side);
    let link = (TARGET_LINK_ADDRESS, port.mac);
    let message = NeighborMessage::new(NEIGHBOR_ADVERTISEMENT, flags, target);
    let mut bytes = [0; NeighborMessage::PACKET];
    message.write(&mut bytes, (target, to), Some(link));
    if !frame.fill(&bytes) || !frame.prepend(port.l2_len()) {
        return Err(DropReason::NoHeadroom);
    }
    match mac {
        Some(mac) => {
            output.write_l2(frame.data_mut(), side, mac, ETHERTYPE_IPV6);
            output.transmit(turn, side, frame);
        }
        // Beyond the link nobody asks.
        None if !port.is_on_link(to.into()) => return Err(DropReason::NdNotForUs),
        None => output.forward(turn, side, to, frame),
    }
    Ok(())
}

/// `target` says what its MAC is.
fn advertised<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    target: Ipv6Addr,
    flags: u8,
    mac: Option<MacAddress>,
) -> Result<(), DropReason> {
    // RFC 4861 section 7.2.5: an answer counts only where there was a question, which another worker may
    // have asked.
    if output.is_alone() && !output.neighbours(side).is_known(target) {
        return Err(DropReason::NdNotForUs);
    }
    let known = output.neighbours(side).mac(target);
    let mac = match (mac, known) {
        // Who was asked by unicast may leave its address out.
        (None, Some(known)) => known,
        (None, None) => return Err(DropReason::NdMalformed),
        // Without the flag it may neither replace what is known nor confirm it (a proxy's answer).
        (Some(mac), Some(known)) if flags & OVERRIDE == 0 && mac != known => return Ok(()),
        (Some(mac), _) => mac,
    };
    output.learn(turn, side, (target, mac), false);
    Ok(())
}

/// Asks who has `target`; nothing where the port has no IPv6 address to ask from.
pub fn ask<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    Ask { target, mac }: Ask<Ipv6Addr>,
) {
    let port = output.config.port(side);
    let Some(source) = port.source_for(target) else { return };
    let link = (SOURCE_LINK_ADDRESS, port.mac);
    // RFC 4861 section 7.2.2: to the target's group while its MAC is not known, else to itself.
    let (to, to_mac) = match mac {
        Some(mac) => (target, mac),
        None => (solicited_node(target), group_mac(solicited_node(target))),
    };
    let question = NeighborMessage::new(NEIGHBOR_SOLICITATION, 0, target);
    let mut bytes = [0; NeighborMessage::PACKET];
    question.write(&mut bytes, (source, to), Some(link));
    output.send(turn, side, to_mac, (ETHERTYPE_IPV6, &bytes));
}

/// Asks whether anybody else has `address` (RFC 4862 section 5.4.2). It is used meanwhile: the operator
/// said that it is ours. An answer is counted as an address conflict.
pub fn detect_duplicate<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    address: Ipv6Addr,
) {
    let question = NeighborMessage::new(NEIGHBOR_SOLICITATION, 0, address);
    let mut bytes = [0; NeighborMessage::PACKET];
    let to = solicited_node(address);
    let len = question.write(&mut bytes, (Ipv6Addr::UNSPECIFIED, to), None);
    output.send(turn, side, group_mac(to), (ETHERTYPE_IPV6, &bytes[..len]));
}

/// Says that `address` is ours: an unsolicited advertisement (RFC 4861 section 7.2.6).
pub fn announce<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    address: Ipv6Addr,
) {
    let link = (TARGET_LINK_ADDRESS, output.config.port(side).mac);
    let message = NeighborMessage::new(NEIGHBOR_ADVERTISEMENT, OVERRIDE, address);
    let mut bytes = [0; NeighborMessage::PACKET];
    message.write(&mut bytes, (address, all_nodes()), Some(link));
    output.send(turn, side, group_mac(all_nodes()), (ETHERTYPE_IPV6, &bytes));
}
