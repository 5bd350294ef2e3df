//! Frames and packets that go in, built by etherparse.

use super::*;
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header};

/// What the harness's IPv6 packets bear as their flow label.
pub const FLOW_LABEL: u32 = 0xf_1abe;

pub fn udp<F: Family>(from: (F, u16), to: (F, u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let builder = F::builder(from.0, to.0, ttl).udp(from.1, to.1);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

pub fn tcp<F: Family>(
    from: (F, u16),
    to: (F, u16),
    flags: u8,
    mss: Option<u16>,
    payload: &[u8],
) -> Vec<u8> {
    let mut builder = F::builder(from.0, to.0, 64).tcp(from.1, to.1, 1000, 4096);
    if flags & SYN != 0 {
        builder = builder.syn();
    }
    if flags & ACK != 0 {
        builder = builder.ack(77);
    }
    if flags & FIN != 0 {
        builder = builder.fin();
    }
    if flags & RST != 0 {
        builder = builder.rst();
    }
    if let Some(mss) = mss {
        use etherparse::TcpOptionElement::{
            MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted,
        };
        builder = builder
            .options(&[Noop, Noop, SelectiveAcknowledgementPermitted, MaximumSegmentSize(mss)])
            .unwrap();
    }
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

pub fn echo<F: Family>(from: F, to: F, request: bool, id: u16, ttl: u8) -> Vec<u8> {
    F::echo(from, to, request, id, ttl)
}

/// An IPv6 packet whose payload begins with `next_header`, an extension header or another.
pub fn ipv6_with(
    from: Ipv6Addr,
    to: Ipv6Addr,
    next_header: u8,
    payload: &[u8],
    change: impl FnOnce(&mut Ipv6Header),
) -> Vec<u8> {
    let mut header = Ipv6Header {
        traffic_class: 0,
        flow_label: FLOW_LABEL.try_into().unwrap(),
        payload_length: payload.len() as u16,
        next_header: IpNumber(next_header),
        hop_limit: 64,
        source: from.octets(),
        destination: to.octets(),
    };
    change(&mut header);
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}

/// `packet` with the bytes of extension headers put behind its IPv6 header: the first is of kind `next`,
/// and the last names what the packet had.
pub fn extended(packet: &[u8], next: u8, extensions: &[u8]) -> Vec<u8> {
    let mut longer = packet[..40].to_vec();
    let len = (packet.len() - 40 + extensions.len()) as u16;
    longer[4..6].copy_from_slice(&len.to_be_bytes());
    longer[6] = next;
    longer.extend_from_slice(extensions);
    longer.extend_from_slice(&packet[40..]);
    longer
}

/// An IPv4 packet of any protocol.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(from, to, protocol, payload, |_| {})
}

pub fn ipv4_with(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    payload: &[u8],
    change: impl FnOnce(&mut Ipv4Header),
) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), from.octets(), to.octets())
            .unwrap();
    change(&mut header);
    header.set_payload_len(payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header =
        Ethernet2Header { destination: to, source: from, ether_type: EtherType(ethertype) };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// 0x0800 or 0x86dd, by the packet's first byte.
fn ethertype_of(packet: &[u8]) -> u16 {
    if packet.first().is_some_and(|first| first >> 4 == 6) { 0x86dd } else { 0x0800 }
}

/// A packet as the router delivers it to the external port.
pub fn from_router(packet: &[u8]) -> Vec<u8> {
    ethernet(EXTERNAL_MAC, ROUTER_MAC, ethertype_of(packet), packet)
}

/// A packet as a node or the underlay's router delivers it to the tunnel port.
pub fn from_underlay(packet: &[u8]) -> Vec<u8> {
    ethernet(TUNNEL_MAC, NODE_MAC, ethertype_of(packet), packet)
}

/// A packet of a pod in VXLAN, as `node` sends it: outer checksum zero.
pub fn tunnelled(node: Ipv4Addr, vni: u32, inner: &[u8]) -> Vec<u8> {
    tunnelled_over(node, vni, inner)
}

/// The same over either underlay.
pub fn tunnelled_over<U: Family>(node: U, vni: u32, inner: &[u8]) -> Vec<u8> {
    tunnelled_frame(node, vxlan_payload(vni, inner), false)
}

/// With an outer UDP checksum.
pub fn tunnelled_with_checksum<U: Family>(node: U, vni: u32, inner: &[u8]) -> Vec<u8> {
    tunnelled_frame(node, vxlan_payload(vni, inner), true)
}

pub fn vxlan_payload(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    payload.extend(ethernet([2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 9, 8], ethertype_of(inner), inner));
    payload
}

pub fn tunnelled_frame<U: Family>(node: U, vxlan: Vec<u8>, checksum: bool) -> Vec<u8> {
    let mut outer = udp((node, 51_713), (U::VTEP, VXLAN_PORT), 64, &vxlan);
    if !checksum {
        outer[U::HEADER + 6..U::HEADER + 8].copy_from_slice(&[0, 0]);
    }
    from_underlay(&outer)
}

pub fn arp_frame(
    operation: u8,
    to: [u8; 6],
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
    arp.extend(sender.0);
    arp.extend(sender.1.octets());
    arp.extend(target.0);
    arp.extend(target.1.octets());
    ethernet(to, sender.0, 0x0806, &arp)
}
