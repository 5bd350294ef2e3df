//! The hash of a NIC's RSS as DPDK computes it. Not for packets: the gateway has a faster one of its own
//! ([`steering::toeplitz`]), and this is what that is held to, in tests and once at each start.

use std::net::{IpAddr, SocketAddr};

/// Words of the longest input: two IPv6 addresses and l4_ports.
const MAX_WORDS: usize = 9;

/// `rte_softrss` with a key.
#[derive(Clone, Debug)]
pub struct SoftRss {
    /// As it was given, in whole words, which must lie aligned. Zeroes behind it.
    key: Vec<u32>,
}

impl SoftRss {
    /// `key`: in the order in which a NIC takes it. What an input needs beyond its end counts as zeroes.
    pub fn new(key: &[u8]) -> Self {
        let word = |octets: &[u8]| {
            let mut word = [0; 4];
            word[..octets.len()].copy_from_slice(octets);
            u32::from_ne_bytes(word)
        };
        let mut key: Vec<u32> = key.chunks(4).map(word).collect();
        key.resize(key.len().max(MAX_WORDS + 1), 0);
        SoftRss { key }
    }

    /// Of a TCP or UDP packet; `None` where its addresses are of two families.
    pub fn hash(&self, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        let mut words = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                vec![source.to_bits(), destination.to_bits()]
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let octets = [source.octets(), destination.octets()].concat();
                let (words, _) = octets.as_chunks::<4>();
                words.iter().map(|word| u32::from_be_bytes(*word)).collect()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        words.push(u32::from(source.port()) << 16 | u32::from(destination.port()));
        // SAFETY: it reads as many words as are told, at most MAX_WORDS, in host order, and of the key one
        // more, which `new` has made it long enough for; both are aligned and live longer than the call.
        let hash = unsafe {
            dpdk_sys::rte_softrss(words.as_mut_ptr(), words.len() as u32, self.key.as_ptr().cast())
        };
        Some(hash)
    }
}
