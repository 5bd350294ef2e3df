//! A turn of the loop allocates nothing, whatever its packets are: counted by an allocator that counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use allocation_counter::measure;
use gateway::{
    datapath::{
        memory_io::{MemoryIo, MemoryPacket},
        request::{Foretold, NeighbourPage, Request, SessionFilter},
    },
    nat::{Judgement, Tick, Vtep, in2out::In2out, trace::Question},
    verdict::Side::{self, External, Tunnel},
    wire::{Any, parse},
};
use harness::*;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, mpsc},
    thread,
};

struct Loop {
    parts: Parts<MemoryPacket>,
    io: MemoryIo,
    now: Tick,
}

impl Loop {
    /// A worker that knows its neighbours and has a TCP and a UDP session, both answered.
    fn new(max_sessions: u32) -> Self {
        let parts = Parts::new(Setup { max_sessions, ..Setup::both() });
        let mut looped = Loop { parts, io: MemoryIo::with_buffers(512), now: Tick::from_secs(100) };
        looped.io.receive(External, &request(ROUTER, ROUTER_MAC, EXTERNAL, EXTERNAL_MAC));
        looped.io.receive(Tunnel, &request(NODE, NODE_MAC, VTEP, TUNNEL_MAC));
        let router = Nd::question((Ipv6Addr::ROUTER, ROUTER_MAC), Ipv6Addr::EXTERNAL);
        looped.io.receive(External, &router.frame(EXTERNAL_MAC, ROUTER_MAC));
        let node = Nd::question((Ipv6Addr::NODE, NODE_MAC), Ipv6Addr::VTEP);
        looped.io.receive(Tunnel, &node.frame(TUNNEL_MAC, NODE_MAC));
        // The announcements of the first seconds are not what is looked at here.
        for _ in 0..20 {
            looped.turn();
            looped.now = looped.now.plus_millis(1000);
        }
        looped
    }

    /// Turns until nothing arrives, counted; returns what was sent to each side.
    fn turn(&mut self) -> (u64, [Vec<Vec<u8>>; 2]) {
        let mut allocations = 0;
        loop {
            let counted = measure(|| {
                self.parts.worker.poll_once(&mut self.io, self.now);
            });
            allocations += counted.count_total;
            if !self.io.has_arriving() {
                break;
            }
        }
        let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
        for side in Side::ALL {
            self.io.take_back(side, |frame| sent[side.index()].push(frame.to_vec()));
        }
        (allocations, sent)
    }

    fn check(&mut self, case: &str, side: Side, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().for_each(|frame| self.io.receive(side, frame));
        let (allocations, [tunnel, external]) = self.turn();
        assert_eq!(allocations, 0, "{case}");
        match side {
            Tunnel => external,
            External => tunnel,
        }
    }
}

/// An ARP request, which tells the sender's MAC.
fn request(from: Ipv4Addr, mac: [u8; 6], to: Ipv4Addr, us: [u8; 6]) -> Vec<u8> {
    arp_frame(1, us, (mac, from), ([0; 6], to))
}

fn from_pod(inner: &[u8]) -> Vec<u8> {
    tunnelled(NODE, POLICY, inner)
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| {
        std::hint::black_box(Vec::<u8>::with_capacity(100));
    });
    assert_eq!(counted.count_total, 1);
}

#[test]
fn hits_and_new_sessions_of_every_protocol() {
    hits_and_new_sessions::<Ipv4Addr, Ipv4Addr>();
    hits_and_new_sessions::<Ipv6Addr, Ipv4Addr>();
    hits_and_new_sessions::<Ipv6Addr, Ipv6Addr>();
}

fn hits_and_new_sessions<F: Family, U: Family>() {
    let mut looped = Loop::new(10_000);
    let from_pod = |inner: &[u8]| tunnelled_over(U::NODE, POLICY, inner);
    for round in ["new", "known"] {
        let udp: Vec<_> =
            (1..=200).map(|n| from_pod(&udp((F::POD, n), (F::REMOTE, 53), 64, b"?"))).collect();
        let out = looped.check(&format!("{round} UDP flows"), Tunnel, &udp);
        let seen = out.iter().map(|frame| SeenOf::<F>::of(frame).sport);
        let answers: Vec<_> = seen
            .map(|l4| from_router(&harness::udp((F::REMOTE, 53), (F::EGRESS, l4), 64, b"!")))
            .collect();
        assert_eq!(looped.check("answers", External, &answers).len(), 200);

        let echoes: Vec<_> =
            (1..=50).map(|id| from_pod(&echo(F::POD, F::REMOTE, true, id, 64))).collect();
        let out = looped.check(&format!("{round} echo requests"), Tunnel, &echoes);
        let ids = out.iter().map(|frame| SeenOf::<F>::of(frame).sport);
        let replies: Vec<_> =
            ids.map(|id| from_router(&echo(F::REMOTE, F::EGRESS, false, id, 64))).collect();
        assert_eq!(looped.check("echo replies", External, &replies).len(), 50);
    }
}

