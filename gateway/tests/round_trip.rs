//! Out and back again: what a pod sent, answered with the same bytes, comes back to it bit for bit, but
//! for two hops of TTL. Whatever leaves is judged by etherparse.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use harness::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp { flags: u8 },
    Udp { checksum: bool },
    Echo,
}

#[derive(Clone, Debug)]
struct Sent {
    kind: Kind,
    l4_ports: (u16, u16),
    ttl: u8,
    tos: u8,
    dont_fragment: bool,
    id: u16,
    options: bool,
    payload: Vec<u8>,
    /// Added to the L4 checksum: damage on the way, which must stay visible.
    damage: u16,
}

fn sent() -> impl Strategy<Value = Sent> {
    let kind = prop_oneof![
        any::<u8>().prop_map(|flags| Kind::Tcp { flags: flags & !(SYN | RST) }),
        any::<bool>().prop_map(|checksum| Kind::Udp { checksum }),
        Just(Kind::Echo),
    ];
    let damage = prop_oneof![3 => Just(0u16), 1 => 1u16..];
    let l4_ports = (1u16.., 1u16..);
    let bits = (any::<u8>(), any::<bool>(), any::<u16>(), any::<bool>());
    (kind, l4_ports, 3u8.., bits, prop::collection::vec(any::<u8>(), 0..400), damage).prop_map(
        |(kind, l4_ports, ttl, (tos, dont_fragment, id, options), payload, damage)| Sent {
            kind,
            l4_ports,
            ttl,
            tos,
            dont_fragment,
            id,
            options,
            payload,
            damage,
        },
    )
}

/// RFC 1071, byte pairs, big-endian.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Where the L4 checksum is, from the L4 header.
fn checksum_at(protocol: u8) -> usize {
    match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    }
}

fn header_len(packet: &[u8]) -> usize {
    usize::from(packet[0] & 15) * 4
}

fn set_ttl(packet: &mut [u8], ttl: u8) {
    packet[8] = ttl;
    put(packet, 10, 0);
    let header = sum(&packet[..header_len(packet)]);
    put(packet, 10, header);
}

fn packet(sent: &Sent) -> Vec<u8> {
    let (sport, dport) = sent.l4_ports;
    let plain = match sent.kind {
        Kind::Tcp { flags } => {
            let mut packet = tcp((POD, sport), (REMOTE, dport), ACK, None, &sent.payload);
            packet[33] = flags;
            put(&mut packet, 36, 0);
            let mut pseudo = packet[12..20].to_vec();
            pseudo.extend([0, 6]);
            pseudo.extend((packet.len() as u16 - 20).to_be_bytes());
            pseudo.extend(&packet[20..]);
            put(&mut packet, 36, sum(&pseudo));
            packet
        }
        Kind::Udp { checksum } => {
            let mut packet = udp((POD, sport), (REMOTE, dport), 64, &sent.payload);
            if !checksum {
                put(&mut packet, 26, 0);
            }
            packet
        }
        Kind::Echo => {
            let mut packet = echo(POD, REMOTE, true, sport, 64);
            packet.extend(&sent.payload);
            put(&mut packet, 22, 0);
            let checksum = sum(&packet[20..]);
            put(&mut packet, 22, checksum);
            packet
        }
    };
    let protocol = plain[9];
    let mut packet = ipv4_with(POD, REMOTE, protocol, &plain[20..], |header| {
        header.dont_fragment = sent.dont_fragment;
        header.identification = sent.id;
        if sent.options {
            header.options = (&[1u8, 1, 1, 0][..]).try_into().unwrap();
        }
    });
    packet[1] = sent.tos;
    set_ttl(&mut packet, sent.ttl);
    let at = header_len(&packet) + checksum_at(protocol);
    let checksum = get(&packet, at);
    if protocol != 17 || checksum != 0 {
        // A UDP checksum must not become zero by damage: that would mean that there is none.
        let damaged = checksum.wrapping_add(sent.damage);
        put(&mut packet, at, if damaged == 0 { 1 } else { damaged });
    }
    packet
}

/// The answer with the same bytes: both ends exchanged. That does not change any checksum but that of an
/// echo, whose type changes.
fn answer(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    let l4 = header_len(packet);
    if packet[9] == 1 {
        answer[l4] = match packet[l4] {
            8 => 0,
            _ => 8,
        };
        // Type is the upper byte of its word: 0x0800 less or more in the sum (RFC 1624 equation 3).
        let old = u32::from(!get(packet, l4 + 2));
        let change = if packet[l4] == 8 { u32::from(!0x0800u16) } else { 0x0800 };
        let added = old + change;
        put(&mut answer, l4 + 2, !((added & 0xffff) + (added >> 16)) as u16);
    } else {
        answer[l4..l4 + 2].copy_from_slice(&packet[l4 + 2..l4 + 4]);
        answer[l4 + 2..l4 + 4].copy_from_slice(&packet[l4..l4 + 2]);
    }
    answer
}

/// The one's complement has two zeroes; which of them a checksum shows is not kept by an update there and
/// back.
fn same_zero(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let at = header_len(&packet) + checksum_at(packet[9]);
    if packet[9] != 17 && get(&packet, at) == 0xffff {
        put(&mut packet, at, 0);
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn out_and_back(sent in sent()) {
        let mut bench = Bench::new();
        bench.whole = false;
        let (sport, dport) = sent.l4_ports;
        if let Kind::Tcp { .. } = sent.kind {
            let syn = tcp((POD, sport), (REMOTE, dport), SYN, None, b"");
            prop_assert_eq!(bench.pod_sends(&tunnelled(NODE, POLICY, &syn)).len(), 1);
        }
        let original = packet(&sent);
        let before = Seen::of_packet(&original);
        let out = bench.pod_sends(&tunnelled(NODE, POLICY, &original));
        prop_assert_eq!(out.len(), 1, "{:?}", bench.drops());
        let after = Seen::of(&out[0]);
        prop_assert_eq!((after.source, after.destination), (EGRESS, REMOTE));
        prop_assert_eq!((after.ttl, after.tos), (sent.ttl - 1, sent.tos));
        prop_assert_eq!(after.l4_checksum_ok, before.l4_checksum_ok, "damage stays visible");
        prop_assert_eq!(after.l4_checksum_zero, before.l4_checksum_zero);
        prop_assert_eq!(&after.payload, &before.payload);
        prop_assert_eq!(out[0].len(), 14 + original.len());

        let back = bench.world_sends(&from_router(&answer(&out[0][14..])));
        prop_assert_eq!(back.len(), 1, "{:?}", bench.drops());
        let (inner, vni) = Seen::in_tunnel(&back[0], NODE);
        prop_assert_eq!(vni, POLICY);
        prop_assert_eq!(inner.l4_checksum_ok, before.l4_checksum_ok);
        let inner = &back[0][14 + 20 + 8 + 8 + 14..];
        let mut returned = answer(inner);
        prop_assert_eq!(returned[8], sent.ttl - 2);
        set_ttl(&mut returned, sent.ttl);
        prop_assert_eq!(same_zero(&returned), same_zero(&original));
    }
}
