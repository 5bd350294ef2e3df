//! Bytes → facts, checked once. Called by `datapath::classify` for the outer and the inner packet.
//!
//! What comes out is a small copy of the fields that decide a packet's way, with offsets that are
//! known to lie inside the frame; after it, views onto the headers cannot fail. The functions stand
//! in the order in which a packet needs them: [`link`], [`ipv4`] or [`ipv6`], [`transport`].
//!
//! The structs begin with their one-byte fields, in C's layout. They travel as `Result<_, DropReason>`,
//! and the compiler lays the reason over the first byte; over half of a wider field it would make it
//! pass that field through memory in two parts, and whoever loads the whole has to wait for both. That
//! cost a third of a packet's cycles when it was measured.

use super::{
    Header, MacAddress,
    address::Address,
    checksum,
    ethernet::{ETHERNET_LEN, ETHERTYPE_VLAN, EthernetHeader},
    icmp::{ICMP_LEN, IcmpHeader},
    ipv4::{FLAG_DONT_FRAGMENT, IPV4_LEN, Ipv4Header, NO_OPTIONS, PROTOCOL_TCP, PROTOCOL_UDP},
    ipv6::{
        DESTINATION_OPTIONS, EXTENSION_LEN, ExtensionHeader, FRAGMENT, HOP_BY_HOP, IPV6_LEN,
        Ipv6Header, ROUTING,
    },
    tcp::{TCP_LEN, TcpHeader},
    udp::{UDP_LEN, UdpHeader},
    vlan::{VLAN_LEN, VlanTag},
};
use crate::verdict::DropReason;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The Ethernet header, with a VLAN tag if there is one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Link {
    l3: u8,
    pub destination: MacAddress,
    /// 0 when the frame bears no tag, or only a priority tag (IEEE 802.1Q: VLAN id 0).
    pub vlan: u16,
    pub ethertype: u16,
}

impl Link {
    /// Where the L3 header begins.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        self.l3.into()
    }
}

/// An IP header that was checked: version, lengths, and IPv4's header checksum (RFC 1812 section
/// 5.2.2).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IpPacket<A = Ipv4Addr> {
    /// Of the L4 header, behind all extension headers.
    pub protocol: u8,
    /// IPv6: the hop limit.
    pub ttl: u8,
    /// IPv6: the traffic class.
    pub dscp_ecn: u8,
    pub is_fragment: bool,
    /// IPv6: true, for routers never fragment it (RFC 8200 section 5).
    pub dont_fragment: bool,
    l3: u16,
    l4: u16,
    end: u16,
    pub source: A,
    pub destination: A,
}

impl<A> IpPacket<A> {
    /// Where its header begins in the frame.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        self.l3.into()
    }

    /// Where its payload begins.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.l4.into()
    }

    /// One past its last byte: Ethernet padding is not part of it.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.end.into()
    }

    /// Header and payload, in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end() - self.l3()
    }

    pub fn is_empty(&self) -> bool {
        self.end == self.l4
    }
}

/// What can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// What the gateway needs of an L4 header. Values in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Transport {
    pub protocol: Protocol,
    /// TCP only, else 0.
    pub tcp_flags: u8,
    /// TCP only, else false.
    pub has_payload: bool,
    /// ICMP only, else 0.
    pub icmp_type: u8,
    /// TCP and UDP: the source l4_port. ICMP: the query id.
    pub source: u16,
    /// TCP and UDP: the destination l4_port. ICMP: the query id.
    pub destination: u16,
}

impl Transport {
    #[inline(always)]
    fn new(protocol: Protocol, source: u16, destination: u16) -> Self {
        let (tcp_flags, has_payload, icmp_type) = (0, false, 0);
        Transport { protocol, source, destination, tcp_flags, has_payload, icmp_type }
    }
}

/// What the later stages need of a packet beside its flow's key.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Layout {
    pub ttl: u8,
    pub protocol: Protocol,
    /// TCP only, else 0.
    pub tcp_flags: u8,
    /// TCP only, else false.
    pub has_payload: bool,
    l3: u16,
    l4: u16,
    end: u16,
}

impl Layout {
    #[inline(always)]
    pub fn new<A: Address>(packet: &IpPacket<A>, transport: &Transport) -> Self {
        let IpPacket { ttl, l3, l4, end, .. } = *packet;
        let Transport { protocol, tcp_flags, has_payload, .. } = *transport;
        Layout { ttl, protocol, tcp_flags, has_payload, l3, l4, end }
    }

