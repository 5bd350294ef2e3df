//! The burst path allocates nothing and frees nothing: an allocator counts what the worker's turns ask
//! for. A call into the allocator may take a lock or a page fault, and then a whole burst waits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(unsafe_code, reason = "the trait of global allocators is unsafe")]

mod harness;

use gateway::{
    datapath::{
        Burst, PacketBuf, PacketIo,
        memory_io::{MemoryIo, MemoryPacket},
        request::{Request, SessionFilter},
    },
    nat::{PolicyTable, Tick},
    verdict::{DropReason, Side},
};
use harness::*;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::Ipv4Addr,
    ops::Range,
    sync::{Arc, Barrier},
};

/// The system's allocator, and a note of what this thread asked of it inside [`counted`].
struct Counting;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    allocations: usize,
    frees: usize,
}

thread_local! {
    /// `None` outside of [`counted`]. A constant without a destructor, so that a look at it allocates
    /// nothing.
    static NOTED: Cell<Option<Noted>> = const { Cell::new(None) };
}

/// A packet that is dropped goes back to its pool in the product; the double frees it. Nothing else is
/// aligned like its buffer.
const PACKET_ALIGN: usize = 64;

fn note(change: impl FnOnce(&mut Noted)) {
    if let Some(mut noted) = NOTED.get() {
        change(&mut noted);
        NOTED.set(Some(noted));
    }
}

// SAFETY: each call goes to `System` as it came, and what is done beside it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(|noted| noted.allocations += 1);
        // SAFETY: the caller keeps to this same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(|noted| noted.allocations += 1);
        // SAFETY: the caller keeps to this same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(|noted| noted.allocations += 1);
        // SAFETY: the caller keeps to this same contract, and `block` came from `System`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() < PACKET_ALIGN {
            note(|noted| noted.frees += 1);
        }
        // SAFETY: the caller keeps to this same contract, and `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` asks of the allocator.
fn counted<T>(work: impl FnOnce() -> T) -> (T, Noted) {
    NOTED.set(Some(Noted::default()));
    let result = work();
    let noted = NOTED.take();
    (result, noted.unwrap())
}

/// More than any case drops.
const BUFFERS: usize = 8192;
const VLAN: u16 = 300;

/// A worker with buffers made beforehand; its turns are counted.
struct Gateway {
    parts: Parts<MemoryPacket>,
    io: MemoryIo,
    now: Tick,
    noted: Noted,
    /// Answer ARP requests of the worker.
    arp: bool,
    vlan: u16,
    sent: [Vec<Vec<u8>>; 2],
    /// The control side keeps a snapshot until all workers run the next one.
    old: Vec<Arc<PolicyTable>>,
}

impl Gateway {
    /// The neighbours are known, and the first announcements are over.
    fn warm(setup: Setup) -> Self {
        let vlan = setup.external_vlan;
        let mut gateway = Gateway {
            parts: Parts::new(setup),
            io: MemoryIo::with_buffers(BUFFERS),
            now: Tick::from_secs(1),
            noted: Noted::default(),
            arp: true,
            vlan,
            sent: Default::default(),
            old: Vec::new(),
        };
        for _ in 0..4 {
            gateway.advance(2000);
        }
        for (node, pod, policy) in [(NODE, POD, POLICY), (NODE2, POD_C, POLICY_2)] {
            let out =
                gateway.pods_send(&[tunnelled(node, policy, &udp((pod, 1), (REMOTE, 1), 9, b""))]);
            assert_eq!(gateway.world_answers(&out), 1, "the way to node {node}");
        }
        gateway.noted = Noted::default();
        gateway
    }

