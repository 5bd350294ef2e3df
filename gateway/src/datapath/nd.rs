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
    mut frame: I::Buf,
    packet: IpPacket<Ipv6Addr>,
) -> Result<(), DropReason> {
    let bytes = frame.data();
    let message = NeighborMessage::at(bytes, packet.l4()).copied();
    let message = message.filter(|_| packet.end() - packet.l4() >= NeighborMessage::LEN);
    // Router advertisements and redirects are shorter or of another type: routers are configured here.
    let message = match message {
        Some(message) if message.is_neighbor_message() => message,
        _ => return Err(DropReason::NdNotForUs),
    };
    let options = &bytes[packet.l4() + NeighborMessage::LEN..packet.end()];
    if packet.ttl != 255 || !message.is_valid(&bytes[packet.l4()..packet.end()], &packet) {
        return Err(DropReason::NdMalformed);
    }
    let kind = match message.icmp_type {
        NEIGHBOR_SOLICITATION => SOURCE_LINK_ADDRESS,
        _ => TARGET_LINK_ADDRESS,
    };
    let mac = link_address(options, kind).ok_or(DropReason::NdMalformed)?;
    let config = std::sync::Arc::clone(&output.config);
    let ours = |address| answers_for(&config, turn.policies, side, address);
    let target = Ipv6Addr::from(message.target);
    if message.icmp_type == NEIGHBOR_ADVERTISEMENT {
        if ours(target) {
            // Another host says that it has our address (RFC 4862 section 5.4.4).
            output.counters.address_conflicts.add(1);
            return Err(DropReason::NdNotForUs);
        }
        return advertised(output, turn, side, target, message.flags[0], mac);
    }
    if !ours(target) {
        return Err(DropReason::NdNotForUs);
    }
    let source = packet.source;
    if ours(source) {
        output.counters.address_conflicts.add(1);
        return Err(DropReason::NdNotForUs);
    }
    let (to, to_mac, flags) = if source.is_unspecified() {
        // Another host is about to take our address (RFC 4862 section 5.4.3): all are told that it is ours.
        output.counters.address_conflicts.add(1);
        (all_nodes(), group_mac(all_nodes()), OVERRIDE)
    } else {
        // RFC 4861 section 7.2.3: who asks us will be talked to, so it is noted.
        if let Some(mac) = mac
            && config.port(side).is_on_link(source.into())
        {
            output.learn(turn, side, (source, mac), true);
        }
        let known = output.neighbours(side).mac(source);
        let Some(to_mac) = mac.or(known) else { return Err(DropReason::NdMalformed) };
        (source, to_mac, SOLICITED | OVERRIDE)
    };
    let link = (TARGET_LINK_ADDRESS, config.port(side).mac);
    let answer = NeighborMessage::new(NEIGHBOR_ADVERTISEMENT, flags, target);
    let mut bytes = [0; NeighborMessage::PACKET];
    answer.write(&mut bytes, (target, to), Some(link));
    if !frame.fill(&bytes) || !frame.prepend(config.port(side).l2_len()) {
        return Err(DropReason::NoHeadroom);
    }
    output.write_l2(frame.data_mut(), side, to_mac, ETHERTYPE_IPV6);
    output.transmit(turn, side, frame);
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
        // Without the flag it may not replace what is known (a proxy's answer).
        (Some(mac), Some(known)) if flags & OVERRIDE == 0 && mac != known => known,
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
