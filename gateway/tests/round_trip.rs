//! A pod's packet goes out, its mirror image comes back, and what reaches the pod is what it sent, bit
//! for bit: so whatever the translation changed on the way out it has undone on the way in, and it has
//! touched nothing else. Packets are built and checksums are added up here, word by word.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use harness::*;
use proptest::prelude::*;
use std::{net::Ipv4Addr, ops::Range};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
/// The largest packet that fits the tunnel.
const LARGEST: usize = 1450;
/// What the largest one has for TCP with its options.
const MSS_LIMIT: u16 = 1410;

/// What a pod sends; addresses aside.
#[derive(Clone, Debug)]
struct Sent {
    ip: Ip,
    l4: L4,
    payload: Vec<u8>,
    checksum: Sum,
    pod: u8,
    remote: Ipv4Addr,
}

#[derive(Clone, Debug)]
struct Ip {
    tos: u8,
    id: u16,
    dont_fragment: bool,
    ttl: u8,
    options: Vec<u8>,
}

#[derive(Clone, Debug)]
enum L4 {
    Tcp {
        l4_ports: (u16, u16),
        sequence: u32,
        acknowledgment: u32,
        /// The reserved bits beside the data offset.
        reserved: u8,
        flags: u8,
        window: u16,
        urgent: u16,
        options: Vec<u8>,
    },
    Udp {
        l4_ports: (u16, u16),
    },
    Echo {
        code: u8,
        id: u16,
        sequence: u16,
    },
}

/// What stands in the L4 checksum's place.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Right,
    /// That of the right one and these bits.
    Wrong(u16),
    /// No sum in UDP; in TCP and ICMP a wrong one, most likely.
    Is(u16),
}

/// The one's complement sum of 16-bit words, an odd last byte padded with zero; not folded.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn header_len(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0xf) * 4
}

