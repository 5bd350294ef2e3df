//! Several workers on in-memory ports: every packet may come to any of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::{
    datapath::{handoff::RING, steering::Steering},
    verdict::{DropReason, Side},
};
use harness::{many_workers::*, *};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

fn packet(pod: u16, payload: &[u8]) -> Vec<u8> {
    udp((POD, pod), (REMOTE, 53), 64, payload)
}

fn answer(to: u16, payload: &[u8]) -> Vec<u8> {
    udp((REMOTE, 53), (EGRESS, to), 64, payload)
}

/// Wherever its packets come in, a flow has one session, at its owner.
#[test]
fn a_flow_has_one_session_whatever_queue_its_packets_come_to() {
    for workers in [1, 2, 3, 4, 8] {
        let mut gateway = Gateway::new(workers);
        for pod in 1000..1100 {
            let mut sources = BTreeSet::new();
            for at in 0..workers {
                // The outer source l4_port has changed in mid-flow, and so has the queue.
                let seen = gateway.pod_sends(at, &packet(pod, b"out"));
                assert_eq!(seen.len(), 1, "{workers} workers: {:?}", gateway.drops());
                sources.insert((seen[0].source, seen[0].sport));
            }
            assert_eq!(sources.len(), 1, "{workers} workers: {sources:?}");
            let (source, l4_port) = *sources.first().unwrap();
            assert_eq!(source, EGRESS);
            let owner = gateway.owner((POD, pod), (REMOTE, 53));
            assert_eq!(
                gateway.steering.of_residue(l4_port),
                owner,
                "its answers come to the owner"
            );
            for at in 0..workers {
                let seen = gateway.world_sends(at, &answer(l4_port, b"in"));
                assert_eq!(seen.len(), 1, "{workers} workers: {:?}", gateway.drops());
                assert_eq!((seen[0].destination, seen[0].dport), (POD, pod));
            }
        }
        assert_eq!(gateway.sessions().iter().sum::<u32>(), 100);
        for (id, sessions) in gateway.sessions().into_iter().enumerate() {
            let owned = (1000..1100).filter(|pod| gateway.owner((POD, *pod), (REMOTE, 53)) == id);
            assert_eq!(sessions as usize, owned.count());
        }
        // Each packet that came to another queue than its owner's was handed over once.
        assert_eq!(gateway.handed_over(), 200 * (workers as u64 - 1));
        assert_eq!(gateway.drops(), [].into());
        gateway.check();
    }
}

#[test]
fn the_same_first_packet_on_two_queues_at_once_makes_one_session() {
    let mut gateway = Gateway::new(4);
    for pod in 1000..1050 {
        for at in 0..4 {
            gateway.arrives(at, &packet(pod, b"first"));
        }
        gateway.poll();
        let left: BTreeSet<_> =
            gateway.take(Side::External).iter().map(|frame| Seen::of(frame).sport).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert_eq!(gateway.sessions().iter().sum::<u32>(), 50);
}

#[test]
fn echo_follows_its_id_and_not_the_queue() {
    let mut gateway = Gateway::new(3);
    for id in 1..40 {
        let ids: BTreeSet<_> = (0..3)
            .flat_map(|at| gateway.pod_sends(at, &echo(POD, REMOTE, true, id, 64)))
            .map(|seen| seen.sport)
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        for at in 0..3 {
            let reply = echo(REMOTE, EGRESS, false, *ids.first().unwrap(), 64);
            let seen = gateway.world_sends(at, &reply);
            assert_eq!((seen[0].destination, seen[0].sport), (POD, id));
        }
    }
}

/// Every packet of a flow bears its number, through the longest way there is: not the owner's queue.
#[test]
fn order_within_a_flow_is_kept_over_the_rings() {
    let mut gateway = Gateway::new(2);
    let flows: Vec<u16> = (1000..1008).collect();
    for number in 0..400u32 {
        for pod in &flows {
            let at = gateway.another(gateway.owner((POD, *pod), (REMOTE, 53)));
            gateway.arrives(at, &packet(*pod, &number.to_be_bytes()));
        }
        if number % 37 == 0 {
            gateway.poll();
        }
    }
    gateway.poll();
    let mut next: BTreeMap<u16, u32> = BTreeMap::new();
    for frame in gateway.take(Side::External) {
        let seen = Seen::of(&frame);
        let expected = next.entry(seen.sport).or_default();
        assert_eq!(seen.payload, expected.to_be_bytes(), "l4_port {}", seen.sport);
        *expected += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), vec![400; flows.len()]);
    assert_eq!(gateway.handed_over(), 400 * flows.len() as u64);
}

