//! Steering by a NIC's RSS: workers choose l4_ports whose answers such a NIC brings to their queue. The NIC is
//! software and has nothing of the gateway's own: DPDK's `rte_softrss` and a redirection table. Where a test
//! starts the EAL, that is once per process: run this with cargo nextest.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod allotments;
#[path = "../harness/mod.rs"]
mod harness;
mod wires;

use gateway::{
    datapath::steering::{ShardSeed, Steering},
    dpdk::SoftRss,
    nat::{
        Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint,
        flow::Address,
    },
    verdict::{DropReason, Side},
};
use harness::{many_workers::Gateway, rings, rings::Rings, *};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use steering::toeplitz::Toeplitz;
use wires::Wires;

const FLOWS: u16 = 3000;
/// Packets between two turns of all workers.
const BATCH: usize = 32;

/// What brings packets from the world to a queue.
struct Nic {
    rss: SoftRss,
    reta: Vec<u16>,
}

impl Nic {
    fn new(key: &[u8], reta: &[u16]) -> Self {
        Nic { rss: SoftRss::new(key), reta: reta.to_vec() }
    }

    fn queue(&self, source: SocketAddr, destination: SocketAddr) -> usize {
        let hash = self.rss.hash(source, destination).unwrap() as usize;
        self.reta[hash % self.reta.len()].into()
    }
}

/// Keys without end.
fn keys(seed: u8) -> impl Iterator<Item = [u8; 40]> {
    let mut random = ChaCha8Rng::from_seed([seed; 32]);
    iter::repeat_with(move || {
        let mut key = [0; 40];
        random.fill_bytes(&mut key);
        key
    })
}

fn no_rss(workers: usize) -> Steering {
    Steering::new(ShardSeed([7; 16]), workers).unwrap()
}

/// The first key that fits, and the steering by it.
fn steered(workers: usize, reta: &[u16]) -> (Steering, [u8; 40]) {
    let fits = |key: [u8; 40]| Some((no_rss(workers).with_rss(&key, reta).ok()?, key));
    keys(workers as u8).take(200).find_map(fits).unwrap()
}

fn round_robin(workers: usize, entries: u16) -> Vec<u16> {
    (0..entries).map(|entry| entry % workers as u16).collect()
}

/// A flow by its number.
struct Flow<F> {
    protocol: Protocol,
    pod: (F, u16),
    remote: (F, u16),
}

impl<F: Family + Address> Flow<F> {
    fn number(n: u16) -> Self {
        let protocol = if n.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp };
        let pod = (F::pod(1 + (n % 200) as u8), 1024 + n);
        Flow {
            protocol,
            pod,
            remote: (F::remote(1 + (n % 7) as u8), [443, 53, 8443][n as usize % 3]),
        }
    }

    fn owner(&self, steering: &Steering) -> usize {
        let internal = InternalEndpoint(Endpoint::new(self.pod.0, self.pod.1));
        let remote = RemoteEndpoint(Endpoint::new(self.remote.0, self.remote.1));
        steering.of_in2out(&FlowKey::in2out(0, self.protocol, internal, remote))
    }

    fn packet(&self, from: (F, u16), to: (F, u16), flags: u8, n: u16) -> Vec<u8> {
        match self.protocol {
            Protocol::Tcp => tcp(from, to, flags, None, &n.to_be_bytes()),
            Protocol::Udp | Protocol::Icmp => udp(from, to, 64, &n.to_be_bytes()),
        }
    }
}

fn number(payload: &[u8]) -> u16 {
    u16::from_be_bytes(payload.try_into().unwrap())
}