/// Where the L4 checksum is.
fn checksum_at(packet: &[u8]) -> Range<usize> {
    let at = header_len(packet)
        + match packet[9] {
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
    at..at + 2
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// The folded sum of all that the L4 checksum covers, itself included: 0xffff where it is right.
fn l4_sum(packet: &[u8]) -> u16 {
    let segment = &packet[header_len(packet)..];
    let pseudo_header = match packet[9] {
        ICMP => 0,
        protocol => sum(&packet[12..20]) + u64::from(protocol) + segment.len() as u64,
    };
    fold(pseudo_header + sum(segment))
}

/// UDP that says that it has no checksum.
fn l4_has_none(packet: &[u8]) -> bool {
    packet[9] == UDP && word(packet, checksum_at(packet).start) == 0
}

fn l4_is_right(packet: &[u8]) -> bool {
    l4_has_none(packet) || l4_sum(packet) == 0xffff
}

fn set_header_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = !fold(sum(&packet[..header_len(packet)]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

impl Sent {
    fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 1, self.pod)
    }

    fn packet(&self) -> Vec<u8> {
        let (protocol, segment) = self.segment();
        let Ip { tos, id, dont_fragment, ttl, options } = &self.ip;
        let header_len = 20 + options.len();
        let total_len = (header_len + segment.len()) as u16;
        let mut packet = vec![0x40 | (header_len / 4) as u8, *tos];
        packet.extend(total_len.to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend([u8::from(*dont_fragment) << 6, 0, *ttl, protocol, 0, 0]);
        packet.extend(self.source().octets());
        packet.extend(self.remote.octets());
        packet.extend(options);
        packet.extend(segment);
        set_header_checksum(&mut packet);
        let right = match (!l4_sum(&packet), protocol) {
            // RFC 768: zero says that there is none.
            (0, UDP) => 0xffff,
            (right, _) => right,
        };
        let checksum = match self.checksum {
            Sum::Right => right,
            Sum::Wrong(bits) => right ^ bits,
            Sum::Is(value) => value,
        };
        let place = checksum_at(&packet);
        packet[place].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// Its checksum is zero.
    fn segment(&self) -> (u8, Vec<u8>) {
        let mut segment = Vec::new();
        let protocol = match &self.l4 {
            L4::Tcp {
                l4_ports: (from, to),
                sequence,
                acknowledgment,
                reserved,
                flags,
                window,
                urgent,
                options,
            } => {
                segment.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                segment.extend([sequence.to_be_bytes(), acknowledgment.to_be_bytes()].concat());
                let data_offset = ((20 + options.len()) / 4) as u8;
                segment.extend([data_offset << 4 | reserved, *flags]);
                segment.extend([window.to_be_bytes(), [0, 0], urgent.to_be_bytes()].concat());
                segment.extend(options);
                TCP
            }
            L4::Udp { l4_ports: (from, to) } => {
                let len = (8 + self.payload.len()) as u16;
                segment.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                segment.extend([len.to_be_bytes(), [0, 0]].concat());
                UDP
            }
            L4::Echo { code, id, sequence } => {
                segment.extend([8, *code, 0, 0]);
                segment.extend([id.to_be_bytes(), sequence.to_be_bytes()].concat());
                ICMP
            }
        };
        segment.extend(&self.payload);
        (protocol, segment)
    }

    /// Opens the session of a TCP packet, for only a bare SYN may.
    fn syn(&self) -> Option<Vec<u8>> {
        let L4::Tcp { l4_ports: (from, to), .. } = self.l4 else { return None };
        Some(tcp((self.source(), from), (self.remote, to), SYN, None, b""))
    }
}

/// The same packet from the other end. Swapping words changes no checksum; another ICMP type does, and
/// then a wrong checksum stays wrong by as much.
fn mirrored(packet: &[u8]) -> Vec<u8> {
    let mut mirrored = packet.to_vec();
    let l4 = header_len(packet);
    mirrored[12..16].copy_from_slice(&packet[16..20]);
    mirrored[16..20].copy_from_slice(&packet[12..16]);
    if packet[9] != ICMP {
        mirrored[l4..l4 + 2].copy_from_slice(&packet[l4 + 2..l4 + 4]);
        mirrored[l4 + 2..l4 + 4].copy_from_slice(&packet[l4..l4 + 2]);
        return mirrored;
    }
    mirrored[l4] = 8 - packet[l4];
    let before = !word(packet, l4);
    let sum = u64::from(!word(packet, l4 + 2)) + u64::from(before) + u64::from(word(&mirrored, l4));
    mirrored[l4 + 2..l4 + 4].copy_from_slice(&(!fold(sum)).to_be_bytes());
    mirrored
}

/// All ones and all zeros are one and the same in one's complement, and an update makes zero of both;
/// in UDP zero has a meaning of its own, and there nothing may be confused.
fn with_one_zero(mut packet: Vec<u8>) -> Vec<u8> {
    let place = checksum_at(&packet);
    if packet[9] != UDP && packet[place.clone()] == [0xff, 0xff] {
        packet[place].fill(0);
    }
    packet
}

/// What a router sees of the frame: etherparse reads it to its end, and all lengths agree.
fn router_reads(frame: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4: {sliced:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(usize::from(header.total_len), frame.len() - 14);
    let segment = frame.len() - 14 - header.header_len();
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!((usize::from(udp.length()), udp.payload().len()), (segment, segment - 8));
        }
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(tcp.header_len() + tcp.payload().len(), segment);
        }
        Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(icmp.slice().len(), segment),
        other => panic!("no transport: {other:?}"),
    }
    frame[14..].to_vec()
}

/// The packet as it should leave, but for what the gateway chooses: those bytes are taken from `left`.
fn expected(packet: &[u8], left: &[u8]) -> Vec<u8> {
    let mut expected = packet.to_vec();
    let l4 = header_len(packet);
    expected[8] -= 1;
    expected[12..16].copy_from_slice(&EGRESS.octets());
    let chosen = match packet[9] {
        ICMP => l4 + 4..l4 + 6,
        _ => l4..l4 + 2,
    };
    for chosen in [chosen, checksum_at(packet)] {
        expected[chosen.clone()].copy_from_slice(&left[chosen]);
    }
    set_header_checksum(&mut expected);
    expected
}

fn round_trip(sent: &Sent) {
    let mut bench = Bench::new();
    if let Some(syn) = sent.syn() {
        assert_eq!(bench.pod_sends(&tunnelled(NODE, POLICY, &syn)).len(), 1);
    }
    let packet = sent.packet();
    assert!(packet.len() <= LARGEST, "{}", packet.len());
    let out = bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
    assert_eq!(out.len(), 1, "{:?}", bench.drops());
    let left = router_reads(&out[0]);
    assert_eq!(left, expected(&packet, &left));
    assert_eq!(l4_is_right(&left), l4_is_right(&packet));
    assert_eq!(l4_has_none(&left), l4_has_none(&packet));
    if !l4_has_none(&packet) {
        assert_eq!(l4_sum(&left) % 0xffff, l4_sum(&packet) % 0xffff, "as wrong as it was");
    }

    let back = bench.world_sends(&from_router(&mirrored(&left)));
    assert_eq!(back.len(), 1, "{:?}", bench.drops());
    Seen::in_tunnel(&back[0], NODE);
    let arrived = mirrored(&back[0][14 + 50..]);
    let mut wanted = packet.clone();
    wanted[8] -= 2;
    set_header_checksum(&mut wanted);
    assert_eq!(with_one_zero(arrived), with_one_zero(wanted));
    assert_eq!(bench.sessions(), 1);
    assert!(bench.drops().is_empty(), "{:?}", bench.drops());
}

fn ip() -> impl Strategy<Value = Ip> {
    let words = prop_oneof![3 => Just(0usize), 1 => 1usize..=10];
    let options = words.prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 4));
    (any::<u8>(), any::<u16>(), any::<bool>(), 3u8.., options).prop_map(
        |(tos, id, dont_fragment, ttl, options)| Ip { tos, id, dont_fragment, ttl, options },
    )
}

