//! Which egress IP a pod gets: highest-random-weight hashing.
//!
//! The answer depends on the pod's address and the pool alone, so all sessions of a pod have the same
//! egress IP (paired pooling, RFC 4787 REQ-2), on every worker and gateway, after every restart; and
//! when the pool changes only the pods of the changed addresses move.

use crate::wire::Address;

/// The egress IP of `pod` out of `pool`; `None` when the pool is empty.
pub(super) fn choose<A: Address>(pod: A, pool: &[A]) -> Option<A> {
    pool.iter().copied().max_by_key(|egress_ip| (weight(pod, *egress_ip), *egress_ip))
}

/// A bijective mix (the finaliser of SplitMix64) of the pair, each address folded to 64 bits.
/// Of equal weights the higher address wins.
fn weight<A: Address>(pod: A, egress_ip: A) -> u64 {
    let fold = |address: A| {
        let number = address.number();
        (number ^ (number >> 64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) as u64
    };
    let mut x = fold(pod).rotate_left(32) ^ fold(egress_ip);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn pod(n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0af4_0000 + n)
    }

    fn pool(n: u8) -> Vec<Ipv4Addr> {
        (0..n).map(|i| Ipv4Addr::new(203, 0, 113, 16 + i)).collect()
    }

    #[test]
    fn spreads_pods_evenly() {
        let pool = pool(8);
        for egress_ip in &pool {
            let pods = (0..8000).filter(|n| choose(pod(*n), &pool) == Some(*egress_ip)).count();
            assert!((850..1150).contains(&pods), "{egress_ip} has {pods} of 8000 pods");
        }
    }

    #[test]
    fn a_smaller_pool_moves_only_the_pods_of_the_removed_address() {
        let (large, small) = (pool(8), pool(7));
        for n in 0..2000 {
            let before = choose(pod(n), &large);
            if before != large.last().copied() {
                assert_eq!(choose(pod(n), &small), before);
            }
        }
        assert_eq!(choose(pod(1), &[]), None);
    }

    #[test]
    fn spreads_pods_of_ipv6_evenly_over_neighbouring_addresses() {
        let address = |net: u128, n: u128| Ipv6Addr::from_bits(net << 64 | n);
        let pool: Vec<_> = (0x10..0x18).map(|n| address(0x2001_0db8_0113_0000, n)).collect();
        for egress_ip in &pool {
            let chosen =
                |n: &u128| choose(address(0xfd00_0244 << 32, *n), &pool) == Some(*egress_ip);
            let pods = (0..8000).filter(chosen).count();
            assert!((850..1150).contains(&pods), "{egress_ip} has {pods} of 8000 pods");
        }
    }
}
