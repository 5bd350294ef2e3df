//! How many l4_ports are in use: of each egress IP, and of the fullest pool. Written by the worker when a
//! session begins or ends, read by metrics.

use crate::{nat::flow::FlowKey, wire::Address};
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Pools share so many counters: with a million sessions to as many remotes, 61 of them in each.
const POOLS: usize = 16_384;
/// More egress IPs than a gateway is made for, at a load below one half.
const PLACES: usize = 8192;
/// How far from its home an egress IP may be.
const STEPS: usize = 32;

/// Fixed tables with a single writer.
#[derive(Debug)]
pub struct L4PortUsage {
    /// l4_ports in use, by a hash of the pool that is the same for every worker.
    pools: Box<[AtomicU32]>,
    /// One for each egress IP that ever had a session.
    egress_ips: Box<[EgressIp]>,
    /// Of egress IPs that found no place.
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct EgressIp {
    /// The address is written before this is set, and never again.
    is_known: AtomicBool,
    /// As a number, its halves; IPv4 mapped into IPv6.
    address: [AtomicU64; 2],
    in_use: AtomicU64,
}

impl L4PortUsage {
    /// A session of this out2in key began.
    pub(in crate::nat) fn took<A: Address>(&self, key: &FlowKey<A>) {
        let pool = self.pool(key);
        pool.store(pool.load(Relaxed) + 1, Relaxed);
        let egress_ip = self.egress_ip(key.ours().address);
        egress_ip.store(egress_ip.load(Relaxed) + 1, Relaxed);
    }

    /// It ended.
    pub(in crate::nat) fn gave_back<A: Address>(&self, key: &FlowKey<A>) {
        let pool = self.pool(key);
        pool.store(pool.load(Relaxed).saturating_sub(1), Relaxed);
        let egress_ip = self.egress_ip(key.ours().address);
        egress_ip.store(egress_ip.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Sessions of each egress IP that ever had one: as many of its l4_ports are in use, each towards one
    /// remote endpoint.
    pub fn egress_ips(&self) -> impl Iterator<Item = (IpAddr, u64)> + '_ {
        let known = self.egress_ips.iter().filter(|place| place.is_known.load(Acquire));
        known.map(|place| (place.ip(), place.in_use.load(Relaxed)))
    }

    /// Those of egress IPs that found no place.
    pub fn others(&self) -> u64 {
        self.others.load(Relaxed)
    }

    /// l4_ports in use of the fullest pool, all workers together: never too few, and too many by what
    /// other pools of the same counter have.
    pub fn fullest_pool<'a>(workers: impl Iterator<Item = &'a Self> + Clone) -> u64 {
        let of_all = |pool: usize| -> u64 {
            workers.clone().map(|worker| u64::from(worker.pools[pool].load(Relaxed))).sum()
        };
        (0..POOLS).map(of_all).max().unwrap_or_default()
    }

    fn pool<A: Address>(&self, key: &FlowKey<A>) -> &AtomicU32 {
        &self.pools[usize::from(key.pool().spread()) % POOLS]
    }

    fn egress_ip<A: Address>(&self, address: A) -> &AtomicU64 {
        let number = match address.into() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let number = u128::from(number);
        let halves = [(number >> 64) as u64, number as u64];
        let mixed = (halves[0] ^ halves[1].rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let home = (mixed >> 32) as usize;
        for step in 0..STEPS {
            let place = &self.egress_ips[(home + step) % PLACES];
            if !place.is_known.load(Relaxed) {
                for (half, value) in place.address.iter().zip(halves) {
                    half.store(value, Relaxed);
                }
                place.is_known.store(true, Release);
                return &place.in_use;
            }
            if place.halves() == halves {
                return &place.in_use;
            }
        }
        &self.others
    }
}

impl EgressIp {
    fn halves(&self) -> [u64; 2] {
        self.address.each_ref().map(|half| half.load(Relaxed))
    }

    fn ip(&self) -> IpAddr {
        let [high, low] = self.halves();
        IpAddr::V6(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low))).to_canonical()
    }
}

impl Default for L4PortUsage {
    fn default() -> Self {
        L4PortUsage {
            pools: std::iter::repeat_with(AtomicU32::default).take(POOLS).collect(),
            egress_ips: std::iter::repeat_with(EgressIp::default).take(PLACES).collect(),
            others: AtomicU64::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::flow::{Endpoint, ExternalEndpoint, Protocol, RemoteEndpoint};
    use std::{collections::BTreeMap, iter, net::Ipv4Addr};

    fn key<A: Address>(egress_ip: A, l4_port: u16, remote: A) -> FlowKey<A> {
        let external = ExternalEndpoint(Endpoint::new(egress_ip, l4_port));
        FlowKey::out2in(Protocol::Udp, external, RemoteEndpoint(Endpoint::new(remote, 53)))
    }

    #[test]
    fn the_fullest_pool_of_all_workers_is_told_exactly_while_pools_are_few() {
        let workers = [L4PortUsage::default(), L4PortUsage::default()];
        let fullest = || L4PortUsage::fullest_pool(workers.iter());
        assert_eq!(fullest(), 0);
        let (ip, v6) =
            (Ipv4Addr::new(203, 0, 113, 16), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        let (busy, quiet) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2));
        for l4_port in 0..1000 {
            workers[usize::from(l4_port % 2)].took(&key(ip, l4_port, busy));
        }
        for l4_port in 0..400 {
            workers[0].took(&key(ip, l4_port, quiet));
            workers[1].took(&key(v6, l4_port, v6));
        }
        assert_eq!(fullest(), 1000);
        let told: [BTreeMap<IpAddr, u64>; 2] = workers.each_ref().map(|w| w.egress_ips().collect());
        assert_eq!(told[0], BTreeMap::from([(ip.into(), 900)]));
        assert_eq!(told[1], BTreeMap::from([(ip.into(), 500), (v6.into(), 400)]));
        for l4_port in 0..700 {
            workers[usize::from(l4_port % 2)].gave_back(&key(ip, l4_port, busy));
        }
        assert_eq!(fullest(), 400);
        assert!(told.iter().all(|told| !told.contains_key(&Ipv4Addr::UNSPECIFIED.into())));
    }

    /// What the module promises of a full table.
    #[test]
    fn a_million_sessions_to_as_many_remotes_add_little() {
        let worker = L4PortUsage::default();
        let ip = Ipv4Addr::new(203, 0, 113, 16);
        for remote in 0..1_000_000 {
            worker.took(&key(ip, 1024, Ipv4Addr::from(0x0800_0000 + remote)));
        }
        let noise = L4PortUsage::fullest_pool(iter::once(&worker));
        assert!((61..=200).contains(&noise), "{noise}");
    }

    #[test]
    fn egress_ips_beyond_its_room_are_counted_together() {
        let worker = L4PortUsage::default();
        let remote = Ipv4Addr::new(198, 51, 100, 1);
        let total = 3 * PLACES as u32;
        for ip in 0..total {
            worker.took(&key(Ipv4Addr::from(0xcb00_0000 + ip), 1024, remote));
        }
        let (places, known): (usize, u64) =
            worker.egress_ips().fold((0, 0), |sum, (_, in_use)| (sum.0 + 1, sum.1 + in_use));
        assert!(places > PLACES / 2, "{places}");
        assert_eq!(known + worker.others(), u64::from(total));
    }
}
