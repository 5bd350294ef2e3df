//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Nothing here swaps bytes. The one's complement sum does not care about byte order (RFC 1071
//! section 2 B): adding 16-bit words as the CPU loads them gives the sum's bytes in the order in
//! which they go back into memory. So a [`Checksum`] is the two bytes as they stand in the packet,
//! and a [`Delta`] is built from words loaded in the same way.
//!
//! A translator never computes a checksum anew: a packet that arrived broken must leave broken
//! (else damage would be certified as whole), and a difference is cheaper than a sum. RFC 1624
//! equation 3 with the difference of all replaced words summed up once per session:
//!
//! ```text
//! HC' = ~(~HC + Δ)      Δ = Σ (~m + m')      m → m': a 16-bit word that changes
//! ```
//!
//! and the way back uses ~Δ. (Equation 4 of the same RFC, `HC - ~m - m'`, can give a wrong zero.)

use std::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A checksum field, its two bytes as they are in the packet.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Checksum([u8; 2]);

/// What replacing some 16-bit words adds to the one's complement sum of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Delta(u16);

impl Checksum {
    /// In UDP: "no checksum was computed".
    pub const ZERO: Checksum = Checksum([0, 0]);

    #[inline(always)]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The field after the words of `delta` were replaced.
    #[inline]
    #[must_use]
    pub fn apply(self, delta: Delta) -> Checksum {
        let sum = u32::from(!u16::from_ne_bytes(self.0)) + u32::from(delta.0);
        Checksum((!end_around(sum)).to_ne_bytes())
    }

    /// [`Checksum::apply`] for UDP. RFC 768: zero means that there is none, so it stays; a checksum
    /// that comes out as zero is sent as all ones.
    #[inline]
    #[must_use]
    pub fn apply_udp(self, delta: Delta) -> Checksum {
        if self.is_zero() {
            return self;
        }
        match self.apply(delta) {
            Self::ZERO => Checksum([0xff; 2]),
            sum => sum,
        }
    }
}

impl Delta {
    /// No change.
    pub const NONE: Delta = Delta(0);

    #[inline]
    pub const fn replace_u16(old: [u8; 2], new: [u8; 2]) -> Delta {
        Delta(end_around(!u16::from_ne_bytes(old) as u32 + u16::from_ne_bytes(new) as u32))
    }

    /// Four bytes that start at an even offset: an address.
    pub fn replace_u32(old: [u8; 4], new: [u8; 4]) -> Delta {
        Delta(fold(u64::from(!u32::from_ne_bytes(old)) + u64::from(u32::from_ne_bytes(new))))
    }

    /// The delta of both replacements together.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Delta) -> Delta {
        Delta(end_around(self.0 as u32 + other.0 as u32))
    }

    /// The delta of the way back.
    #[inline]
    #[must_use]
    pub fn reversed(self) -> Delta {
        Delta(!self.0)
    }
}

/// The one's complement sum of a header that is still to be completed: what was zero in it can be added.
#[derive(Clone, Copy, Debug)]
pub struct Sum(u16);

impl Sum {
    pub fn of(header: &[u8]) -> Self {
        Sum(fold(sum(header)))
    }

    /// The checksum of the header with four bytes and two times two in the place of zeros, each at an even
    /// offset.
    #[inline(always)]
    pub fn complete(self, address: [u8; 4], words: [[u8; 2]; 2]) -> Checksum {
        let words = words.map(|word| u64::from(u16::from_ne_bytes(word)));
        let sum = u64::from(self.0) + u64::from(u32::from_ne_bytes(address)) + words[0] + words[1];
        // Below 2^32 + 2^18: with a carry beyond 32 bits the middle term is small, so that the three come to
        // no more than two words do.
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        Checksum((!end_around(sum as u32)).to_ne_bytes())
    }
}

/// The checksum over `bytes`, whose own checksum field must be zero.
pub fn of(bytes: &[u8]) -> Checksum {
    Checksum((!fold(sum(bytes))).to_ne_bytes())
}

/// True when `bytes`, checksum field included, sum up to all ones.
pub fn is_valid(bytes: &[u8]) -> bool {
    fold(sum(bytes)) == 0xffff
}

/// [`is_valid`] for an IPv4 header without options, which nearly all are.
#[inline(always)]
pub fn is_valid_header(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    // Five words of 32 bits: the three terms are below 2^16, 2^16 and 5, so that their one's
    // complement is all ones exactly for these two sums.
    matches!((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32), 0xffff | 0x1_fffe)
}

/// True when an L4 segment with its pseudo header (RFC 768; RFC 8200 section 8.1) sums up to all ones.
pub fn is_valid_with_pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    segment: &[u8],
) -> bool {
    fold(pseudo_header(source, destination, protocol, segment.len()) + sum(segment)) == 0xffff
}

