//! From what a gateway tells of its steering to the outer source ports for each of its workers. Pure.

use std::net::IpAddr;
use std::ops::Range;

use steering::report::{PortRss, SHARD_HASH, SteeringMode, SteeringReport};
use steering::toeplitz::Toeplitz;
use thiserror::Error;

use crate::abi::{MAX_WORKERS, PORTS_PER_WORKER, SHARDS, Steering};

/// The side of a gateway that pods' packets come in at.
const TUNNEL: &str = "tunnel";

/// The range that the kernel takes outer source ports from, as it computes with it: `high` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    pub low: u16,
    pub high: u16,
}

/// One way through the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    pub node: IpAddr,
    pub gateway: IpAddr,
    pub vxlan_port: u16,
    pub source_ports: SourcePorts,
}

/// Why no ports are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoPorts {
    /// What the gateway tells contradicts itself, or is not understood here.
    #[error("{0}")]
    Wrong(String),
    /// It is as it is.
    #[error("{0}")]
    Plain(String),
}
use NoPorts::{Plain, Wrong};

impl SourcePorts {
    fn count(self) -> u32 {
        u32::from(self.high.saturating_sub(self.low))
    }

    /// The upper half of a hash, the lower half of which is 0, of which the kernel makes `port`. Of 0 it would make a hash of its own.
    fn hash_of(self, port: u16) -> u16 {
        let offset = u32::from(port - self.low);
        // Below 2^16, as the offset is below the count.
        (offset << 16).div_ceil(self.count()).max(1) as u16
    }

    fn ports(self) -> Range<u16> {
        self.low..self.high
    }
}

/// The map's value for one gateway, seen from one node.
pub fn choose(report: &SteeringReport, tunnel: &Tunnel) -> Result<Steering, NoPorts> {
    if report.mode == SteeringMode::Unknown {
        return Err(Plain("its steering is in a mode that this version does not know".to_owned()));
    }
    let (keys, worker_of) = shards(report)?;
    let mut steering = Steering { keys, worker_of, hashes: [[0; PORTS_PER_WORKER]; MAX_WORKERS] };
    let Some(side) = report.ports.iter().find(|port| port.side == TUNNEL) else {
        return Err(Wrong(format!("it tells nothing of a port {TUNNEL:?}")));
    };
    let Some(rss) = &side.rss else {
        let reason = side.reason.as_deref().unwrap_or("no reason is told");
        return Err(Plain(format!("its tunnel port has no RSS: {reason}")));
    };
    let owners = owners(rss, report)?;
    let key = octets(&rss.key)
        .ok_or_else(|| Wrong(format!("its RSS key {:?}: hex digits, two an octet", rss.key)))?;
    let toeplitz = Toeplitz::new(&key).map_err(|error| Wrong(error.to_string()))?;
    if report.workers.len() == 1 {
        return Err(Plain("it has one worker".to_owned()));
    }
    let kind = if tunnel.gateway.is_ipv4() { "ipv4-udp" } else { "ipv6-udp" };
    if !rss.types.iter().any(|name| name == kind) {
        let types = rss.types.join(" ");
        return Err(Plain(format!("its tunnel port's RSS has no {kind}, it has: {types}")));
    }
    let mut by_worker = vec![Vec::new(); report.workers.len()];
    let fixed = toeplitz.of_addresses(tunnel.node, tunnel.gateway).ok_or_else(|| {
        let Tunnel { node, gateway, .. } = tunnel;
        Plain(format!(
            "its tunnel address {gateway} and this node's, {node}, are of two address families"
        ))
    })?;
    for port in tunnel.source_ports.ports() {
        let hash = fixed ^ toeplitz.of_l4_ports(tunnel.gateway, port, tunnel.vxlan_port);
        let entry = hash as usize & (owners.len() - 1);
        by_worker[owners[entry]].push(port);
    }
    for (worker, ports) in by_worker.iter().enumerate() {
        if ports.is_empty() {
            let SourcePorts { low, high } = tunnel.source_ports;
            return Err(Plain(format!(
                "no outer source port from {low} to below {high} leads to its worker {worker}"
            )));
        }
        // Evenly over all there are; again from the first where they are few.
        let chosen = |n: usize| ports[n * ports.len() / PORTS_PER_WORKER];
        steering.hashes[worker] = std::array::from_fn(|n| tunnel.source_ports.hash_of(chosen(n)));
    }
    Ok(steering)
}

