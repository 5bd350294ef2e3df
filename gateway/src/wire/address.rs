//! The two address families: what differs between IPv4 and IPv6, in one place.
//!
//! Everything that exists for both is written once, over `A: Address`; what exists once per family is
//! kept in a [`Both`].

use super::{
    both::{Any, Both, PerFamily},
    checksum::{Checksum, Delta},
    ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6},
    icmp, icmpv6,
    ipv4::{Ipv4Header, PROTOCOL_ICMP},
    ipv6::{Ipv6Header, PROTOCOL_ICMPV6},
    parse::{self, IpPacket},
};
use crate::{verdict::DropReason, wire::Header};
use std::{
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::BitAnd,
};

/// TTL and hop limit of what the gateway says itself (RFC 1700's default).
const HOPS: u8 = 64;

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// An address of one family, and what that family's packets look like.
pub trait Address:
    Copy + Eq + Ord + Hash + fmt::Debug + fmt::Display + Into<IpAddr> + Send + Sync + 'static
{
    const UNSPECIFIED: Self;
    const ETHERTYPE: u16;
    /// The protocol number of the family's ICMP.
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;
    /// Code 0 of it: the packet's life ended in transit.
    const TIME_EXCEEDED: u8;
    /// The longest packet, in bytes, that an ICMP error may be.
    const LARGEST_ERROR: usize;
    /// Whether ICMP of this family has a pseudo header in its checksum.
    const ICMP_HAS_PSEUDO_HEADER: bool;
    /// The IP header without options or extensions, in bytes.
    const HEADER_LEN: usize;

    /// A flow key in 64-bit words: the addresses, and last the L4 word. Words are loaded from the octets
    /// little-endian, which costs nothing where it matters. Their values are part of the shard hash that
    /// is published: see `datapath::steering`.
    type Words: Copy + Eq + fmt::Debug + AsRef<[u64]> + Send + Sync;

    type Bits: Copy + Eq + fmt::Debug + BitAnd<Output = Self::Bits> + Send + Sync;

    fn pack(ours: Self, remote: Self, l4: u64) -> Self::Words;
    /// Our address, the remote one, and the L4 word.
    fn unpack(words: &Self::Words) -> (Self, Self, u64);

    /// `None` for an address of the other family.
    fn of_family(address: IpAddr) -> Option<Self>;
    /// The address as a number; IPv4 in the lower 32 bits.
    fn number(self) -> u128;
    /// The address as bits to be masked.
    fn bits(self) -> Self::Bits;
    /// Whether a router may forward packets to it (RFC 6890), and it is a single host's.
    fn is_routable(self) -> bool;

    /// Whether it can be reached on its own link only; IPv4's are nobody's here.
    fn is_link_local(self) -> bool;

    /// The header that begins at `l3`, checked.
    fn parse(frame: &[u8], l3: usize) -> Result<IpPacket<Self>, DropReason>;
    /// Writes a header without options or extensions, as long as [`Address::HEADER_LEN`], to the front of
    /// `out`: of a packet of ours with `payload_len` bytes of `protocol`.
    fn write_header(
        out: &mut [u8],
        ends: (Self, Self),
        protocol: u8,
        dscp_ecn: u8,
        payload_len: u16,
    );
    /// What replacing one address by another adds to a checksum's sum.
    fn delta(old: Self, new: Self) -> Delta;
    /// Writes `address` at one end of the header at `l3`, which takes one hop from the packet's life;
    /// `delta` is what the address alone adds to the header's sum. TTL or hop limit is not 0.
    fn translate(frame: &mut [u8], l3: usize, end: End, address: Self, delta: Delta);
    /// DSCP and ECN of the packet that begins with `header`; 0 where it is no header.
    fn dscp_ecn(header: &[u8]) -> u8;
    /// Writes the ECN field (RFC 3168) and DSCP; `packet` is what the header says.
    fn set_dscp_ecn(frame: &mut [u8], packet: &IpPacket<Self>, dscp_ecn: u8);

    fn any<P: PerFamily>(one: P::Of<Self>) -> Any<P>;
    fn get<P: PerFamily>(both: &Both<P>) -> &P::Of<Self>;
    fn get_mut<P: PerFamily>(both: &mut Both<P>) -> &mut P::Of<Self>;
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const ICMP: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY;
    const TIME_EXCEEDED: u8 = icmp::TIME_EXCEEDED;
    /// RFC 1812 section 4.3.2.3: as much of the offending packet as fits 576 bytes.
    const LARGEST_ERROR: usize = 576;
    /// RFC 792.
    const ICMP_HAS_PSEUDO_HEADER: bool = false;
    const HEADER_LEN: usize = size_of::<Ipv4Header>();

    type Words = [u64; 2];
    type Bits = u32;

    #[inline(always)]
    fn pack(ours: Self, remote: Self, l4: u64) -> [u64; 2] {
        let word = |address: Self| u64::from(u32::from_le_bytes(address.octets()));
        [word(ours) << 32 | word(remote), l4]
    }

    #[inline(always)]
    fn unpack([addresses, l4]: &[u64; 2]) -> (Self, Self, u64) {
        let address = |word: u64| Self::from((word as u32).to_le_bytes());
        (address(*addresses >> 32), address(*addresses), *l4)
    }

    fn of_family(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn number(self) -> u128 {
        self.to_bits().into()
    }

    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }

    fn is_routable(self) -> bool {
        // 224.0.0.0/3 is multicast, class E and the limited broadcast.
        let [first, second, ..] = self.octets();
        !matches!((first, second), (0 | 127 | 224.., _) | (169, 254))
    }

    fn is_link_local(self) -> bool {
        false
    }

    #[inline(always)]
    fn parse(frame: &[u8], l3: usize) -> Result<IpPacket<Self>, DropReason> {
        parse::ipv4(frame, l3)
    }

    fn write_header(out: &mut [u8], ends: (Self, Self), protocol: u8, dscp_ecn: u8, len: u16) {
        if let Some(header) = Ipv4Header::at_mut(out, 0) {
            *header = Ipv4Header::atomic(ends.0, ends.1, protocol, dscp_ecn, HOPS, len);
        }
    }

    fn delta(old: Self, new: Self) -> Delta {
        Delta::replace_u32(old.octets(), new.octets())
    }

    #[inline(always)]
    fn translate(frame: &mut [u8], l3: usize, end: End, address: Self, delta: Delta) {
        /// What a TTL that is one less adds to the header's sum, whatever it was: it is the upper byte
        /// of its word.
        const ONE_HOP: Delta = Delta::replace_u16([1, 0], [0, 0]);
        let Some(ip) = Ipv4Header::at_mut(frame, l3) else { return };
        match end {
            End::Source => ip.source = address.octets(),
            End::Destination => ip.destination = address.octets(),
        }
        ip.ttl -= 1;
        ip.checksum = ip.checksum.apply(delta.and(ONE_HOP));
    }

    #[inline(always)]
    fn dscp_ecn(header: &[u8]) -> u8 {
        Ipv4Header::at(header, 0).map_or(0, |ip| ip.dscp_ecn)
    }

    #[inline(always)]
    fn set_dscp_ecn(frame: &mut [u8], packet: &IpPacket<Self>, dscp_ecn: u8) {
        let Some(ip) = Ipv4Header::at_mut(frame, packet.l3()) else { return };
        let before = [ip.version_ihl, ip.dscp_ecn];
        ip.dscp_ecn = dscp_ecn;
        let change = Delta::replace_u16(before, [ip.version_ihl, dscp_ecn]);
        ip.checksum = Checksum::apply(ip.checksum, change);
    }

    #[inline(always)]
    fn any<P: PerFamily>(one: P::Of<Self>) -> Any<P> {
        Any::V4(one)
    }

    #[inline(always)]
    fn get<P: PerFamily>(both: &Both<P>) -> &P::Of<Self> {
        &both.v4
    }

    #[inline(always)]
    fn get_mut<P: PerFamily>(both: &mut Both<P>) -> &mut P::Of<Self> {
        &mut both.v4
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const ICMP: u8 = PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = icmpv6::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmpv6::ECHO_REPLY;
    const TIME_EXCEEDED: u8 = icmpv6::TIME_EXCEEDED;
    /// RFC 4443 section 2.4 (c): the minimum MTU.
    const LARGEST_ERROR: usize = 1280;
    /// RFC 4443 section 2.3.
    const ICMP_HAS_PSEUDO_HEADER: bool = true;
    const HEADER_LEN: usize = size_of::<Ipv6Header>();

    type Words = [u64; 5];
    type Bits = u128;

    #[inline(always)]
    fn pack(ours: Self, remote: Self, l4: u64) -> [u64; 5] {
        let words = |address: Self| {
            let words: [u64; 2] = zerocopy::transmute!(address.octets());
            words.map(u64::from_le)
        };
        let ([a, b], [c, d]) = (words(ours), words(remote));
        [a, b, c, d, l4]
    }

    #[inline(always)]
    fn unpack([a, b, c, d, l4]: &[u64; 5]) -> (Self, Self, u64) {
        let address = |words: [u64; 2]| {
            let octets: [u8; 16] = zerocopy::transmute!(words.map(u64::to_le));
            Self::from(octets)
        };
        (address([*a, *b]), address([*c, *d]), *l4)
    }

    fn of_family(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    #[inline(always)]
    fn number(self) -> u128 {
        self.to_bits()
    }

    #[inline(always)]
    fn bits(self) -> u128 {
        self.to_bits()
    }

    fn is_routable(self) -> bool {
        let is_mapped = self.to_ipv4_mapped().is_some();
        !(self.is_unspecified()
            || self.is_loopback()
            || self.is_multicast()
            || self.is_unicast_link_local()
            || is_mapped)
    }

    fn is_link_local(self) -> bool {
        self.is_unicast_link_local()
    }

    #[inline(always)]
    fn parse(frame: &[u8], l3: usize) -> Result<IpPacket<Self>, DropReason> {
        parse::ipv6(frame, l3)
    }

    fn write_header(out: &mut [u8], ends: (Self, Self), protocol: u8, dscp_ecn: u8, len: u16) {
        if let Some(header) = Ipv6Header::at_mut(out, 0) {
            *header = Ipv6Header::new(ends, protocol, dscp_ecn, HOPS, len, 0);
        }
    }

    fn delta(old: Self, new: Self) -> Delta {
        let (old, new) = (old.octets(), new.octets());
        let words = old.as_chunks::<4>().0.iter().zip(new.as_chunks::<4>().0);
        words.fold(Delta::NONE, |delta, (old, new)| delta.and(Delta::replace_u32(*old, *new)))
    }

    #[inline(always)]
    fn translate(frame: &mut [u8], l3: usize, end: End, address: Self, _: Delta) {
        let Some(ip) = Ipv6Header::at_mut(frame, l3) else { return };
        match end {
            End::Source => ip.source = address.octets(),
            End::Destination => ip.destination = address.octets(),
        }
        ip.hop_limit -= 1;
    }

    #[inline(always)]
    fn dscp_ecn(header: &[u8]) -> u8 {
        Ipv6Header::at(header, 0).map_or(0, |ip| ip.traffic_class())
    }

    #[inline(always)]
    fn set_dscp_ecn(frame: &mut [u8], packet: &IpPacket<Self>, dscp_ecn: u8) {
        if let Some(ip) = Ipv6Header::at_mut(frame, packet.l3()) {
            ip.set_traffic_class(dscp_ecn);
        }
    }

    #[inline(always)]
    fn any<P: PerFamily>(one: P::Of<Self>) -> Any<P> {
        Any::V6(one)
    }

    #[inline(always)]
    fn get<P: PerFamily>(both: &Both<P>) -> &P::Of<Self> {
        &both.v6
    }

    #[inline(always)]
    fn get_mut<P: PerFamily>(both: &mut Both<P>) -> &mut P::Of<Self> {
        &mut both.v6
    }
}
