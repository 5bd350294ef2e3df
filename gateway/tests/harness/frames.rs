//! Frames and packets that go in, built by etherparse.

use super::*;
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, PacketBuilder};

pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), ttl).udp(from.1, to.1);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

pub fn tcp(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
    mss: Option<u16>,
    payload: &[u8],
) -> Vec<u8> {
    let mut builder =
        PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).tcp(from.1, to.1, 1000, 4096);
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

pub fn echo(from: Ipv4Addr, to: Ipv4Addr, request: bool, id: u16, ttl: u8) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.octets(), to.octets(), ttl);
    let builder = match request {
        true => builder.icmpv4_echo_request(id, 3),
        false => builder.icmpv4_echo_reply(id, 3),
    };
    let mut packet = Vec::new();
    builder.write(&mut packet, b"abcdefgh").unwrap();
    packet
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

/// An IPv4 packet as the router delivers it to the external port.
pub fn from_router(packet: &[u8]) -> Vec<u8> {
    ethernet(EXTERNAL_MAC, ROUTER_MAC, 0x0800, packet)
}

/// A packet of a pod in VXLAN, as `node` sends it: outer checksum zero.
pub fn tunnelled(node: Ipv4Addr, vni: u32, inner: &[u8]) -> Vec<u8> {
    tunnelled_frame(node, vxlan_payload(vni, inner), false)
}

/// The same with an outer UDP checksum.
pub fn tunnelled_with_checksum(node: Ipv4Addr, vni: u32, inner: &[u8]) -> Vec<u8> {
    tunnelled_frame(node, vxlan_payload(vni, inner), true)
}

pub fn vxlan_payload(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    payload.extend(ethernet([2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 9, 8], 0x0800, inner));
    payload
}

pub fn tunnelled_frame(node: Ipv4Addr, vxlan: Vec<u8>, checksum: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(NODE_MAC, TUNNEL_MAC)
        .ipv4(node.octets(), VTEP.octets(), 64)
        .udp(51_713, VXLAN_PORT);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vxlan).unwrap();
    if !checksum {
        frame[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&[0, 0]);
    }
    frame
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
