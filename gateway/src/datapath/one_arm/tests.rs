//! Tables: frame in, side out. And the adapter, which loses and reorders nothing.

use super::*;
use crate::{
    datapath::memory_io::{MemoryIo, MemoryPacket},
    verdict::Side::{External, Tunnel},
};
use allocation_counter::measure;
use etherparse::{EtherType, Ethernet2Header, PacketBuilder};
use proptest::prelude::*;
use std::net::IpAddr;

const US: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const PEER: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Two addresses of each family; the prefix of the one holds the other's.
fn rule() -> SideRule {
    let nets =
        ["192.0.2.10/24", "192.0.2.129/25", "198.18.0.1/31", "2001:db8:2::10/64", "fd00::a/127"];
    SideRule::by_address(nets.map(|net| net.parse().unwrap()))
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header =
        Ethernet2Header { destination: US, source: PEER, ether_type: EtherType(ethertype) };
    [&header.to_bytes(), payload].concat()
}

fn tagged(control: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &control.to_be_bytes(), &frame[12..]].concat()
}

/// A UDP packet from an address that is of no side.
fn udp_to(destination: &str) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(PEER, US);
    let builder = match destination.parse().unwrap() {
        IpAddr::V4(to) => ethernet.ipv4([198, 51, 100, 10], to.octets(), 64),
        IpAddr::V6(to) => {
            let from: Ipv6Addr = "2001:db8:100::10".parse().unwrap();
            ethernet.ipv6(from.octets(), to.octets(), 64)
        }
    };
    let mut frame = Vec::new();
    builder.udp(1000, 4790).write(&mut frame, b"payload").unwrap();
    frame
}

fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let [sender, target] = [sender, target].map(|ip| ip.parse::<Ipv4Addr>().unwrap().octets());
    let arp =
        [&[0, 1, 8, 0, 6, 4, 0, operation], &PEER[..], &sender, &[0; 6], &target[..]].concat();
    ethernet(0x0806, &arp)
}

fn icmpv6(icmp_type: u8, from: &str, to: &str, target: &str) -> Vec<u8> {
    let [from, to, target] = [from, to, target].map(|ip| ip.parse::<Ipv6Addr>().unwrap().octets());
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER, US).ipv6(from, to, 255);
    builder.icmpv6_raw(icmp_type, 0, [0; 4]).write(&mut frame, &target).unwrap();
    frame
}

fn check(rule: &SideRule, cases: &[(&str, Vec<u8>, Side)]) {
    for (description, frame, side) in cases {
        assert_eq!(side_of(frame, rule), *side, "{description}: {frame:02x?}");
    }
}

#[test]
fn by_vlan() {
    let frame = udp_to("192.0.2.10");
    // Priority and "drop eligible" are no part of the id.
    let cases = |ours: Side, untagged: Side| {
        [
            ("tag 10", tagged(10, &frame), ours),
            ("tag 10 with priority 7", tagged(0xf00a, &frame), ours),
            ("no tag", frame.clone(), untagged),
            ("a priority tag", tagged(0xe000, &frame), untagged),
            ("tag 20", tagged(20, &frame), External),
            ("tag 266, which ends as 10 does", tagged(266, &frame), External),
            ("tag 10 inside of tag 20", tagged(20, &tagged(10, &frame)), External),
            ("a cut tag", tagged(10, &frame)[..17].to_vec(), External),
            ("a cut header", frame[..13].to_vec(), External),
            ("nothing", vec![], External),
        ]
    };
    check(&SideRule::ByVlan(10), &cases(Tunnel, External));
    check(&SideRule::ByVlan(0), &cases(External, Tunnel));
    // What is inside is not looked at.
    let cut = tagged(10, &frame[..14]);
    check(&SideRule::ByVlan(10), &[("no payload", cut, Tunnel)]);
}

