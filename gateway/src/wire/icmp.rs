//! ICMP (RFC 792), and the fixed eight bytes that ICMPv6 has as well.

use super::checksum::Checksum;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

pub const ECHO_REPLY: u8 = 0;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;

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
