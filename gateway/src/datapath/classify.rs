//! What is this frame? Called by the worker for each frame of a burst that is not a [usual](super::usual)
//! one, before anything is looked up.

use super::{
    config::DatapathConfig,
    tunnel::{self, Decapsulated, INNER_L3},
};
use crate::{
    nat::{
        PolicyTable, Vtep,
        in2out::{In2out, In2outs},
        out2in::{Out2in, Out2ins},
    },
    verdict::{DropReason, Side},
    wire::{
        Address, Any, Header, MacAddress,
        ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6},
        icmpv6,
        ipv4::{PROTOCOL_ICMP, PROTOCOL_UDP},
        ipv6::PROTOCOL_ICMPV6,
        parse::{self, IpPacket, Link, Transport},
        udp::UdpHeader,
    },
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A frame that is no packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    Drop(DropReason),
    /// For the gateway itself: see [`local`].
    Local,
}

impl From<DropReason> for Other {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        // Whatever leads here is moved out of the way of packets that are not dropped.
        std::hint::cold_path();
        Other::Drop(reason)
    }
}

/// A frame that arrived at the tunnel port.
#[inline(never)]
pub fn from_tunnel(
    frame: &mut [u8],
    config: &DatapathConfig,
    policies: &PolicyTable,
) -> Result<Any<In2outs>, Other> {
    let link = link(frame, config, Side::Tunnel)?;
    let (tunnel, inner_l3, vtep, dscp_ecn) = match link.ethertype {
        ETHERTYPE_IPV4 => {
            let outer = parse::ipv4(frame, link.l3())?;
            let tunnel = outer_udp(frame, config, &outer, outer.l4())?;
            (tunnel, outer.l4() + INNER_L3, Some(outer.source.into()), outer.dscp_ecn)
        }
        _ => {
            let outer = parse::ipv6(frame, link.l3())?;
            let tunnel = outer_udp(frame, config, &outer, outer.l4())?;
            let vtep = policies.vtep_v6(outer.source);
            (tunnel, outer.l4() + INNER_L3, vtep, outer.dscp_ecn)
        }
    };
    let Decapsulated { vni, ethertype, end } = tunnel;
    let from = (vni, vtep.ok_or(DropReason::UnknownNode)?, dscp_ecn);
    match ethertype {
        ETHERTYPE_IPV4 => {
            let inner = parse::ipv4(&frame[..end], inner_l3)?;
            inner_packet(frame, inner, inner.l4(), from).map(Any::V4)
        }
        _ => {
            let inner = parse::ipv6(&frame[..end], inner_l3)?;
            inner_packet(frame, inner, inner.l4(), from).map(Any::V6)
        }
    }
}

/// A frame that arrived at the external port.
#[inline(never)]
pub fn from_external(
    frame: &[u8],
    config: &DatapathConfig,
    policies: &PolicyTable,
) -> Result<Any<Out2ins>, Other> {
    let link = link(frame, config, Side::External)?;
    if link.ethertype == ETHERTYPE_IPV4 {
        let packet = parse::ipv4(frame, link.l3())?;
        external_packet(frame, config, policies, &packet, packet.l4()).map(Any::V4)
    } else {
        let packet = parse::ipv6(frame, link.l3())?;
        external_packet(frame, config, policies, &packet, packet.l4()).map(Any::V6)
    }
}

/// The outer packet's way to the inner frame.
#[inline(always)]
fn outer_udp<A: Address>(
    frame: &[u8],
    config: &DatapathConfig,
    outer: &IpPacket<A>,
    l4: usize,
) -> Result<Decapsulated, Other> {
    // Nodes send to the VTEP; any other address of the port answers to ping alone.
    let destination = outer.destination;
    let ours = config.vtep() == Some(destination) || config.own(Side::Tunnel).contains(destination);
    if !ours {
        return Err(DropReason::NotOurAddress.into());
    }
    if outer.is_fragment {
        return Err(DropReason::OuterFragment.into());
    }
    if outer.protocol != PROTOCOL_UDP {
        return Err(Other::Local);
    }
    let udp = *UdpHeader::at(&frame[..outer.end()], l4).ok_or(DropReason::Truncated)?;
    if udp.destination.get() != config.vxlan_port {
        return Err(DropReason::NoService.into());
    }
    Ok(tunnel::decapsulate(frame, outer, l4, &udp)?)
}