/// The shard hash's keys, and shard → worker.
fn shards(report: &SteeringReport) -> Result<([u64; 2], [u8; SHARDS]), NoPorts> {
    let shard = &report.shard;
    if shard.hash != SHARD_HASH {
        return Err(Wrong(format!(
            "its shard hash is {:?}, and this version knows {SHARD_HASH:?} only",
            shard.hash
        )));
    }
    let workers = report.workers.len();
    let ids = report.workers.iter().enumerate();
    if workers == 0 || workers > MAX_WORKERS || ids.into_iter().any(|(i, each)| each.id != i) {
        return Err(Wrong(format!("its workers: 1 to {MAX_WORKERS}, numbered from 0, are wanted")));
    }
    let Ok(map) = <&[u16; SHARDS]>::try_from(shard.map.as_slice()) else {
        let len = shard.map.len();
        return Err(Wrong(format!("its shard map has {len} entries: {SHARDS} are wanted")));
    };
    if let Some(worker) = map.iter().find(|worker| usize::from(**worker) >= workers) {
        return Err(Wrong(format!("its shard map names worker {worker}, and there are {workers}")));
    }
    let seed = octets(&shard.seed).and_then(|seed| <[u8; 16]>::try_from(seed).ok());
    let seed = seed.ok_or_else(|| {
        Wrong(format!("its shard seed {:?}: 32 hex digits are wanted", shard.seed))
    })?;
    let (low, high) = seed.split_at(8);
    let word =
        |octets: &[u8]| octets.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet));
    Ok(([word(low), word(high)], map.map(|worker| worker as u8)))
}

