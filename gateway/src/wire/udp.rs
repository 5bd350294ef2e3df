//! UDP (RFC 768).

use super::checksum::Checksum;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    pub source: NetU16,
    pub destination: NetU16,
    /// Header and payload, in bytes.
    pub length: NetU16,
    /// Zero: the sender computed none.
    pub checksum: Checksum,
}

pub const UDP_LEN: usize = size_of::<UdpHeader>();
const _: () = assert!(UDP_LEN == 8);
