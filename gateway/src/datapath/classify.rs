//! What is this frame? Called by the worker for each frame of a burst, before anything is looked up.

use super::{config::DatapathConfig, tunnel};
use crate::{
    nat::{AddressSet, in2out::In2out, out2in::Out2in},
    verdict::{DropReason, Side},
    wire::{
        Header, MacAddress,
        ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4},
        ipv4::{PROTOCOL_ICMP, PROTOCOL_UDP},
        parse::{self, Ipv4Packet, Link, Transport},
        udp::UdpHeader,
    },
};

/// A frame that is not dropped at once.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// An ARP packet that begins at this offset.
    Arp {
        l3: usize,
    },
    /// An ICMP packet to an address of the port.
    ToUs {
        packet: Ipv4Packet,
        icmp_type: u8,
    },
    In2out(In2out),
    Out2in(Out2in),
}

/// A frame that arrived at the tunnel port. An ECN mark of the outer packet is carried inwards.
pub fn from_tunnel(frame: &mut [u8], config: &DatapathConfig) -> Result<Input, DropReason> {
    let link = link(frame, config, Side::Tunnel)?;
    if link.ethertype == ETHERTYPE_ARP {
        return Ok(Input::Arp { l3: link.l3 });
    }
    let outer = parse::ipv4(frame, link.l3)?;
    if !config.own(Side::Tunnel).contains(outer.destination) {
        return Err(DropReason::NotOurAddress);
    }
    if outer.is_fragment {
        return Err(DropReason::OuterFragment);
    }
    if outer.protocol != PROTOCOL_UDP {
        return to_us(frame, outer);
    }
    let udp = UdpHeader::at(&frame[..outer.end], outer.l4).ok_or(DropReason::Truncated)?;
    if udp.destination.get() != config.vxlan_port {
        return Err(DropReason::NoService);
    }
    let tunnelled = tunnel::decapsulate(frame, &outer)?;
    let transport = parse::transport(frame, &tunnelled.inner)?;
    In2out::new(tunnelled.inner, transport, tunnelled.vni, tunnelled.vtep).map(Input::In2out)
}

/// A frame that arrived at the external port.
pub fn from_external(
    frame: &[u8],
    config: &DatapathConfig,
    egress_ips: &AddressSet,
) -> Result<Input, DropReason> {
    let link = link(frame, config, Side::External)?;
    if link.ethertype == ETHERTYPE_ARP {
        return Ok(Input::Arp { l3: link.l3 });
    }
    let packet = parse::ipv4(frame, link.l3)?;
    if config.own(Side::External).contains(packet.destination) {
        return to_us(frame, packet);
    }
    if !egress_ips.contains(packet.destination) {
        return Err(DropReason::NotOurAddress);
    }
    let transport = parse::transport(frame, &packet)?;
    Out2in::new(packet, transport).map(Input::Out2in)
}

/// Ethernet and VLAN: is the frame meant for this port?
fn link(frame: &[u8], config: &DatapathConfig, side: Side) -> Result<Link, DropReason> {
    let port = config.port(side);
    let link = parse::link(frame)?;
    if link.vlan != port.vlan {
        return Err(DropReason::WrongVlan);
    }
    match link.ethertype {
        ETHERTYPE_ARP if link.destination == MacAddress::BROADCAST => Ok(link),
        ETHERTYPE_ARP | ETHERTYPE_IPV4 if link.destination == port.mac => Ok(link),
        ETHERTYPE_ARP | ETHERTYPE_IPV4 => Err(DropReason::WrongMac),
        _ if link.destination != port.mac => Err(DropReason::WrongMac),
        _ => Err(DropReason::UnknownEthertype),
    }
}

/// The gateway's own addresses speak ICMP and nothing else.
fn to_us(frame: &[u8], packet: Ipv4Packet) -> Result<Input, DropReason> {
    if packet.protocol != PROTOCOL_ICMP {
        return Err(DropReason::NoService);
    }
    match parse::transport(frame, &packet)? {
        Transport::Icmp { icmp_type, .. } => Ok(Input::ToUs { packet, icmp_type }),
        Transport::Tcp { .. } | Transport::Udp { .. } => Err(DropReason::NoService),
    }
}
