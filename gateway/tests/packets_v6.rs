//! Packet in → verdict → packet out, for every pairing of pods' and underlay's families but IPv4 in
//! IPv4, which `packets.rs` looks at more closely.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

/// A question of a pod, and its answer to the external l4_port (id).
struct Exchange<F> {
    description: &'static str,
    question: Vec<u8>,
    answer: Box<dyn Fn(u16) -> Vec<u8>>,
    /// Source and destination l4_port (id) of the answer at the pod.
    sees: (u16, u16),
    _family: std::marker::PhantomData<F>,
}

fn exchanges<F: Family>() -> Vec<Exchange<F>> {
    let exchange = |description, question, answer: Box<dyn Fn(u16) -> Vec<u8>>, sees| Exchange {
        description,
        question,
        answer,
        sees,
        _family: std::marker::PhantomData,
    };
    vec![
        exchange(
            "UDP",
            udp((F::POD, 4000), (F::REMOTE, 53), 64, b"question"),
            Box::new(|l4_port| udp((F::REMOTE, 53), (F::EGRESS, l4_port), 60, b"answer")),
            (53, 4000),
        ),
        exchange(
            "UDP, odd length, last hop but one",
            udp((F::POD, 4001), (F::REMOTE, 53), 2, b"abc"),
            Box::new(|l4_port| udp((F::REMOTE, 53), (F::EGRESS, l4_port), 2, b"")),
            (53, 4001),
        ),
        exchange(
            "TCP handshake",
            tcp((F::POD, 4000), (F::REMOTE, 443), SYN, None, b""),
            Box::new(|l4| tcp((F::REMOTE, 443), (F::EGRESS, l4), SYN | ACK, None, b"")),
            (443, 4000),
        ),
        exchange(
            "echo",
            echo(F::POD, F::REMOTE, true, 0xbeef, 64),
            Box::new(|id| echo(F::REMOTE, F::EGRESS, false, id, 60)),
            (0xbeef, 0xbeef),
        ),
    ]
}

fn there_and_back_again<F: Family, U: Family>() {
    for Exchange { description, question, answer, sees, .. } in exchanges::<F>() {
        let mut bench = Bench::over::<U>();
        let before = SeenOf::<F>::of_packet(&question);
        let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &question));
        assert_eq!(out.len(), 1, "{description}: {:?}", bench.drops());
        let after = SeenOf::<F>::of(&out[0]);
        assert_eq!((after.source, after.destination), (F::EGRESS, F::REMOTE), "{description}");
        assert!(after.sport >= 1024, "{description}: l4_port {}", after.sport);
        assert!(after.l4_checksum_ok, "{description}: L4 checksum");
        assert_eq!((after.to_mac, after.from_mac), (ROUTER_MAC, EXTERNAL_MAC), "{description}");
        assert_eq!(after.ttl, before.ttl - 1, "{description}");
        assert_eq!(after.payload, before.payload, "{description}");
        assert_eq!(after.flow_label, before.flow_label, "{description}");
        assert_eq!(out[0].len(), 14 + question.len(), "{description}");
        if before.protocol != F::ICMP {
            assert_eq!(after.dport, before.dport, "{description}");
        }

        let answer = answer(after.sport);
        let back = bench.world_sends(&from_router(&answer));
        assert_eq!(back.len(), 1, "{description}: {:?}", bench.drops());
        let (inner, vni) = SeenOf::<F>::in_tunnel(&back[0], U::NODE);
        let sent = SeenOf::<F>::of_packet(&answer);
        assert_eq!((inner.source, inner.destination), (F::REMOTE, F::POD), "{description}");
        assert_eq!((inner.sport, inner.dport), sees, "{description}");
        assert_eq!((vni, inner.ttl), (POLICY, sent.ttl - 1), "{description}");
        assert!(inner.l4_checksum_ok, "{description}: L4 checksum");
        assert_eq!(inner.payload, sent.payload, "{description}");
        assert_eq!(back[0].len(), 14 + U::OVERHEAD + answer.len(), "{description}");
        assert_eq!((bench.drops(), bench.sessions()), (Default::default(), 1), "{description}");
    }
}

#[test]
fn every_protocol_there_and_back_again() {
    each_pairing!(there_and_back_again);
}