#[test]
fn the_life_of_a_tcp_connection() {
    life_of_a_connection::<Ipv4Addr, Ipv4Addr>();
    life_of_a_connection::<Ipv6Addr, Ipv6Addr>();
}

fn life_of_a_connection<F: Family, U: Family>() {
    let mut looped = Loop::new(10_000);
    let from_pod = |inner: &[u8]| tunnelled_over(U::NODE, POLICY, inner);
    let (pod, remote) = ((F::POD, 40_000), (F::REMOTE, 443));
    let syn = from_pod(&tcp(pod, remote, SYN, Some(9000), b""));
    let out = looped.check("SYN with an MSS to clamp", Tunnel, &[syn]);
    let external = (F::EGRESS, SeenOf::<F>::of(&out[0]).sport);
    let life: [(&str, Side, u8, &[u8]); 6] = [
        ("SYN-ACK", External, SYN | ACK, b""),
        ("ACK", Tunnel, ACK, b""),
        ("data", Tunnel, ACK, b"GET /"),
        ("FIN", External, FIN | ACK, b""),
        ("the other FIN", Tunnel, FIN | ACK, b""),
        ("RST", External, RST, b""),
    ];
    for (case, side, flags, payload) in life {
        let frame = match side {
            Tunnel => from_pod(&tcp(pod, remote, flags, None, payload)),
            External => from_router(&tcp(remote, external, flags, None, payload)),
        };
        assert_eq!(looped.check(case, side, &[frame]).len(), 1, "{case}");
    }
}

#[test]
fn drops_and_errors_of_ipv6() {
    let mut looped = Loop::new(100);
    let (pod, remote, us) = (Ipv6Addr::POD, (Ipv6Addr::REMOTE, 53), Ipv6Addr::EXTERNAL);
    let over = |node: Ipv6Addr, inner: &[u8]| tunnelled_over(node, POLICY, inner);
    let good = udp((pod, 1), remote, 64, b"x");
    let in_tunnel = [
        over(Ipv6Addr::NODE, &good)[..90].to_vec(),
        over(Ipv6Addr::remote(7), &good),
        over(Ipv6Addr::NODE2, &good),
        over(Ipv6Addr::NODE, &udp((pod, 1), remote, 1, b"last hop")),
        over(Ipv6Addr::NODE, &udp((pod, 1), (Ipv6Addr::EGRESS, 53), 64, b"hairpin")),
        over(Ipv6Addr::NODE, &extended(&good, 60, &[17, 0, 1, 4, 0, 0, 0, 0])),
        over(Ipv6Addr::NODE, &extended(&good, 44, &[17, 0, 0, 1, 0, 0, 0, 0])),
        from_underlay(&echo(Ipv6Addr::NODE, Ipv6Addr::VTEP, true, 7, 64)),
    ];
    looped.check("from the tunnel", Tunnel, &in_tunnel);
    let (router, mac) = (Ipv6Addr::ROUTER, ROUTER_MAC);
    let mut strange = Nd::question((router, mac), us);
    strange.options[1] = 0;
    let from_world = [
        from_router(&udp(remote, (Ipv6Addr::EGRESS, 5), 64, b"nobody's")),
        from_router(&echo(remote.0, us, true, 7, 64)),
        from_router(&echo(remote.0, Ipv6Addr::EGRESS, true, 7, 64)),
        Nd::question((router, mac), us).frame(EXTERNAL_MAC, mac),
        Nd { destination: us, options: vec![], ..Nd::question((Ipv6Addr::pod(1), mac), us) }
            .frame(EXTERNAL_MAC, mac),
        Nd::probe(us).frame(EXTERNAL_MAC, mac),
        Nd::advertisement((router, mac), ALL_NODES, OVERRIDE).frame(EXTERNAL_MAC, mac),
        Nd::advertisement((us, mac), ALL_NODES, OVERRIDE).frame(EXTERNAL_MAC, mac),
        strange.frame(EXTERNAL_MAC, mac),
    ];
    looped.check("from the world", External, &from_world);
    let dropped = Side::ALL.map(|side| {
        let reasons = gateway::verdict::DropReason::ALL.iter();
        reasons.filter(|reason| looped.parts.counters.drops(side, **reason) > 0).count()
    });
    assert!(dropped[0] >= 6 && dropped[1] >= 4, "{dropped:?}");
}