    /// Where the IP header begins in the frame.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        self.l3.into()
    }

    /// Where the L4 header begins.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.l4.into()
    }

    /// One past the packet's last byte.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.end.into()
    }

    /// IP header and payload, in bytes.
    #[inline(always)]
    pub fn packet_len(&self) -> usize {
        usize::from(self.end - self.l3)
    }
}

/// Ethernet, and one VLAN tag where there is one.
#[inline(always)]
pub fn link(frame: &[u8]) -> Result<Link, DropReason> {
    let header = EthernetHeader::at(frame, 0).ok_or(DropReason::Truncated)?;
    let mut link = Link {
        l3: ETHERNET_LEN as u8,
        destination: header.destination,
        vlan: 0,
        ethertype: header.ethertype.get(),
    };
    if link.ethertype == ETHERTYPE_VLAN {
        let tag = VlanTag::at(frame, ETHERNET_LEN).ok_or(DropReason::Truncated)?;
        link.vlan = tag.id();
        link.ethertype = tag.ethertype.get();
        link.l3 += VLAN_LEN as u8;
    }
    Ok(link)
}

/// The IPv4 header that begins at `l3`.
#[inline(always)]
pub fn ipv4(frame: &[u8], l3: usize) -> Result<IpPacket<Ipv4Addr>, DropReason> {
    let header = Ipv4Header::at(frame, l3).ok_or(DropReason::Truncated)?;
    let header_len = header.header_len();
    let total_len = usize::from(header.total_length.get());
    if header.version() != 4 || header_len < IPV4_LEN || total_len < header_len {
        return Err(DropReason::Ipv4Malformed);
    }
    if frame.len() < l3 + total_len {
        return Err(DropReason::Truncated);
    }
    let sum_is_right = match header_len {
        IPV4_LEN => checksum::is_valid_header(zerocopy::transmute_ref!(header)),
        _ => checksum::is_valid(&frame[l3..l3 + header_len]),
    };
    if !sum_is_right {
        return Err(DropReason::Ipv4Checksum);
    }
    // Buffers are smaller than 64 KiB, so this holds for any frame that was received.
    let end = u16::try_from(l3 + total_len).map_err(|_| DropReason::Ipv4Malformed)?;
    Ok(IpPacket {
        l3: l3 as u16,
        l4: (l3 + header_len) as u16,
        end,
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol,
        ttl: header.ttl,
        dscp_ecn: header.dscp_ecn,
        is_fragment: header.is_fragment(),
        dont_fragment: header.flags_fragment.get() & FLAG_DONT_FRAGMENT != 0,
    })
}

/// As [`ipv4`], of a packet without options that is no fragment and ends at `room` at the latest; `None` for any
/// other. `header` is the one at `l3`.
#[inline(always)]
pub fn usual_ipv4(header: &Ipv4Header, l3: usize, room: usize) -> Option<IpPacket<Ipv4Addr>> {
    let end = l3 + usize::from(header.total_length.get());
    let is_usual = header.version_ihl == NO_OPTIONS
        && !header.is_fragment()
        && end >= l3 + IPV4_LEN
        && end <= room
        && checksum::is_valid_header(zerocopy::transmute_ref!(header));
    is_usual.then(|| IpPacket {
        l3: l3 as u16,
        l4: (l3 + IPV4_LEN) as u16,
        end: end as u16,
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol,
        ttl: header.ttl,
        dscp_ecn: header.dscp_ecn,
        is_fragment: false,
        dont_fragment: header.flags_fragment.get() & FLAG_DONT_FRAGMENT != 0,
    })
}

/// Extension headers that are walked at most. RFC 8200 section 4.1 knows six, each once but for the
/// destination options.
const MOST_EXTENSIONS: usize = 8;

/// The IPv6 header that begins at `l3`, and its extension headers.
#[inline(always)]
pub fn ipv6(frame: &[u8], l3: usize) -> Result<IpPacket<Ipv6Addr>, DropReason> {
    let header = Ipv6Header::at(frame, l3).ok_or(DropReason::Truncated)?;
    if header.version() != 6 {
        return Err(DropReason::Ipv6Malformed);
    }
    let end = l3 + IPV6_LEN + usize::from(header.payload_length.get());
    if frame.len() < end {
        return Err(DropReason::Truncated);
    }
    let mut packet = IpPacket {
        l3: l3 as u16,
        l4: (l3 + IPV6_LEN) as u16,
        // Buffers are smaller than 64 KiB, so this holds for any frame that was received.
        end: u16::try_from(end).map_err(|_| DropReason::Ipv6Malformed)?,
        source: header.source(),
        destination: header.destination(),
        protocol: header.next_header,
        ttl: header.hop_limit,
        dscp_ecn: header.traffic_class(),
        is_fragment: false,
        dont_fragment: true,
    };
    if is_extension(packet.protocol) {
        extensions(frame, &mut packet)?;
    }
    Ok(packet)
}