#[test]
fn packets_by_address() {
    let mut cases = vec![];
    for (destination, side) in [
        ("192.0.2.10", Tunnel),
        ("192.0.2.129", Tunnel),
        ("198.18.0.1", Tunnel),
        // On-link there, and not the port's own.
        ("192.0.2.11", External),
        ("192.0.2.255", External),
        ("198.18.0.0", External),
        ("203.0.113.16", External),
        ("255.255.255.255", External),
        ("2001:db8:2::10", Tunnel),
        ("fd00::a", Tunnel),
        ("2001:db8:2::11", External),
        ("fd00::b", External),
        ("fe80::ff:fe00:10", External),
        ("ff02::1:ff00:10", External),
    ] {
        let frame = udp_to(destination);
        cases.push((destination, tagged(10, &frame), side));
        cases.push((destination, tagged(0xe000, &frame), side));
        cases.push((destination, frame, side));
    }
    let wrong = |at: usize, value: u8, destination: &str| {
        let mut frame = udp_to(destination);
        frame[at] = value;
        frame
    };
    cases.extend([
        ("IPv4 of version 5", wrong(14, 0x55, "192.0.2.10"), External),
        ("IPv6 of version 4", wrong(14, 0x40, "2001:db8:2::10"), External),
        ("a cut IPv4 header", udp_to("192.0.2.10")[..14 + 19].to_vec(), External),
        ("an IPv4 header alone", udp_to("192.0.2.10")[..14 + 20].to_vec(), Tunnel),
        ("a cut IPv6 header", udp_to("2001:db8:2::10")[..14 + 39].to_vec(), External),
        ("an IPv6 header alone", udp_to("2001:db8:2::10")[..14 + 40].to_vec(), Tunnel),
        ("another ethertype", wrong(13, 0x01, "192.0.2.10"), External),
        ("a cut header", udp_to("192.0.2.10")[..13].to_vec(), External),
        ("nothing", vec![], External),
    ]);
    check(&rule(), &cases);
    // Without an address of its family nothing is the tunnel side's.
    let v4_only = SideRule::by_address(["192.0.2.10/24".parse().unwrap()]);
    check(&v4_only, &[("IPv6", udp_to("2001:db8:2::10"), External)]);
}

#[test]
fn arp_by_target_or_sender() {
    let (request, reply) = (1, 2);
    let cut = arp(request, "192.0.2.1", "192.0.2.10")[..14 + 27].to_vec();
    check(
        &rule(),
        &[
            ("a node asks for us", arp(request, "192.0.2.1", "192.0.2.10"), Tunnel),
            ("a node answers", arp(reply, "192.0.2.1", "192.0.2.10"), Tunnel),
            ("a node asks for a node", arp(request, "192.0.2.1", "192.0.2.2"), Tunnel),
            ("a node asks for an egress IP", arp(request, "192.0.2.1", "203.0.113.16"), Tunnel),
            ("a probe for our address", arp(request, "0.0.0.0", "192.0.2.10"), Tunnel),
            (
                "the router asks for an egress IP",
                arp(request, "203.0.113.1", "203.0.113.16"),
                External,
            ),
            ("the router answers", arp(reply, "203.0.113.1", "203.0.113.2"), External),
            ("the router announces itself", arp(request, "203.0.113.1", "203.0.113.1"), External),
            ("a probe for an egress IP", arp(request, "0.0.0.0", "203.0.113.16"), External),
            ("with a tag", tagged(10, &arp(request, "192.0.2.1", "192.0.2.10")), Tunnel),
            ("cut", cut, External),
        ],
    );
}