/// A worker that stands still holds up nobody: what is its own is dropped once its ring is full, each
/// packet counted, and all else goes on.
#[test]
fn a_worker_that_stands_still_costs_its_own_packets_only() {
    let mut gateway = Gateway::new(2);
    let pod_of = |gateway: &Gateway, owner| {
        (1000..).find(|pod| gateway.owner((POD, *pod), (REMOTE, 53)) == owner).unwrap()
    };
    let (stuck, free) = (pod_of(&gateway, 1), pod_of(&gateway, 0));
    // Its next hop is known before.
    assert_eq!(gateway.pod_sends(0, &packet(stuck, b"first")).len(), 1);
    gateway.stalled.insert(1);
    let (sent, mut left) = (3 * RING as u64, 0);
    for _ in 0..sent {
        gateway.arrives(0, &packet(stuck, b"to nobody"));
        gateway.arrives(0, &packet(free, b"on its way"));
        gateway.poll();
        left += gateway.take(Side::External).len() as u64;
    }
    assert_eq!(left, sent, "the other worker's flow goes on");
    assert_eq!(gateway.drops(), [("handoff_full", sent - RING as u64)].into());
    let counters = &gateway.workers[0].counters;
    assert_eq!(counters.drops(Side::Tunnel, DropReason::HandoffFull), sent - RING as u64);
    assert_eq!(counters.handed_over[1].get(), 1 + RING as u64);

    // It wakes up: what waited is not lost.
    gateway.stalled.clear();
    gateway.poll();
    assert_eq!(gateway.take(Side::External).len(), RING);
    assert_eq!(gateway.drops(), [("handoff_full", sent - RING as u64)].into());
}

/// Packets in the rings are judged by the policies in force when they come out.
#[test]
fn a_reload_loses_nothing_that_it_allows_and_passes_nothing_that_it_does_not() {
    let mut gateway = Gateway::new(2);
    let at = gateway.another(gateway.owner((POD, 1000), (REMOTE, 53)));
    let l4_port = gateway.pod_sends(at, &packet(1000, b"opens"))[0].sport;
    gateway.stalled.insert(gateway.another(at));
    for number in 0..100u32 {
        gateway.arrives(at, &packet(1000, &number.to_be_bytes()));
    }
    gateway.poll();
    // The same policies, then none: both while a hundred packets wait between the workers.
    gateway.policies.store(Arc::new(usual_policies(2)));
    gateway.stalled.clear();
    gateway.poll();
    let left = gateway.take(Side::External);
    assert_eq!(left.len(), 100);
    assert!(left.iter().all(|frame| Seen::of(frame).sport == l4_port));

    gateway.stalled.insert(gateway.another(at));
    for number in 0..100u32 {
        gateway.arrives(at, &packet(1000, &number.to_be_bytes()));
    }
    gateway.poll();
    gateway.policies.store(Arc::new(policies(3, &[])));
    gateway.stalled.clear();
    gateway.poll();
    assert_eq!(gateway.take(Side::External), Vec::<Vec<u8>>::new());
    let generations: Vec<_> =
        gateway.workers.iter().map(|parts| parts.counters.generation.get()).collect();
    assert_eq!(generations, [3, 3]);
    assert_eq!(gateway.drops().values().sum::<u64>(), 100, "{:?}", gateway.drops());
}

/// The next hop's answer comes to one queue; all workers had asked.
#[test]
fn a_neighbour_that_one_queue_hears_is_known_to_all() {
    for arp_to in 0..3 {
        let mut gateway = Gateway::new(3);
        gateway.arp_to = arp_to;
        let mut owners = BTreeSet::new();
        for pod in 1000..1020 {
            let owner = gateway.owner((POD, pod), (REMOTE, 53));
            owners.insert(owner);
            gateway.arrives(owner, &packet(pod, b"waits"));
        }
        gateway.poll();
        assert_eq!(owners.len(), 3);
        assert_eq!(gateway.take(Side::External).len(), 20, "{:?}", gateway.drops());
        assert_eq!(gateway.drops(), [].into());
    }
}

/// One pod l4_port and one egress IP, until no l4_port is left; through every queue in turn.
fn open_all(gateway: &mut Gateway, wanted: u32) -> Vec<(u16, u8)> {
    let workers = gateway.workers.len();
    let mut opened = Vec::new();
    for i in 0..wanted {
        let (pod, sport) = ((i >> 15) as u8, 10_000 + (i & 0x7fff) as u16);
        let from = Ipv4Addr::new(10, 244, 1, 10 + pod);
        gateway.arrives(i as usize % workers, &udp((from, sport), (REMOTE, 53), 64, &[pod]));
        if i % 16 == 15 || i + 1 == wanted {
            gateway.poll();
            let left = gateway.take(Side::External);
            opened.extend(left.iter().map(|frame| {
                let seen = Seen::of(frame);
                (seen.sport, seen.payload[0])
            }));
        }
    }
    opened
}

/// Promise 3, for any number of workers: 64,512 flows per egress IP, remote endpoint and protocol, and
/// every l4_port comes home.
fn refusal_point(workers: usize) {
    refusal_point_of(Steering::new(SEED, workers).unwrap());
}