/// Lowest bits of the NIC's hash → worker.
fn owners(rss: &PortRss, report: &SteeringReport) -> Result<Vec<usize>, NoPorts> {
    if rss.reta.is_empty() {
        return Err(Plain("its tunnel port's driver tells no redirection table (RETA)".to_owned()));
    }
    if !rss.reta.len().is_power_of_two() {
        let len = rss.reta.len();
        return Err(Wrong(format!("its RETA has {len} entries: a power of two is wanted")));
    }
    let of_queue = |(entry, queue): (usize, &u16)| {
        let worker = report.workers.iter().find(|each| each.queue == usize::from(*queue));
        worker.map(|each| each.id).ok_or_else(|| {
            Wrong(format!("its RETA's entry {entry} names queue {queue}, which no worker polls"))
        })
    };
    rss.reta.iter().enumerate().map(of_queue).collect()
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gateway::dpdk::SoftRss;
    use steering::report::{L4PortMap, PortSteering, ShardMap, WorkerPlace};

    use super::*;

    const KEY: &str =
        "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa";

    fn report(workers: usize) -> SteeringReport {
        let rss = PortRss {
            key: KEY.to_owned(),
            reta: (0..128).map(|entry| (entry % workers) as u16).collect(),
            types: ["ipv4-udp", "ipv6-udp"].map(str::to_owned).to_vec(),
        };
        SteeringReport {
            workers: (0..workers).map(|id| WorkerPlace { id, core: id + 1, queue: id }).collect(),
            shard: ShardMap {
                seed: "000102030405060708090a0b0c0d0eff".to_owned(),
                hash: SHARD_HASH.to_owned(),
                map: (0..256).map(|shard| (shard % workers) as u16).collect(),
            },
            l4_ports: L4PortMap { residues: 1, map: vec![0] },
            ports: vec![PortSteering { side: TUNNEL.to_owned(), rss: Some(rss), reason: None }],
            mode: SteeringMode::Handoff,
            reason: String::new(),
            idle: "spin".to_owned(),
        }
    }

    fn tunnel(low: u16, high: u16) -> Tunnel {
        Tunnel {
            node: [192, 0, 2, 1].into(),
            gateway: [192, 0, 2, 10].into(),
            vxlan_port: 4790,
            source_ports: SourcePorts { low, high },
        }
    }

    /// `udp_flow_src_port` of include/net/udp.h, for a hash whose lower half is 0.
    fn port_of(hash: u16, ports: SourcePorts) -> u16 {
        let mut hash = u32::from(hash) << 16;
        hash ^= hash << 16;
        let spread = (u64::from(hash) * u64::from(ports.high - ports.low)) >> 32;
        ports.low + spread as u16
    }

    #[test]
    fn the_kernel_makes_each_port_of_its_hash() {
        for (low, high) in [(49152, 65535), (32768, 60999), (1, 65535), (0, 65535), (7, 8)] {
            let ports = SourcePorts { low, high };
            for port in ports.ports() {
                let hash = ports.hash_of(port);
                assert_ne!(hash, 0, "the kernel would make a hash of its own");
                assert_eq!(port_of(hash, ports), port, "of {low} to {high}");
            }
        }
    }

    #[test]
    fn each_worker_has_ports_that_lead_to_its_queue() {
        for workers in [2, 3, 7, 64] {
            let mut report = report(workers);
            // Queues in another order than workers.
            report.workers.iter_mut().for_each(|each| each.queue = workers - 1 - each.id);
            let tunnel = tunnel(49152, 65535);
            let steering = choose(&report, &tunnel).unwrap();
            assert_eq!(steering.keys, [0x0706_0504_0302_0100, 0xff0e_0d0c_0b0a_0908]);
            let nic = SoftRss::new(&octets(KEY).unwrap());
            for worker in 0..workers {
                let hashes = steering.hashes[worker];
                let ports: BTreeSet<u16> =
                    hashes.iter().map(|hash| port_of(*hash, tunnel.source_ports)).collect();
                assert_eq!(ports.len(), PORTS_PER_WORKER, "all differ");
                for port in ports {
                    let (from, to) = ((tunnel.node, port), (tunnel.gateway, 4790));
                    let hash = nic.hash(from.into(), to.into()).unwrap();
                    let queue = report.ports[0].rss.as_ref().unwrap().reta[hash as usize % 128];
                    assert_eq!(usize::from(queue), workers - 1 - worker);
                }
            }
            assert!(steering.hashes[workers..].as_flattened().iter().all(|hash| *hash == 0));
        }
    }

    #[test]
    fn few_ports_are_used_again_and_none_is_told() {
        let steering = choose(&report(2), &tunnel(50000, 50008)).unwrap();
        let of_first: BTreeSet<u16> = steering.hashes[0].into();
        assert!((1..8).contains(&of_first.len()), "{of_first:?}");
        let error = choose(&report(64), &tunnel(50000, 50008)).unwrap_err();
        assert!(matches!(error, Plain(_)), "{error}");
        assert!(error.to_string().starts_with("no outer source port from 50000 to below 50008"));
    }

    fn rss(report: &mut SteeringReport) -> &mut PortRss {
        report.ports[0].rss.as_mut().unwrap()
    }

    #[test]
    fn what_cannot_be_used_is_told_and_whose_fault_it_is() {
        type Change = fn(&mut SteeringReport);
        let wrong: [(Change, &str); 14] = [
            (|r| r.shard.hash = "siphash".to_owned(), "shard hash is \"siphash\""),
            (|r| r.shard.seed = "00".to_owned(), "shard seed \"00\": 32 hex digits"),
            (|r| r.shard.seed.replace_range(..1, "+"), "32 hex digits"),
            (|r| r.shard.map.truncate(255), "shard map has 255 entries: 256 are wanted"),
            (|r| r.shard.map[9] = 4, "shard map names worker 4, and there are 4"),
            (|r| r.workers.clear(), "1 to 64, numbered from 0"),
            (|r| r.workers[3].id = 4, "1 to 64, numbered from 0"),
            (|r| r.ports[0].side = "external".to_owned(), "nothing of a port \"tunnel\""),
            (|r| rss(r).key.truncate(78), "RSS key of 39 octets: 40 are needed"),
            (|r| rss(r).key = "6d5".to_owned(), "RSS key \"6d5\": hex digits"),
            (|r| rss(r).key.replace_range(..2, "xy"), "hex digits, two an octet"),
            (|r| rss(r).key = "ä".repeat(40), "hex digits, two an octet"),
            (|r| rss(r).reta.truncate(100), "RETA has 100 entries: a power of two"),
            (|r| rss(r).reta[5] = 4, "RETA's entry 5 names queue 4, which no worker polls"),
        ];
        let plain: [(Change, &str); 6] = [
            (|r| r.mode = SteeringMode::Unknown, "a mode that this version does not know"),
            (|r| *r = report(1), "it has one worker"),
            (|r| r.ports[0].rss = None, "no RSS: no reason is told"),
            (
                |r| {
                    r.ports[0].rss = None;
                    r.ports[0].reason = Some("the driver net_memif has no RSS".to_owned());
                },
                "no RSS: the driver net_memif has no RSS",
            ),
            (|r| rss(r).reta.clear(), "no redirection table (RETA)"),
            (|r| drop(rss(r).types.remove(0)), "RSS has no ipv4-udp, it has: ipv6-udp"),
        ];
        for (table, is_wrong) in [(&wrong[..], true), (&plain[..], false)] {
            for (change, reason) in table {
                let mut report = report(4);
                change(&mut report);
                let error = choose(&report, &tunnel(49152, 65535)).unwrap_err();
                assert!(error.to_string().contains(reason), "{reason:?} is not in {error}");
                assert_eq!(matches!(error, Wrong(_)), is_wrong, "{error}");
            }
        }
        let apart = Tunnel { node: "::1".parse().unwrap(), ..tunnel(49152, 65535) };
        let error = choose(&report(4), &apart).unwrap_err().to_string();
        assert!(error.contains("two address families"), "{error}");
    }
}
