//! Endpoints, the flow key and its hash, for both address families.

pub use crate::wire::{Address, parse::Protocol};
use rand_chacha::rand_core::RngCore;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// An address with its TCP or UDP l4_port, or its ICMP query id. Host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint<A = Ipv4Addr> {
    pub address: A,
    pub l4_port: u16,
}

impl<A> Endpoint<A> {
    pub const fn new(address: A, l4_port: u16) -> Self {
        Endpoint { address, l4_port }
    }
}

impl<A: Copy + Into<IpAddr>> Endpoint<A> {
    /// The same endpoint where both families meet.
    pub fn any(&self) -> Endpoint<IpAddr> {
        Endpoint { address: self.address.into(), l4_port: self.l4_port }
    }
}

/// `address:l4_port`, an IPv6 address in brackets.
impl<A: Copy + Into<IpAddr>> fmt::Display for Endpoint<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address.into(), self.l4_port).fmt(f)
    }
}

/// The pod's side (RFC 4787: X:x).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InternalEndpoint<A = Ipv4Addr>(pub Endpoint<A>);

/// What the world sees (RFC 4787: X1':x1').
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExternalEndpoint<A = Ipv4Addr>(pub Endpoint<A>);

/// The far end (RFC 4787: Y:y). The l4_port of an ICMP query is 0: the query id belongs to the
/// sender alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteEndpoint<A = Ipv4Addr>(pub Endpoint<A>);

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

    pub fn label(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
        }
    }
}

/// What a packet is looked up by. "Ours" is the internal endpoint on the way out, the external one on the
/// way in. 16 bytes for IPv4, compared as two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowKey<A: Address = Ipv4Addr>(A::Words);

const _: () = assert!(size_of::<FlowKey>() == 16);

impl<A: Address> FlowKey<A> {
    /// `tenant`: pods of two clusters may have the same address.
    #[inline(always)]
    pub fn in2out(
        tenant: u16,
        protocol: Protocol,
        internal: InternalEndpoint<A>,
        remote: RemoteEndpoint<A>,
    ) -> Self {
        Self::of(internal.0, remote.0, protocol, tenant)
    }

    /// External tuples are unique over all tenants: that is what the translation is for.
    #[inline(always)]
    pub fn out2in(
        protocol: Protocol,
        external: ExternalEndpoint<A>,
        remote: RemoteEndpoint<A>,
    ) -> Self {
        Self::of(external.0, remote.0, protocol, 0)
    }

    /// Of an in2out key: the out2in key of its session, whose external endpoint is this one.
    #[inline(always)]
    pub fn answered_at(&self, external: ExternalEndpoint<A>) -> Self {
        const REMOTE_L4_PORT_AND_PROTOCOL: u64 = 0xffff << 32 | 0xff;
        let (_, remote, l4) = A::unpack(&self.0);
        let l4_port = u64::from(external.0.l4_port) << 48;
        let l4 = l4_port | l4 & REMOTE_L4_PORT_AND_PROTOCOL;
        FlowKey(A::pack(external.0.address, remote, l4))
    }

    /// The L4 word: our l4_port, the remote one, tenant, protocol, 16 bits each.
    #[inline(always)]
    fn of(ours: Endpoint<A>, remote: Endpoint<A>, protocol: Protocol, tenant: u16) -> Self {
        let l4_ports = u64::from(ours.l4_port) << 48 | u64::from(remote.l4_port) << 32;
        let l4 = l4_ports | u64::from(tenant) << 16 | u64::from(protocol as u8);
        FlowKey(A::pack(ours.address, remote.address, l4))
    }

    /// The same on every machine, so a hash of them may be told to others.
    #[inline(always)]
    pub(crate) fn words(&self) -> &[u64] {
        self.0.as_ref()
    }

    #[inline(always)]
    pub fn protocol(&self) -> Protocol {
        match A::unpack(&self.0).2 as u8 {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => Protocol::Icmp,
        }
    }

    #[inline(always)]
    pub fn tenant(&self) -> u16 {
        (A::unpack(&self.0).2 >> 16) as u16
    }

    #[inline(always)]
    pub fn ours(&self) -> Endpoint<A> {
        let (ours, _, l4) = A::unpack(&self.0);
        Endpoint::new(ours, (l4 >> 48) as u16)
    }