/// Opens [`FLOWS`] flows and answers each of them twice: every packet arrives, translated right. Returns how many
/// packets were handed over on the way out, and on the way in.
fn all_arrive<F: Family + Address>(
    wires: &mut impl Wires,
    nic: &Nic,
    queue_of_pod: impl Fn(u16, &Flow<F>) -> usize,
) -> (u64, u64) {
    wires.turn();
    let (before, sessions) = (wires.handed_over(), wires.sessions());
    let mut external = BTreeMap::new();
    let numbers: Vec<u16> = (0..FLOWS).collect();
    // One flow alone, whose packets are the first that ask for the next hops: few can wait for those.
    let batches = || iter::once(&numbers[..1]).chain(numbers[1..].chunks(BATCH));
    for batch in batches() {
        for n in batch {
            let flow = Flow::<F>::number(*n);
            let packet = flow.packet(flow.pod, flow.remote, SYN, *n);
            let frame = tunnelled(NODE, POLICY, &packet);
            wires.receive(Side::Tunnel, queue_of_pod(*n, &flow), &frame);
        }
        for frame in &wires.turn()[Side::External.index()] {
            let seen = SeenOf::<F>::of(frame);
            assert_eq!(
                (seen.source, seen.destination),
                (F::EGRESS, Flow::number(number(&seen.payload)).remote.0)
            );
            external.insert(number(&seen.payload), seen.sport);
        }
    }
    assert_eq!(external.len(), usize::from(FLOWS), "{} dropped", wires.dropped());
    let way_out = wires.handed_over();
    for _ in 0..2 {
        let mut heard = BTreeSet::new();
        for batch in batches() {
            for n in batch {
                let (flow, to) = (Flow::<F>::number(*n), (F::EGRESS, external[n]));
                let answer = flow.packet(flow.remote, to, SYN | ACK, *n);
                let address =
                    |(address, l4_port): (F, u16)| SocketAddr::new(address.into(), l4_port);
                let queue = nic.queue(address(flow.remote), address(to));
                wires.receive(Side::External, queue, &from_router(&answer));
            }
            for frame in &wires.turn()[Side::Tunnel.index()] {
                let seen = SeenOf::<F>::in_tunnel(frame, NODE).0;
                let flow = Flow::<F>::number(number(&seen.payload));
                assert_eq!((seen.destination, seen.dport), flow.pod);
                assert_eq!((seen.source, seen.sport), flow.remote);
                assert!(seen.l4_checksum_ok);
                heard.insert(number(&seen.payload));
            }
        }
        assert_eq!(heard.len(), usize::from(FLOWS), "{} dropped", wires.dropped());
    }
    assert_eq!((wires.sessions() - sessions, wires.dropped()), (FLOWS.into(), 0));
    (way_out - before, wires.handed_over() - way_out)
}

/// With a NIC that does what its key and table say.
fn nothing_is_handed_over<F: Family + Address>(workers: usize, reta: &[u16]) {
    let (steering, key) = steered(workers, reta);
    let nic = Nic::new(&key, reta);
    let gateway = || Gateway::steered(steering.clone(), &Setup::both());
    let at_owner = |_: u16, flow: &Flow<F>| flow.owner(&steering);
    assert_eq!(all_arrive(&mut gateway(), &nic, at_owner), (0, 0), "{workers} workers");
    // Where nobody helps on the way out: there alone.
    let anywhere = |n: u16, _: &Flow<F>| usize::from(n) % workers;
    let (out, back) = all_arrive(&mut gateway(), &nic, anywhere);
    let expected = u64::from(FLOWS) * (workers as u64 - 1) / workers as u64;
    assert!(out.abs_diff(expected) < u64::from(FLOWS) / 10, "{workers} workers: {out}");
    assert_eq!(back, 0, "{workers} workers");
}

#[test]
fn two_workers() {
    for entries in [2, 128, 512, 1024] {
        nothing_is_handed_over::<Ipv4Addr>(2, &round_robin(2, entries));
    }
    nothing_is_handed_over::<Ipv6Addr>(2, &round_robin(2, 128));
}