/// The checksum over `segment`, whose own checksum field must be zero, with its pseudo header.
pub fn with_pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    segment: &[u8],
) -> Checksum {
    let sum = pseudo_header(source, destination, protocol, segment.len()) + sum(segment);
    Checksum((!fold(sum)).to_ne_bytes())
}

/// The two families lay it out differently, and the sum does not care.
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    let length = (length as u16).to_be_bytes();
    address(source)
        + address(destination)
        + u64::from(u16::from_ne_bytes([0, protocol]))
        + u64::from(u16::from_ne_bytes(length))
}

/// The sum, not yet folded: 64 bits hold the carries of 2^32 words.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [byte] = last {
        // RFC 1071: an odd last byte is padded with zero on its right.
        total += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    total
}

/// One end-around carry: the sum of two 16-bit words.
#[inline(always)]
const fn end_around(sum: u32) -> u16 {
    (sum as u16).wrapping_add((sum >> 16) as u16)
}

/// End-around carries: 64 → 16 bits of one's complement sum.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 in its own words, byte pairs and big-endian: shares nothing with the code above.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            if sum > 0xffff {
                sum = (sum & 0xffff) + 1;
            }
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(&data).0, [0x22, 0x0d]);
    }

    #[test]
    fn rfc_1624_example_gives_zero_and_not_minus_zero() {
        // Section 4: HC 0xdd2f, m 0x5555 → m' 0x3285 is 0x0000; equation 2 would give 0xffff.
        let updated = Checksum([0xdd, 0x2f]).apply(Delta::replace_u16([0x55, 0x55], [0x32, 0x85]));
        assert_eq!(updated.0, [0x00, 0x00]);
    }

    #[test]
    fn udp_zero_stays_and_zero_result_becomes_all_ones() {
        let delta = Delta::replace_u16([0x55, 0x55], [0x32, 0x85]);
        assert_eq!(Checksum::ZERO.apply_udp(delta), Checksum::ZERO);
        assert_eq!(Checksum([0xdd, 0x2f]).apply_udp(delta).0, [0xff, 0xff]);
    }

    /// Each of the 65,536 words once, so that every fold case occurs.
    #[test]
    fn every_port_value_updates_as_a_recomputation_does() {
        let mut data = [0x45u8, 0, 0x12, 0x34, 0xfe, 0xdc, 0x00, 0x35];
        let before = of(&data);
        for port in 0..=u16::MAX {
            let delta = Delta::replace_u16([0x00, 0x35], port.to_be_bytes());
            data[6..8].copy_from_slice(&port.to_be_bytes());
            assert_eq!(u16::from_be_bytes(before.apply(delta).0), naive(&data), "port {port}");
        }
    }

    proptest! {
        #[test]
        fn a_header_is_valid_by_both_ways_or_by_none(
            mut header: [u8; 20],
            small in prop::bool::ANY,
            right: bool,
        ) {
            if small {
                header = header.map(|byte| byte.saturating_sub(253) * 127);
            }
            if right {
                header[10..12].fill(0);
                let sum = of(&header).0;
                header[10..12].copy_from_slice(&sum);
            }
            prop_assert_eq!(is_valid_header(&header), naive(&header) == 0);
            prop_assert_eq!(is_valid(&header), naive(&header) == 0);
        }

        #[test]
        fn sum_agrees_with_the_rfc(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(u16::from_be_bytes(of(&bytes).0), naive(&bytes));
        }

        #[test]
        fn a_completed_header_has_the_checksum_of_the_whole(
            mut header in proptest::collection::vec(prop_oneof![Just(0xff), any::<u8>()], 20),
        ) {
            let (address, words) = ([16, 17, 18, 19], [[2, 3], [0, 1]]);
            let take = |places: &mut [u8]| -> Vec<u8> { places.iter_mut().map(std::mem::take).collect() };
            header[10..12].fill(0);
            let whole = naive(&header);
            let address: [u8; 4] = take(&mut header[address[0]..=address[3]]).try_into().unwrap();
            let words = words.map(|[a, b]| take(&mut header[a..=b]).try_into().unwrap());
            let completed = Sum::of(&header).complete(address, words);
            prop_assert_eq!(u16::from_be_bytes(completed.0), whole);
        }

        #[test]
        fn update_agrees_with_recomputation_and_goes_back(
            mut bytes in proptest::collection::vec(1u8.., 12..60),
            address in any::<[u8; 4]>(),
            port in any::<[u8; 2]>(),
        ) {
            let before = of(&bytes);
            let original = bytes.clone();
            let delta = Delta::replace_u32([bytes[0], bytes[1], bytes[2], bytes[3]], address)
                .and(Delta::replace_u16([bytes[6], bytes[7]], port));
            bytes[..4].copy_from_slice(&address);
            bytes[6..8].copy_from_slice(&port);
            let after = before.apply(delta);
            prop_assert_eq!(u16::from_be_bytes(after.0), naive(&bytes));
            prop_assert_eq!(after.apply(delta.reversed()), before, "{:?}", original);
        }
    }
}
