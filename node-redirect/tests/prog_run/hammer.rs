//! Packets without pause while the policy set changes under them, again and again: each packet's verdict and VNI are those of the set before or of
//! the set after. What each may be is told by a search through the tables that shares nothing with the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use libbpf_rs::ProgramInput;
use node_redirect::abi;
use node_redirect::config::MapSizes;
use node_redirect::counters::Reason;
use node_redirect::maps::Maps;
use node_redirect::program::{Programs, Role};
use node_redirect::sync::Way;
use node_redirect::tables::{Set, Tables};

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

/// Under policy in every set, and what they send to is redirected in every set. Each sender has two of its own.
const KEPT: [[&str; 2]; 2] = [[POD, POD6], [NARROW, NARROW6]];
const POLICIES: std::ops::Range<u32> = 101..113;
/// Packets between two looks at what was counted.
const BURST: u32 = 200;
const MAX_FLOWS: u32 = 8192;

/// How the random sets are, and the room that they get.
#[derive(Debug, Clone, Copy)]
struct Shape {
    seed: u64,
    changes: usize,
    /// Distinct sets of destinations at a time.
    sets: u64,
    /// Destinations of each family in a set.
    destinations: usize,
    /// How many prefixes of each family they are taken from.
    pool: u64,
    /// Does a pod go to any set, or to the one that took its own one's place?
    regroup: bool,
    sizes: MapSizes,
}

/// xorshift64: the same stream from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn remote_of(pod: &str) -> IpAddr {
    address(if pod.contains(':') { WORLD6 } else { WORLD })
}

/// Longest match by looking at each.
fn action(tables: &Tables, pod: IpAddr, destination: IpAddr) -> Option<u32> {
    action_in(tables.sets.get(tables.endpoints.get(&pod)?)?, destination)
}

fn action_in(set: &Set, destination: IpAddr) -> Option<u32> {
    let matching = set.iter().filter(|(prefix, _)| prefix.contains(&destination));
    matching.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, &action)| action)
}

fn takes_new_flows(tables: &Tables, policy: u32) -> bool {
    let value = &tables.policies[&policy];
    [POD, POD6].iter().all(|pod| value.choose_gateway(address(pod)).is_some())
}

/// Around what is sent to, so that lengths compete for it, and elsewhere.
fn random_prefix(random: &mut Random, v6: bool) -> ipnet::IpNet {
    let centre = match (v6, random.below(3)) {
        (false, 0) => WORLD,
        (false, 1) => EXCLUDED,
        (false, _) => "203.0.113.7",
        (true, 0) => WORLD6,
        (true, 1) => EXCLUDED6,
        (true, _) => "2001:db8:77::7",
    };
    let near = match address(centre) {
        IpAddr::V4(ip) => IpAddr::from((ip.to_bits() ^ random.below(1 << 12) as u32).to_be_bytes()),
        IpAddr::V6(ip) => {
            IpAddr::V6((ip.to_bits() ^ u128::from(random.below(1 << 12)) << 64).into())
        }
    };
    let ip = if random.one_in(2) { near } else { address(centre) };
    let length = random.below(if v6 { 129 } else { 33 }) as u8;
    ipnet::IpNet::new(ip, length).unwrap().trunc()
}