/// A pod with both addresses, over both underlays at once: four flows, none of them mixed up.
#[test]
fn the_families_share_a_gateway() {
    let mut bench = Bench::with(Setup::both());
    let v4 = bench.open_udp_by(NODE, 4000, (REMOTE, 53));
    let v4_over_v6 = bench.open_udp_by(Ipv6Addr::NODE, 4001, (REMOTE, 53));
    let v6 = bench.open_udp_by(NODE, 4000, (Ipv6Addr::REMOTE, 53));
    let v6_over_v6 = bench.open_udp_by(Ipv6Addr::NODE, 4001, (Ipv6Addr::REMOTE, 53));
    assert_eq!(bench.sessions(), 4);
    let answer4 = |l4_port| from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"4"));
    let (from, to) = (Ipv6Addr::REMOTE, Ipv6Addr::EGRESS);
    let answer6 = |l4_port| from_router(&udp((from, 53), (to, l4_port), 64, b"6"));
    let four = [answer4(v4), answer6(v6), answer4(v4_over_v6), answer6(v6_over_v6)];
    // Once each, so that the nodes' MACs are known; then in one burst.
    for frame in &four {
        assert_eq!(bench.world_sends(frame).len(), 1);
    }
    four.iter().for_each(|frame| bench.io.receive(Side::External, frame));
    bench.poll();
    let back = bench.take(Side::Tunnel);
    let is = |frame: &&Vec<u8>, outer: u16, inner: u16, at: usize| {
        let kind = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        kind(12) == outer && kind(at) == inner
    };
    let find = |outer, inner, at| back.iter().find(|frame| is(frame, outer, inner, at)).unwrap();
    assert_eq!(Seen::in_tunnel(find(0x0800, 0x0800, 62), NODE).0.dport, 4000);
    assert_eq!(Seen::in_tunnel(find(0x86dd, 0x0800, 82), Ipv6Addr::NODE).0.dport, 4001);
    assert_eq!(Seen6::in_tunnel(find(0x0800, 0x86dd, 62), NODE).0.dport, 4000);
    assert_eq!(Seen6::in_tunnel(find(0x86dd, 0x86dd, 82), Ipv6Addr::NODE).0.dport, 4001);
    assert_eq!((back.len(), bench.drops()), (4, Default::default()));
}

/// UDP over IPv6 must have a checksum (RFC 8200 section 8.1), but where there is none, none is invented;
/// and damage stays visible.
fn checksums_are_updated_and_never_made<F: Family, U: Family>() {
    let mut bench = Bench::over::<U>();
    bench.whole = false;
    let mut none = udp((F::POD, 4000), (F::REMOTE, 53), 64, b"no checksum");
    none[F::HEADER + 6..F::HEADER + 8].copy_from_slice(&[0, 0]);
    let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &none));
    assert!(SeenOf::<F>::of(&out[0]).l4_checksum_zero);
    let broken = [
        (udp((F::POD, 4001), (F::REMOTE, 53), 64, b"broken"), 6),
        (tcp((F::POD, 4001), (F::REMOTE, 53), SYN, Some(9000), b""), 16),
        (echo(F::POD, F::REMOTE, true, 9, 64), 2),
    ];
    for (mut packet, checksum) in broken {
        packet[F::HEADER + checksum] ^= 0x5a;
        let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &packet));
        let seen = SeenOf::<F>::of(&out[0]);
        assert!(!seen.l4_checksum_ok, "a damaged packet must not be certified as whole: {seen:?}");
    }
}

#[test]
fn damage_stays_visible() {
    each_pairing!(checksums_are_updated_and_never_made);
}

/// RFC 6935 section 5: no outer checksum, or a right one.
fn outer_checksums<F: Family, U: Family>() {
    let mut bench = Bench::over::<U>();
    let inner = udp((F::POD, 4000), (F::REMOTE, 53), 64, b"x");
    assert_eq!(bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &inner)).len(), 1);
    let good = tunnelled_with_checksum(U::NODE, POLICY, &inner);
    assert_eq!(bench.pod_sends(&good).len(), 1);
    for at in [14 + U::HEADER + 7, 14 + U::HEADER - 1 - 4 * (U::HEADER / 20), good.len() - 1] {
        let mut wrong = good.clone();
        wrong[at] ^= 1;
        let before = bench.drops().values().sum::<u64>();
        assert_eq!(bench.pod_sends(&wrong).len(), 0, "byte {at}");
        assert_eq!(bench.drops().values().sum::<u64>(), before + 1);
    }
    assert!(bench.dropped(DropReason::OuterChecksum) >= 2);
}

#[test]
fn outer_checksum_zero_or_right_is_accepted() {
    each_pairing!(outer_checksums);
}

fn mss(segment: &[u8]) -> u16 {
    u16::from_be_bytes([segment[26], segment[27]])
}