    fn turn(&mut self) {
        let Gateway { parts, io, now, .. } = self;
        let (_, noted) = counted(|| parts.worker.poll_once(io, *now));
        self.noted.allocations += noted.allocations;
        self.noted.frees += noted.frees;
        for side in Side::ALL {
            let sent = &mut self.sent[side.index()];
            let mut questions = Vec::new();
            self.io.take_back(side, |frame| match arp_request(frame) {
                Some((sender, target)) if sender == target => {}
                Some((_, target)) => questions.push(target),
                None => sent.push(frame.to_vec()),
            });
            if self.arp {
                questions.into_iter().for_each(|address| self.answer_arp(side, address));
            }
        }
    }

    /// Turns until nothing arrives any more.
    fn poll(&mut self) {
        self.turn();
        while self.io.has_arriving() {
            self.turn();
        }
    }

    fn advance(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.poll();
    }

    fn answer_arp(&mut self, side: Side, target: Ipv4Addr) {
        let (mac, us, us_mac) = match side {
            Side::Tunnel => (NODE_MAC, VTEP, TUNNEL_MAC),
            Side::External => (ROUTER_MAC, EXTERNAL, EXTERNAL_MAC),
        };
        self.receive(side, &arp_frame(2, us_mac, (mac, target), (us_mac, us)));
    }

