//! What is this frame? Called by the worker for each frame of a burst, before anything is looked up.

use super::{
    config::DatapathConfig,
    tunnel::{self, Decapsulated, INNER_L3},
};
use crate::{
    nat::{AddressSet, in2out::In2out, out2in::Out2in},
    verdict::{DropReason, Side},
    wire::{
        Header, MacAddress,
        ethernet::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4},
        ipv4::{IPV4_LEN, PROTOCOL_ICMP, PROTOCOL_UDP},
        parse::{self, Ipv4Packet},
        udp::UdpHeader,
    },
};

/// A frame that is no packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    Drop(DropReason),
    /// For the gateway itself: see [`local`].
    Local,
    /// Its headers are not where [`USUAL`] wants them: to be looked at again with [`ANY`].
    Unusual,
}

impl From<DropReason> for Other {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        // Whatever leads here is moved out of the way of packets that are not dropped.
        std::hint::cold_path();
        Other::Drop(reason)
    }
}

/// Which layouts of headers are understood. Nearly all frames have neither a VLAN tag nor IP options:
/// then all offsets are constants, and the compiler removes the arithmetic and most bounds checks.
pub const USUAL: bool = true;
pub const ANY: bool = false;

/// A frame that arrived at the tunnel port. An ECN mark of the outer packet is carried inwards.
#[inline(always)]
pub fn from_tunnel<const LAYOUT: bool>(
    frame: &mut [u8],
    config: &DatapathConfig,
) -> Result<In2out, Other> {
    let l3 = l3::<LAYOUT>(frame, config, Side::Tunnel)?;
    let outer = ipv4::<LAYOUT>(frame, l3)?;
    // Nodes send to the VTEP; any other address of the port answers to ping alone.
    let ours =
        outer.destination == config.vtep() || config.own(Side::Tunnel).contains(outer.destination);
    if !ours {
        return Err(DropReason::NotOurAddress.into());
    }
    if outer.is_fragment {
        return Err(DropReason::OuterFragment.into());
    }
    if outer.protocol != PROTOCOL_UDP {
        return Err(Other::Local);
    }
    let l4 = l4::<LAYOUT>(&outer, l3);
    let udp = *UdpHeader::at(&frame[..outer.end()], l4).ok_or(DropReason::Truncated)?;
    if udp.destination.get() != config.vxlan_port {
        return Err(DropReason::NoService.into());
    }
    let Decapsulated { vni, end } = tunnel::decapsulate(frame, &outer, l4, &udp)?;
    let inner_l3 = l4 + INNER_L3;
    let mut inner = ipv4::<LAYOUT>(&frame[..end], inner_l3)?;
    tunnel::carry_ecn(frame, &mut inner, outer.dscp_ecn)?;
    let transport = parse::transport(frame, &inner, self::l4::<LAYOUT>(&inner, inner_l3))?;
    Ok(In2out::new(&inner, &transport, vni, outer.source)?)
}

/// A frame that arrived at the external port.
#[inline(always)]
pub fn from_external<const LAYOUT: bool>(
    frame: &[u8],
    config: &DatapathConfig,
    egress_ips: &AddressSet,
) -> Result<Out2in, Other> {
    let l3 = l3::<LAYOUT>(frame, config, Side::External)?;
    let packet = ipv4::<LAYOUT>(frame, l3)?;
    if !egress_ips.contains(packet.destination) {
        let ours = config.own(Side::External).contains(packet.destination);
        return Err(if ours { Other::Local } else { DropReason::NotOurAddress.into() });
    }
    let transport = parse::transport(frame, &packet, l4::<LAYOUT>(&packet, l3))?;
    Ok(Out2in::new(&packet, &transport)?)
}

/// The IPv4 header at `l3`.
#[inline(always)]
fn ipv4<const LAYOUT: bool>(frame: &[u8], l3: usize) -> Result<Ipv4Packet, Other> {
    /// Version 4, five words of header.
    const NO_OPTIONS: u8 = 0x45;
    if LAYOUT == USUAL && frame.get(l3).is_some_and(|first| *first != NO_OPTIONS) {
        return Err(Other::Unusual);
    }
    Ok(parse::ipv4(frame, l3)?)
}

/// Where the L4 header of a packet from [`ipv4`] is.
#[inline(always)]
fn l4<const LAYOUT: bool>(packet: &Ipv4Packet, l3: usize) -> usize {
    if LAYOUT == USUAL { l3 + IPV4_LEN } else { packet.l4() }
}

/// A frame for the gateway itself.
#[derive(Clone, Copy, Debug)]
pub enum Local {
    /// An ARP packet that begins at this offset.
    Arp { l3: usize },
    /// An ICMP packet to an address of the port.
    Icmp { packet: Ipv4Packet, icmp_type: u8 },
}

/// A frame that the above told to be for the gateway itself. Its addresses speak ICMP and nothing else.
#[cold]
pub fn local(frame: &[u8]) -> Result<Local, DropReason> {
    let link = parse::link(frame)?;
    if link.ethertype == ETHERTYPE_ARP {
        return Ok(Local::Arp { l3: link.l3() });
    }
    let packet = parse::ipv4(frame, link.l3())?;
    if packet.protocol != PROTOCOL_ICMP {
        return Err(DropReason::NoService);
    }
    let icmp_type = parse::transport(frame, &packet, packet.l4())?.icmp_type;
    Ok(Local::Icmp { packet, icmp_type })
}

/// Where the IPv4 header is, in a frame that is meant for this port.
#[inline(always)]
fn l3<const LAYOUT: bool>(
    frame: &[u8],
    config: &DatapathConfig,
    side: Side,
) -> Result<usize, Other> {
    let port = config.port(side);
    let link = parse::link(frame)?;
    if link.vlan != port.vlan {
        return Err(DropReason::WrongVlan.into());
    }
    let reason = match link.ethertype {
        ETHERTYPE_IPV4 if link.destination == port.mac => match link.l3() {
            ETHERNET_LEN => return Ok(ETHERNET_LEN),
            l3 if LAYOUT == ANY => return Ok(l3),
            _ => return Err(Other::Unusual),
        },
        ETHERTYPE_ARP if link.destination == port.mac => return Err(Other::Local),
        ETHERTYPE_ARP if link.destination == MacAddress::BROADCAST => return Err(Other::Local),
        ETHERTYPE_ARP | ETHERTYPE_IPV4 => DropReason::WrongMac,
        _ if link.destination != port.mac => DropReason::WrongMac,
        _ => DropReason::UnknownEthertype,
    };
    Err(reason.into())
}