fn mss_is_clamped<F: Family, U: Family>(limit: u16) {
    assert_eq!(limit, F::MSS - U::OVERHEAD as u16);
    for offered in [F::MSS, limit + 1, limit, 536] {
        let mut bench = Bench::over::<U>();
        let syn = tcp((F::POD, 4000), (F::REMOTE, 443), SYN, Some(offered), b"");
        let expected = offered.min(limit);
        let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &syn));
        let out = SeenOf::<F>::of(&out[0]);
        assert_eq!(mss(&out.segment), expected, "in2out, offered {offered}");
        assert!(out.l4_checksum_ok);
        let to = (F::EGRESS, out.sport);
        let answer = tcp((F::REMOTE, 443), to, SYN | ACK, Some(offered), b"");
        let back = bench.world_sends(&from_router(&answer));
        let (inner, _) = SeenOf::<F>::in_tunnel(&back[0], U::NODE);
        assert_eq!(mss(&inner.segment), expected, "out2in, offered {offered}");
        assert!(inner.l4_checksum_ok);
    }
}

#[test]
fn mss_is_clamped_to_what_fits_the_tunnel() {
    mss_is_clamped::<Ipv6Addr, Ipv4Addr>(1390);
    mss_is_clamped::<Ipv6Addr, Ipv6Addr>(1370);
    mss_is_clamped::<Ipv4Addr, Ipv6Addr>(1390);
}

/// A flow may move from one underlay to the other: the limit is that of the narrower one.
#[test]
fn mss_fits_either_underlay() {
    let mut bench = Bench::with(Setup::both());
    let syn = tcp((POD, 4000), (REMOTE, 443), SYN, Some(1460), b"");
    let out = bench.pod_sends(&tunnelled(NODE, POLICY, &syn));
    assert_eq!(mss(&Seen::of(&out[0]).segment), 1390);
    let syn = tcp((Ipv6Addr::POD, 4000), (Ipv6Addr::REMOTE, 443), SYN, Some(1440), b"");
    let out = bench.pod_sends(&tunnelled(NODE, POLICY, &syn));
    assert_eq!(mss(&Seen6::of(&out[0]).segment), 1370);
}

/// A segment of exactly the clamped size, with a TCP header without options, fits; a byte more does not.
fn the_largest_packet<F: Family, U: Family>() {
    let mut bench = Bench::over::<U>();
    let l4_port = bench.open_udp_by::<F, U>(U::NODE, 4000, (F::REMOTE, 53));
    let room = 1500 - U::OVERHEAD - F::HEADER - 8;
    let answer =
        |len: usize| from_router(&udp((F::REMOTE, 53), (F::EGRESS, l4_port), 64, &vec![7; len]));
    let back = bench.world_sends(&answer(room));
    assert_eq!((back.len(), back[0].len()), (1, 14 + 1500));
    assert_eq!(bench.world_sends(&answer(room + 1)).len(), 0);
    assert_eq!(bench.drops(), [(("external", "too_big"), 1)].into());
}

#[test]
fn what_fits_the_tunnel_passes_and_a_byte_more_is_too_big() {
    each_pairing!(the_largest_packet);
}

/// Another DSCP and ECN field, with IPv4's checksum right.
fn with_tos<F: Family>(mut packet: Vec<u8>, tos: u8) -> Vec<u8> {
    if F::HEADER == 20 {
        let (mut header, _) = etherparse::Ipv4Header::from_slice(&packet).unwrap();
        header.dscp = (tos >> 2).try_into().unwrap();
        header.ecn = (tos & 3).try_into().unwrap();
        header.header_checksum = header.calc_header_checksum();
        packet[..20].copy_from_slice(&header.to_bytes());
    } else {
        packet[0] = 0x60 | tos >> 4;
        packet[1] = packet[1] & 0x0f | tos << 4;
    }
    packet
}

/// RFC 6040 and RFC 2983, over headers whose field lies elsewhere.
fn marks<F: Family, U: Family>() {
    const CE: u8 = 0b11;
    const ECT0: u8 = 0b10;
    let mut bench = Bench::over::<U>();
    let inner = |tos| with_tos::<F>(udp((F::POD, 4000), (F::REMOTE, 53), 64, b"x"), tos);
    let marked = |inner: &[u8]| {
        let frame = tunnelled_over(U::NODE, POLICY, inner);
        from_underlay(&with_tos::<U>(frame[14..].to_vec(), 0x40 | CE))
    };
    let out = SeenOf::<F>::of(&bench.pod_sends(&marked(&inner(0xb8 | ECT0)))[0]);
    assert_eq!(out.tos, 0xb8 | CE, "the inner DSCP, the outer mark");
    assert_eq!(out.flow_label, SeenOf::<F>::of_packet(&inner(0)).flow_label);
    assert_eq!(bench.pod_sends(&marked(&inner(0xb8))).len(), 0);
    assert_eq!(bench.dropped(DropReason::EcnInvalid), 1);

    let to = (F::EGRESS, out.sport);
    let answer = with_tos::<F>(udp((F::REMOTE, 53), to, 64, b"y"), 0x2e << 2 | ECT0);
    let back = bench.world_sends(&from_router(&answer));
    assert_eq!(SeenOf::<U>::of(&back[0]).tos, 0x2e << 2 | ECT0, "outer DSCP and ECN");
    assert_eq!(SeenOf::<F>::in_tunnel(&back[0], U::NODE).0.tos, 0x2e << 2 | ECT0);
}