    /// A frame without a tag; the port's own is put in.
    fn receive(&mut self, side: Side, frame: &[u8]) {
        if side == Side::External && self.vlan != 0 {
            let [high, low] = self.vlan.to_be_bytes();
            let tagged = [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat();
            self.io.receive(side, &tagged);
        } else {
            self.io.receive(side, frame);
        }
    }

    /// Returns what left through the external port.
    fn pods_send(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().for_each(|frame| self.receive(Side::Tunnel, frame));
        self.poll();
        std::mem::take(&mut self.sent[Side::External.index()])
    }

    /// Returns what left through the tunnel port.
    fn world_sends(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().for_each(|frame| self.receive(Side::External, frame));
        self.poll();
        std::mem::take(&mut self.sent[Side::Tunnel.index()])
    }

    /// UDP answers to UDP packets that left; returns how many reached the nodes.
    fn world_answers(&mut self, left: &[Vec<u8>]) -> usize {
        let answer = |frame: &Vec<u8>| {
            let seen = Seen::of(frame);
            let (from, to) = ((seen.destination, seen.dport), (seen.source, seen.sport));
            from_router(&udp(from, to, 64, b"answer"))
        };
        let answers: Vec<_> = left.iter().map(answer).collect();
        self.world_sends(&answers).len()
    }

    fn publish(&mut self, table: PolicyTable) {
        self.old.push(self.parts.policies.load_full());
        self.parts.policies.store(Arc::new(table));
    }

    fn sessions(&self) -> u32 {
        self.parts.worker.nat().sessions()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        Side::ALL.into_iter().map(|side| self.parts.counters.drops(side, reason)).sum()
    }

    /// Kinds of drops that were met.
    fn kinds_of_drops(&self) -> usize {
        DropReason::ALL.iter().filter(|reason| self.dropped(**reason) > 0).count()
    }
}

/// Sender and target of an ARP request. The same address twice is an announcement.
fn arp_request(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let at = if frame[12..14] == [0x81, 0x00] { 18 } else { 14 };
    let is_request = frame[at - 2..at] == [0x08, 0x06] && frame[at + 7] == 1;
    let address = |from: usize| <[u8; 4]>::try_from(&frame[from..from + 4]).unwrap().into();
    is_request.then(|| (address(at + 14), address(at + 24)))
}

/// Datagrams of one pod, one flow per l4_port.
fn datagrams(l4_ports: Range<u16>) -> Vec<Vec<u8>> {
    l4_ports.map(|l4_port| pod_packet(&udp((POD, l4_port), (REMOTE, 80), 64, b"data"))).collect()
}

fn pod_packet(inner: &[u8]) -> Vec<u8> {
    tunnelled(NODE, POLICY, inner)
}

fn segment(l4_port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mss = (flags & SYN != 0).then_some(1460);
    pod_packet(&tcp((POD, l4_port), (REMOTE, 443), flags, mss, payload))
}

/// What the remote says in the connection whose packet left as `frame`.
fn segment_back(frame: &[u8], flags: u8, payload: &[u8]) -> Vec<u8> {
    let mss = (flags & SYN != 0).then_some(1460);
    let seen = Seen::of(frame);
    let (from, to) = ((seen.destination, seen.dport), (seen.source, seen.sport));
    from_router(&tcp(from, to, flags, mss, payload))
}

struct Case {
    description: &'static str,
    setup: Setup,
    /// Asserts as well that what the description says does happen.
    run: fn(&mut Gateway),
}

fn cases() -> Vec<Case> {
    let case = |description, run| Case { description, setup: Setup::default(), run };
    let with = |setup, description, run| Case { description, setup, run };
    let sessions = |max_sessions| Setup { max_sessions, ..Setup::default() };
    vec![
        case("nothing arrives", |g| (0..100).for_each(|_| g.advance(100))),
        case("a full burst of hits from pods", hits_from_pods),
        case("UDP sessions begin", |g| {
            assert_eq!(g.pods_send(&datagrams(1000..3000)).len(), 2000);
            assert_eq!(g.sessions(), 2002);
        }),
        case("TCP sessions begin", |g| {
            let syns: Vec<_> = (1000..3000).map(|l4_port| segment(l4_port, SYN, b"")).collect();
            assert_eq!(g.pods_send(&syns).len(), 2000);
            assert_eq!(g.sessions(), 2002);
        }),
        case("UDP answers", |g| {
            let out = g.pods_send(&datagrams(1000..1500));
            (0..3).for_each(|_| assert_eq!(g.world_answers(&out), 500));
        }),
        case("TCP answers", |g| {
            let syns: Vec<_> = (1000..1100).map(|l4_port| segment(l4_port, SYN, b"")).collect();
            let out = g.pods_send(&syns);
            for flags in [SYN | ACK, ACK] {
                let back: Vec<_> = out.iter().map(|f| segment_back(f, flags, b"")).collect();
                assert_eq!(g.world_sends(&back).len(), 100);
            }
        }),
        case("echo both ways", echo_both_ways),
        case("TCP from its first segment to its last and until it is forgotten", a_tcp_life),
        case("all kinds of drops between good packets", drops),
        case("IP options, outer and inner", options),
        with(
            Setup { external_vlan: VLAN, ..Setup::default() },
            "a VLAN on the external port",
            |g| {
                let out = g.pods_send(&datagrams(1000..1100));
                assert_eq!(Seen::of(&out[0]).vlan, Some(VLAN));
                assert_eq!(g.world_answers(&out), 100);
            },
        ),
        case("thousands of sessions end at once", expiry),
        case("reloads that keep, cut and sweep", reloads),
        case("an operator lists, assesses and flushes", requests),
        with(sessions(100), "the session table is full", |g| {
            for _ in 0..3 {
                assert_eq!(g.pods_send(&datagrams(1000..1400)).len(), 98);
            }
            assert_eq!(g.dropped(DropReason::SessionsFull), 3 * 302);
        }),
        with(sessions(70_000), "no l4_port is left", |g| {
            for pod in 1..=3 {
                let packet = |l4_port| {
                    pod_packet(&udp(([10, 244, 1, pod].into(), l4_port), (REMOTE, 53), 64, b""))
                };
                for first in (0..u16::MAX).step_by(256).map_while(|first| first.checked_add(255)) {
                    if g.dropped(DropReason::L4PortsExhausted) > 0 {
                        return;
                    }
                    let frames: Vec<_> = (first - 255..first).map(packet).collect();
                    g.pods_send(&frames);
                }
            }
            panic!("{} sessions and still an l4_port", g.sessions());
        }),
        case("packets wait for a neighbour and leave when it answers", a_neighbour_that_answers),
        case("packets wait for neighbours that are silent", silent_neighbours),
        case("a reload while a packet waits", |g| {
            g.arp = false;
            let on_link = [203, 0, 113, 99].into();
            g.pods_send(&[pod_packet(&udp((POD, 9), (on_link, 80), 64, b""))]);
            g.publish(usual_policies(2));
            g.answer_arp(Side::External, on_link);
            g.poll();
            assert_eq!(g.dropped(DropReason::PolicyChanged), 1);
        }),
        case("an old neighbour is asked for again", |g| {
            for _ in 0..5 {
                g.advance(31_000);
                let out = g.pods_send(&datagrams(1000..1032));
                assert_eq!((out.len(), g.world_answers(&out)), (32, 32));
            }
        }),
        case("a port that is full", |g| {
            g.pods_send(&datagrams(1000..1064));
            g.io.tx_room = 10;
            assert_eq!(g.pods_send(&datagrams(1000..1064)).len(), 10);
            assert_eq!(g.dropped(DropReason::TxFull), 54);
        }),
    ]
}

fn hits_from_pods(g: &mut Gateway) {
    for _ in 0..100 {
        assert_eq!(g.pods_send(&datagrams(1000..1032)).len(), 32);
    }
    assert_eq!(g.sessions(), 34);
}

fn echo_both_ways(g: &mut Gateway) {
    for _ in 0..2 {
        let requests: Vec<_> =
            (0..100).map(|id| pod_packet(&echo(POD, REMOTE, true, id, 64))).collect();
        let out = g.pods_send(&requests);
        let reply = |frame: &Vec<u8>| {
            let seen = Seen::of(frame);
            from_router(&echo(seen.destination, seen.source, false, seen.sport, 64))
        };
        let replies: Vec<_> = out.iter().map(reply).collect();
        assert_eq!(g.world_sends(&replies).len(), 100);
    }
    // And the gateway's own answers.
    g.receive(Side::External, &from_router(&echo(REMOTE, EXTERNAL, true, 7, 64)));
    let to_node = ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &echo(NODE, VTEP, true, 7, 64));
    let answers = (g.pods_send(&[to_node]).len(), g.world_sends(&[]).len());
    assert_eq!(answers, (1, 1));
}

