//! The Toeplitz hash, by which NICs spread packets over their queues (Microsoft, "RSS hashing functions").
//!
//! Its input is the packet's source address, destination address, source l4_port and destination l4_port,
//! in the order of the wire; without the l4_ports where a NIC does not look at them, as in fragments. Each
//! bit of the input that is set adds (exclusive or) the 32 bits of the key that begin at its place. So the
//! hash is linear: the parts of an input can be hashed by themselves, and
//! `hash(tuple) = hash(tuple with l4_port 0) ^ hash(that l4_port alone)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A key, prepared: 1 KiB for each octet of the longest input.
#[derive(Clone, Debug)]
pub struct Toeplitz {
    /// By place in the input, then by the octet there.
    tables: Box<[[u32; 256]; MAX_INPUT]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an RSS key of {0} octets: {MIN_KEY} are needed")]
pub struct ShortKey(usize);

/// For two IPv6 addresses and l4_ports.
pub const MAX_INPUT: usize = 36;
/// The last bit of the input needs 32 bits of the key.
pub const MIN_KEY: usize = MAX_INPUT + 4;
/// As many entries a redirection table has at most, and as many l4_ports reach each of them once: see
/// [`Toeplitz::spreads_l4_ports`].
pub const BLOCK: u16 = 1024;

impl Toeplitz {
    pub fn new(key: &[u8]) -> Result<Self, ShortKey> {
        if key.len() < MIN_KEY {
            return Err(ShortKey(key.len()));
        }
        let table = |place: usize| {
            let window = &key[place..place + 5];
            let bits = window.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
            // The 32 bits of the key that begin at bit `n` of this octet.
            let at = |n: u32| (bits >> (8 - n)) as u32;
            std::array::from_fn(|octet| {
                let is_set = |n: &u32| octet & (0x80 >> n) != 0;
                (0..8).filter(is_set).map(at).fold(0, |hash, part| hash ^ part)
            })
        };
        Ok(Toeplitz { tables: Box::new(std::array::from_fn(table)) })
    }

    /// What `octets` at `place` of the input add to the hash.
    ///
    /// # Panics
    /// Where they end behind [`MAX_INPUT`].
    #[inline]
    pub fn part(&self, place: usize, octets: &[u8]) -> u32 {
        let tables = &self.tables[place..place + octets.len()];
        tables.iter().zip(octets).fold(0, |hash, (table, octet)| hash ^ table[usize::from(*octet)])
    }

    /// Of a packet by its addresses; `None` where they are of two families.
    #[inline]
    pub fn of_addresses(&self, source: IpAddr, destination: IpAddr) -> Option<u32> {
        Some(match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.part(0, &source.octets()) ^ self.part(4, &destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.part(0, &source.octets()) ^ self.part(16, &destination.octets())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        })
    }

    /// What the l4_ports of a packet between addresses of `family` add to [`Self::of_addresses`].
    #[inline]
    pub fn of_l4_ports(&self, family: IpAddr, source: u16, destination: u16) -> u32 {
        let place = if family.is_ipv4() { 8 } else { 32 };
        self.part(place, &source.to_be_bytes()) ^ self.part(place + 2, &destination.to_be_bytes())
    }

    /// Whether the lowest bits of a packet's destination l4_port alone can make any of its hash's lowest bits,
    /// so that each [`BLOCK`] of l4_ports that begins at a multiple of it reaches every entry of a redirection
    /// table equally often. Of both families; one key of four can.
    pub fn spreads_l4_ports(&self) -> bool {
        let families = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        families.into_iter().all(|family| {
            let mut is_reached = [false; BLOCK as usize];
            for l4_port in 0..BLOCK {
                is_reached[usize::from(self.of_l4_ports(family, 0, l4_port) as u16 % BLOCK)] = true;
            }
            is_reached.iter().all(|is_reached| *is_reached)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microsoft's key, and its table "Verifying the RSS hash calculation".
    const KEY: &str =
        "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa";

    fn key() -> Vec<u8> {
        (0..KEY.len()).step_by(2).map(|i| u8::from_str_radix(&KEY[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn microsofts_vectors() {
        let toeplitz = Toeplitz::new(&key()).unwrap();
        for (source, destination, addresses, with_l4_ports) in [
            (("66.9.149.187", 2794), ("161.142.100.80", 1766), 0x323e_8fc2, 0x51cc_c178),
            (("199.92.111.2", 14230), ("65.69.140.83", 4739), 0xd718_262a, 0xc626_b0ea),
            (("24.19.198.95", 12898), ("12.22.207.184", 38024), 0xd2d0_a5de, 0x5c2b_394a),
            (("38.27.205.30", 48228), ("209.142.163.6", 2217), 0x8298_9176, 0xafc7_327f),
            (("153.39.163.191", 44251), ("202.188.127.2", 1303), 0x5d18_09c5, 0x10e8_28a2),
            (
                ("3ffe:2501:200:1fff::7", 2794),
                ("3ffe:2501:200:3::1", 1766),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                ("3ffe:501:8::260:97ff:fe40:efab", 14230),
                ("ff02::1", 4739),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                ("fe80::200:f8ff:fe21:67cf", 38024),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let (from, to): (IpAddr, IpAddr) =
                (source.0.parse().unwrap(), destination.0.parse().unwrap());
            let hash = toeplitz.of_addresses(from, to).unwrap();
            assert_eq!(hash, addresses, "{from} → {to}");
            let hash = hash ^ toeplitz.of_l4_ports(from, source.1, destination.1);
            assert_eq!(hash, with_l4_ports, "{from}:{} → {to}:{}", source.1, destination.1);
        }
    }

    #[test]
    fn few_keys_spread_l4_ports_evenly() {
        let spreads = |key: &[u8]| Toeplitz::new(key).unwrap().spreads_l4_ports();
        for degenerate in [[0; 40], [0xff; 40], [0x55; 40]] {
            assert!(!spreads(&degenerate));
        }
        // Of the l4_port's bit n, the hash's lowest bits are the key's from n + 22 on: with one bit of the key
        // where both ends meet, bit n of the l4_port is one bit of the hash, each its own.
        let mut mirror = [0; 40];
        for end_of_input in [12, 36] {
            let bit = end_of_input * 8 - 10 + 31;
            mirror[bit / 8] = 0x80 >> (bit % 8);
        }
        assert!(spreads(&mirror));
        // For one family is not enough.
        mirror[38] = 0;
        mirror[39] = 0;
        assert!(!spreads(&mirror));
    }

    #[test]
    fn needs_a_long_key_and_one_family() {
        assert_eq!(Toeplitz::new(&[1; 39]).unwrap_err(), ShortKey(39));
        let toeplitz = Toeplitz::new(&[1; 52]).unwrap();
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(toeplitz.of_addresses(v4, v6), None);
        assert_eq!(toeplitz.of_addresses(v6, v4), None);
    }
}
