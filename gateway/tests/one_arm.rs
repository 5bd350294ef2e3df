//! A one-armed gateway: the whole worker on one wire, with its two sides kept apart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::{
    datapath::{
        Burst, PacketIo,
        memory_io::{MemoryIo, MemoryPacket},
        one_arm::{OneArm, SideRule, Wire},
    },
    nat::Tick,
    verdict::{
        DropReason,
        Side::{self, External, Tunnel},
    },
};
use harness::*;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// One side of a memory double, as the device.
struct MemoryWire(MemoryIo);

impl Wire for MemoryWire {
    type Buf = MemoryPacket;

    fn rx(&mut self, burst: &mut Burst<MemoryPacket>) {
        self.0.rx(Tunnel, burst);
    }

    fn tx(&mut self, burst: &mut Burst<MemoryPacket>) {
        self.0.tx(Tunnel, burst);
    }

    fn alloc(&mut self) -> Option<MemoryPacket> {
        self.0.alloc()
    }
}

fn tagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    if vlan == 0 {
        return frame.to_vec();
    }
    [&frame[..12], &[0x81, 0x00], &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// A node and a router on one wire with the gateway.
struct Bench {
    parts: Parts<MemoryPacket>,
    io: OneArm<MemoryWire>,
    /// By side.
    vlans: [u16; 2],
    now: Tick,
}

/// What left, and by which side, as the MAC and the VLAN tell it.
type Sent = Vec<(Side, Vec<u8>)>;

impl Bench {
    fn by_vlan() -> Self {
        Self::new([0, 20], SideRule::ByVlan(0))
    }

    fn by_address() -> Self {
        Self::new([0, 0], SideRule::by_address(["192.0.2.10/24".parse().unwrap()]))
    }

    fn new(vlans: [u16; 2], rule: SideRule) -> Self {
        let setup = Setup {
            external_vlan: vlans[External.index()],
            external_mac: TUNNEL_MAC,
            ..Setup::default()
        };
        let io = OneArm::new(MemoryWire(MemoryIo::default()), rule);
        let mut bench = Bench { parts: Parts::new(setup), io, vlans, now: Tick::from_secs(1) };
        // The announcements of the first seconds.
        for _ in 0..4 {
            bench.now = bench.now.plus_millis(2000);
            bench.poll();
        }
        bench
    }

    /// A frame of one side's segment comes; what leaves for it.
    fn receive(&mut self, side: Side, frame: &[u8]) -> Sent {
        let frame = tagged(self.vlans[side.index()], frame);
        self.io.wire_mut().0.receive(Tunnel, &frame);
        self.poll()
    }

    fn poll(&mut self) -> Sent {
        let mut sent = vec![];
        for _ in 0..20 {
            self.parts.worker.poll_once(&mut self.io, self.now);
            for frame in self.io.wire_mut().0.sent(Tunnel) {
                if let Some(packet) = self.judge(&frame) {
                    sent.push(packet);
                }
            }
        }
        assert!(!self.io.wire_mut().0.has_arriving());
        sent
    }

    /// No frame leaves that is not one of its side: VLAN, neighbour, source. ARP is answered by whose
    /// address it is, in the VLAN where they live.
    fn judge(&mut self, frame: &[u8]) -> Option<(Side, Vec<u8>)> {
        let (vlan, l3) = match frame[12..14] {
            [0x81, 0x00] => (u16::from_be_bytes([frame[14], frame[15]]), 18),
            _ => (0, 14),
        };
        let at = |i: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[i..i + 4]).unwrap());
        let to_mac: [u8; 6] = frame[..6].try_into().unwrap();
        let is_arp = frame[l3 - 2..l3] == [0x08, 0x06];
        let source = at(l3 + if is_arp { 14 } else { 12 });
        let side = if source == VTEP { Tunnel } else { External };
        assert_eq!(vlan, self.vlans[side.index()], "{source} in VLAN {vlan}");
        assert!([VTEP, EXTERNAL, EGRESS, EGRESS_2].contains(&source), "{source}");
        let (mac, peer) = if side == Tunnel { (NODE_MAC, NODE) } else { (ROUTER_MAC, ROUTER) };
        if !is_arp {
            assert_eq!(to_mac, mac, "{source} → {}", at(l3 + 16));
            return Some((side, frame.to_vec()));
        }
        let target = at(l3 + 24);
        if to_mac == [0xff; 6] && target != source {
            assert_eq!(target, peer, "{source} asks for {target}");
            let reply = arp_frame(2, TUNNEL_MAC, (mac, target), (TUNNEL_MAC, source));
            self.io.wire_mut().0.receive(Tunnel, &tagged(vlan, &reply));
        }
        (to_mac != [0xff; 6]).then(|| (side, frame.to_vec()))
    }

    fn drops(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let all = Side::ALL.into_iter().flat_map(|s| DropReason::ALL.iter().map(move |r| (s, *r)));
        let counted = all.map(|(s, r)| ((s.label(), r.label()), self.parts.counters.drops(s, r)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

fn from_world(packet: &[u8]) -> Vec<u8> {
    ethernet(TUNNEL_MAC, ROUTER_MAC, 0x0800, packet)
}

#[test]
fn flows_go_both_ways_over_one_wire() {
    for mut bench in [Bench::by_vlan(), Bench::by_address()] {
        for flow in 1..=3 {
            let pod = (POD, 40_000 + flow);
            let question = udp(pod, (REMOTE, 53), 64, b"question");
            let sent = bench.receive(Tunnel, &tunnelled(NODE, POLICY, &question));
            let [(External, frame)] = sent.as_slice() else {
                panic!("{sent:?} {:?}", bench.drops())
            };
            let seen = Seen::of(frame);
            assert_eq!((seen.source, seen.destination), (EGRESS, REMOTE));
            assert_eq!((seen.dport, &*seen.payload), (53, &b"question"[..]));

            let answer = udp((REMOTE, 53), (EGRESS, seen.sport), 60, b"answer");
            let sent = bench.receive(External, &from_world(&answer));
            let [(Tunnel, frame)] = sent.as_slice() else { panic!("{sent:?} {:?}", bench.drops()) };
            let (inner, vni) = Seen::in_tunnel(frame, NODE);
            assert_eq!((inner.destination, inner.dport, vni), (pod.0, pod.1, POLICY));
            assert_eq!((inner.source, &*inner.payload), (REMOTE, &b"answer"[..]));
        }
        assert_eq!(bench.parts.worker.nat().sessions(), 3);
        assert_eq!(bench.drops(), BTreeMap::new());
    }
}

#[test]
fn bursts_of_both_sides_mixed_lose_nothing() {
    for mut bench in [Bench::by_vlan(), Bench::by_address()] {
        let question = |n: u16| tunnelled(NODE, POLICY, &udp((POD, n), (REMOTE, 53), 64, b"?"));
        let opened = bench.receive(Tunnel, &question(1));
        let l4_port = Seen::of(&opened[0].1).sport;
        let answer = from_world(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"!"));
        // The node's MAC is asked for by the first.
        assert_eq!(bench.receive(External, &answer).len(), 1);
        // Runs of one side that are longer than a burst, and every mixture.
        let runs = [(40, 3), (1, 70), (7, 9), (33, 32)];
        let (mut questions, mut answers) = (0, 0);
        for (of_tunnel, of_external) in runs {
            for (side, frame, count) in
                [(Tunnel, question(1), of_tunnel), (External, answer.clone(), of_external)]
            {
                let frame = tagged(bench.vlans[side.index()], &frame);
                (0..count).for_each(|_| bench.io.wire_mut().0.receive(Tunnel, &frame));
            }
            questions += of_tunnel;
            answers += of_external;
        }
        let sent = bench.poll();
        let count = |wanted: Side| sent.iter().filter(|(side, _)| *side == wanted).count();
        assert_eq!((count(External), count(Tunnel)), (questions, answers));
        assert_eq!(bench.drops(), BTreeMap::new());
    }
}

/// Description, segment, frame, the side that answers, drops.
type Case = (&'static str, Side, Vec<u8>, Option<Side>, &'static [(&'static str, &'static str)]);

fn check(new: fn() -> Bench, cases: Vec<Case>) {
    for (description, side, frame, answering, drops) in cases {
        let mut bench = new();
        let sent = bench.receive(side, &frame);
        let answered: Vec<Side> = sent.iter().map(|(side, _)| *side).collect();
        assert_eq!(answered, Vec::from_iter(answering), "{description}: {:?}", bench.drops());
        let wanted: BTreeMap<_, _> = drops.iter().map(|drop| (*drop, 1)).collect();
        assert_eq!(bench.drops(), wanted, "{description}");
        assert_eq!(bench.parts.worker.nat().sessions(), 0, "{description}");
    }
}

/// Not known before it asks.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

fn mac_of(host: Ipv4Addr) -> [u8; 6] {
    if host == ROUTER { ROUTER_MAC } else { NODE_MAC }
}

fn ping(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    ethernet(TUNNEL_MAC, mac_of(from), 0x0800, &echo(from, to, true, 7, 64))
}

/// Who has `target`?
fn asks(from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp_frame(1, [0xff; 6], (mac_of(from), from), ([0; 6], target))
}

#[test]
fn by_vlan_each_side_has_its_own_addresses_alone() {
    let vxlan = tunnelled(NODE, POLICY, &udp((POD, 1), (REMOTE, 53), 64, b"?"));
    check(
        Bench::by_vlan,
        vec![
            ("a node pings the VTEP", Tunnel, ping(NODE, VTEP), Some(Tunnel), &[]),
            ("the router pings us", External, ping(ROUTER, EXTERNAL), Some(External), &[]),
            (
                "a node pings the external address",
                Tunnel,
                ping(NODE, EXTERNAL),
                None,
                &[("tunnel", "not_our_address")],
            ),
            (
                "the router pings the VTEP",
                External,
                ping(ROUTER, VTEP),
                None,
                &[("external", "not_our_address")],
            ),
            ("VXLAN from the world", External, vxlan, None, &[("external", "not_our_address")]),
            ("a node asks for the VTEP", Tunnel, asks(NODE, VTEP), Some(Tunnel), &[]),
            (
                "the router asks for an egress IP",
                External,
                asks(ROUTER, EGRESS),
                Some(External),
                &[],
            ),
            (
                "a node asks for an egress IP",
                Tunnel,
                asks(NODE, EGRESS),
                None,
                &[("tunnel", "arp_not_for_us")],
            ),
            (
                "a stranger asks for the VTEP",
                External,
                asks(STRANGER, VTEP),
                None,
                &[("external", "arp_not_for_us")],
            ),
            // Untagged is the tunnel side, 30 nobody's.
            (
                "another VLAN",
                Tunnel,
                tagged(30, &ping(NODE, VTEP)),
                None,
                &[("external", "wrong_vlan")],
            ),
            ("cut", Tunnel, ping(NODE, VTEP)[..13].to_vec(), None, &[("external", "truncated")]),
        ],
    );
}

#[test]
fn by_address_each_side_answers_by_its_own_next_hops() {
    let question = udp((POD, 1), (REMOTE, 53), 64, b"?");
    let stranger = Ipv4Addr::new(192, 0, 2, 77);
    let mut to_external = tunnelled(NODE, POLICY, &question);
    let mut header = etherparse::Ipv4Header::from_slice(&to_external[14..]).unwrap().0;
    header.destination = EXTERNAL.octets();
    header.header_checksum = header.calc_header_checksum();
    to_external.splice(14..34, header.to_bytes());
    check(
        Bench::by_address,
        vec![
            ("a node pings the VTEP", Tunnel, ping(NODE, VTEP), Some(Tunnel), &[]),
            ("the router pings us", External, ping(ROUTER, EXTERNAL), Some(External), &[]),
            // By the router: the external side knows no nodes.
            (
                "a node pings the external address",
                Tunnel,
                ping(NODE, EXTERNAL),
                Some(External),
                &[],
            ),
            // The tunnel side has no router.
            (
                "the router pings the VTEP",
                External,
                ping(ROUTER, VTEP),
                None,
                &[("tunnel", "no_next_hop")],
            ),
            (
                "VXLAN to the external address",
                Tunnel,
                to_external,
                None,
                &[("external", "no_service")],
            ),
            (
                "VXLAN of a stranger",
                Tunnel,
                tunnelled(stranger, POLICY, &question),
                None,
                &[("tunnel", "unknown_node")],
            ),
            (
                "to an egress IP, from a node",
                Tunnel,
                ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &udp((NODE, 9), (EGRESS, 9), 64, b"")),
                None,
                &[("external", "no_session")],
            ),
            (
                "a node to a node",
                Tunnel,
                ping(NODE, NODE2),
                None,
                &[("external", "not_our_address")],
            ),
            ("a node asks for the VTEP", Tunnel, asks(NODE, VTEP), Some(Tunnel), &[]),
            (
                "the router asks for an egress IP",
                External,
                asks(ROUTER, EGRESS),
                Some(External),
                &[],
            ),
            (
                "a node asks for an egress IP",
                Tunnel,
                asks(NODE, EGRESS),
                None,
                &[("tunnel", "arp_not_for_us")],
            ),
            // Answered, as with two devices, and by the tunnel side.
            ("the router asks for the VTEP", External, asks(ROUTER, VTEP), Some(Tunnel), &[]),
        ],
    );
}
