//! Packet in → verdict → packet out, through the whole worker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;

/// What comes out of the external port is the pod's packet with another source, one hop older.
#[test]
fn pod_to_world() {
    struct Case {
        description: &'static str,
        inner: Vec<u8>,
    }
    let cases = [
        Case { description: "UDP", inner: udp((POD, 4000), (REMOTE, 53), 64, b"question") },
        Case { description: "UDP, odd length", inner: udp((POD, 4001), (REMOTE, 53), 64, b"abc") },
        Case { description: "UDP, no payload", inner: udp((POD, 4002), (REMOTE, 53), 2, b"") },
        Case { description: "UDP, source l4_port 0", inner: udp((POD, 0), (REMOTE, 53), 64, b"x") },
        Case { description: "TCP SYN", inner: tcp((POD, 4000), (REMOTE, 443), SYN, None, b"") },
        Case { description: "echo request", inner: echo(POD, REMOTE, true, 0xbeef, 64) },
        Case {
            description: "IPv4 options are carried along",
            inner: {
                let plain = udp((POD, 4003), (REMOTE, 53), 64, b"options");
                ipv4_with(POD, REMOTE, 17, &plain[20..], |header| {
                    header.options.set(&[1, 1, 1, 0]);
                })
            },
        },
    ];
    for Case { description, inner } in cases {
        let mut bench = Bench::new();
        let before = Seen::of_packet(&inner);
        let out = bench.pod_sends(&tunnelled(NODE, POLICY, &inner));
        assert_eq!(out.len(), 1, "{description}: {:?}", bench.drops());
        let after = Seen::of(&out[0]);
        assert_eq!(after.source, EGRESS, "{description}");
        assert!(after.sport >= 1024, "{description}: l4_port {}", after.sport);
        assert!(after.l4_checksum_ok, "{description}: L4 checksum");
        assert_eq!((after.to_mac, after.from_mac), (ROUTER_MAC, EXTERNAL_MAC), "{description}");
        assert_eq!(after.ttl, before.ttl - 1, "{description}");
        assert_eq!(after.destination, before.destination, "{description}");
        assert_eq!(after.payload, before.payload, "{description}");
        if before.protocol != 1 {
            assert_eq!(after.dport, before.dport, "{description}");
        }
    }
}

trait SetOptions {
    fn set(&mut self, bytes: &[u8]);
}

impl SetOptions for etherparse::Ipv4Options {
    fn set(&mut self, bytes: &[u8]) {
        *self = bytes.try_into().unwrap();
    }
}

/// The answer reaches the pod's node, in the tunnel, as if the pod had no translator.
#[test]
fn world_to_pod() {
    struct Case {
        description: &'static str,
        question: Vec<u8>,
        answer: fn(u16) -> Vec<u8>,
        sees: (u16, u16),
    }
    let cases = [
        Case {
            description: "UDP",
            question: udp((POD, 4000), (REMOTE, 53), 64, b"question"),
            answer: |l4_port| udp((REMOTE, 53), (EGRESS, l4_port), 60, b"answer"),
            sees: (53, 4000),
        },
        Case {
            description: "TCP SYN-ACK",
            question: tcp((POD, 4000), (REMOTE, 443), SYN, None, b""),
            answer: |l4_port| tcp((REMOTE, 443), (EGRESS, l4_port), SYN | ACK, None, b""),
            sees: (443, 4000),
        },
        Case {
            description: "echo reply",
            question: echo(POD, REMOTE, true, 0xbeef, 64),
            answer: |id| echo(REMOTE, EGRESS, false, id, 60),
            sees: (0xbeef, 0xbeef),
        },
    ];
    for Case { description, question, answer, sees } in cases {
        let mut bench = Bench::new();
        let out = bench.pod_sends(&tunnelled(NODE, POLICY, &question));
        let answer = answer(Seen::of(&out[0]).sport);
        let back = bench.world_sends(&from_router(&answer));
        assert_eq!(back.len(), 1, "{description}: {:?}", bench.drops());
        let (inner, vni) = Seen::in_tunnel(&back[0], NODE);
        let sent = Seen::of_packet(&answer);
        assert_eq!((inner.source, inner.destination), (REMOTE, POD), "{description}");
        assert_eq!((inner.sport, inner.dport), sees, "{description}");
        assert_eq!((vni, inner.ttl), (POLICY, sent.ttl - 1), "{description}");
        assert!(inner.l4_checksum_ok, "{description}: L4 checksum");
        assert_eq!(inner.payload, sent.payload, "{description}");
    }
}