#[test]
fn neighbor_discovery_by_target() {
    let (solicitation, advertisement, echo, router_advertisement) = (135, 136, 128, 134);
    let (node, link_local, ours) = ("2001:db8:2::1", "fe80::1:1", "2001:db8:2::10");
    let (router, egress) = ("2001:db8:113::1", "2001:db8:113::16");
    let group = "ff02::1:ff00:10";
    let nd = icmpv6;
    let mut fragment = nd(solicitation, node, group, ours);
    fragment[14 + 6] = 44;
    check(
        &rule(),
        &[
            ("a node asks for us", nd(solicitation, node, group, ours), Tunnel),
            ("by its link-local address", nd(solicitation, link_local, group, ours), Tunnel),
            ("a probe for our address", nd(solicitation, "::", group, ours), Tunnel),
            ("a node asks again", nd(solicitation, node, ours, ours), Tunnel),
            ("a node answers", nd(advertisement, node, ours, node), Tunnel),
            (
                "to the link-local address",
                nd(advertisement, link_local, "fe80::ff:fe00:10", node),
                Tunnel,
            ),
            ("the router asks for an egress IP", nd(solicitation, router, group, egress), External),
            ("the router answers", nd(advertisement, router, egress, router), External),
            // Both sides' link-local address is the external side's.
            (
                "for the link-local address",
                nd(solicitation, node, "ff02::1:ff00:10", "fe80::ff:fe00:10"),
                External,
            ),
            (
                "a link-local router answers",
                nd(advertisement, link_local, ours, link_local),
                External,
            ),
            // The target alone decides.
            ("of an egress IP, to us", nd(solicitation, node, ours, egress), External),
            // What has no target goes by its destination.
            ("echo to us", nd(echo, router, ours, egress), Tunnel),
            ("echo to an egress IP", nd(echo, node, egress, ours), External),
            ("from a router to all", nd(router_advertisement, router, "ff02::1", ours), External),
            (
                "a cut target",
                nd(solicitation, node, group, ours)[..14 + 40 + 23].to_vec(),
                External,
            ),
            ("ND is never fragmented", fragment, External),
            ("with a tag", tagged(10, &nd(solicitation, node, group, ours)), Tunnel),
        ],
    );
}

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

/// A frame of this side under `SideRule::ByVlan(10)`, with a number in it.
fn numbered(side: Side, number: u32) -> Vec<u8> {
    let vlan = if side == Tunnel { 10 } else { 20 };
    tagged(vlan, &ethernet(0x88b5, &number.to_be_bytes()))
}

fn number(packet: &MemoryPacket) -> u32 {
    u32::from_be_bytes(*packet.data().last_chunk().unwrap())
}

proptest! {
    /// Against the naive model: two queues.
    #[test]
    fn each_side_gets_its_frames_once_and_in_order(
        arrivals in prop::collection::vec(any::<bool>(), 0..300),
        turns in prop::collection::vec((0usize..=32, 0usize..=32), 0..40),
    ) {
        let mut io = OneArm::new(MemoryWire(MemoryIo::default()), SideRule::ByVlan(10));
        let mut expected: [Vec<u32>; 2] = Default::default();
        for (n, is_tunnel) in arrivals.iter().enumerate() {
            let side = if *is_tunnel { Tunnel } else { External };
            expected[side.index()].push(n as u32);
            io.wire_mut().0.receive(Tunnel, &numbered(side, n as u32));
        }
        let mut got: [Vec<u32>; 2] = Default::default();
        // Some turns with little room in the bursts, then as many as it takes.
        let ample = std::iter::repeat_n((32, 32), 2 * arrivals.len() + 2);
        for (tunnel_room, external_room) in turns.into_iter().chain(ample) {
            for (side, room) in [(Tunnel, tunnel_room), (External, external_room)] {
                let mut burst = Burst::new();
                while burst.remaining_capacity() > room {
                    burst.push(io.alloc().unwrap());
                }
                let before = burst.len();
                io.rx(side, &mut burst);
                got[side.index()].extend(burst[before..].iter().map(number));
            }
        }
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn a_turn_of_both_sides_takes_one_burst_and_allocates_nothing() {
    let mut wire = MemoryWire(MemoryIo::with_buffers(128));
    for n in 0..40 {
        let side = if n % 8 == 0 { External } else { Tunnel };
        wire.0.receive(Tunnel, &numbered(side, n));
    }
    let mut io = OneArm::new(wire, SideRule::ByVlan(10));
    let mut turns = vec![];
    for _ in 0..2 {
        let (mut tunnel, mut external) = (Burst::new(), Burst::new());
        let counted = measure(|| {
            io.rx(Tunnel, &mut tunnel);
            io.rx(External, &mut external);
        });
        assert_eq!(counted.count_total, 0);
        turns.push((tunnel.len(), external.len()));
    }
    assert_eq!(turns, [(28, 4), (7, 1)]);
    // What the device has no room for stays with the caller.
    io.wire_mut().0.tx_room = 1;
    let mut burst: Burst<MemoryPacket> = (0..2).map(|_| io.alloc().unwrap()).collect();
    io.tx(External, &mut burst);
    assert_eq!(burst.len(), 1);
}