#[test]
fn dscp_and_congestion_marks_go_in_and_out_of_the_tunnel() {
    each_pairing!(marks);
}

/// RFC 6438: routers of the underlay that spread by the flow label keep a flow on one way.
#[test]
fn the_outer_flow_label_and_l4_port_are_the_flow_s_own() {
    let mut bench = Bench::over::<Ipv6Addr>();
    let (mut labels, mut l4_ports) = (HashSet::new(), HashSet::new());
    for sport in 1..=32 {
        let to = (Ipv6Addr::REMOTE, 53);
        let l4_port = bench.open_udp_by(Ipv6Addr::NODE, sport, to);
        let answer = from_router(&udp(to, (Ipv6Addr::EGRESS, l4_port), 64, b"y"));
        let twice = [bench.world_sends(&answer), bench.world_sends(&answer)];
        let [first, second] = twice.map(|back| {
            let outer = Seen6::of(&back[0]);
            (outer.flow_label, outer.sport)
        });
        assert_eq!(first, second);
        labels.insert(first.0);
        l4_ports.insert(first.1);
    }
    let ways = labels.len().min(l4_ports.len());
    assert!(ways >= 30, "{ways} ways for 32 flows");
}

fn vlan_tags<F: Family, U: Family>() {
    let setup = if U::HEADER == 20 { &["192.0.2.10/24"] } else { &["2001:db8:2::10/64"] };
    let mut bench = Bench::with(Setup { external_vlan: 300, arp: false, ..Setup::dual(setup) });
    // Nobody has answered so far.
    bench.take(Side::External);
    let tagged = |frame: Vec<u8>| [&frame[..12], &[0x81, 0x00, 0x01, 0x2c], &frame[12..]].concat();
    let inner = udp((F::POD, 4000), (F::REMOTE, 53), 64, b"x");
    let asked = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &inner));
    assert_eq!((asked.len(), &asked[0][12..16]), (1, &[0x81, 0x00, 0x01, 0x2c][..]));
    bench.arp = true;
    if let Some(question) = NdSeen::of(&asked[0]) {
        bench.io.receive(Side::External, &tagged(question.answer(ROUTER_MAC)));
    } else {
        let ours = (EXTERNAL_MAC, EXTERNAL);
        let reply = arp_frame(2, EXTERNAL_MAC, (ROUTER_MAC, ROUTER), ours);
        bench.io.receive(Side::External, &tagged(reply));
    }
    bench.poll();
    let out = SeenOf::<F>::of(&bench.take(Side::External)[0]);
    assert_eq!((out.vlan, out.source), (Some(300), F::EGRESS));
    let answer = from_router(&udp((F::REMOTE, 53), (F::EGRESS, out.sport), 64, b"y"));
    assert_eq!(bench.world_sends(&answer).len(), 0, "without the tag");
    assert_eq!(bench.dropped(DropReason::WrongVlan), 1);
    let back = bench.world_sends(&tagged(answer));
    assert_eq!(SeenOf::<F>::in_tunnel(&back[0], U::NODE).0.dport, 4000);
}

#[test]
fn vlan_tags_are_taken_off_and_put_on() {
    each_pairing!(vlan_tags);
}

fn padding<F: Family, U: Family>() {
    let mut bench = Bench::over::<U>();
    let l4_port = bench.open_udp_by::<F, U>(U::NODE, 4000, (F::REMOTE, 53));
    let mut answer = from_router(&udp((F::REMOTE, 53), (F::EGRESS, l4_port), 64, b"y"));
    answer.resize(answer.len() + 20, 0xaa);
    let back = bench.world_sends(&answer);
    assert_eq!(back[0].len(), 14 + U::OVERHEAD + F::HEADER + 8 + 1);
    let mut question =
        tunnelled_over(U::NODE, POLICY, &udp((F::POD, 4000), (F::REMOTE, 53), 64, b"x"));
    question.resize(question.len() + 20, 0xaa);
    assert_eq!(bench.pod_sends(&question)[0].len(), 14 + F::HEADER + 8 + 1);
    assert_eq!(bench.io.in_use(), 0);
}

#[test]
fn ethernet_padding_is_not_forwarded() {
    each_pairing!(padding);
}
