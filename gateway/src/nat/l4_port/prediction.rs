//! What a NIC's RSS will make of a packet from the world, and so which l4_port brings it to which queue.
//!
//! The Toeplitz hash is linear: `hash(packet) = hash(packet to l4_port 0) ^ hash(l4_port alone)`. The first
//! part is the same for a whole pool. Of the second the lowest ten bits are wanted, for a redirection table has
//! 1024 entries at most; and a key fits where the lowest ten bits of the l4_port reach all 1024 values of
//! them. Then each block of 1024 l4_ports has one for every value, which a table of 1024 entries finds:
//!
//! ```text
//! name     = block of the l4_port, and instead of its lowest ten bits those of the packet's hash
//! l4_port  = block of the name,    and instead of its lowest ten bits inverse[bits ^ pool's part ^ block's part]
//! ```
//!
//! A [name](Predicted) is a number as an l4_port is: above 1023, each once. So an [`L4PortShare`] of names, by
//! their residues, is the l4_ports whose packets the NIC brings to one queue, for every pool alike.
//!
//! [`L4PortShare`]: super::L4PortShare

use super::share::MAX_MODULUS;
use crate::{
    nat::flow::{Address, FlowKey, Protocol},
    wire::{Both, Each},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use steering::toeplitz::{BLOCK, ShortKey, Toeplitz};

const _: () = assert!(BLOCK == MAX_MODULUS, "a share tells as many names apart");
const LOWER: u16 = MAX_MODULUS - 1;
const BLOCKS: usize = 1 << (u16::BITS - MAX_MODULUS.trailing_zeros());

/// What cannot be foretold by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    #[error(transparent)]
    Short(#[from] ShortKey),
    #[error("the RSS key does not spread 1024 neighbouring l4_ports over all of 1024 values")]
    Uneven,
}

/// The RSS of a NIC by its key.
#[derive(Debug)]
pub struct Prediction {
    toeplitz: Toeplitz,
    parts: Each<Parts>,
}

/// What an external l4_port adds to the lowest bits of the hash.
#[derive(Debug)]
struct Parts {
    /// By the l4_port's lowest bits.
    of_lower: [u16; MAX_MODULUS as usize],
    /// By what they add: the lowest bits.
    inverse: [u16; MAX_MODULUS as usize],
    of_block: [u16; BLOCKS],
}

impl Parts {
    /// Of a key that spreads l4_ports.
    fn new(toeplitz: &Toeplitz, family: IpAddr) -> Self {
        let hash = |l4_port: usize| toeplitz.of_l4_ports(family, 0, l4_port as u16) as u16 & LOWER;
        let of_lower = std::array::from_fn(hash);
        let mut inverse = [0; MAX_MODULUS as usize];
        for (l4_port, hash) in (0..).zip(of_lower) {
            inverse[usize::from(hash)] = l4_port;
        }
        let of_block = std::array::from_fn(|block| hash(block * usize::from(MAX_MODULUS)));
        Parts { of_lower, inverse, of_block }
    }
}

impl Prediction {
    /// `key`: as the NIC has it.
    pub fn new(key: &[u8]) -> Result<Self, UnfitKey> {
        let toeplitz = Toeplitz::new(key)?;
        if !toeplitz.spreads_l4_ports() {
            return Err(UnfitKey::Uneven);
        }
        let parts = Both {
            v4: Parts::new(&toeplitz, Ipv4Addr::UNSPECIFIED.into()),
            v6: Parts::new(&toeplitz, Ipv6Addr::UNSPECIFIED.into()),
        };
        Ok(Prediction { toeplitz, parts })
    }

    /// By what a packet from the world is steered, of its out2in key: the hash, as far as the lowest ten bits
    /// are meant; the query id of ICMP, whose l4_ports no NIC sees.
    #[inline]
    pub fn residue<A: Address>(&self, key: &FlowKey<A>) -> u16 {
        match key.protocol() {
            Protocol::Tcp | Protocol::Udp => self.hash(key) as u16,
            Protocol::Icmp => key.ours().l4_port,
        }
    }

    /// How the l4_ports of a pool are named; `None` where an l4_port is its own name.
    pub(super) fn of_pool<A: Address>(&self, pool: &FlowKey<A>) -> Option<Predicted<'_>> {
        match pool.protocol() {
            Protocol::Tcp | Protocol::Udp => {
                Some(Predicted { parts: self.parts.of::<A>(), base: self.hash(pool) as u16 })
            }
            Protocol::Icmp => None,
        }
    }

    /// Of a packet from the world with this out2in key.
    #[inline]
    fn hash<A: Address>(&self, key: &FlowKey<A>) -> u32 {
        let (external, remote) = (key.ours(), key.remote().0);
        let (source, destination) = (remote.address.into(), external.address.into());
        // Both are of family A.
        let addresses = self.toeplitz.of_addresses(source, destination).unwrap_or_default();
        addresses ^ self.toeplitz.of_l4_ports(source, remote.l4_port, external.l4_port)
    }
}

