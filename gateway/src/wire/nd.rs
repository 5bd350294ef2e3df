//! Neighbor Discovery's messages about neighbours (RFC 4861 sections 4.3, 4.4) and their one option.

use super::{
    Header, MacAddress,
    checksum::{self, Checksum},
    icmpv6::NEIGHBOR_SOLICITATION,
    ipv6::{IPV6_LEN, Ipv6Header, PROTOCOL_ICMPV6},
    parse::IpPacket,
};
use std::net::Ipv6Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Flags of an advertisement: it answers a question; it replaces what is known.
pub const SOLICITED: u8 = 0x40;
pub const OVERRIDE: u8 = 0x20;

// Options with a link-layer address (section 4.6.1).
pub const SOURCE_LINK_ADDRESS: u8 = 1;
pub const TARGET_LINK_ADDRESS: u8 = 2;

/// A solicitation or an advertisement; options follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NeighborMessage {
    pub icmp_type: u8,
    pub code: u8,
    pub checksum: Checksum,
    /// The first byte; an advertisement's only.
    pub flags: [u8; 4],
    pub target: [u8; 16],
}

/// Type, length in units of eight bytes, MAC.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LinkAddress {
    kind: u8,
    length: u8,
    mac: MacAddress,
}

const OPTION_LEN: usize = size_of::<LinkAddress>();
const _: () = assert!(OPTION_LEN == 8);
/// RFC 4861 section 7.1: proof that no router has passed the message on.
const HOP_LIMIT: u8 = 255;

impl NeighborMessage {
    /// With the IPv6 header and one option.
    pub const PACKET: usize = IPV6_LEN + size_of::<Self>() + OPTION_LEN;

    pub fn new(icmp_type: u8, flags: u8, target: Ipv6Addr) -> Self {
        NeighborMessage {
            icmp_type,
            code: 0,
            checksum: Checksum::ZERO,
            flags: [flags, 0, 0, 0],
            target: target.octets(),
        }
    }

    /// What RFC 4861 sections 7.1.1 and 7.1.2 ask of a message that `packet` brought in `bytes`, beside
    /// its hop limit and its options.
    pub fn is_valid(&self, bytes: &[u8], packet: &IpPacket<Ipv6Addr>) -> bool {
        let (source, destination) = (packet.source, packet.destination);
        let target = Ipv6Addr::from(self.target);
        let is_probe = self.icmp_type == NEIGHBOR_SOLICITATION && source.is_unspecified();
        let (from, to) = (source.into(), destination.into());
        self.code == 0
            && checksum::is_valid_with_pseudo_header(from, to, PROTOCOL_ICMPV6, bytes)
            && !target.is_multicast()
            && !source.is_multicast()
            && (!is_probe || destination == solicited_node(target))
            && (self.icmp_type == NEIGHBOR_SOLICITATION
                || !destination.is_multicast()
                || self.flags[0] & SOLICITED == 0)
    }

    /// Writes the message as a packet from and to `ends`, with `option` (type and MAC). Returns its
    /// length.
    pub fn write(
        &self,
        packet: &mut [u8; Self::PACKET],
        ends: (Ipv6Addr, Ipv6Addr),
        option: Option<(u8, MacAddress)>,
    ) -> usize {
        let option = option.map(|(kind, mac)| LinkAddress { kind, length: 1, mac });
        let len = size_of::<Self>() + option.map_or(0, |_| OPTION_LEN);
        let header = Ipv6Header::new(ends, PROTOCOL_ICMPV6, 0, HOP_LIMIT, len as u16, 0);
        let (ip, payload) = packet.split_at_mut(IPV6_LEN);
        ip.copy_from_slice(header.as_bytes());
        let (message, rest) = payload.split_at_mut(size_of::<Self>());
        message.copy_from_slice(self.as_bytes());
        if let Some(option) = option {
            rest.copy_from_slice(option.as_bytes());
        }
        let (from, to) = (ends.0.into(), ends.1.into());
        let sum = checksum::with_pseudo_header(from, to, PROTOCOL_ICMPV6, &payload[..len]);
        if let Some(message) = Self::at_mut(payload, 0) {
            message.checksum = sum;
        }
        IPV6_LEN + len
    }
}

/// The MAC in the option of that kind, `Some(None)` where there is none; `None` where the options are not
/// well formed (section 4.6: their length is never 0), or the MAC is a group's.
pub fn link_address(mut options: &[u8], kind: u8) -> Option<Option<MacAddress>> {
    let mut found = None;
    while let [this, length, ..] = *options {
        let len = usize::from(length) * 8;
        if len == 0 || len > options.len() {
            return None;
        }
        if this == kind {
            let option = LinkAddress::at(options, 0)?;
            if option.mac.is_group() || option.mac.is_zero() {
                return None;
            }
            found = Some(option.mac);
        }
        options = &options[len..];
    }
    options.is_empty().then_some(found)
}

/// The group of all whose address ends in the same three bytes (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Everybody on the link.
pub fn all_nodes() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
}

/// Where frames to a group go (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}
