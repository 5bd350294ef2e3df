//! Out and back again: what a pod sent, answered with the same bytes, comes back to it bit for bit, but
//! for two hops of TTL. Whatever leaves is judged by etherparse.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::Side;
use harness::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

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
    /// IPv4 options; an extension header with IPv6.
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

fn is_ipv4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

/// Number of the L4 protocol, and where its header begins.
fn l4(packet: &[u8]) -> (u8, usize) {
    match (is_ipv4(packet), packet[6]) {
        (true, _) => (packet[9], usize::from(packet[0] & 15) * 4),
        (false, 60) => (packet[40], 48),
        (false, protocol) => (protocol, 40),
    }
}

fn ttl(packet: &[u8]) -> u8 {
    if is_ipv4(packet) { packet[8] } else { packet[7] }
}

fn set_ttl(packet: &mut [u8], ttl: u8) {
    if !is_ipv4(packet) {
        packet[7] = ttl;
        return;
    }
    packet[8] = ttl;
    put(packet, 10, 0);
    let header = sum(&packet[..l4(packet).1]);
    put(packet, 10, header);
}

/// Where each family has source and destination.
fn addresses(packet: &[u8]) -> (usize, usize, usize) {
    if is_ipv4(packet) { (12, 16, 20) } else { (8, 24, 40) }
}

/// The checksum of TCP or ICMP over a packet without options.
fn set_l4_checksum(packet: &mut [u8]) {
    let (protocol, at) = l4(packet);
    put(packet, at + checksum_at(protocol), 0);
    let (source, _, end) = addresses(packet);
    let mut summed = vec![];
    if protocol != 1 {
        summed.extend(&packet[source..end]);
        summed.extend([0, protocol]);
        summed.extend((packet.len() as u16 - at as u16).to_be_bytes());
    }
    summed.extend(&packet[at..]);
    put(packet, at + checksum_at(protocol), sum(&summed));
}

fn packet<F: Family>(sent: &Sent) -> Vec<u8> {
    let (sport, dport) = sent.l4_ports;
    let plain = match sent.kind {
        Kind::Tcp { flags } => {
            let mut packet = tcp((F::POD, sport), (F::REMOTE, dport), ACK, None, &sent.payload);
            packet[F::HEADER + 13] = flags;
            set_l4_checksum(&mut packet);
            packet
        }
        Kind::Udp { checksum } => {
            let mut packet = udp((F::POD, sport), (F::REMOTE, dport), 64, &sent.payload);
            if !checksum {
                put(&mut packet, F::HEADER + 6, 0);
            }
            packet
        }
        Kind::Echo => {
            let mut packet = echo(F::POD, F::REMOTE, true, sport, 64);
            packet.extend(&sent.payload);
            if !is_ipv4(&packet) {
                let len = packet.len() as u16 - 40;
                put(&mut packet, 4, len);
            }
            set_l4_checksum(&mut packet);
            packet
        }
    };
    let (protocol, _) = l4(&plain);
    let mut packet = dress::<F>(sent, protocol, plain);
    set_ttl(&mut packet, sent.ttl);
    let at = l4(&packet).1 + checksum_at(protocol);
    let checksum = get(&packet, at);
    if protocol != 17 || checksum != 0 {
        // A UDP checksum must not become zero by damage: that would mean that there is none.
        let damaged = checksum.wrapping_add(sent.damage);
        put(&mut packet, at, if damaged == 0 { 1 } else { damaged });
    }
    packet
}

/// The IP header with all that may be in it.
fn dress<F: Family>(sent: &Sent, protocol: u8, plain: Vec<u8>) -> Vec<u8> {
    if is_ipv4(&plain) {
        let mut packet = ipv4_with(POD, REMOTE, protocol, &plain[20..], |header| {
            header.dont_fragment = sent.dont_fragment;
            header.identification = sent.id;
            if sent.options {
                header.options = (&[1u8, 1, 1, 0][..]).try_into().unwrap();
            }
        });
        packet[1] = sent.tos;
        return packet;
    }
    let options = [protocol, 0, 1, 4, 0, 0, 0, 0];
    let mut packet = if sent.options { extended(&plain, 60, &options) } else { plain };
    packet[0] = 0x60 | sent.tos >> 4;
    packet[1] = sent.tos << 4 | packet[1] & 15;
    put(&mut packet, 2, sent.id);
    packet
}

