//! The owner of each kind of packet, row by row of the table in `datapath::steering`; the hash that is
//! published; and how evenly workers are loaded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use gateway::{
    datapath::steering::{
        Embedded, InvalidSeed, MAX_WORKERS, SHARDS, ShardSeed, Steering, Unpredictable,
    },
    nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, flow::Address},
};
use std::{
    array,
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const SEED: ShardSeed = ShardSeed([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

fn steering(workers: usize) -> Steering {
    Steering::new(SEED, workers).unwrap()
}

fn every_number_of_workers() -> impl Iterator<Item = Steering> {
    (1..=MAX_WORKERS).map(steering)
}

fn key<A: Address>(tenant: u16, protocol: Protocol, pod: (A, u16), remote: (A, u16)) -> FlowKey<A> {
    let internal = InternalEndpoint(Endpoint::new(pod.0, pod.1));
    let remote = RemoteEndpoint(Endpoint::new(remote.0, remote.1));
    FlowKey::in2out(tenant, protocol, internal, remote)
}

type Flow = (&'static str, u16, &'static str, u16, u16, Protocol);

fn of_in2out(steering: &Steering, flow: Flow) -> usize {
    let (pod, l4_port, remote, remote_l4_port, tenant, protocol) = flow;
    match (pod.parse().unwrap(), remote.parse().unwrap()) {
        (IpAddr::V4(pod), IpAddr::V4(remote)) => {
            steering.of_in2out(&key(tenant, protocol, (pod, l4_port), (remote, remote_l4_port)))
        }
        (IpAddr::V6(pod), IpAddr::V6(remote)) => {
            steering.of_in2out(&key(tenant, protocol, (pod, l4_port), (remote, remote_l4_port)))
        }
        _ => panic!("{flow:?}: two families"),
    }
}

/// The shards were computed by another program, from the words in the module's head. Together all numbers
/// of workers tell a wrong shard from the right one.
#[test]
fn the_published_hash_is_what_another_program_computes() {
    use Protocol::{Icmp, Tcp, Udp};
    let flows: [(Flow, usize); 9] = [
        (("10.244.1.10", 40_000, "198.51.100.10", 443, 0, Tcp), 36),
        (("10.244.1.10", 40_001, "198.51.100.10", 443, 0, Tcp), 107),
        (("10.244.1.10", 53_124, "198.51.100.10", 53, 7, Udp), 71),
        (("10.244.1.11", 4711, "198.51.100.10", 0, 0, Icmp), 89),
        (("10.244.1.10", 40_000, "0.0.0.0", 0, 0, Tcp), 55),
        (("fd00:244:1::a", 40_000, "2001:db8:100::10", 443, 0, Tcp), 61),
        (("fd00:244:1::a", 53_124, "2001:db8:100::10", 53, 65_535, Udp), 153),
        (("fd00:244:1::b", 4711, "2001:db8:100::10", 0, 0, Icmp), 5),
        (("fd00:244:1::a", 40_000, "::", 0, 0, Tcp), 196),
    ];
    let (pod, remote) = (Ipv4Addr::new(10, 244, 1, 10), Ipv4Addr::new(198, 51, 100, 10));
    let pod6 = Ipv6Addr::new(0xfd00, 0x244, 1, 0, 0, 0, 0, 10);
    let remote6 = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 16);
    for steering in every_number_of_workers() {
        let owner = |shard: usize| usize::from(steering.shard_map()[shard]);
        for (flow, shard) in flows {
            assert_eq!(of_in2out(&steering, flow), owner(shard), "{flow:?}");
        }
        assert_eq!(steering.of_fragment(pod, remote, 17, 0xbeef), owner(181));
        assert_eq!(steering.of_fragment(pod6, remote6, 58, 0xdead_beef), owner(149));
    }
}

#[test]
fn every_flow_has_one_of_the_workers_and_every_worker_has_flows() {
    for steering in every_number_of_workers() {
        let owners = |of: &dyn Fn(u16) -> usize| (0..4096).map(of).collect::<HashSet<_>>();
        let all: HashSet<usize> = (0..steering.workers()).collect();
        let flow = |l4_port| ("10.244.1.10", l4_port, "198.51.100.10", 443, 0, Protocol::Tcp);
        assert_eq!(owners(&|i| of_in2out(&steering, flow(i))), all);
        assert_eq!(owners(&|i| steering.of_residue(i)), all);
        let (pod, remote) = (Ipv4Addr::new(10, 244, 1, 10), Ipv4Addr::new(198, 51, 100, 10));
        assert_eq!(owners(&|i| steering.of_fragment(pod, remote, 17, i.into())), all);
    }
}

/// Each part of the key alone moves flows to other workers.
#[test]
fn in2out_looks_at_the_whole_key() {
    type Keys = fn(u16) -> FlowKey;
    let steering = steering(64);
    let base = |i: u16| key(0, Protocol::Tcp, (v4(0), i), (v4(0x1000), 443));
    let others: [(&str, Keys); 6] = [
        ("pod", |i| key(0, Protocol::Tcp, (v4(1), i), (v4(0x1000), 443))),
        ("l4_port", |i| key(0, Protocol::Tcp, (v4(0), i + 1), (v4(0x1000), 443))),
        ("remote", |i| key(0, Protocol::Tcp, (v4(0), i), (v4(0x1001), 443))),
        ("remote l4_port", |i| key(0, Protocol::Tcp, (v4(0), i), (v4(0x1000), 444))),
        ("tenant", |i| key(1, Protocol::Tcp, (v4(0), i), (v4(0x1000), 443))),
        ("protocol", |i| key(0, Protocol::Udp, (v4(0), i), (v4(0x1000), 443))),
    ];
    for (part, other) in others {
        let moved = |i: &u16| steering.of_in2out(&base(*i)) != steering.of_in2out(&other(*i));
        let moved = (0..1000).filter(moved).count();
        assert!(moved > 900, "{part}: {moved} of 1000 flows moved");
    }
}

#[test]
fn a_mapping_has_one_owner_whatever_the_remote() {
    let steering = steering(64);
    let owner = |l4_port, remote, remote_l4_port| {
        let pod = (v4(0), l4_port);
        steering.of_mapping(&key(3, Protocol::Udp, pod, (v4(remote), remote_l4_port)))
    };
    for l4_port in 0..1000 {
        let pod = (v4(0), l4_port);
        let anyone = key(3, Protocol::Udp, pod, (Ipv4Addr::UNSPECIFIED, 0));
        assert_eq!(owner(l4_port, 0x1000, 53), steering.of_in2out(&anyone));
        assert_eq!(owner(l4_port, 0x1000, 53), owner(l4_port, 0x2000, 3478));
    }
    assert_eq!((0..1000).map(|i| owner(i, 1, 1)).collect::<HashSet<_>>().len(), 64);
}

/// Round the loop: whatever l4_port the owner of a flow takes from its share, the answers come to it.
#[test]
fn what_comes_back_to_a_shares_l4_port_comes_to_its_worker() {
    for steering in every_number_of_workers() {
        for worker in 0..steering.workers() {
            let share = steering.share(worker);
            assert!(!share.is_empty());
            for index in 0..share.len() {
                assert_eq!(steering.of_residue(share.nth(index).unwrap()), worker);
            }
        }
        assert!(steering.share(steering.workers()).is_empty());
    }
}

#[test]
fn the_shares_are_all_l4_ports_each_once_and_nearly_equal() {
    for steering in every_number_of_workers() {
        let mut times = vec![0; 65_536];
        let shares: Vec<_> = (0..steering.workers()).map(|worker| steering.share(worker)).collect();
        for share in &shares {
            let before: usize = times.iter().sum();
            (0..share.len()).for_each(|index| times[usize::from(share.nth(index).unwrap())] += 1);
            assert_eq!(times.iter().sum::<usize>() - before, share.len() as usize);
        }
        assert!(times[..1024].iter().all(|times| *times == 0));
        assert!(times[1024..].iter().all(|times| *times == 1), "{} workers", shares.len());
        let lens = shares.iter().map(|share| share.len());
        let (least, most) = (lens.clone().min().unwrap(), lens.max().unwrap());
        assert!(most * 16 <= least * 17, "{} workers: {least} to {most}", shares.len());
    }
}

fn icmp_errors<A: Address>(pod: A, remote: A, egress: A) {
    let steering = steering(64);
    let at = Endpoint::new;
    for (i, protocol) in (0..3000u16).zip(Protocol::ALL.into_iter().cycle()) {
        let (l4_port, external) = (2000 + i, 60_000 - i);
        let query = protocol == Protocol::Icmp;
        let remote_l4_port = if query { 0 } else { 443 };
        let owner = steering.of_in2out(&key(5, protocol, (pod, l4_port), (remote, remote_l4_port)));
        // Remote → pod, as the pod got it; an echo reply has the one query id.
        let source = at(remote, if query { l4_port } else { 443 });
        let got = Embedded { protocol, source, destination: at(pod, l4_port) };
        assert_eq!(steering.of_icmp_error_in2out(5, &got), owner, "{got:?}");
        // Egress IP → remote, as the world got it.
        let destination = at(remote, if query { external } else { 443 });
        let left = Embedded { protocol, source: at(egress, external), destination };
        assert_eq!(steering.of_icmp_error_out2in(&left), steering.of_residue(external), "{left:?}");
    }
}

#[test]
fn an_icmp_error_belongs_to_the_flow_that_it_quotes() {
    icmp_errors(v4(0), v4(0x1000), v4(0x2000));
    icmp_errors(v6(0), v6(0x1000), v6(0x2000));
}

#[test]
fn fragments_of_one_packet_meet_and_those_of_others_spread() {
    let steering = steering(64);
    let base = |id| steering.of_fragment(v4(1), v4(2), 17, id);
    let moved =
        |other: &dyn Fn(u32) -> usize| (0..1000).filter(|id| other(*id) != base(*id)).count();
    assert_eq!(moved(&|id| steering.of_fragment(v4(1), v4(2), 17, id)), 0);
    assert!(moved(&|id| steering.of_fragment(v4(3), v4(2), 17, id)) > 900);
    assert!(moved(&|id| steering.of_fragment(v4(1), v4(3), 17, id)) > 900);
    assert!(moved(&|id| steering.of_fragment(v4(1), v4(2), 6, id)) > 900);
    assert!(moved(&|id| steering.of_fragment(v4(1), v4(2), 17, id + (1 << 31))) > 900);
    // To and fro are two packets.
    assert!(moved(&|id| steering.of_fragment(v4(2), v4(1), 17, id)) > 900);
}

#[test]
fn what_is_published_says_who_owns_what() {
    let sizes =
        [(1, 1), (2, 2), (3, 64), (4, 4), (5, 128), (8, 8), (12, 256), (63, 1024), (64, 64)];
    for (workers, residues) in sizes {
        let steering = steering(workers);
        assert_eq!(steering.residue_map().len(), residues, "{workers} workers");
        for l4_port in 0..=u16::MAX {
            let residue = usize::from(l4_port) % residues;
            assert_eq!(steering.of_residue(l4_port), usize::from(steering.residue_map()[residue]));
        }
        let shards: Vec<usize> = (0..workers)
            .map(|w| steering.shard_map().iter().filter(|owner| usize::from(**owner) == w).count())
            .collect();
        assert_eq!(shards.iter().sum::<usize>(), SHARDS);
        assert!(shards.iter().max().unwrap() - shards.iter().min().unwrap() <= 1, "{shards:?}");
    }
}

#[test]
fn a_wrong_number_of_workers_and_a_wrong_seed_are_errors() {
    assert!(Steering::new(SEED, 0).is_err());
    let error = Steering::new(SEED, MAX_WORKERS + 1).unwrap_err().to_string();
    assert_eq!(error, "65 workers: from 1 to 64 can share the flows");
    let text = "000102030405060708090a0b0c0d0e0f";
    assert_eq!(SEED.to_string(), text);
    assert_eq!(text.parse(), Ok(SEED));
    assert_eq!(text.to_uppercase().parse(), Ok(SEED));
    for wrong in ["", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &"g".repeat(32)]
    {
        assert_eq!(wrong.parse::<ShardSeed>(), Err(InvalidSeed), "{wrong:?}");
    }
}

/// Microsoft's key, continued so that any length can be had.
fn rss_key(len: usize) -> Vec<u8> {
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    KEY.into_iter().cycle().take(len).collect()
}

#[test]
fn a_nic_whose_rss_is_no_help_is_told_why() {
    let round_robin = |entries: u16| -> Vec<u16> { (0..entries).map(|i| i % 3).collect() };
    let why = |key: &[u8], reta: &[u16]| steering(3).with_rss(key, reta).unwrap_err().to_string();
    let entries =
        |n| format!("its redirection table has {n} entries: a power of two up to 1024 is needed");
    for n in [0, 3, 100, 130, 2048] {
        assert_eq!(why(&rss_key(40), &round_robin(n)), entries(n));
    }
    assert_eq!(
        why(&rss_key(40), &[0, 1, 2, 3]),
        "entry 3 of its redirection table names queue 3, of 3"
    );
    assert_eq!(why(&rss_key(40), &[0, 2, 0, 2]), "no entry of its redirection table names queue 1");
    assert_eq!(why(&rss_key(39), &round_robin(128)), "an RSS key of 39 octets: 40 are needed");
    assert_eq!(
        why(&[0; 40], &round_robin(128)),
        "the RSS key does not spread 1024 neighbouring l4_ports over all of 1024 values"
    );
    let error = steering(3).with_rss(&[0; 39], &[0, 1]).unwrap_err();
    assert_eq!(error, Unpredictable::Nothing(2), "the table is looked at first");
}

fn v4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0af4_0000 + n)
}