fn random_tables(random: &mut Random, shape: &Shape) -> Tables {
    let gateways = ["192.0.2.10", "192.0.2.11", "192.0.2.12", "2001:db8:1::10"];
    let mut tables = Tables { vteps: self::tables().vteps, ..Tables::default() };
    for id in POLICIES {
        // The last two are always there; so is one that takes new flows.
        if random.one_in(4) && id < POLICIES.end - 2 {
            continue;
        }
        let mut chosen: Vec<&str> = Vec::new();
        chosen.extend(gateways.iter().filter(|_| random.one_in(3)));
        if id == POLICIES.end - 1 && chosen.is_empty() {
            chosen.push(gateways[random.below(4) as usize]);
        }
        let mode = if random.one_in(2) { abi::FAILURE_OPEN } else { abi::FAILURE_CLOSED };
        tables.policies.insert(id, policy(&chosen, mode));
    }
    let ids: Vec<u32> = tables.policies.keys().copied().collect();
    let good: Vec<u32> = ids.iter().copied().filter(|&id| takes_new_flows(&tables, id)).collect();
    let first = 1 + random.below(1000) as u32;
    for set_id in first..first + shape.sets as u32 {
        let mut set = Set::new();
        for v6 in [false, true] {
            for _ in 0..shape.destinations {
                let exclude = random.one_in(3);
                let id = ids[random.below(ids.len() as u64) as usize];
                let action = if exclude { abi::ACTION_EXCLUDE } else { id };
                let member = random.below(shape.pool) + 1;
                let mut prefix = Random(member.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                set.insert(random_prefix(&mut prefix, v6), action);
            }
        }
        for remote in [WORLD, WORLD6].map(address) {
            if !action_in(&set, remote).is_some_and(|id| good.contains(&id)) {
                let id = good[random.below(good.len() as u64) as usize];
                set.insert(remote.into(), id);
            }
        }
        for remote in [EXCLUDED, EXCLUDED6].map(address) {
            if action_in(&set, remote) != Some(abi::ACTION_EXCLUDE) {
                set.insert(remote.into(), abi::ACTION_EXCLUDE);
            }
        }
        tables.sets.insert(set_id, set);
    }
    let others = (20..220).map(|last| IpAddr::from([10, 244, 1, last]));
    let kept = KEPT.as_flattened().iter().map(|pod| address(pod));
    for (i, pod) in kept.chain(others).enumerate() {
        let own = if shape.regroup { random.below(shape.sets) } else { i as u64 % shape.sets };
        if i < 4 || random.one_in(2) {
            tables.endpoints.insert(pod, first + own as u32);
        }
    }
    tables.exempt = self::tables().exempt;
    tables.exempt.extend((0..5).map(|_| random.below(64) as u8).map(|third| {
        // Beside what is sent to.
        ipnet::IpNet::new([198, 51, 101 + third, 0].into(), 24).unwrap()
    }));
    tables
}

/// What the senders may see: the sets from `oldest` to `newest` of `history`, each as pod → policy of its destination.
#[derive(Default)]
struct Stage {
    history: RwLock<Vec<BTreeMap<IpAddr, u32>>>,
    oldest: AtomicUsize,
    newest: AtomicUsize,
    is_over: AtomicBool,
    sent: [AtomicU64; 3],
}

const REDIRECTED: usize = 0;
const NOT_SELECTED: usize = 1;
const EXCLUDED_BY_ALL: usize = 2;

impl Stage {
    fn may_show(&self, tables: &Tables) {
        let mut history = self.history.write().unwrap();
        let kept = KEPT.as_flattened().iter();
        history.push(
            kept.map(|pod| (address(pod), action(tables, address(pod), remote_of(pod)).unwrap()))
                .collect(),
        );
        self.newest.store(history.len() - 1, SeqCst);
    }

    fn shows_only_the_newest(&self) {
        self.oldest.store(self.newest.load(SeqCst), SeqCst);
    }
}

struct Sender<'a> {
    stage: &'a Stage,
    programs: Programs,
    maps: Maps,
}

impl Sender<'_> {
    fn send(&self, packet: &Packet, kind: usize) {
        let mut context = skb(0);
        let frame = packet.frame();
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(&frame),
            repeat: BURST,
            ..ProgramInput::default()
        };
        let mut programs = self.programs.object().progs_mut();
        let from_pod = programs.find(|program| program.name() == Role::FromPod.name()).unwrap();
        from_pod.test_run(input).unwrap();
        self.stage.sent[kind].fetch_add(BURST.into(), SeqCst);
    }

    fn sums(&self, pod: IpAddr) -> BTreeMap<u32, u64> {
        let traffic = self.maps.traffic().unwrap();
        let own = traffic.into_iter().filter(|(key, _)| abi::ip(key.pod) == pod);
        own.map(|(key, sum)| (key.policy_id, sum.packets)).collect()
    }

    fn send_to_the_world(&self, pod: &str, packet: &Packet, sums: &mut BTreeMap<u32, u64>) {
        let oldest = self.stage.oldest.load(SeqCst);
        self.send(packet, REDIRECTED);
        let newest = self.stage.newest.load(SeqCst);
        let after = self.sums(address(pod));
        let moved: BTreeMap<u32, u64> = after
            .iter()
            .map(|(id, packets)| (*id, packets - sums.get(id).unwrap_or(&0)))
            .filter(|(_, packets)| *packets > 0)
            .collect();
        let history = self.stage.history.read().unwrap();
        let allowed: BTreeSet<u32> = (oldest..=newest).map(|i| history[i][&address(pod)]).collect();
        assert_eq!(moved.values().sum::<u64>(), u64::from(BURST), "{packet:?}: all are redirected");
        assert!(
            moved.keys().all(|id| allowed.contains(id)),
            "{packet:?} went by {moved:?}; sets {oldest} to {newest} allow {allowed:?}"
        );
        *sums = after;
    }

    /// Flows that outlive several sets, flows of every age, and packets without a flow, which are decided one by one.
    fn run(&self, pods: [&str; 2]) {
        let mut sums = pods.map(|pod| self.sums(address(pod)));
        for round in (0..).take_while(|_| !self.stage.is_over.load(SeqCst)) {
            for (pod, sums) in pods.iter().zip(&mut sums) {
                let v6 = pod.contains(':');
                let world = if v6 { WORLD6 } else { WORLD };
                let quoted = udp(world, pod, 53, 4000);
                let error = icmp_error(pod, world, if v6 { 1 } else { 3 }, &quoted);
                let port = 1024 + round % 512;
                for packet in [tcp(pod, world, 4000, 80, ACK), udp(pod, world, port, 53), error] {
                    self.send_to_the_world(pod, &packet, sums);
                }
                let unselected = if v6 { UNSELECTED6 } else { UNSELECTED };
                self.send(&udp(unselected, world, 4000, 53), NOT_SELECTED);
                let excluded = if v6 { EXCLUDED6 } else { EXCLUDED };
                self.send(&tcp(pod, excluded, 4000, 80, ACK), EXCLUDED_BY_ALL);
            }
        }
    }
}

