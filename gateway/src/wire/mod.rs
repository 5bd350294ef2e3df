//! Bytes: header layouts, checksums, and the parser. Knows no policy, no time, no DPDK.
//!
//! Header structs are zerocopy views onto the frame. Their integer fields are big-endian types
//! (`U16`, `U32`), so a host-order integer exists only after `.get()`.

pub mod address;
pub mod arp;
pub mod both;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod parse;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

pub use address::Address;
pub use both::{Any, Both, Each, PerFamily};
pub use ethernet::MacAddress;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A fixed-size header that can be seen in place in any byte slice.
pub trait Header: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Sized {
    const LEN: usize = size_of::<Self>();

    /// The header that starts at `offset`, or `None` where the slice is too short.
    #[inline(always)]
    fn at(bytes: &[u8], offset: usize) -> Option<&Self> {
        Self::ref_from_bytes(bytes.get(offset..offset + Self::LEN)?).ok()
    }

    /// As [`Header::at`], to be written.
    #[inline(always)]
    fn at_mut(bytes: &mut [u8], offset: usize) -> Option<&mut Self> {
        Self::mut_from_bytes(bytes.get_mut(offset..offset + Self::LEN)?).ok()
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Sized> Header for T {}
