//! The flows of a world: the same in every run.

use super::NODES;
use gateway::nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint};
use std::net::Ipv4Addr;

/// One flow as its pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(super) pod: Ipv4Addr,
    pub(super) sport: u16,
    pub(super) remote: Ipv4Addr,
    pub(super) dport: u16,
}

/// SplitMix64: the same flows in every run.
pub(crate) fn mix(i: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Flow {
    pub(crate) fn number(i: u32) -> Self {
        let (pod, random) = (i / 64, mix(u64::from(i)));
        Flow {
            pod: Ipv4Addr::from_bits(0x0a00_0001 + pod),
            sport: (1024 + i % 64 * 1000 + (random % 1000) as u32) as u16,
            remote: Ipv4Addr::from_bits(0xc612_0000 | (random >> 32) as u32 & 0x1_ffff),
            dport: 443,
        }
    }

    pub(super) fn node(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(0xc000_0201 + self.pod.to_bits() % NODES)
    }

    pub(crate) fn key(&self) -> FlowKey {
        let internal = InternalEndpoint(Endpoint::new(self.pod, self.sport));
        let remote = RemoteEndpoint(Endpoint::new(self.remote, self.dport));
        FlowKey::in2out(0, Protocol::Udp, internal, remote)
    }

    /// The key in 16 bytes, for tables of others.
    pub(crate) fn key_bytes(&self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&self.pod.octets());
        key[4..8].copy_from_slice(&self.remote.octets());
        key[8..10].copy_from_slice(&self.sport.to_be_bytes());
        key[10..12].copy_from_slice(&self.dport.to_be_bytes());
        key[12] = 17;
        key
    }

    /// Flows whose keys collide in the hash that others use for such tables: equal in twelve bits of
    /// the CRC-32C of the key. Whoever knows the hash can build such a set.
    pub(crate) fn colliding(wanted: usize) -> Vec<Flow> {
        let table: [u32; 256] = std::array::from_fn(|i| {
            (0..8).fold(i as u32, |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
        });
        let crc = |key: [u8; 16]| {
            let step =
                |crc: u32, byte: u8| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ crc >> 8;
            key.into_iter().fold(!0, step)
        };
        (0..).map(Flow::number).filter(|f| crc(f.key_bytes()) & 0xfff == 0).take(wanted).collect()
    }
}

/// What the flows of a world are.
#[derive(Debug)]
pub(crate) enum Flows {
    Numbered(u32),
    List(Vec<Flow>),
}

impl Flows {
    pub(crate) fn len(&self) -> u32 {
        match self {
            Flows::Numbered(n) => *n,
            Flows::List(list) => list.len() as u32,
        }
    }

    pub(crate) fn get(&self, i: u32) -> Flow {
        match self {
            Flows::Numbered(_) => Flow::number(i),
            Flows::List(list) => list[i as usize],
        }
    }
}
