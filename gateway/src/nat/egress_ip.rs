//! Which egress IP a pod gets: highest-random-weight hashing.
//!
//! The answer depends on the pod's address and the pool alone, so all sessions of a pod have the same
//! egress IP (paired pooling, RFC 4787 REQ-2), on every worker and gateway, after every restart; and
//! when the pool changes only the pods of the changed addresses move.

use std::net::Ipv4Addr;

/// The egress IP of `pod` out of `pool`; `None` when the pool is empty.
pub(super) fn choose(pod: Ipv4Addr, pool: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    pool.iter().copied().max_by_key(|egress_ip| (weight(pod, *egress_ip), *egress_ip))
}

/// A bijective mix of the pair (the finaliser of SplitMix64), so equal weights cannot occur for one pod.
fn weight(pod: Ipv4Addr, egress_ip: Ipv4Addr) -> u64 {
    let mut x = u64::from(pod.to_bits()) << 32 | u64::from(egress_ip.to_bits());
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