/// The low bits of the network in the upper half, the rest in the lower one.
fn v6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00_0244 << 96 | u128::from(n & 0xff) << 64 | u128::from(n >> 8))
}

/// Keys of a row, by number.
type Row<A> = fn(u16, fn(u32) -> A) -> FlowKey<A>;

fn rows<A: Address>() -> [(&'static str, Row<A>); 9] {
    use Protocol::{Icmp, Tcp, Udp};
    [
        ("all l4_ports of a pod", |i, a| key(0, Tcp, (a(1), i), (a(0x10_0000), 443))),
        ("even ones, as Linux takes them for connect", |i, a| {
            key(0, Tcp, (a(1), 32_768 + (i & 0x3fff) * 2), (a(0x10_0000 + u32::from(i >> 14)), 443))
        }),
        ("a remote network", |i, a| {
            key(0, Tcp, (a(1), 40_000), (a(0x10_0000 + u32::from(i)), 443))
        }),
        ("a row of networks", |i, a| {
            key(0, Tcp, (a(1), 40_000), (a(0x100_0000 + u32::from(i) * 256), 443))
        }),
        ("all l4_ports of a remote", |i, a| key(0, Tcp, (a(1), 40_000), (a(0x10_0000), i))),
        ("pods at one remote", |i, a| key(0, Udp, (a(i.into()), 40_000), (a(0x10_0000), 53))),
        ("query ids", |i, a| key(0, Icmp, (a(1), i), (a(0x10_0000), 0))),
        ("tenants", |i, a| key(i, Tcp, (a(1), 40_000), (a(0x10_0000), 443))),
        ("pods, each with its own l4_port and remote", |i, a| {
            key(0, Tcp, (a(i.into()), 1024 + (i >> 4)), (a(0x10_0000 + u32::from(i & 15)), 443))
        }),
    ]
}

/// Pearson's chi-square of how the row falls on the workers, less its mean, in standard deviations.
fn unevenness<A: Address>(steering: &Steering, row: Row<A>, address: fn(u32) -> A) -> f64 {
    const N: u16 = 32_768;
    let mut counts = [0u32; MAX_WORKERS];
    (0..N).for_each(|i| counts[steering.of_in2out(&row(i, address))] += 1);
    let expected: [f64; MAX_WORKERS] = array::from_fn(|worker| {
        let shards = steering.shard_map().iter().filter(|w| usize::from(**w) == worker).count();
        f64::from(N) * shards as f64 / SHARDS as f64
    });
    let workers = steering.workers();
    let squares = counts.iter().zip(expected).take(workers);
    let chi2: f64 = squares.map(|(n, e)| (f64::from(*n) - e).powi(2) / e).sum();
    let freedom = (workers - 1) as f64;
    (chi2 - freedom) / (2.0 * freedom).sqrt()
}

fn rows_spread<A: Address>(address: fn(u32) -> A) {
    let seeds = (0..24u8).map(|i| ShardSeed([i.wrapping_mul(0x9d); 16]));
    for seed in seeds.chain([SEED, ShardSeed([0xff; 16])]) {
        for workers in [2, 3, 7, 8, 16, 48, 63, 64] {
            let steering = Steering::new(seed, workers).unwrap();
            for (what, row) in rows::<A>() {
                let unevenness = unevenness(&steering, row, address);
                assert!(unevenness < 12.0, "{what}, {workers} workers, {seed}: {unevenness}");
            }
        }
    }
}

/// What a random hash exceeds once in 50,000 tries with two workers, and with more of them never.
#[test]
fn rows_of_neighbours_spread_as_random_keys_do() {
    rows_spread(v4);
    rows_spread(v6);
}