fn a_tcp_life(g: &mut Gateway) {
    let before = g.sessions();
    for l4_port in 1000..1010 {
        let syn = g.pods_send(&[segment(l4_port, SYN, b"")]);
        let back = |flags, payload: &[u8]| [segment_back(&syn[0], flags, payload)];
        assert_eq!(g.world_sends(&back(SYN | ACK, b"")).len(), 1);
        assert_eq!(g.pods_send(&[segment(l4_port, ACK, b"")]).len(), 1);
        assert_eq!(g.pods_send(&[segment(l4_port, ACK, b"request")]).len(), 1);
        assert_eq!(g.world_sends(&back(ACK, b"response")).len(), 1);
        assert_eq!(g.pods_send(&[segment(l4_port, FIN | ACK, b"")]).len(), 1);
        assert_eq!(g.world_sends(&back(FIN | ACK, b"")).len(), 1);
        assert_eq!(g.pods_send(&[segment(l4_port, ACK, b"")]).len(), 1);
        assert_eq!(g.pods_send(&[segment(l4_port, RST, b"")]).len(), 1);
        assert_eq!(g.world_sends(&back(RST, b"")).len(), 1);
    }
    assert_eq!(g.sessions(), before + 10);
    (0..60).for_each(|_| g.advance(10_000));
    assert_eq!(g.sessions(), 0);
}

