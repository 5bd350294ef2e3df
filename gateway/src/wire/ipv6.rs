//! IPv6 (RFC 8200) and its extension headers.

use std::net::Ipv6Addr;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16 as NetU16, U32 as NetU32},
};

pub const PROTOCOL_ICMPV6: u8 = 58;

// Extension headers (RFC 8200 section 4): the next header numbers that are walked.
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

/// The fixed 40 bytes; extension headers, if any, follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    /// Four bits of version, eight of traffic class, twenty of flow label.
    pub version_class_flow: NetU32,
    /// All behind this header, extension headers included, in bytes.
    pub payload_length: NetU16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

pub const IPV6_LEN: usize = size_of::<Ipv6Header>();
const _: () = assert!(IPV6_LEN == 40);

const TRAFFIC_CLASS: u32 = 0x0ff0_0000;
const FLOW_LABEL: u32 = 0x000f_ffff;

impl Ipv6Header {
    /// `flow_label`: its lower 20 bits.
    pub fn new(
        (source, destination): (Ipv6Addr, Ipv6Addr),
        next_header: u8,
        traffic_class: u8,
        hop_limit: u8,
        payload_len: u16,
        flow_label: u32,
    ) -> Self {
        let class_flow = u32::from(traffic_class) << 20 | flow_label & FLOW_LABEL;
        Ipv6Header {
            version_class_flow: NetU32::new(6 << 28 | class_flow),
            payload_length: NetU16::new(payload_len),
            next_header,
            hop_limit,
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    #[inline(always)]
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// DSCP and ECN (RFC 2474, RFC 3168).
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let rest = self.version_class_flow.get() & !TRAFFIC_CLASS;
        self.version_class_flow.set(rest | u32::from(traffic_class) << 20);
    }

    pub fn source(&self) -> Ipv6Addr {
        self.source.into()
    }

    pub fn destination(&self) -> Ipv6Addr {
        self.destination.into()
    }
}

/// What all extension headers that are walked begin with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtensionHeader {
    pub next_header: u8,
    /// In units of eight bytes, the first eight not counted; 0 in a fragment header.
    pub length: u8,
    /// Routing: its type. Fragment: the upper byte of offset and flags.
    pub kind: u8,
    /// Routing: segments left.
    pub segments_left: u8,
    /// Fragment: the identification.
    pub identification: NetU32,
}

pub const EXTENSION_LEN: usize = size_of::<ExtensionHeader>();
const _: () = assert!(EXTENSION_LEN == 8);

impl ExtensionHeader {
    /// Of a fragment header: whether there is more than this fragment. One that is the whole packet (RFC
    /// 6946: "atomic") is none.
    pub fn is_fragment(&self) -> bool {
        // 13 bits of offset, two reserved, one that says that more follow.
        u16::from_be_bytes([self.kind, self.segments_left]) & !0b110 != 0
    }
}