/// The names of a pool's l4_ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predicted<'a> {
    parts: &'a Parts,
    /// What all of the pool have in common.
    base: u16,
}

impl Predicted<'_> {
    #[inline]
    pub(super) fn l4_port(&self, name: u16) -> u16 {
        let (block, hash) = (name & !LOWER, name ^ self.of_block(name));
        block | self.parts.inverse[usize::from(hash & LOWER)]
    }

    #[inline]
    pub(super) fn name(&self, l4_port: u16) -> u16 {
        let block = l4_port & !LOWER;
        let hash = self.parts.of_lower[usize::from(l4_port & LOWER)] ^ self.of_block(l4_port);
        block | hash & LOWER
    }

    #[inline]
    fn of_block(&self, number: u16) -> u16 {
        self.base ^ self.parts.of_block[usize::from(number / MAX_MODULUS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::flow::{Endpoint, ExternalEndpoint, RemoteEndpoint};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn key<A: Address>(protocol: Protocol, ours: (A, u16), remote: (A, u16)) -> FlowKey<A> {
        let external = ExternalEndpoint(Endpoint::new(ours.0, ours.1));
        FlowKey::out2in(protocol, external, RemoteEndpoint(Endpoint::new(remote.0, remote.1)))
    }

    /// Bit by bit, as Microsoft describes it: a window of 32 bits of the key moves along the input.
    fn naive(rss_key: &[u8; 40], input: &[u8]) -> u32 {
        let bit = |of: &[u8], n: usize| of[n / 8] >> (7 - n % 8) & 1;
        let window = |n: usize| (n..n + 32).fold(0, |w, i| w << 1 | u32::from(bit(rss_key, i)));
        (0..input.len() * 8).filter(|n| bit(input, *n) == 1).fold(0, |hash, n| hash ^ window(n))
    }

    fn check<A: Address, const N: usize>(
        rss_key: &[u8; 40],
        (ours, remote): (A, (A, u16)),
        octets: impl Fn(A) -> [u8; N],
    ) {
        let Ok(prediction) = Prediction::new(rss_key) else { return };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let predicted = prediction.of_pool(&key(protocol, (ours, 0), remote)).unwrap();
            for l4_port in 0..=u16::MAX {
                let name = predicted.name(l4_port);
                assert_eq!(predicted.l4_port(name), l4_port);
                assert_eq!(name / 1024, l4_port / 1024);
                let of = key(protocol, (ours, l4_port), remote);
                assert_eq!(prediction.residue(&of) % 1024, name % 1024);
                if l4_port % 97 == 0 {
                    let l4_ports = [remote.1, l4_port].map(u16::to_be_bytes).concat();
                    let input = [&octets(remote.0)[..], &octets(ours), &l4_ports].concat();
                    assert_eq!(u32::from(name) % 1024, naive(rss_key, &input) % 1024);
                }
            }
        }
        let echo = key(Protocol::Icmp, (ours, 4711), (remote.0, 0));
        assert_eq!(prediction.residue(&echo), 4711);
        assert!(prediction.of_pool(&echo.pool()).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_key_fits_when_1024_l4_ports_have_as_many_hashes(rss_key in prop::array::uniform(any::<u8>())) {
            let spread = |place: usize| {
                let hash = |l4_port: u16| naive(&rss_key, &[&vec![0; place], &l4_port.to_be_bytes()[..]].concat());
                (0..1024).map(|l4_port| hash(l4_port) % 1024).collect::<HashSet<_>>().len() == 1024
            };
            prop_assert_eq!(Prediction::new(&rss_key).is_ok(), spread(10) && spread(34));
        }

        #[test]
        fn a_name_is_the_block_and_the_hash(
            rss_key in prop::array::uniform(any::<u8>()),
            (ours, remote) in any::<(u128, u128)>(),
            remote_l4_port in any::<u16>(),
        ) {
            let v4 = |number: u128| Ipv4Addr::from(number as u32);
            let v6 = |number: u128| Ipv6Addr::from(number);
            check(&rss_key, (v4(ours), (v4(remote), remote_l4_port)), |a| a.octets());
            check(&rss_key, (v6(ours), (v6(remote), remote_l4_port)), |a| a.octets());
        }
    }

    #[test]
    fn a_key_that_is_short_or_reaches_too_little_does_not_fit() {
        let error = Prediction::new(&[7; 39]).unwrap_err();
        assert_eq!(error.to_string(), "an RSS key of 39 octets: 40 are needed");
        for degenerate in [[0; 40], [0xff; 40], [0x55; 40]] {
            assert_eq!(Prediction::new(&degenerate).unwrap_err(), UnfitKey::Uneven);
        }
    }
}