#[test]
fn two_policies_leave_with_two_addresses_and_one_flow_keeps_its_l4_port() {
    let mut bench = Bench::new();
    let first = udp((POD, 4000), (REMOTE, 53), 64, b"1");
    let second = udp((POD_C, 4000), (REMOTE, 53), 64, b"2");
    let a = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &first))[0]);
    let b = Seen::of(&bench.pod_sends(&tunnelled(NODE2, POLICY_2, &second))[0]);
    assert_eq!((a.source, b.source), (EGRESS, EGRESS_2));
    for _ in 0..100 {
        let again = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &first))[0]);
        assert_eq!((again.source, again.sport), (a.source, a.sport));
    }
    assert_eq!(bench.sessions(), 2);
}

#[test]
fn udp_without_checksum_stays_without_and_a_broken_one_stays_broken() {
    let mut bench = Bench::new();
    let mut none = udp((POD, 4000), (REMOTE, 53), 64, b"no checksum");
    none[26..28].copy_from_slice(&[0, 0]);
    let out = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &none))[0]);
    assert!(out.l4_checksum_zero);

    bench.whole = false;
    let mut broken = udp((POD, 4001), (REMOTE, 53), 64, b"broken");
    broken[26] ^= 0x5a;
    let out = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &broken))[0]);
    assert!(!out.l4_checksum_ok, "a damaged packet must not be certified as whole");
}

#[test]
fn outer_checksum_zero_or_right_is_accepted() {
    let mut bench = Bench::new();
    let inner = udp((POD, 4000), (REMOTE, 53), 64, b"x");
    assert_eq!(bench.pod_sends(&tunnelled(NODE, POLICY, &inner)).len(), 1);
    assert_eq!(bench.pod_sends(&tunnelled_with_checksum(NODE, POLICY, &inner)).len(), 1);
    let mut wrong = tunnelled_with_checksum(NODE, POLICY, &inner);
    wrong[41] ^= 1;
    assert_eq!(bench.pod_sends(&wrong).len(), 0);
    assert_eq!(bench.dropped(DropReason::OuterChecksum), 1);
}

/// RFC 7348: reserved bits are ignored when received.
#[test]
fn reserved_vxlan_bits_do_not_matter() {
    let mut bench = Bench::new();
    let mut vxlan = vxlan_payload(POLICY, &udp((POD, 4000), (REMOTE, 53), 64, b"x"));
    (vxlan[0], vxlan[1], vxlan[7]) = (0xff, 0xff, 0xff);
    assert_eq!(bench.pod_sends(&tunnelled_frame(NODE, vxlan, false)).len(), 1);
}

#[test]
fn mss_is_clamped_both_ways_and_a_smaller_one_is_left() {
    let mss = |segment: &[u8]| u16::from_be_bytes([segment[26], segment[27]]);
    for (offered, expected) in [(1460, 1410), (1410, 1410), (536, 536)] {
        let mut bench = Bench::new();
        let syn = tcp((POD, 4000), (REMOTE, 443), SYN, Some(offered), b"");
        assert_eq!(mss(&Seen::of_packet(&syn).segment), offered);
        let out = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &syn))[0]);
        assert_eq!(mss(&out.segment), expected, "in2out, offered {offered}");
        assert!(out.l4_checksum_ok);
        let answer = tcp((REMOTE, 443), (EGRESS, out.sport), SYN | ACK, Some(offered), b"");
        let back = bench.world_sends(&from_router(&answer));
        let (inner, _) = Seen::in_tunnel(&back[0], NODE);
        assert_eq!(mss(&inner.segment), expected, "out2in, offered {offered}");
        assert!(inner.l4_checksum_ok);
    }
}

/// RFC 6040, and the outer DSCP of the way back.
#[test]
fn congestion_marks_go_in_and_out_of_the_tunnel() {
    const CE: u8 = 0b11;
    const ECT0: u8 = 0b10;
    let mut bench = Bench::new();
    let inner = |tos: u8| {
        let plain = udp((POD, 4000), (REMOTE, 53), 64, b"x");
        ipv4_with(POD, REMOTE, 17, &plain[20..], |h| {
            h.dscp = (tos >> 2).try_into().unwrap();
            h.ecn = (tos & 3).try_into().unwrap();
        })
    };
    let with_outer_ce = |inner: &[u8]| {
        let mut frame = tunnelled(NODE, POLICY, inner);
        frame[15] = CE;
        fix_ipv4_checksum(&mut frame[14..34]);
        frame
    };
    let out = Seen::of(&bench.pod_sends(&with_outer_ce(&inner(0xb8 | ECT0)))[0]);
    assert_eq!(out.tos, 0xb8 | CE);
    assert_eq!(bench.pod_sends(&with_outer_ce(&inner(0xb8))).len(), 0);
    assert_eq!(bench.dropped(DropReason::EcnInvalid), 1);

    let plain = udp((REMOTE, 53), (EGRESS, out.sport), 64, b"y");
    let answer = ipv4_with(REMOTE, EGRESS, 17, &plain[20..], |h| {
        h.dscp = 0x2e.try_into().unwrap();
        h.ecn = 0b10.try_into().unwrap();
    });
    let back = bench.world_sends(&from_router(&answer));
    assert_eq!(Seen::of(&back[0]).tos, 0x2e << 2 | ECT0, "outer DSCP and ECN are the inner ones");
}

