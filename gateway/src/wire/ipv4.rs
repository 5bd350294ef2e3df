//! IPv4 (RFC 791).

use super::checksum::{self, Checksum};
use std::net::Ipv4Addr;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;

pub const FLAG_DONT_FRAGMENT: u16 = 0x4000;
/// The first octet of a header without options: version 4, five words.
pub const NO_OPTIONS: u8 = 0x45;

const FLAG_MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The fixed 20 bytes; options, if any, follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    pub version_ihl: u8,
    pub dscp_ecn: u8,
    /// Header and payload, in bytes.
    pub total_length: NetU16,
    pub identification: NetU16,
    pub flags_fragment: NetU16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: Checksum,
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

pub const IPV4_LEN: usize = size_of::<Ipv4Header>();
const _: () = assert!(IPV4_LEN == 20);

impl Ipv4Header {
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Header with options, in bytes.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    pub fn source(&self) -> Ipv4Addr {
        self.source.into()
    }

    pub fn destination(&self) -> Ipv4Addr {
        self.destination.into()
    }

    /// True for every fragment of a fragmented packet, the first one included.
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & (FLAG_MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// A header without options, its checksum filled in. The packet is atomic (RFC 6864 section 4):
    /// DF set, so the identification needs no value.
    pub fn atomic(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        dscp_ecn: u8,
        ttl: u8,
        payload_len: u16,
    ) -> Self {
        let mut header = Ipv4Header {
            version_ihl: NO_OPTIONS,
            dscp_ecn,
            total_length: NetU16::new(payload_len + IPV4_LEN as u16),
            identification: NetU16::ZERO,
            flags_fragment: NetU16::new(FLAG_DONT_FRAGMENT),
            ttl,
            protocol,
            checksum: Checksum::ZERO,
            source: source.octets(),
            destination: destination.octets(),
        };
        header.checksum = checksum::of(header.as_bytes());
        header
    }
}
