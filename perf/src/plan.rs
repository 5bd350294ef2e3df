//! Addresses and flows: what the generator sends, and what each system under test is configured for.
//!
//! | who | addresses |
//! |---|---|
//! | nodes | 192.0.2.1 … .64/24, the VTEPs; the generator answers ARP for them |
//! | the system's tunnel port | 192.0.2.200/24, VXLAN port 4790, VNI 4711 |
//! | the system's external port | 203.0.113.2/24 |
//! | router | 203.0.113.1, next hop of everything else; the generator answers ARP for it |
//! | egress IPs | 203.0.113.16 … .31 |
//! | pods | 10.0.0.1 and up, 64 flows each |
//! | remote endpoints | 198.18.0.0/15 (RFC 2544), l4_port 443 |

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

pub const TUNNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// First and last.
pub const EGRESS_IPS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(203, 0, 113, 16), Ipv4Addr::new(203, 0, 113, 31)];
pub const MAX_NODES: u32 = 64;
pub const POLICY: u32 = 4711;
pub const VXLAN_PORT: u16 = 4790;
pub const REMOTE_L4_PORT: u16 = 443;
/// The pods' prefix, and the remotes'.
pub const PODS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 0, 0), 8);
pub const REMOTES: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// Destination of the frames in the tunnel that come to the system; some take no other.
pub const INNER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x07, 0x07];

const FLOWS_PER_POD: u32 = 64;

/// One UDP flow as its pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub pod: Ipv4Addr,
    pub l4_port: u16,
    pub remote: Ipv4Addr,
}

impl Flow {
    /// The `number`-th of all flows; the same in every run. All are different below 1,000 million.
    pub fn number(number: u32) -> Self {
        let (pod, random) = (number / FLOWS_PER_POD, mix(u64::from(number)));
        let l4_port = 1024 + number % FLOWS_PER_POD * 1000 + (random % 1000) as u32;
        Flow {
            pod: Ipv4Addr::from_bits(PODS.0.to_bits() + 1 + pod),
            l4_port: l4_port as u16,
            remote: Ipv4Addr::from_bits(REMOTES.0.to_bits() | (random >> 32) as u32 & 0x1_ffff),
        }
    }

    /// The VTEP of the pod's node, of `nodes` nodes.
    pub fn node(&self, nodes: u32) -> Ipv4Addr {
        node(self.pod.to_bits() % nodes)
    }
}

/// The VTEP of the `number`-th node, from 0.
pub fn node(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(TUNNEL.to_bits() & 0xffff_ff00 | (1 + number))
}

/// SplitMix64.
fn mix(i: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
