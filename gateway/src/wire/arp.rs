//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet::{ETHERTYPE_IPV4, MacAddress};
use std::net::Ipv4Addr;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

const HARDWARE_ETHERNET: u16 = 1;
pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    hardware_type: NetU16,
    protocol_type: NetU16,
    hardware_len: u8,
    protocol_len: u8,
    pub operation: NetU16,
    pub sender_mac: MacAddress,
    pub sender_ip: [u8; 4],
    pub target_mac: MacAddress,
    pub target_ip: [u8; 4],
}

pub const ARP_LEN: usize = size_of::<ArpPacket>();
const _: () = assert!(ARP_LEN == 28);

impl ArpPacket {
    pub fn new(
        operation: u16,
        sender: (MacAddress, Ipv4Addr),
        target: (MacAddress, Ipv4Addr),
    ) -> Self {
        ArpPacket {
            hardware_type: NetU16::new(HARDWARE_ETHERNET),
            protocol_type: NetU16::new(ETHERTYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: NetU16::new(operation),
            sender_mac: sender.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0,
            target_ip: target.1.octets(),
        }
    }

    /// Ethernet and IPv4, a known operation, and a sender that can be a neighbour.
    pub fn is_valid(&self) -> bool {
        self.hardware_type.get() == HARDWARE_ETHERNET
            && self.protocol_type.get() == ETHERTYPE_IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
            && matches!(self.operation.get(), REQUEST | REPLY)
            && !self.sender_mac.is_group()
            && !self.sender_mac.is_zero()
    }
}