fn drops(g: &mut Gateway) {
    let good = udp((POD, 1000), (REMOTE, 80), 64, b"good");
    let out = g.pods_send(&[pod_packet(&good)]);
    let l4_port = Seen::of(&out[0]).sport;
    let cut = |frame: &[u8], len: usize| frame[..len].to_vec();
    let mut vxlan = vxlan_payload(POLICY, &good);
    vxlan[0] = 0;
    let mut damaged = good.clone();
    damaged[8] ^= 1;
    let mut outer_checksum = tunnelled_with_checksum(NODE, POLICY, &good);
    outer_checksum[60] ^= 0x5a;
    let from_pods = [
        vec![0xa5; 90],
        cut(&pod_packet(&good), 60),
        cut(&pod_packet(&good), 13),
        tunnelled(NODE, 99, &good),
        tunnelled([192, 0, 2, 77].into(), POLICY, &good),
        tunnelled(NODE2, POLICY, &udp((POD, 7), (REMOTE, 80), 64, b"")),
        ethernet([2, 9, 9, 9, 9, 9], NODE_MAC, 0x0800, &good),
        ethernet(TUNNEL_MAC, NODE_MAC, 0x86dd, &[0x60; 40]),
        ethernet(TUNNEL_MAC, NODE_MAC, 0x0806, &[0; 28]),
        tunnelled_frame(NODE, vxlan, false),
        outer_checksum,
        pod_packet(&damaged),
        pod_packet(&udp((POD, 7), (REMOTE, 80), 1, b"TTL")),
        pod_packet(&udp((POD, 7), ([224, 0, 0, 1].into(), 80), 64, b"")),
        pod_packet(&udp((POD, 7), (EGRESS_2, 80), 64, b"")),
        pod_packet(&tcp((POD, 7), (REMOTE, 80), ACK, None, b"in mid-stream")),
        pod_packet(&ipv4(POD, REMOTE, 132, &[0; 12])),
        pod_packet(&ipv4_with(POD, REMOTE, 17, &good[20..], |h| h.more_fragments = true)),
        pod_packet(&echo(POD, REMOTE, false, 7, 64)),
        pod_packet(&udp((POD, 7), (REMOTE, 0), 64, b"")),
    ];
    let from_world = [
        from_router(&udp((REMOTE, 80), (EGRESS, l4_port), 1, b"TTL")),
        from_router(&udp((REMOTE, 81), (EGRESS, l4_port), 64, b"a stranger")),
        from_router(&udp((REMOTE, 80), ([203, 0, 113, 31].into(), 7), 64, b"")),
        from_router(&tcp((REMOTE, 80), (EXTERNAL, 22), SYN, None, b"")),
        from_router(&udp((REMOTE, 80), (EGRESS, l4_port), 64, &[0; 1440])),
        ethernet(EXTERNAL_MAC, ROUTER_MAC, 0x8100, &[0, 7, 8, 0, 0x45]),
        arp_frame(1, [0xff; 6], (ROUTER_MAC, ROUTER), ([0; 6], REMOTE)),
    ];
    for _ in 0..5 {
        for frame in &from_pods {
            g.io.receive(Side::Tunnel, frame);
            g.io.receive(Side::Tunnel, &pod_packet(&good));
        }
        for frame in &from_world {
            g.io.receive(Side::External, frame);
        }
        g.io.receive_segmented(Side::Tunnel, &[0; 1500]);
        g.poll();
    }
    assert!(g.kinds_of_drops() >= 22, "{} kinds of drops", g.kinds_of_drops());
    assert_eq!(g.parts.counters.icmp_errors_sent.get(), 10);
    assert_eq!(g.pods_send(&[]).len(), 5 * (from_pods.len() + 1), "good ones, and errors");
}