    #[inline(always)]
    pub fn remote(&self) -> RemoteEndpoint<A> {
        let (_, remote, l4) = A::unpack(&self.0);
        RemoteEndpoint(Endpoint::new(remote, (l4 >> 32) as u16))
    }

    /// Of an out2in key: the key without the external l4_port, which all l4_ports of one
    /// [pool](super::l4_port) have in common.
    #[inline(always)]
    pub fn pool(&self) -> Self {
        let (ours, remote, l4) = A::unpack(&self.0);
        FlowKey(A::pack(ours, remote, l4 & (u64::MAX >> 16)))
    }

    /// 16 bits that differ between flows and stay the same for one: to spread flows over the queues
    /// of whoever receives them. Not the table's hash, which nobody outside may learn.
    #[inline(always)]
    pub fn spread(&self) -> u16 {
        let mut x = 0u64;
        for word in self.0.as_ref() {
            x = (x ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
    }
}

const TCP: u8 = Protocol::Tcp as u8;
const UDP: u8 = Protocol::Udp as u8;

/// Pairs of words in the longest key, the last word of an odd number counting as one.
const PAIRS: usize = 3;

/// The keyed hash of the session table.
///
/// Pair-multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", section 3.5) over the
/// key's 64-bit words in 128-bit arithmetic: strongly universal, so that for keys chosen without
/// knowledge of the secret two collide in any `n` bits of the result with probability 2^-n, for the
/// price of three multiplications per pair. What comes out is still linear in each word, so that a row
/// of neighbours (a scan: one pod, all l4_ports) may fall on few buckets; the finaliser of SplitMix64, a
/// bijection, scatters it. The hash never leaves the worker.
#[derive(Clone)]
pub struct TableHash {
    pairs: [(u128, u128); PAIRS],
    last: u128,
}

impl TableHash {
    pub fn new(random: &mut impl RngCore) -> Self {
        let mut draw = || u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        TableHash { pairs: std::array::from_fn(|_| (draw(), draw())), last: draw() }
    }

    /// 64 bits: the upper half chooses the bucket, the lower half the tag, independently.
    #[inline(always)]
    pub fn of<A: Address>(&self, key: &FlowKey<A>) -> u64 {
        let mut sum = self.last;
        for (words, secret) in key.0.as_ref().chunks(2).zip(&self.pairs) {
            let one = secret.0.wrapping_add(words[0].into());
            let other = secret.1.wrapping_add(words.get(1).copied().unwrap_or(0).into());
            sum = sum.wrapping_add(one.wrapping_mul(other));
        }
        scatter((sum >> 64) as u64)
    }
}

#[inline(always)]
fn scatter(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Debug for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableHash(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    fn answers_are_known_by_the_external_endpoint<A: Address>(
        (pod, egress_ip, remote): (A, A, A),
        l4_ports: [u16; 3],
        tenant: u16,
    ) {
        let external = ExternalEndpoint(Endpoint::new(egress_ip, l4_ports[1]));
        let remote = RemoteEndpoint(Endpoint::new(remote, l4_ports[2]));
        for protocol in Protocol::ALL {
            let internal = InternalEndpoint(Endpoint::new(pod, l4_ports[0]));
            let in2out = FlowKey::in2out(tenant, protocol, internal, remote);
            let out2in = FlowKey::out2in(protocol, external, remote);
            assert_eq!(in2out.answered_at(external), out2in);
            assert_eq!((out2in.ours(), out2in.remote()), (external.0, remote));
            assert_eq!((out2in.protocol(), out2in.tenant()), (protocol, 0));
        }
    }

    proptest! {
        #[test]
        fn an_answers_key_is_the_questions_with_the_external_endpoint(
            v4: [Ipv4Addr; 3],
            v6: [Ipv6Addr; 3],
            l4_ports: [u16; 3],
            tenant: u16,
        ) {
            let v4 = (v4[0], v4[1], v4[2]);
            answers_are_known_by_the_external_endpoint(v4, l4_ports, tenant);
            let v6 = (v6[0], v6[1], v6[2]);
            answers_are_known_by_the_external_endpoint(v6, l4_ports, tenant);
        }
    }
}