/// The inner packet, whose L4 header is at `l4`; with VNI, VTEP and DSCP/ECN of the outer one.
#[inline(always)]
fn inner_packet<A: Address>(
    frame: &mut [u8],
    mut inner: IpPacket<A>,
    l4: usize,
    (vni, vtep, outer_dscp_ecn): (u32, Vtep, u8),
) -> Result<In2out<A>, Other> {
    tunnel::carry_ecn(frame, &mut inner, outer_dscp_ecn)?;
    let transport = parse::transport(frame, &inner, l4)?;
    Ok(In2out::new(&inner, &transport, vni, vtep)?)
}

#[inline(always)]
fn external_packet<A: Address>(
    frame: &[u8],
    config: &DatapathConfig,
    policies: &PolicyTable,
    packet: &IpPacket<A>,
    l4: usize,
) -> Result<Out2in<A>, Other> {
    if !policies.egress_ips().contains(packet.destination) {
        let ours = config.own(Side::External).contains(packet.destination);
        return Err(if ours { Other::Local } else { DropReason::NotOurAddress.into() });
    }
    let transport = parse::transport(frame, packet, l4)?;
    if is_neighbor_discovery(packet, &transport) {
        return Err(Other::Local);
    }
    Ok(Out2in::new(packet, &transport)?)
}

/// RFC 4861: that the gateway is asked for an egress IP, or told of a neighbour by its address.
#[inline(always)]
fn is_neighbor_discovery<A: Address>(packet: &IpPacket<A>, transport: &Transport) -> bool {
    A::ICMP == PROTOCOL_ICMPV6
        && packet.protocol == PROTOCOL_ICMPV6
        && icmpv6::is_neighbor_discovery(transport.icmp_type)
}

/// The link header of an IP packet for this port.
fn link(frame: &[u8], config: &DatapathConfig, side: Side) -> Result<Link, Other> {
    let port = config.port(side);
    let link = parse::link(frame)?;
    if link.vlan != port.vlan {
        return Err(DropReason::WrongVlan.into());
    }
    let to_us = link.destination == port.mac;
    match link.ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 if to_us => Ok(link),
        ETHERTYPE_ARP if to_us || link.destination == MacAddress::BROADCAST => Err(Other::Local),
        // Whether one of our addresses is meant, its L3 header says.
        ETHERTYPE_IPV6 if link.destination.is_ipv6_multicast() => Err(Other::Local),
        _ if !to_us || link.ethertype == ETHERTYPE_ARP => Err(DropReason::WrongMac.into()),
        _ => Err(DropReason::UnknownEthertype.into()),
    }
}

/// A frame for the gateway itself.
#[derive(Clone, Copy, Debug)]
pub enum Local {
    /// An ARP packet that begins at this offset.
    Arp { l3: usize },
    /// An ICMP packet to an address of the port.
    Icmp { packet: IpPacket<Ipv4Addr>, icmp_type: u8 },
    /// An ICMPv6 packet to an address of the port, or Neighbor Discovery about one.
    Icmpv6 { packet: IpPacket<Ipv6Addr>, icmp_type: u8 },
}

/// A frame that the above told to be for the gateway itself. Its addresses speak ICMP and nothing else.
#[cold]
pub fn local(frame: &[u8]) -> Result<Local, DropReason> {
    let link = parse::link(frame)?;
    match link.ethertype {
        ETHERTYPE_ARP => Ok(Local::Arp { l3: link.l3() }),
        ETHERTYPE_IPV4 => {
            let packet = parse::ipv4(frame, link.l3())?;
            if packet.protocol != PROTOCOL_ICMP {
                return Err(DropReason::NoService);
            }
            let icmp_type = parse::transport(frame, &packet, packet.l4())?.icmp_type;
            Ok(Local::Icmp { packet, icmp_type })
        }
        _ => {
            let packet = parse::ipv6(frame, link.l3())?;
            let is_icmp = packet.protocol == PROTOCOL_ICMPV6;
            if link.destination.is_group() {
                // Of all that is sent to groups, only Neighbor Discovery is meant for us.
                let transport = parse::transport(frame, &packet, packet.l4());
                let icmp_type = transport.map_err(|_| DropReason::WrongMac)?.icmp_type;
                if !is_icmp || !icmpv6::is_neighbor_discovery(icmp_type) {
                    return Err(DropReason::WrongMac);
                }
                return Ok(Local::Icmpv6 { packet, icmp_type });
            }
            if !is_icmp {
                return Err(DropReason::NoService);
            }
            let icmp_type = parse::transport(frame, &packet, packet.l4())?.icmp_type;
            Ok(Local::Icmpv6 { packet, icmp_type })
        }
    }
}