fn options(g: &mut Gateway) {
    let with_options = |from, to, plain: &[u8]| {
        ipv4_with(from, to, 17, &plain[20..], |h| {
            h.options = [1, 1, 1, 0].into();
        })
    };
    let inner = with_options(POD, REMOTE, &udp((POD, 1000), (REMOTE, 80), 64, b"inner"));
    let usual = pod_packet(&inner);
    let outer = with_options(NODE, VTEP, &usual[14..]);
    let frames = [usual, ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &outer)];
    let out = g.pods_send(&frames);
    assert_eq!(out.len(), 2);
    let answer = udp((REMOTE, 80), (EGRESS, Seen::of(&out[0]).sport), 64, b"answer");
    let back = g.world_sends(&[from_router(&with_options(REMOTE, EGRESS, &answer))]);
    assert_eq!(back.len(), 1);
}

fn expiry(g: &mut Gateway) {
    g.pods_send(&datagrams(1000..4000));
    let syns: Vec<_> = (1000..2000).map(|l4_port| segment(l4_port, SYN, b"")).collect();
    g.pods_send(&syns);
    assert_eq!(g.sessions(), 4002);
    // Most fire within their timeouts, the others after a jump over the whole wheel.
    (0..500).for_each(|_| g.advance(100));
    assert_eq!(g.sessions(), 1002, "of TCP, and two that were answered");
    g.advance(100_000_000);
    (0..200).for_each(|_| g.turn());
    assert_eq!(g.sessions(), 0);
    assert_eq!(g.pods_send(&datagrams(1000..1100)).len(), 100);
}

fn reloads(g: &mut Gateway) {
    let out = g.pods_send(&datagrams(1000..1500));
    let before = g.sessions();
    g.publish(usual_policies(2));
    assert_eq!(g.pods_send(&datagrams(1000..1500)).len(), 500);
    assert_eq!(g.world_answers(&out), 500);
    assert_eq!(g.sessions(), before, "the same policies again");

    g.publish(policies(3, &[(POLICY, &[EGRESS_2], &[]), (POLICY_2, &[EGRESS], &[])]));
    assert_eq!(g.pods_send(&datagrams(1000..1020)).len(), 20, "they begin anew");
    assert_eq!(g.world_answers(&out[20..40]), 0, "cut by their answers");
    (0..20).for_each(|_| g.turn());
    assert_eq!(g.sessions(), 20, "all others were swept");

    g.publish(policies(4, &[]));
    (0..20).for_each(|_| g.advance(1000));
    assert_eq!(g.sessions(), 0);
}

fn requests(g: &mut Gateway) {
    g.pods_send(&datagrams(1000..1500));
    let filter = SessionFilter { source: Some(POD), ..SessionFilter::default() };
    let (reply, pages) = crossbeam_channel::bounded(1);
    let page = Vec::with_capacity(1000);
    let list = Request::List { filter, from: 0, limit: 1000, page, reply };
    let (reply, assessed) = crossbeam_channel::bounded(1);
    let policies = Arc::new(policies(2, &[]));
    let assess = Request::Assess { policies: Arc::clone(&policies), reply };
    let (reply, flushed) = crossbeam_channel::bounded(1);
    let flush = Request::Flush { filter, reply };
    for request in [list, assess, flush] {
        g.parts.requests.send(request).unwrap();
    }
    (0..30).for_each(|_| g.turn());
    assert_eq!(pages.try_recv().unwrap().sessions.len(), 501);
    assert_eq!(assessed.try_recv(), Ok((0, 502)));
    assert_eq!(flushed.try_recv(), Ok(501));
}

fn a_neighbour_that_answers(g: &mut Gateway) {
    g.arp = false;
    for last in 50..90 {
        let on_link = [203, 0, 113, last].into();
        let frames: Vec<_> = (1000..1020)
            .map(|l4_port| pod_packet(&udp((POD, l4_port), (on_link, 80), 64, b"")))
            .collect();
        assert_eq!(g.pods_send(&frames).len(), 0);
        g.answer_arp(Side::External, on_link);
        assert_eq!(g.pods_send(&[]).len(), 16);
        assert_eq!(g.pods_send(&frames).len(), 20);
    }
    assert_eq!(g.dropped(DropReason::NeighbourQueueFull), 4 * 40);
}

