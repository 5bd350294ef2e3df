//! Bytes → facts, checked once. Called by `datapath::classify` for the outer and the inner packet.
//!
//! What comes out is a small copy of the fields that decide a packet's way, with offsets that are
//! known to lie inside the frame; after it, views onto the headers cannot fail. The functions stand
//! in the order in which a packet needs them: [`link`], [`ipv4`], [`transport`].

use super::{
    Header, MacAddress, checksum,
    ethernet::{ETHERNET_LEN, ETHERTYPE_VLAN, EthernetHeader},
    icmp::{ICMP_LEN, IcmpHeader},
    ipv4::{FLAG_DONT_FRAGMENT, IPV4_LEN, Ipv4Header, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP},
    tcp::{TCP_LEN, TcpHeader},
    udp::{UDP_LEN, UdpHeader},
    vlan::{VLAN_LEN, VlanTag},
};
use crate::verdict::DropReason;
use std::net::Ipv4Addr;

/// The Ethernet header, with a VLAN tag if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub destination: MacAddress,
    pub source: MacAddress,
    /// 0 when the frame bears no tag, or only a priority tag (IEEE 802.1Q: VLAN id 0).
    pub vlan: u16,
    pub ethertype: u16,
    /// Where the L3 header begins.
    pub l3: usize,
}

/// An IPv4 header that was checked: version, lengths, header checksum (RFC 1812 section 5.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet {
    /// Where its header begins in the frame.
    pub l3: usize,
    /// Where its payload begins.
    pub l4: usize,
    /// One past its last byte: Ethernet padding is not part of it.
    pub end: usize,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub dscp_ecn: u8,
    pub is_fragment: bool,
    pub dont_fragment: bool,
}

impl Ipv4Packet {
    /// Header and payload, in bytes.
    pub fn len(&self) -> usize {
        self.end - self.l3
    }

    pub fn is_empty(&self) -> bool {
        self.end == self.l4
    }
}

/// What the gateway needs of an L4 header. Values in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp { source: u16, destination: u16, flags: u8, has_payload: bool },
    Udp { source: u16, destination: u16 },
    Icmp { icmp_type: u8, identifier: u16 },
}

/// Ethernet, and one VLAN tag where there is one.
pub fn link(frame: &[u8]) -> Result<Link, DropReason> {
    let header = EthernetHeader::at(frame, 0).ok_or(DropReason::Truncated)?;
    let mut link = Link {
        destination: header.destination,
        source: header.source,
        vlan: 0,
        ethertype: header.ethertype.get(),
        l3: ETHERNET_LEN,
    };
    if link.ethertype == ETHERTYPE_VLAN {
        let tag = VlanTag::at(frame, ETHERNET_LEN).ok_or(DropReason::Truncated)?;
        link.vlan = tag.id();
        link.ethertype = tag.ethertype.get();
        link.l3 += VLAN_LEN;
    }
    Ok(link)
}

/// The IPv4 header that begins at `l3`.
pub fn ipv4(frame: &[u8], l3: usize) -> Result<Ipv4Packet, DropReason> {
    let header = Ipv4Header::at(frame, l3).ok_or(DropReason::Truncated)?;
    let header_len = header.header_len();
    let total_len = usize::from(header.total_length.get());
    if header.version() != 4 || header_len < IPV4_LEN || total_len < header_len {
        return Err(DropReason::Ipv4Malformed);
    }
    if frame.len() < l3 + total_len {
        return Err(DropReason::Truncated);
    }
    if !checksum::is_valid(&frame[l3..l3 + header_len]) {
        return Err(DropReason::Ipv4Checksum);
    }
    Ok(Ipv4Packet {
        l3,
        l4: l3 + header_len,
        end: l3 + total_len,
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol,
        ttl: header.ttl,
        dscp_ecn: header.dscp_ecn,
        is_fragment: header.is_fragment(),
        dont_fragment: header.flags_fragment.get() & FLAG_DONT_FRAGMENT != 0,
    })
}

/// The L4 header of an unfragmented packet. The checksum is not looked at: it is updated, never
/// judged, so that damage stays visible to the receiver.
pub fn transport(frame: &[u8], packet: &Ipv4Packet) -> Result<Transport, DropReason> {
    if packet.is_fragment {
        return Err(DropReason::FragmentUnsupported);
    }
    let segment = &frame[packet.l4..packet.end];
    match packet.protocol {
        PROTOCOL_TCP => tcp(segment),
        PROTOCOL_UDP => udp(segment),
        PROTOCOL_ICMP => icmp(segment),
        _ => Err(DropReason::ProtocolUnsupported),
    }
}

fn tcp(segment: &[u8]) -> Result<Transport, DropReason> {
    let header = TcpHeader::at(segment, 0).ok_or(DropReason::Truncated)?;
    let header_len = header.header_len();
    let (source, destination) = (header.source.get(), header.destination.get());
    if header_len < TCP_LEN || source == 0 || destination == 0 {
        return Err(DropReason::L4Malformed);
    }
    if header_len > segment.len() {
        return Err(DropReason::Truncated);
    }
    let has_payload = segment.len() > header_len;
    Ok(Transport::Tcp { source, destination, flags: header.flags, has_payload })
}

fn udp(segment: &[u8]) -> Result<Transport, DropReason> {
    let header = UdpHeader::at(segment, 0).ok_or(DropReason::Truncated)?;
    let length = usize::from(header.length.get());
    // RFC 768: source l4_port 0 means "no answer expected" and is legal, destination 0 is not.
    if length < UDP_LEN || header.destination.get() == 0 {
        return Err(DropReason::L4Malformed);
    }
    if length > segment.len() {
        return Err(DropReason::Truncated);
    }
    Ok(Transport::Udp { source: header.source.get(), destination: header.destination.get() })
}

fn icmp(segment: &[u8]) -> Result<Transport, DropReason> {
    const _: () = assert!(ICMP_LEN == 8);
    let header = IcmpHeader::at(segment, 0).ok_or(DropReason::Truncated)?;
    Ok(Transport::Icmp { icmp_type: header.icmp_type, identifier: header.identifier.get() })
}