/// Walks the extension headers, to where the L4 header is or a fragment's bytes are.
#[cold]
fn extensions(frame: &[u8], packet: &mut IpPacket<Ipv6Addr>) -> Result<(), DropReason> {
    let frame = &frame[..packet.end()];
    for _ in 0..MOST_EXTENSIONS {
        if !is_extension(packet.protocol) {
            return Ok(());
        }
        let header = ExtensionHeader::at(frame, packet.l4()).ok_or(DropReason::Ipv6Malformed)?;
        let mut len = EXTENSION_LEN;
        match packet.protocol {
            FRAGMENT => packet.is_fragment = header.is_fragment(),
            // The packet's destination is a waypoint: who will answer is not known here. RFC 5095 wants
            // type 0 dropped whatever it says.
            ROUTING if header.segments_left != 0 || header.kind == 0 => {
                return Err(DropReason::Ipv6Extensions);
            }
            _ => len += EXTENSION_LEN * usize::from(header.length),
        }
        let l4 = packet.l4() + len;
        if l4 > frame.len() {
            return Err(DropReason::Ipv6Malformed);
        }
        packet.protocol = header.next_header;
        packet.l4 = l4 as u16;
        if packet.is_fragment {
            return Ok(());
        }
    }
    if is_extension(packet.protocol) { Err(DropReason::Ipv6Extensions) } else { Ok(()) }
}

#[inline(always)]
fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// The L4 header, at `l4`, of an unfragmented packet. The checksum is not looked at: it is updated,
/// never judged, so that damage stays visible to the receiver.
#[inline(always)]
pub fn transport<A: Address>(
    frame: &[u8],
    packet: &IpPacket<A>,
    l4: usize,
) -> Result<Transport, DropReason> {
    if packet.is_fragment {
        return Err(DropReason::FragmentUnsupported);
    }
    let frame = &frame[..packet.end()];
    match packet.protocol {
        PROTOCOL_TCP => tcp(frame, l4),
        PROTOCOL_UDP => udp(frame, l4),
        protocol if protocol == A::ICMP => icmp(frame, l4),
        _ => Err(DropReason::ProtocolUnsupported),
    }
}

#[inline(always)]
fn tcp(frame: &[u8], l4: usize) -> Result<Transport, DropReason> {
    let header = TcpHeader::at(frame, l4).ok_or(DropReason::Truncated)?;
    let header_len = header.header_len();
    let (source, destination) = (header.source.get(), header.destination.get());
    if header_len < TCP_LEN || source == 0 || destination == 0 {
        return Err(DropReason::L4Malformed);
    }
    if l4 + header_len > frame.len() {
        return Err(DropReason::Truncated);
    }
    let has_payload = frame.len() > l4 + header_len;
    let tcp = Transport::new(Protocol::Tcp, source, destination);
    Ok(Transport { tcp_flags: header.flags, has_payload, ..tcp })
}

#[inline(always)]
fn udp(frame: &[u8], l4: usize) -> Result<Transport, DropReason> {
    let header = UdpHeader::at(frame, l4).ok_or(DropReason::Truncated)?;
    let length = usize::from(header.length.get());
    // RFC 768: source l4_port 0 means "no answer expected" and is legal, destination 0 is not.
    if length < UDP_LEN || header.destination.get() == 0 {
        return Err(DropReason::L4Malformed);
    }
    if l4 + length > frame.len() {
        return Err(DropReason::Truncated);
    }
    Ok(Transport::new(Protocol::Udp, header.source.get(), header.destination.get()))
}

#[inline(always)]
fn icmp(frame: &[u8], l4: usize) -> Result<Transport, DropReason> {
    const _: () = assert!(ICMP_LEN == 8);
    let header = IcmpHeader::at(frame, l4).ok_or(DropReason::Truncated)?;
    let query_id = header.identifier.get();
    let icmp = Transport::new(Protocol::Icmp, query_id, query_id);
    Ok(Transport { icmp_type: header.icmp_type, ..icmp })
}