fn refusal_point_of(steering: Steering) {
    const ALL: u32 = 64_512;
    let workers = steering.workers();
    let setup = Setup { max_sessions: 2 * ALL, ..Setup::default() };
    let mut gateway = Gateway::steered(steering, &setup);
    let first = open_all(&mut gateway, ALL);
    assert_eq!(gateway.drops(), [].into(), "{workers} workers");
    let l4_ports: BTreeSet<u16> = first.iter().map(|(l4_port, _)| *l4_port).collect();
    assert_eq!(l4_ports, (1024..=65_535).collect(), "{workers} workers");
    let borrowed = gateway.sum(|parts| parts.counters.l4_ports_borrowed.get());
    assert_eq!(borrowed, gateway.sum(|parts| parts.counters.l4_ports_lent.get()));
    assert_eq!(workers == 1, borrowed == 0, "{workers} workers lent {borrowed}");
    gateway.check();

    // One more finds none, wherever it comes in.
    let late = udp((POD, 9_999), (REMOTE, 53), 64, b"");
    for at in 0..workers {
        assert!(gateway.pod_sends(at, &late).is_empty());
        assert_eq!(gateway.drops(), [("l4_ports_exhausted", at as u64 + 1)].into());
    }
    // Another remote endpoint has all of them.
    let elsewhere = udp((POD, 9_999), (REMOTE, 54), 64, b"");
    assert_eq!(gateway.pod_sends(0, &elsewhere).len(), 1);

    // Answers find their session, those to lent l4_ports included, at whatever queue.
    for (i, (l4_port, pod)) in first.iter().enumerate().step_by(61) {
        let seen = gateway.world_sends(i % workers, &answer(*l4_port, b"back"));
        assert_eq!(seen.len(), 1, "{workers} workers, l4_port {l4_port}: {:?}", gateway.drops());
        assert_eq!(seen[0].destination, Ipv4Addr::new(10, 244, 1, 10 + pod));
    }

    // All sessions end; all l4_ports are home, and the whole can begin anew.
    for _ in 0..10 {
        gateway.now = gateway.now.plus_millis(100_000);
        for _ in 0..ALL / 16 {
            gateway.poll();
            if gateway.sessions().iter().all(|n| *n == 0) {
                break;
            }
        }
    }
    gateway.poll();
    assert_eq!(gateway.sessions(), vec![0; workers]);
    assert_eq!(gateway.sum(|parts| parts.counters.l4_ports_lent.get()), 0, "{workers} workers");
    assert_eq!(gateway.sum(|parts| parts.counters.l4_ports_borrowed.get()), 0);
    let again = open_all(&mut gateway, ALL);
    assert_eq!(again.len(), ALL as usize, "{:?}", gateway.drops());
    gateway.check();
}

#[test]
fn one_worker_refuses_when_no_l4_port_is_left() {
    refusal_point(1);
}

#[test]
fn two_workers_refuse_when_no_l4_port_is_left_at_either() {
    refusal_point(2);
}

#[test]
fn eight_workers_refuse_when_no_l4_port_is_left_at_any() {
    refusal_point(8);
}

/// The worker of one entry in eight has an eighth of the l4_ports and a third of the flows.
#[test]
fn three_workers_that_a_nic_serves_unevenly_refuse_when_no_l4_port_is_left_at_any() {
    let reta: Vec<u16> = (0..128).map(|entry| [0, 1, 1, 1, 2, 2, 2, 2][entry % 8]).collect();
    // One key of four fits.
    let key = |n: u32| -> Vec<u8> {
        let next = |x: &u32| Some(x.wrapping_mul(1_103_515_245).wrapping_add(12_345));
        std::iter::successors(Some(n), next).skip(1).map(|x| (x >> 16) as u8).take(40).collect()
    };
    let steering = |n| Steering::new(SEED, 3).unwrap().with_rss(&key(n), &reta).ok();
    refusal_point_of((0..200).find_map(steering).unwrap());
}

/// A restart with more or fewer workers: the seed is the same, so the shards are; every flow that begins
/// anew finds an owner, and its answers too.
#[test]
fn the_same_seed_serves_another_number_of_workers() {
    let shards = |workers| Steering::new(SEED, workers).unwrap().shard_map().map(|w| w as usize);
    for (workers, map) in [(1, shards(1)), (4, shards(4)), (3, shards(3))] {
        let mut gateway = Gateway::new(workers);
        for pod in 2000..2032 {
            let owner = gateway.owner((POD, pod), (REMOTE, 53));
            assert!(map.contains(&owner));
            let seen = gateway.pod_sends(pod as usize % workers, &packet(pod, b"again"));
            let back = gateway.world_sends(0, &answer(seen[0].sport, b"back"));
            assert_eq!(back[0].dport, pod);
            assert!(gateway.workers[owner].worker.nat().sessions() > 0);
        }
        assert_eq!(gateway.sessions().iter().sum::<u32>(), 32);
    }
}