fn fix_ipv4_checksum(header: &mut [u8]) {
    let (mut parsed, _) = etherparse::Ipv4Header::from_slice(header).unwrap();
    parsed.header_checksum = parsed.calc_header_checksum();
    header.copy_from_slice(&parsed.to_bytes());
}

/// The first packet of a flow waits for ARP; the next hop of an on-link destination is itself.
#[test]
fn next_hops_are_resolved_and_the_first_packet_is_not_lost() {
    let mut bench = Bench::new();
    bench.arp = false;
    let on_link = [203, 0, 113, 99].into();
    let inner = udp((POD, 4000), (on_link, 53), 64, b"x");
    let asked = bench.pod_sends(&tunnelled(NODE, POLICY, &inner));
    assert_eq!(asked.len(), 1, "an ARP request and nothing else");
    assert_eq!(&asked[0][..6], &[0xff; 6]);
    assert_eq!(&asked[0][38..42], &[203, 0, 113, 99], "asks for the destination, not the router");
    assert_eq!(&asked[0][28..32], &EXTERNAL.octets());
    let mac = [2, 0, 0, 0, 7, 7];
    bench.io.receive(
        Side::External,
        &arp_frame(2, EXTERNAL_MAC, (mac, on_link), (EXTERNAL_MAC, EXTERNAL)),
    );
    bench.poll();
    let out = bench.take(Side::External);
    assert_eq!(Seen::of(&out[0]).to_mac, mac);
}

#[test]
fn arp_for_own_addresses_and_egress_ips_is_answered_on_the_right_side() {
    for (side, target, answered) in [
        (Side::Tunnel, VTEP, true),
        (Side::Tunnel, EGRESS, false),
        (Side::Tunnel, EXTERNAL, false),
        (Side::External, EXTERNAL, true),
        (Side::External, EGRESS, true),
        (Side::External, EGRESS_2, true),
        (Side::External, [203, 0, 113, 31].into(), false),
        (Side::External, VTEP, false),
    ] {
        let mut bench = Bench::new();
        let (asker, asker_mac, mac) = match side {
            Side::Tunnel => (NODE, NODE_MAC, TUNNEL_MAC),
            // Not the router, which is known before it asks.
            Side::External => ([203, 0, 113, 77].into(), [2, 0, 0, 0, 2, 77], EXTERNAL_MAC),
        };
        let request = arp_frame(1, [0xff; 6], (asker_mac, asker), ([0; 6], target));
        bench.io.receive(side, &request);
        bench.poll();
        let out = bench.take(side);
        if answered {
            assert_eq!(
                out,
                [arp_frame(2, asker_mac, (mac, target), (asker_mac, asker))],
                "{target}"
            );
        } else {
            assert_eq!((out.len(), bench.dropped(DropReason::ArpNotForUs)), (0, 1), "{target}");
        }
    }
}

#[test]
fn addresses_are_announced_at_start_and_when_policies_change() {
    let mut bench = Bench::new();
    let wanted = [203, 0, 113, 20].into();
    bench.publish(policies(2, &[(POLICY, &[wanted], &[])]));
    bench.poll();
    let [tunnel, announced] = bench.announced.clone();
    let for_address = |address: std::net::Ipv4Addr| {
        arp_frame(1, [0xff; 6], (EXTERNAL_MAC, address), ([0; 6], address))
    };
    for address in [EXTERNAL, wanted] {
        assert!(announced.contains(&for_address(address)), "{address} was not announced");
    }
    assert!(!announced.contains(&for_address(EGRESS)), "an address that is not ours any more");
    assert_eq!(tunnel, [arp_frame(1, [0xff; 6], (TUNNEL_MAC, VTEP), ([0; 6], VTEP))]);
    for _ in 0..10 {
        bench.advance(2000);
    }
    let rounds = bench.announced[Side::External.index()].len() / announced.len();
    assert_eq!(rounds, 3, "three rounds and no more");
}

#[test]
fn echo_to_own_addresses_is_answered_and_to_egress_ips_is_not() {
    for (side, us, asker) in [
        (Side::Tunnel, VTEP, NODE),
        (Side::External, EXTERNAL, REMOTE),
        (Side::External, EGRESS, REMOTE),
    ] {
        let mut bench = Bench::new();
        let request = echo(asker, us, true, 77, 1);
        let frame = match side {
            Side::Tunnel => ethernet(TUNNEL_MAC, NODE_MAC, 0x0800, &request),
            Side::External => from_router(&request),
        };
        bench.io.receive(side, &frame);
        bench.poll();
        let out = bench.take(side);
        if us == EGRESS {
            assert_eq!((out.len(), bench.dropped(DropReason::IcmpUnsupported)), (0, 1));
            continue;
        }
        let reply = Seen::of(&out[0]);
        assert_eq!((reply.source, reply.destination, reply.ttl), (us, asker, 64));
        assert_eq!(reply.segment[0], 0, "echo reply");
        assert!(reply.l4_checksum_ok);
        assert_eq!(reply.payload, Seen::of_packet(&request).payload);
    }
}