#[test]
fn drops_and_errors_of_many_kinds() {
    let mut looped = Loop::new(100);
    let good = udp((POD, 1), (REMOTE, 53), 64, b"x");
    let mut wrong_mac = from_pod(&good);
    wrong_mac[5] ^= 1;
    let in_tunnel = [
        vec![0xff; 60],
        vec![0; 9],
        wrong_mac,
        from_pod(&good)[..60].to_vec(),
        tunnelled(NODE, 999, &good),
        tunnelled([192, 0, 2, 77].into(), POLICY, &good),
        from_pod(&udp(([10, 9, 9, 9].into(), 1), (REMOTE, 53), 64, b"x")),
        from_pod(&tcp((POD, 9), (REMOTE, 80), ACK, None, b"late")),
        from_pod(&ipv4(POD, REMOTE, 132, b"sctp-sctp-sctp")),
        from_pod(&udp((POD, 1), (EGRESS, 53), 64, b"hairpin")),
        from_pod(&udp((POD, 1), (REMOTE, 53), 1, b"last hop")),
        tunnelled_with_checksum(NODE, POLICY, &good),
    ];
    looped.check("from the tunnel", Tunnel, &in_tunnel);
    let from_world = [
        from_router(&udp((REMOTE, 53), (EGRESS, 5), 64, b"nobody's")),
        from_router(&udp((REMOTE, 53), ([203, 0, 113, 99].into(), 5), 64, b"not ours")),
        from_router(&echo(REMOTE, EXTERNAL, true, 7, 64)),
        from_router(&echo(REMOTE, EGRESS, true, 7, 64)),
    ];
    looped.check("from the world", External, &from_world);
    let many: Vec<_> =
        (1..=300).map(|n| from_pod(&udp((POD, n), (REMOTE, 53), 64, b"x"))).collect();
    looped.check("more flows than the table holds", Tunnel, &many);
    let dropped = Side::ALL.map(|side| {
        let reasons = gateway::verdict::DropReason::ALL.iter();
        reasons.filter(|reason| looped.parts.counters.drops(side, **reason) > 0).count()
    });
    assert!(dropped.iter().sum::<usize>() >= 12, "{dropped:?}");
}

#[test]
fn unusual_headers() {
    let mut looped = Loop::new(100);
    let plain = udp((POD, 1), (REMOTE, 53), 64, b"options");
    let with_options = ipv4_with(POD, REMOTE, 17, &plain[20..], |header| {
        header.options = (&[1u8, 1, 1, 0][..]).try_into().unwrap();
    });
    assert_eq!(looped.check("IP options", Tunnel, &[from_pod(&with_options)]).len(), 1);
}

#[test]
fn ageing_and_reloads() {
    let mut looped = Loop::new(10_000);
    let flows: Vec<_> = (1..=200)
        .map(|n| from_pod(&udp((POD, n), (REMOTE, 80), 64, b"x")))
        .chain((1..=200).map(|n| {
            let inner = udp((POD_C, n), (REMOTE, 80), 64, b"x");
            tunnelled(NODE2, POLICY_2, &inner)
        }))
        .collect();
    looped.check("flows", Tunnel, &flows);
    assert_eq!(looped.parts.worker.nat().sessions(), 400);
    looped.parts.policies.store(Arc::new(policies(2, &[(POLICY, &[EGRESS], &[])])));
    for _ in 0..20 {
        looped.check("sweep", Tunnel, &[]);
    }
    assert_eq!(looped.parts.worker.nat().sessions(), 200);
    looped.now = looped.now.plus_millis(31_000);
    for _ in 0..20 {
        looped.check("expiry", Tunnel, &[]);
    }
    assert_eq!(looped.parts.worker.nat().sessions(), 0);
}

#[test]
fn a_reload_with_many_egress_ips() {
    let mut looped = Loop::new(100);
    let egress: Vec<_> = (16..=127).map(|n| [203, 0, 113, n].into()).collect();
    looped.parts.policies.store(Arc::new(policies(2, &[(POLICY, &egress, &[])])));
    let mut announced = 0;
    for _ in 0..30 {
        let (allocations, [_, external]) = looped.turn();
        assert_eq!(allocations, 0);
        announced += external.len();
    }
    assert_eq!(announced, egress.len() + 1, "each, and the port's own");
}

