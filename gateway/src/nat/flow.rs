//! Endpoints, the flow key and its hash.

use rand_chacha::rand_core::RngCore;
use std::{fmt, net::Ipv4Addr};

/// An address with its TCP or UDP l4_port, or its ICMP query id. Host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub l4_port: u16,
}

impl Endpoint {
    pub const fn new(address: Ipv4Addr, l4_port: u16) -> Self {
        Endpoint { address, l4_port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.l4_port)
    }
}

/// The pod's side (RFC 4787: X:x).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InternalEndpoint(pub Endpoint);

/// What the world sees (RFC 4787: X1':x1').
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExternalEndpoint(pub Endpoint);

/// The far end (RFC 4787: Y:y). The l4_port of an ICMP query is 0: the query id belongs to the
/// sender alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteEndpoint(pub Endpoint);

/// What can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
        }
    }
}

/// What a packet is looked up by: 16 bytes, compared as two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    addresses: u64,
    l4_ports: u64,
}

impl FlowKey {
    /// `tenant`: pods of two clusters may have the same address.
    #[inline]
    pub fn in2out(
        tenant: u16,
        protocol: Protocol,
        internal: InternalEndpoint,
        remote: RemoteEndpoint,
    ) -> Self {
        Self::of(internal.0, remote.0, protocol, tenant)
    }

    /// External tuples are unique over all tenants: that is what the translation is for.
    #[inline]
    pub fn out2in(protocol: Protocol, external: ExternalEndpoint, remote: RemoteEndpoint) -> Self {
        Self::of(external.0, remote.0, protocol, 0)
    }

    #[inline]
    fn of(ours: Endpoint, remote: Endpoint, protocol: Protocol, tenant: u16) -> Self {
        FlowKey {
            addresses: u64::from(ours.address.to_bits()) << 32
                | u64::from(remote.address.to_bits()),
            l4_ports: u64::from(ours.l4_port) << 48
                | u64::from(remote.l4_port) << 32
                | u64::from(tenant) << 16
                | u64::from(protocol as u8),
        }
    }
}

impl FlowKey {
    /// 16 bits that differ between flows and stay the same for one: to spread flows over the queues
    /// of whoever receives them. Not the table's hash, which nobody outside may learn.
    #[inline]
    pub fn spread(&self) -> u16 {
        let x =
            (self.addresses ^ self.l4_ports.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x >> 48) as u16
    }
}

/// The keyed hash of the session table.
///
/// Pair-multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", section 3.5) over the
/// key's four 32-bit words: strongly universal, so that for keys chosen without knowledge of the
/// secret two collide in `n` of a half's bits with probability 2^-n, for the price of four
/// multiplications. The hash never leaves the worker.
#[derive(Clone)]
pub struct TableHash {
    high: [u64; 5],
    low: [u64; 5],
}

impl TableHash {
    pub(super) fn new(random: &mut impl RngCore) -> Self {
        let mut draw = || std::array::from_fn(|_| random.next_u64());
        TableHash { high: draw(), low: draw() }
    }

    /// 64 bits: the upper half chooses the bucket, the lower half the tag, independently.
    #[inline]
    pub fn of(&self, key: &FlowKey) -> u64 {
        Self::half(&self.high, key) & 0xffff_ffff_0000_0000 | Self::half(&self.low, key) >> 32
    }

    #[inline]
    fn half(secret: &[u64; 5], key: &FlowKey) -> u64 {
        let pair = |a: u64, b: u64, word: u64| {
            a.wrapping_add(word & 0xffff_ffff).wrapping_mul(b.wrapping_add(word >> 32))
        };
        pair(secret[0], secret[1], key.addresses)
            .wrapping_add(pair(secret[2], secret[3], key.l4_ports))
            .wrapping_add(secret[4])
    }
}

impl fmt::Debug for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableHash(secret)")
    }
}