fn silent_neighbours(g: &mut Gateway) {
    g.arp = false;
    let packet = |last: u8| {
        let on_link = [203, 0, 113, last].into();
        pod_packet(&udp((POD, 1000), (on_link, 80), 64, b""))
    };
    let frames: Vec<_> = (20..=250).map(packet).collect();
    for _ in 0..2 {
        g.pods_send(&frames);
        (0..60).for_each(|_| g.advance(200));
    }
    assert_eq!(g.dropped(DropReason::NeighbourUnresolved), 2 * 231);
}

#[test]
fn no_turn_of_a_worker_allocates_or_frees() {
    let mut failed = Vec::new();
    for Case { description, setup, run } in cases() {
        let mut gateway = Gateway::warm(setup);
        run(&mut gateway);
        gateway.parts.worker.nat().check_invariants();
        if gateway.noted != Noted::default() {
            failed.push((description, gateway.noted));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// How large the announcements get is known to whoever publishes them, and to the worker only then.
#[test]
fn a_reload_that_brings_more_egress_ips_than_there_ever_were_allocates_nothing() {
    let mut gateway = Gateway::warm(Setup::default());
    let many: Vec<_> = (100..200).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
    gateway.publish(policies(2, &[(POLICY, &many, &[])]));
    (0..20).for_each(|_| gateway.advance(1000));
    let egress_ip = Seen::of(&gateway.pods_send(&datagrams(1000..1001))[0]).source;
    assert!(many.contains(&egress_ip), "the new policies are in force");
    assert_eq!(gateway.noted, Noted::default());
}

/// Ports where nothing arrives, without an `Rc`: for a worker that moves to another thread.
struct Quiet;

impl PacketBuf for Quiet {
    fn data(&self) -> &[u8] {
        &[]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn prefetch(&self, _: Side) {}

    fn is_contiguous(&self) -> bool {
        true
    }

    fn prepend(&mut self, _: usize) -> bool {
        false
    }

    fn keep(&mut self, _: Range<usize>) {}

    fn fill(&mut self, _: &[u8]) -> bool {
        false
    }
}

impl PacketIo for Quiet {
    type Buf = Quiet;

    fn rx(&mut self, _: Side, _: &mut Burst<Quiet>) {}

    fn tx(&mut self, _: Side, _: &mut Burst<Quiet>) {}

    fn alloc(&mut self) -> Option<Quiet> {
        None
    }
}

/// As in the product: one thread makes the worker and publishes reloads, another runs it.
#[test]
fn the_first_reload_on_a_worker_s_own_thread_allocates_nothing() {
    let Parts { mut worker, policies, .. } = Parts::<Quiet>::new(Setup::default());
    let old = policies.load_full();
    let published = Arc::new(Barrier::new(2));
    let is_published = Arc::clone(&published);
    let worker_thread = std::thread::spawn(move || {
        let mut turn = || counted(|| worker.poll_once(&mut Quiet, Tick::from_secs(1))).1;
        turn();
        is_published.wait();
        is_published.wait();
        turn()
    });
    published.wait();
    policies.store(Arc::new(usual_policies(2)));
    published.wait();
    assert_eq!(worker_thread.join().unwrap(), Noted::default());
    drop(old);
}

#[test]
fn the_counter_counts() {
    let (_, noted) = counted(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(100))));
    assert_eq!(noted, Noted { allocations: 1, frees: 1 });
    let (_, noted) = counted(|| std::hint::black_box(vec![0u8; 100]).reserve_exact(1000));
    assert_eq!(noted, Noted { allocations: 2, frees: 1 });
    // What the double itself would ask for, were there too few buffers.
    let mut parts = Parts::new(Setup::default());
    let mut io = MemoryIo::default();
    let (_, noted) = counted(|| parts.worker.poll_once(&mut io, Tick::from_secs(1)));
    assert!(noted.allocations > 0);
}
