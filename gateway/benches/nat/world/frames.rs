//! Frames of a world, whose addresses are completed packet by packet.

use super::{
    EXTERNAL_MAC, EXTERNAL_V6, OTHER_MAC, POLICY, ROUTER_V6, TUNNEL_MAC, VTEP, VXLAN_PORT,
};
use gateway::wire::{
    MacAddress,
    icmpv6::NEIGHBOR_SOLICITATION,
    nd::{NeighborMessage, SOURCE_LINK_ADDRESS},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// UDP with 18 bytes: the smallest Ethernet frame with IPv4.
const UDP_LEN: usize = 26;

/// Of the packets of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where a packet's lower four bytes of each address and its l4_ports are, from its L3 header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub(super) source: usize,
    pub(super) destination: usize,
    pub(super) l4: usize,
}

impl Family {
    pub(super) fn offsets(self) -> Offsets {
        match self {
            Family::V4 => Offsets { source: 12, destination: 16, l4: 20 },
            Family::V6 => Offsets { source: 20, destination: 36, l4: 40 },
        }
    }
}

pub(super) fn ethernet(to: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(OTHER_MAC);
    frame.extend(ethertype.to_be_bytes());
    frame
}

pub(super) fn ipv4_udp(from: Ipv4Addr, to: Ipv4Addr, dport: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0xc0, 0x01]);
    packet.extend(dport.to_be_bytes());
    packet.extend((len as u16 - 20).to_be_bytes());
    // Not zero, so that it is updated. Whether it is right is the receiver's business.
    packet.extend([0xab, 0xcd]);
    packet
}

/// A UDP packet of either family, its addresses to be completed.
pub(super) fn template(family: Family, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let (mut packet, len) = match family {
        Family::V4 => (ipv4_udp(any, any, 443, 20 + UDP_LEN), 20 + UDP_LEN),
        Family::V6 => {
            let mut packet = vec![0x60, 0, 0, 0, 0, UDP_LEN as u8, 17, 64];
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(&ipv4_udp(any, any, 443, 20 + UDP_LEN)[20..]);
            (packet, 40 + UDP_LEN)
        }
    };
    packet.resize(len, 0x5a);
    packet
}

pub(super) const PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
pub(super) const REMOTES_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);

pub(super) fn ethertype(family: Family) -> u16 {
    if family == Family::V4 { 0x0800 } else { 0x86dd }
}

pub(super) fn in2out_template(family: Family) -> Vec<u8> {
    let node = Ipv4Addr::new(192, 0, 2, 1);
    let inner = template(family, PODS_V6, REMOTES_V6);
    let mut frame = ethernet(TUNNEL_MAC, 0x0800);
    frame.extend(ipv4_udp(node, VTEP, VXLAN_PORT, 20 + 8 + 8 + 14 + inner.len()));
    frame[40..42].copy_from_slice(&[0, 0]);
    frame.extend([0x08, 0, 0, 0]);
    frame.extend((POLICY << 8).to_be_bytes());
    frame.extend(ethernet([2, 0, 0, 0, 7, 7], ethertype(family)));
    frame.extend(inner);
    frame
}

pub(super) fn out2in_template(family: Family) -> Vec<u8> {
    let mut frame = ethernet(EXTERNAL_MAC, ethertype(family));
    frame.extend(template(family, REMOTES_V6, EXTERNAL_V6));
    frame
}

/// A Neighbor Solicitation of the router, which tells us its MAC.
pub(super) fn solicitation() -> Vec<u8> {
    let mut bytes = [0; NeighborMessage::PACKET];
    let message = NeighborMessage::new(NEIGHBOR_SOLICITATION, 0, EXTERNAL_V6);
    let link = (SOURCE_LINK_ADDRESS, MacAddress(OTHER_MAC));
    message.write(&mut bytes, (ROUTER_V6, EXTERNAL_V6), Some(link));
    let mut frame = ethernet(EXTERNAL_MAC, 0x86dd);
    frame.extend(bytes);
    frame
}

/// An ARP request for `us`, which tells us the sender's MAC.
pub(super) fn arp(operation: u8, sender: Ipv4Addr, us: Ipv4Addr, our_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(our_mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(OTHER_MAC);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(us.octets());
    frame
}

pub(super) fn set_checksum(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let mut sum: u32 =
        header.chunks_exact(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