/// How many of the changes there was a way for.
fn hammer(shape: Shape) -> usize {
    let mut bench = Bench::with_sizes(MAX_FLOWS, &shape.sizes);
    let mut random = Random(shape.seed);
    let stage = Stage::default();
    let first = random_tables(&mut random, &shape);
    stage.may_show(&first);
    bench.apply(&first);
    let before = bench.reasons();
    let mut applied = 0;
    std::thread::scope(|scope| {
        let senders = KEPT.map(|pods| {
            let stage = &stage;
            scope.spawn(move || {
                let maps = Maps::open(Path::new(PINS)).unwrap();
                Sender { stage, programs: load(MAX_FLOWS, &shape.sizes), maps }.run(pods);
            })
        });
        for _ in 0..shape.changes {
            let wanted = random_tables(&mut random, &shape);
            if let Err(error) = Way::find(&bench.maps, &bench.tables, &wanted) {
                println!("{error:#}");
                continue;
            }
            stage.may_show(&wanted);
            bench.apply(&wanted);
            stage.shows_only_the_newest();
            // As ageing does; what one flow had, another gets.
            (0..random.below(4)).for_each(|_| bench.forget_flows());
            applied += 1;
            if senders.iter().any(|sender| sender.is_finished()) {
                break;
            }
        }
        stage.is_over.store(true, SeqCst);
    });
    let raised: BTreeMap<&str, u64> = Reason::ALL
        .iter()
        .zip(before.iter().zip(bench.reasons()))
        .map(|(reason, (before, after))| (reason.counter().name, after - before))
        .filter(|(_, packets)| *packets > 0)
        .collect();
    let [redirected, not_selected, excluded] = stage.sent.map(AtomicU64::into_inner);
    let wanted = BTreeMap::from([
        ("redirected", redirected),
        ("not_selected", not_selected),
        ("excluded", excluded),
    ]);
    assert_eq!(
        raised, wanted,
        "seed {}: each packet got the one verdict that every set gives",
        shape.seed
    );
    println!("{applied} changes under {redirected} redirected packets");
    applied
}

#[test]
fn no_packet_sees_neither_set_or_half_of_each() {
    in_private_namespaces(|| {
        let sizes = MapSizes::default();
        let shape = Shape {
            seed: 0x5eed_0001,
            changes: 150,
            sets: 12,
            destinations: 20,
            pool: 1 << 32,
            regroup: true,
            sizes,
        };
        assert_eq!(hammer(shape), shape.changes);
    });
}

#[test]
fn nor_where_the_two_do_not_fit_side_by_side() {
    in_private_namespaces(|| {
        // Six sets of some 14 destinations each: twice as many do not fit.
        let sizes = MapSizes { max_destinations: 110, max_pods: 230, ..MapSizes::default() };
        let shape = Shape {
            seed: 0x5eed_0002,
            changes: 100,
            sets: 6,
            destinations: 12,
            pool: 1 << 32,
            regroup: false,
            sizes,
        };
        assert_eq!(hammer(shape), shape.changes);
    });
}

#[test]
fn nor_where_a_set_must_change_in_place() {
    in_private_namespaces(|| {
        let sizes = MapSizes { max_destinations: 28, ..MapSizes::default() };
        let shape = Shape {
            seed: 0x5eed_0003,
            changes: 150,
            sets: 1,
            destinations: 22,
            pool: 30,
            regroup: true,
            sizes,
        };
        let applied = hammer(shape);
        assert!(applied > shape.changes / 2, "{applied}");
    });
}