/// The policies come from another thread, as they do in the product, so that nothing of the snapshot's
/// cell was used on this one before.
#[test]
fn the_first_reload_on_the_worker_s_own_thread() {
    let parts = Parts::<MemoryPacket>::new(Setup::default());
    let (worker, published) = (parts.worker, parts.policies);
    let (polled, wait_for_poll) = mpsc::channel();
    let (reloaded, wait_for_reload) = mpsc::channel();
    let first_reload = move || {
        let mut worker = worker;
        worker.settle();
        let mut io = MemoryIo::with_buffers(64);
        worker.poll_once(&mut io, Tick::from_secs(100));
        polled.send(()).unwrap();
        wait_for_reload.recv().unwrap();
        measure(|| {
            worker.poll_once(&mut io, Tick::from_secs(101));
        })
    };
    let thread = thread::spawn(first_reload);
    wait_for_poll.recv().unwrap();
    published.store(Arc::new(usual_policies(2)));
    reloaded.send(()).unwrap();
    assert_eq!(thread.join().unwrap().count_total, 0);
}

#[test]
fn a_neighbour_that_has_to_be_asked() {
    let parts = Parts::new(Setup::both());
    let now = Tick::from_secs(100);
    let mut looped = Loop { parts, io: MemoryIo::with_buffers(64), now };
    for _ in 0..20 {
        looped.turn();
        looped.now = looped.now.plus_millis(1000);
    }
    let flow = from_pod(&udp((POD, 1), (REMOTE, 53), 64, b"first"));
    looped.check("waits for the router", Tunnel, &vec![flow; 20]);
    let answer = arp_frame(2, EXTERNAL_MAC, (ROUTER_MAC, ROUTER), (EXTERNAL_MAC, EXTERNAL));
    looped.io.receive(External, &answer);
    let (allocations, [_, external]) = looped.turn();
    assert_eq!((allocations, external.len()), (0, 16));

    let flow = from_pod(&udp((Ipv6Addr::POD, 1), (Ipv6Addr::REMOTE, 53), 64, b"first"));
    let asked = looped.check("waits for the IPv6 router", Tunnel, &vec![flow; 20]);
    looped.io.receive(External, &NdSeen::of(&asked[0]).unwrap().answer(ROUTER_MAC));
    let (allocations, [_, external]) = looped.turn();
    assert_eq!((allocations, external.len()), (0, 16));
}

/// A worker's answers to the control side: each a bounded piece of work a turn, in memory of the asker's.
#[test]
fn questions_of_the_control_side() {
    let mut looped = Loop::new(10_000);
    let flows: Vec<_> =
        (1..=500).map(|n| from_pod(&udp((POD, n), (REMOTE, 53), 64, b"?"))).collect();
    looped.check("sessions", Tunnel, &flows);
    /// Turns until the answer is there.
    fn answered<T>(
        looped: &mut Loop,
        request: impl FnOnce(crossbeam_channel::Sender<T>) -> Request,
    ) -> (usize, T) {
        let (reply, answer) = crossbeam_channel::bounded(1);
        looped.parts.requests.send(request(reply)).unwrap();
        for turns in 1..10_000 {
            let (allocations, _) = looped.turn();
            assert_eq!(allocations, 0);
            if let Ok(answer) = answer.try_recv() {
                return (turns, answer);
            }
        }
        panic!("no answer");
    }
    let page = Vec::with_capacity(1000);
    let filter = SessionFilter::default();
    let (turns, list) =
        answered(&mut looped, |reply| Request::List { filter, from: 0, limit: 1000, page, reply });
    assert_eq!((turns, list.sessions.len()), (4, 500), "128 slots a turn");

    let packet = udp((POD, 9999), (REMOTE, 53), 64, b"?");
    let ip = parse::ipv4(&packet, 0).unwrap();
    let transport = parse::transport(&packet, &ip, ip.l4()).unwrap();
    let input = In2out::new(&ip, &transport, POLICY, Vtep::from(NODE)).unwrap();
    let question = Question { packet: Any::V4(input), to_lend: false };
    let (turns, Foretold { fate, next_hop }) =
        answered(&mut looped, |reply| Request::Trace { question, reply });
    assert_eq!(fate.judgement, Judgement::Opens { egress_ip: EGRESS.into(), ends: None });
    assert_eq!((turns, fate.l4_ports), (504, (500, 64_512)), "128 l4_ports a turn");
    assert_eq!(next_hop.unwrap().mac().unwrap().0, ROUTER_MAC);

    // 200 more neighbours: the address that a stranger's question comes from is noted.
    for n in 20..220 {
        let stranger = Ipv4Addr::new(203, 0, 113, n);
        looped.io.receive(External, &request(stranger, ROUTER_MAC, EXTERNAL, EXTERNAL_MAC));
        looped.turn();
    }
    let page = Vec::with_capacity(1000);
    let (turns, NeighbourPage { neighbours, next }) =
        answered(&mut looped, |reply| Request::Neighbours { from: 0, limit: 1000, page, reply });
    assert_eq!((neighbours.len(), next), (204, None));
    assert_eq!(turns, 4, "64 neighbours a turn");
}
