//! ICMP (RFC 792): the fixed eight bytes.

use super::checksum::Checksum;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

pub const ECHO_REPLY: u8 = 0;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;

/// The types that report an error about another packet (RFC 1122 section 3.2.2). No error is ever
/// sent about one of these.
pub fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    pub icmp_type: u8,
    pub code: u8,
    pub checksum: Checksum,
    /// Echo: the query id. Errors: unused, or type-specific.
    pub identifier: NetU16,
    pub sequence: NetU16,
}

pub const ICMP_LEN: usize = size_of::<IcmpHeader>();
const _: () = assert!(ICMP_LEN == 8);