/// Whole options, padded to a whole number of words: with or without an MSS that needs no clamp.
fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        (0..=MSS_LIMIT).prop_map(|mss| [vec![2, 4], mss.to_be_bytes().to_vec()].concat()),
        (0u8..15).prop_map(|shift| vec![3, 3, shift]),
        Just(vec![4, 2]),
        any::<[u8; 8]>().prop_map(|times| [vec![8, 10], times.to_vec()].concat()),
        any::<[u8; 8]>().prop_map(|edges| [vec![5, 10], edges.to_vec()].concat()),
    ];
    prop::collection::vec(option, 0..5).prop_map(|options| {
        let mut bytes: Vec<u8> = Vec::new();
        for option in options {
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

fn l4() -> impl Strategy<Value = L4> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>());
    let tcp = ((1u16.., 1u16..), numbers, 0u8..16, any::<u8>(), tcp_options()).prop_map(
        |(l4_ports, (sequence, acknowledgment, window, urgent), reserved, flags, options)| {
            L4::Tcp { l4_ports, sequence, acknowledgment, reserved, flags, window, urgent, options }
        },
    );
    let udp = (any::<u16>(), 1u16..).prop_map(|l4_ports| L4::Udp { l4_ports });
    // The code of an echo is 0; nothing is done by it, so any goes through.
    let code = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    let echo = (code, any::<u16>(), any::<u16>()).prop_map(|(code, id, sequence)| L4::Echo {
        code,
        id,
        sequence,
    });
    prop_oneof![tcp, udp, echo]
}

fn checksum() -> impl Strategy<Value = Sum> {
    prop_oneof![
        6 => Just(Sum::Right),
        2 => any::<u16>().prop_map(Sum::Wrong),
        1 => Just(Sum::Is(0)),
        1 => Just(Sum::Is(0xffff)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = |lens: Range<usize>| prop::collection::vec(any::<u8>(), lens);
    let payload = prop_oneof![
        6 => payload(0..40),
        2 => payload(0..LARGEST - 120),
        // Sums that fold often.
        1 => (0..LARGEST - 120).prop_map(|len| vec![0xff; len]),
        1 => (0..LARGEST - 120).prop_map(|len| vec![0; len]),
    ];
    let remote = (any::<u8>(), any::<u8>()).prop_map(|(c, d)| Ipv4Addr::new(198, 51, c, d));
    (ip(), l4(), payload, checksum(), any::<u8>(), remote).prop_map(
        |(ip, l4, payload, checksum, pod, remote)| Sent { ip, l4, payload, checksum, pod, remote },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn a_mirrored_packet_comes_back_bit_for_bit(sent in sent()) {
        round_trip(&sent);
    }
}

/// Every value that a UDP checksum can have, by two bytes of payload that walk through all of theirs:
/// the right one is 0 for one of them, and the translated one for another.
#[test]
fn every_udp_checksum_comes_back_bit_for_bit() {
    let mut bench = Bench::new();
    let (mut none, mut all_ones) = (0, 0);
    for payload in 0..=u16::MAX {
        let ip = Ip { tos: 0, id: 7, dont_fragment: true, ttl: 64, options: vec![] };
        let l4 = L4::Udp { l4_ports: (4000, 53) };
        let payload = payload.to_be_bytes().to_vec();
        let (checksum, pod, remote) = (Sum::Right, 10, REMOTE);
        let packet = Sent { ip, l4, payload, checksum, pod, remote }.packet();
        let left = bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
        let left = router_reads(&left[0]);
        assert!(l4_is_right(&left));
        let field = word(&left, checksum_at(&left).start);
        none += u32::from(field == 0);
        all_ones += u32::from(field == 0xffff);
        let back = bench.world_sends(&from_router(&mirrored(&left)));
        let arrived = mirrored(&back[0][14 + 50..]);
        assert_eq!(arrived[20..], packet[20..]);
    }
    assert!(none == 0 && all_ones > 0, "a sum of zero is sent as all ones");
}

/// The code here that judges, judged by etherparse.
#[test]
fn checksums_here_are_those_of_etherparse() {
    let packets = [
        udp((POD, 4000), (REMOTE, 53), 64, b"odd"),
        tcp((POD, 4000), (REMOTE, 443), SYN, Some(536), b"even"),
        echo(POD, REMOTE, true, 0xbeef, 64),
    ];
    for mut packet in packets {
        assert!(l4_is_right(&packet));
        assert_eq!(mirrored(&mirrored(&packet)), packet);
        assert!(l4_is_right(&mirrored(&packet)));
        let at = checksum_at(&packet).start;
        packet[at] ^= 1;
        assert!(!l4_is_right(&packet) && !l4_is_right(&mirrored(&packet)));
        let header = packet[..20].to_vec();
        set_header_checksum(&mut packet);
        assert_eq!(header, packet[..20]);
    }
}