#[test]
fn time_exceeded_is_sent_back_through_the_tunnel_and_to_the_world() {
    let mut bench = Bench::new();
    let last = udp((POD, 33434), (REMOTE, 33434), 1, &[b'p'; 900]);
    bench.io.receive(Side::Tunnel, &tunnelled(NODE, POLICY, &last));
    bench.poll();
    assert_eq!(bench.take(Side::External).len(), 0);
    let back = bench.take(Side::Tunnel);
    let (error, vni) = Seen::in_tunnel(&back[0], NODE);
    assert_eq!((error.source, error.destination, vni), (VTEP, POD, POLICY));
    assert_eq!((error.protocol, error.segment[0], error.segment[1]), (1, 11, 0));
    assert!(error.l4_checksum_ok);
    assert_eq!(error.segment[8..], last[..548], "RFC 1812: up to 576 bytes in all");
    assert_eq!(bench.dropped(DropReason::TtlExpired), 1);
    assert_eq!(bench.sessions(), 0, "a packet that ends here opens nothing");

    let l4_port = bench.open_udp(4000, (REMOTE, 53));
    let answer = udp((REMOTE, 53), (EGRESS, l4_port), 1, b"too far");
    bench.io.receive(Side::External, &from_router(&answer));
    bench.poll();
    assert_eq!(bench.take(Side::Tunnel).len(), 0);
    let out = bench.take(Side::External);
    let error = Seen::of(&out[0]);
    assert_eq!((error.source, error.destination), (EXTERNAL, REMOTE));
    assert_eq!((error.segment[0], &error.segment[8..]), (11, &answer[..]));
}

#[test]
fn vlan_tags_are_taken_off_and_put_on() {
    let mut bench = Bench::with(Setup { external_vlan: 300, ..Setup::default() });
    bench.arp = false;
    // The router was asked for at start, and the harness answered without a tag.
    let untagged = bench.dropped(DropReason::WrongVlan);
    let tagged = |frame: Vec<u8>| {
        let mut with_tag = frame[..12].to_vec();
        with_tag.extend([0x81, 0x00, 0x01, 0x2c]);
        with_tag.extend(&frame[12..]);
        with_tag
    };
    let inner = udp((POD, 4000), (REMOTE, 53), 64, b"x");
    let asked = bench.pod_sends(&tunnelled(NODE, POLICY, &inner));
    let request = arp_frame(1, [0xff; 6], (EXTERNAL_MAC, EXTERNAL), ([0; 6], ROUTER));
    assert_eq!(asked, [tagged(request)]);
    let reply = arp_frame(2, EXTERNAL_MAC, (ROUTER_MAC, ROUTER), (EXTERNAL_MAC, EXTERNAL));
    bench.io.receive(Side::External, &tagged(reply));
    bench.poll();
    let out = Seen::of(&bench.take(Side::External)[0]);
    assert_eq!((out.vlan, out.source), (Some(300), EGRESS));
    let answer = from_router(&udp((REMOTE, 53), (EGRESS, out.sport), 64, b"y"));
    assert_eq!(bench.world_sends(&answer).len(), 0, "without the tag");
    assert_eq!(bench.dropped(DropReason::WrongVlan), untagged + 1);
    bench.arp = true;
    assert_eq!(bench.world_sends(&tagged(answer)).len(), 1);
}

#[test]
fn ethernet_padding_is_not_forwarded() {
    let mut bench = Bench::new();
    let l4_port = bench.open_udp(4000, (REMOTE, 53));
    let mut answer = from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"y"));
    answer.resize(60, 0xaa);
    let back = bench.world_sends(&answer);
    assert_eq!(back[0].len(), 14 + 50 + 20 + 8 + 1);
}

/// No packet is held anywhere once all of it has left or was dropped.
#[test]
fn buffers_all_come_back() {
    let mut bench = Bench::new();
    for sport in 1000..1200 {
        let l4_port = bench.open_udp(sport, (REMOTE, 53));
        bench.world_sends(&from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"y")));
        bench.world_sends(&from_router(&udp((REMOTE, 54), (EGRESS, l4_port), 64, b"y")));
    }
    assert_eq!(bench.dropped(DropReason::NoSession), 200);
    assert_eq!(bench.io.in_use(), 0);
}