#[test]
fn three_workers() {
    for entries in [128, 512] {
        nothing_is_handed_over::<Ipv4Addr>(3, &round_robin(3, entries));
        nothing_is_handed_over::<Ipv6Addr>(3, &round_robin(3, entries));
    }
}

#[test]
fn four_workers() {
    nothing_is_handed_over::<Ipv4Addr>(4, &round_robin(4, 512));
    nothing_is_handed_over::<Ipv6Addr>(4, &round_robin(4, 128));
}

/// One queue has a sixteenth of the table, and another seven sixteenths.
#[test]
fn an_uneven_table() {
    let reta: Vec<u16> = (0..128).map(|entry| [0, 1, 1, 1, 2, 2, 3, 3][entry % 16 / 2]).collect();
    nothing_is_handed_over::<Ipv4Addr>(4, &reta);
    nothing_is_handed_over::<Ipv6Addr>(4, &reta);
}

/// The negative control: who knows another key than the NIC has, or another table, has to hand over; and yet
/// every packet arrives.
fn a_nic_that_lies<F: Family + Address>(workers: usize) {
    let reta = round_robin(workers, 128);
    let (steering, key) = steered(workers, &reta);
    let at_owner = |_: u16, flow: &Flow<F>| flow.owner(&steering);
    let other_key = keys(99).next().unwrap();
    for (nic, what) in [
        (Nic::new(&other_key, &reta), "another key"),
        (Nic::new(&key, &[&reta[1..], &reta[..1]].concat()), "another table"),
    ] {
        let mut gateway = Gateway::steered(steering.clone(), &Setup::both());
        let (out, back) = all_arrive(&mut gateway, &nic, at_owner);
        assert_eq!(out, 0, "{what}");
        assert!(back > u64::from(FLOWS) / 2, "{workers} workers, {what}: {back}");
    }
}

#[test]
fn a_nic_that_does_otherwise_costs_handovers_and_nothing_else() {
    a_nic_that_lies::<Ipv4Addr>(2);
    a_nic_that_lies::<Ipv4Addr>(3);
    a_nic_that_lies::<Ipv6Addr>(4);
}

/// Of ICMP a NIC sees no id: the residue decides, and packets are handed over.
#[test]
fn echo_finds_its_session_from_any_queue() {
    let (steering, _) = steered(3, &round_robin(3, 128));
    let mut gateway = Gateway::steered(steering, &Setup::default());
    for id in 1..100 {
        let at = usize::from(id) % 3;
        let seen = gateway.pod_sends(at, &echo(POD, REMOTE, true, id, 64));
        let reply = echo(REMOTE, EGRESS, false, seen[0].sport, 64);
        for at in 0..3 {
            let seen = gateway.world_sends(at, &reply);
            assert_eq!((seen[0].destination, seen[0].sport), (POD, id));
        }
    }
    assert_eq!(gateway.drops(), [].into());
}

/// On DPDK's own devices: key and table as they are read back from a port that keeps them as a NIC does.
fn on_rings(workers: usize) {
    let (eal, pool) = rings::start();
    let null = rings::device(&eal, &pool, "net_null0", workers as u16);
    let rss = null.rss.unwrap();
    let steering = no_rss(workers).with_rss(&rss.key, &rss.reta).unwrap();
    let mut rings = Rings::of_eal(&eal, pool, steering.clone(), &Setup::both());
    let nic = Nic::new(&rss.key, &rss.reta);
    let v4 = all_arrive::<Ipv4Addr>(&mut rings, &nic, |_, flow| flow.owner(&steering));
    let v6 = all_arrive::<Ipv6Addr>(&mut rings, &nic, |_, flow| flow.owner(&steering));
    assert_eq!((v4, v6), ((0, 0), (0, 0)));
}

#[test]
fn two_workers_on_rings() {
    on_rings(2);
}

#[test]
fn three_workers_on_rings() {
    on_rings(3);
}

#[test]
fn four_workers_on_rings() {
    on_rings(4);
}