/// The answer with the same bytes: both ends exchanged. That does not change any checksum but that of an
/// echo, whose type changes.
fn answer(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    let (source, destination, end) = addresses(packet);
    answer[source..destination].copy_from_slice(&packet[destination..end]);
    answer[destination..end].copy_from_slice(&packet[source..destination]);
    let (protocol, l4) = l4(packet);
    if matches!(protocol, 1 | 58) {
        let (request, reply) = if protocol == 1 { (8u8, 0u8) } else { (128, 129) };
        let (old, new) = if packet[l4] == request { (request, reply) } else { (reply, request) };
        answer[l4] = new;
        // Type is the upper byte of its word (RFC 1624 equation 3).
        let added = u32::from(!get(packet, l4 + 2))
            + u32::from(!(u16::from(old) << 8))
            + u32::from(u16::from(new) << 8);
        let folded = (added & 0xffff) + (added >> 16);
        put(&mut answer, l4 + 2, !((folded & 0xffff) + (folded >> 16)) as u16);
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
    let (protocol, l4) = l4(&packet);
    let at = l4 + checksum_at(protocol);
    if protocol != 17 && get(&packet, at) == 0xffff {
        put(&mut packet, at, 0);
    }
    packet
}

fn out_and_back<F: Family, U: Family>(sent: &Sent) -> Result<(), TestCaseError> {
    let mut bench = Bench::with(Setup::both());
    bench.whole = false;
    let (sport, dport) = sent.l4_ports;
    if let Kind::Tcp { .. } = sent.kind {
        let syn = tcp((F::POD, sport), (F::REMOTE, dport), SYN, None, b"");
        prop_assert_eq!(bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &syn)).len(), 1);
    }
    let original = packet::<F>(sent);
    let before = SeenOf::<F>::of_packet(&original);
    let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &original));
    prop_assert_eq!(out.len(), 1, "{:?}", bench.drops());
    let after = SeenOf::<F>::of(&out[0]);
    prop_assert_eq!((after.source, after.destination), (F::EGRESS, F::REMOTE));
    prop_assert_eq!((after.ttl, after.tos), (sent.ttl - 1, sent.tos));
    prop_assert_eq!(after.l4_checksum_ok, before.l4_checksum_ok, "damage stays visible");
    prop_assert_eq!(after.l4_checksum_zero, before.l4_checksum_zero);
    prop_assert_eq!(&after.payload, &before.payload);
    prop_assert_eq!(out[0].len(), 14 + original.len());

    let back = bench.world_sends(&from_router(&answer(&out[0][14..])));
    prop_assert_eq!(back.len(), 1, "{:?}", bench.drops());
    let (inner, vni) = SeenOf::<F>::in_tunnel(&back[0], U::NODE);
    prop_assert_eq!(vni, POLICY);
    prop_assert_eq!(inner.l4_checksum_ok, before.l4_checksum_ok);
    let inner = &back[0][14 + U::OVERHEAD..];
    let mut returned = answer(inner);
    prop_assert_eq!(ttl(&returned), sent.ttl - 2);
    set_ttl(&mut returned, sent.ttl);
    prop_assert_eq!(same_zero(&returned), same_zero(&original));
    Ok(())
}

/// Both ends' packets are built anew, addresses and l4_ports as they should be, and compared whole.
fn mirrored<F: Family, U: Family>(
    (sport, dport): (u16, u16),
    payload: &[u8],
    checksum: bool,
    is_tcp: bool,
) -> Result<(), TestCaseError> {
    let mut bench = Bench::with(Setup::both());
    let mirror = |from: (F, u16), to: (F, u16), ttl| {
        let mut packet = Vec::new();
        let builder = F::builder(from.0, to.0, ttl);
        if is_tcp {
            builder.tcp(from.1, to.1, 1000, 4096).syn().write(&mut packet, b"").unwrap();
        } else {
            builder.udp(from.1, to.1).write(&mut packet, payload).unwrap();
        }
        if !checksum && !is_tcp {
            put(&mut packet, F::HEADER + 6, 0);
        }
        packet
    };
    let (pod, remote) = ((F::POD, sport), (F::REMOTE, dport));
    let question = tunnelled_over(U::NODE, POLICY, &mirror(pod, remote, 64));
    let out = bench.pod_sends(&question);
    let external = (F::EGRESS, SeenOf::<F>::of(&out[0]).sport);
    prop_assert_eq!(&out[0][14..], &mirror(external, remote, 63)[..]);
    let back = bench.world_sends(&from_router(&mirror(remote, external, 64)));
    prop_assert_eq!(&back[0][14 + U::OVERHEAD..], &mirror(remote, pod, 63)[..]);
    prop_assert!(bench.take(Side::External).is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn ipv4_out_and_back(sent in sent(), over_ipv6 in any::<bool>()) {
        match over_ipv6 {
            false => out_and_back::<Ipv4Addr, Ipv4Addr>(&sent)?,
            true => out_and_back::<Ipv4Addr, Ipv6Addr>(&sent)?,
        }
    }

    #[test]
    fn ipv6_out_and_back(sent in sent(), over_ipv6 in any::<bool>()) {
        match over_ipv6 {
            false => out_and_back::<Ipv6Addr, Ipv4Addr>(&sent)?,
            true => out_and_back::<Ipv6Addr, Ipv6Addr>(&sent)?,
        }
    }

    /// In and out again restores every byte but the TTL and what the TTL does to the IPv4 checksum.
    #[test]
    fn a_reply_that_mirrors_a_packet_comes_back_as_the_pod_would_have_got_it(
        l4_ports in (1u16.., 1u16..), payload in prop::collection::vec(any::<u8>(), 0..600),
        checksum in any::<bool>(), is_tcp in any::<bool>(),
    ) {
        mirrored::<Ipv4Addr, Ipv4Addr>(l4_ports, &payload, checksum, is_tcp)?;
        mirrored::<Ipv6Addr, Ipv6Addr>(l4_ports, &payload, checksum, is_tcp)?;
    }
}
