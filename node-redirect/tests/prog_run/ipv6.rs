//! What IPv6 has of its own: extension headers, neighbor discovery, fragments that tell less. Everything else is in the other tables, by both families.

use node_redirect::abi;
use node_redirect::counters::Reason;
use node_redirect::flows;
use node_redirect::program::Role;
use node_redirect::tables::Tables;

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
const ROUTING_DONE: [u8; 7] = [0, 4, 0, 0, 0, 0, 0];
const ROUTING_TO_GO: [u8; 7] = [0, 4, 1, 0, 0, 0, 0];
const MOST_EXTENSIONS: usize = 7;

fn with_extensions(packet: Packet, count: usize) -> Packet {
    (0..count).fold(packet, |packet, _| packet.extension(DESTINATION_OPTIONS, &PADDING))
}

#[test]
fn every_verdict_of_from_pod() {
    in_private_namespaces(|| {
        let too_big = TUNNEL_MTU - 40 - 12;
        let world = || udp(POD6, WORLD6, 4000, 53);
        let forged = || udp(POD6, GATEWAY6, 4000, VXLAN_PORT);
        #[rustfmt::skip]
        let cases = [
            ("TCP under policy", tcp(POD6, WORLD6, 4000, 80, SYN).frame(), Redirect, Reason::Redirected),
            ("UDP under policy", world().frame(), Redirect, Reason::Redirected),
            ("ping under policy", icmp(POD6, WORLD6, 128, 7).frame(), Redirect, Reason::Redirected),
            ("SCTP under policy", sctp(POD6, WORLD6, 4000, 80).frame(), Redirect, Reason::Redirected),
            ("ESP under policy: the gateway drops what it cannot translate", packet(POD6, WORLD6, 50, vec![0; 8]).frame(), Redirect, Reason::Redirected),
            ("IPv4's ICMP in IPv6 is a protocol like any", packet(POD6, WORLD6, ICMP, vec![8]).frame(), Redirect, Reason::Redirected),
            ("ICMPv6 in IPv4, too", packet(POD, WORLD, ICMPV6, vec![135]).frame(), Redirect, Reason::Redirected),
            ("no next header", packet(POD6, WORLD6, 59, vec![]).frame(), Redirect, Reason::Redirected),
            ("ICMPv6 of unknown type", icmp(POD6, WORLD6, 200, 0).frame(), Redirect, Reason::Redirected),
            ("Ethernet padding behind the packet", [world().frame(), vec![0; 14]].concat(), Redirect, Reason::Redirected),
            ("excluded destination", tcp(POD6, EXCLUDED6, 4000, 80, SYN).frame(), Pass, Reason::Excluded),
            ("no gateway, Closed", tcp(POD6, CLOSED6, 4000, 80, SYN).frame(), Drop, Reason::NoGateway),
            ("no gateway, Open", tcp(POD6, OPEN6, 4000, 80, SYN).frame(), Pass, Reason::FailedOpen),
            ("destination outside the policy", tcp(NARROW6, "2001:db8:99::1", 4000, 80, SYN).frame(), Pass, Reason::OutsidePolicy),
            ("pod without policy", tcp(UNSELECTED6, WORLD6, 4000, 80, SYN).frame(), Pass, Reason::NotSelected),
            ("another pod", tcp(POD6, "fd00:244:2::10", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("service", udp(POD6, SERVICE6, 4000, 53).frame(), Pass, Reason::Exempt),
            ("link-local", tcp(POD6, "fe80::1", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("multicast", udp(POD6, "ff02::fb", 5353, 5353).frame(), Pass, Reason::Exempt),
            ("gateway itself, no VXLAN", tcp(POD6, GATEWAY6, 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("IPv4's own addresses in IPv6", udp(POD6, "::ffff:198.51.100.10", 1, 2).frame(), Drop, Reason::Malformed),
            ("IPv4's own pod in IPv6", udp("::ffff:10.244.1.10", WORLD6, 1, 2).frame(), Drop, Reason::Malformed),
            ("forged tunnel to a gateway", forged().frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel from a pod without policy", udp(UNSELECTED6, GATEWAY6, 1, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel to a node", udp(POD6, NODE6, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel to the node's link-local address", udp(POD6, "fe80::1", 1, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel to all nodes on the link", udp(POD6, "ff02::1", 1, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel behind extension headers", with_extensions(forged(), MOST_EXTENSIONS).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, maybe, behind more than are followed", with_extensions(forged(), MOST_EXTENSIONS + 1).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel behind a routing header that is done", forged().extension(ROUTING, &ROUTING_DONE).frame(), Drop, Reason::ForgedTunnel),
            ("something for a gateway to pass on", forged().extension(ROUTING, &ROUTING_TO_GO).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a first fragment", udp(POD6, GATEWAY6, 1, 2).fragment(9, MORE_FRAGMENTS).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a later fragment", udp(POD6, GATEWAY6, 1, 2).fragment(9, 1).frame(), Drop, Reason::ForgedTunnel),
            ("a later fragment to a gateway that does not tell its protocol", packet(POD6, GATEWAY6, DESTINATION_OPTIONS, vec![0; 8]).fragment(9, 1).frame(), Drop, Reason::ForgedTunnel),
            ("a later fragment of TCP to a gateway", packet(POD6, GATEWAY6, TCP, vec![0; 8]).fragment(9, 1).frame(), Pass, Reason::Exempt),
            ("VXLAN to somebody who is no gateway", udp(POD6, WORLD6, 4000, VXLAN_PORT).frame(), Redirect, Reason::Redirected),
            ("as many extension headers as are followed", with_extensions(world(), MOST_EXTENSIONS).frame(), Redirect, Reason::Redirected),
            ("one extension header more", with_extensions(world(), MOST_EXTENSIONS + 1).frame(), Drop, Reason::Malformed),
            ("one more, excluded destination", with_extensions(udp(POD6, EXCLUDED6, 1, 2), MOST_EXTENSIONS + 1).frame(), Pass, Reason::Excluded),
            ("one more, pod without policy", with_extensions(udp(UNSELECTED6, WORLD6, 1, 2), MOST_EXTENSIONS + 1).frame(), Pass, Reason::NotSelected),
            ("hop-by-hop options", world().extension(HOP_BY_HOP, &PADDING).frame(), Redirect, Reason::Redirected),
            ("routing header that is done", world().extension(ROUTING, &ROUTING_DONE).frame(), Redirect, Reason::Redirected),
            ("routing header with segments left", world().extension(ROUTING, &ROUTING_TO_GO).frame(), Drop, Reason::Malformed),
            ("two fragment headers", world().extension(FRAGMENT, &[0, 0, 1, 0, 0, 0, 9]).fragment(9, MORE_FRAGMENTS).frame(), Drop, Reason::Malformed),
            ("atomic fragment", world().extension(FRAGMENT, &[0, 0, 0, 0, 0, 0, 9]).frame(), Redirect, Reason::Redirected),
            ("as large as the tunnel carries", world().payload(too_big).frame(), Redirect, Reason::Redirected),
            ("a byte larger than the tunnel carries", world().payload(too_big + 1).frame(), Drop, Reason::TooBig),
            ("too large, but excluded", udp(POD6, EXCLUDED6, 1, 2).payload(too_big + 1).frame(), Pass, Reason::Excluded),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn what_belongs_on_the_link_stays_there() {
    in_private_namespaces(|| {
        let mut cases = Vec::new();
        for kind in [130, 131, 132, 133, 134, 135, 136, 137, 141, 142, 143, 148, 149, 151, 152, 153]
        {
            for (description, src, dst, verdict, reason) in [
                ("on the link", POD6, "ff02::1:ff00:1", Pass, Reason::Exempt),
                ("to the router's own address", POD6, "fe80::1", Pass, Reason::Exempt),
                ("to the node", POD6, NODE6, Pass, Reason::Exempt),
                ("from the link-local address", "fe80::2", "ff02::2", Pass, Reason::NotSelected),
                ("address detection", "::", "ff02::1:ff00:10", Pass, Reason::NotSelected),
                ("into the world", POD6, WORLD6, Drop, Reason::LinkOnly),
                ("into the world, no gateway", POD6, CLOSED6, Drop, Reason::LinkOnly),
                ("into the world, excluded", POD6, EXCLUDED6, Pass, Reason::Excluded),
            ] {
                cases.push((description, icmp(src, dst, kind, 0).frame(), verdict, reason));
            }
        }
        let bench = Bench::new();
        bench.check(&cases);
        for (_, frame, ..) in &cases {
            bench.run(Role::FromPod, frame, 0);
            bench.run(Role::ToPod, frame, 0);
        }
        assert_eq!(bench.flow_count(), 0, "no entries of it");
    });
}

#[test]
fn every_truncation_of_every_header() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let malformed = (Drop, Some(Reason::Malformed));
        for (name, whole, least) in [
            ("TCP", tcp(POD6, WORLD6, 4000, 80, SYN), 20),
            ("UDP", udp(POD6, WORLD6, 4000, 53), 8),
            ("ICMPv6", icmp(POD6, WORLD6, 128, 7), 8),
            ("SCTP", sctp(POD6, WORLD6, 4000, 80), 12),
            ("options", udp(POD6, WORLD6, 1, 2).extension(DESTINATION_OPTIONS, &PADDING), 8),
            ("fragment", udp(POD6, WORLD6, 1, 2).fragment(5, MORE_FRAGMENTS), 8),
        ] {
            let frame = whole.frame();
            for length in ETHERNET + 40..frame.len() {
                let outcome = bench.run(Role::FromPod, &frame[..length], 0);
                assert_eq!(outcome, malformed, "{name} cut at {length} of {}", frame.len());
                // The header's length says so, too: the frame is padded.
                let mut padded = frame.clone();
                let payload = (length - ETHERNET - 40) as u16;
                padded[ETHERNET + 4..][..2].copy_from_slice(&payload.to_be_bytes());
                let l4_offset = frame.len() - whole.l4.len();
                if length < l4_offset + least {
                    let outcome = bench.run(Role::FromPod, &padded, 0);
                    assert_eq!(outcome, malformed, "{name} of {payload} bytes, padded");
                }
            }
        }
        assert_eq!(bench.flow_count(), 0, "no entry of a malformed packet");
    });
}

#[test]
fn headers_that_contradict_themselves() {
    in_private_namespaces(|| {
        let with = |offset: usize, bytes: &[u8]| {
            let mut frame = tcp(POD6, WORLD6, 4000, 80, SYN).frame();
            frame[ETHERNET + offset..][..bytes.len()].copy_from_slice(bytes);
            frame
        };
        #[rustfmt::skip]
        let cases = [
            ("IP version 4 behind the IPv6 ethertype", with(0, &[0x40]), Drop, Reason::Malformed),
            ("payload longer than the frame", with(4, &[0, 21]), Drop, Reason::Malformed),
            ("no payload without segmentation", with(4, &[0, 0]), Drop, Reason::Malformed),
            ("an option that ends behind the packet", udp(POD6, WORLD6, 1, 2).extension(DESTINATION_OPTIONS, &[9, 1, 4, 0, 0, 0, 0]).frame(), Drop, Reason::Malformed),
            ("TCP header shorter than 20 bytes", with(40 + 12, &[4 << 4]), Drop, Reason::Malformed),
            ("TCP header longer than the packet", with(40 + 12, &[6 << 4]), Drop, Reason::Malformed),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn answers_of_flows_that_the_world_opened_are_not_redirected() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let inbound = (Pass, Some(Reason::InboundFlow));
        let redirected = (Redirect, Some(Reason::Redirected));
        let answers = [
            (tcp(WORLD6, POD6, 4000, 80, SYN), tcp(POD6, WORLD6, 80, 4000, SYN | ACK)),
            (udp(WORLD6, POD6, 4000, 53), udp(POD6, WORLD6, 53, 4000)),
            (sctp(WORLD6, POD6, 4000, 80), sctp(POD6, WORLD6, 80, 4000)),
            (icmp(WORLD6, POD6, 128, 7), icmp(POD6, WORLD6, 129, 7)),
            (packet(WORLD6, POD6, 50, vec![0; 8]), packet(POD6, WORLD6, 50, vec![0; 8])),
        ];
        for (question, answer) in &answers {
            assert_eq!(bench.pod_sends(answer), redirected, "{answer:?} that nobody asked for");
            bench.forget_flows();
            bench.pod_receives(question, 0);
            assert_eq!(bench.pod_sends(answer), inbound, "{answer:?}");
            let behind = answer.clone().extension(DESTINATION_OPTIONS, &PADDING);
            assert_eq!(bench.pod_sends(&behind), inbound, "behind options: {answer:?}");
        }
        for (question, _) in &answers {
            bench.pod_receives(question, 0);
        }
        bench.apply(&Tables { exempt: [net("2001:db8:1::/64")].into(), ..tables() });
        for (_, answer) in &answers {
            assert_eq!(bench.pod_sends(answer), inbound, "after a change of policy: {answer:?}");
        }
        let ping = icmp(POD6, WORLD6, 128, 7);
        assert_eq!(bench.pod_sends(&ping), redirected, "the pod's own ping with the world's id");
        let counts = flows::age(&bench.maps, &node_redirect::config::Flows::default()).unwrap();
        assert_eq!((counts.inbound, counts.redirected), (5, 1));
    });
}

#[test]
fn what_opens_no_inbound_flow() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        for (description, packet, mark) in [
            ("a SYN-ACK", tcp(WORLD6, POD6, 80, 4000, SYN | ACK), 0),
            ("an echo reply", icmp(WORLD6, POD6, 129, 7), 0),
            ("an ICMPv6 error", icmp_error(WORLD6, POD6, 1, &udp(POD6, WORLD6, 1, 2)), 0),
            ("a later fragment", udp(WORLD6, POD6, 53, 4000).fragment(5, 100), 0),
            ("UDP from a service", udp(SERVICE6, POD6, 53, 4000), 0),
            ("UDP through our tunnel", udp(WORLD6, POD6, 53, 4000), MARK_FROM_TUNNEL),
        ] {
            bench.pod_receives(&packet, mark);
            assert_eq!(bench.flow_count(), 0, "{description}");
        }
    });
}

#[test]
fn icmp_errors_go_the_way_of_the_packet_they_quote() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let question = udp(WORLD6, POD6, 4000, 53);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        for kind in [1, 2, 3, 4] {
            let error = icmp_error(POD6, WORLD6, kind, &question);
            assert_eq!(bench.pod_sends(&error), redirected, "about a flow that nobody knows");
        }
        bench.pod_receives(&question, 0);
        for kind in [1, 2, 3, 4] {
            let error = icmp_error(POD6, WORLD6, kind, &question);
            assert_eq!(bench.pod_sends(&error), inbound, "{kind}");
            for cut in 8..error.l4.len() {
                let mut short = error.clone();
                short.l4.truncate(cut);
                assert_eq!(bench.pod_sends(&short), redirected, "quote cut at {cut}");
            }
        }
        let options = question.clone().extension(DESTINATION_OPTIONS, &PADDING);
        assert_eq!(bench.pod_sends(&icmp_error(POD6, WORLD6, 1, &options)), inbound);
        let lost = with_extensions(question.clone(), MOST_EXTENSIONS + 1);
        assert_eq!(bench.pod_sends(&icmp_error(POD6, WORLD6, 1, &lost)), redirected);
        let elsewhere = icmp_error(POD6, "2001:db8:100::99", 1, &question);
        assert_eq!(bench.pod_sends(&elsewhere), redirected, "sent to somebody else than it quotes");
        assert_eq!(bench.flow_count(), 1, "errors make no entries");
    });
}

#[test]
fn fragments_follow_their_first() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        bench.pod_receives(&udp(WORLD6, POD6, 4000, 53), 0);
        let answer = udp(POD6, WORLD6, 53, 4000);
        let later = packet(POD6, WORLD6, UDP, vec![0; 64]).fragment(77, 185);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        assert_eq!(bench.pod_sends(&later), redirected, "its first was not seen");
        assert_eq!(bench.pod_sends(&answer.clone().fragment(77, MORE_FRAGMENTS)), inbound);
        assert_eq!(bench.pod_sends(&later), inbound);
        let untold = packet(POD6, WORLD6, DESTINATION_OPTIONS, vec![0; 64]).fragment(77, 185);
        assert_eq!(bench.pod_sends(&untold), inbound, "it need not tell the protocol");
        let other = packet(POD6, WORLD6, UDP, vec![0; 64]).fragment(78, 185);
        assert_eq!(bench.pod_sends(&other), redirected, "of another datagram");
        assert_eq!(bench.flow_count(), 1, "a fragment without l4_ports makes no entry");

        bench.pod_receives(&icmp(WORLD6, POD6, 128, 7), 0);
        let reply = icmp(POD6, WORLD6, 129, 7).fragment(79, MORE_FRAGMENTS);
        assert_eq!(bench.pod_sends(&reply), inbound);
        for protocol in [ICMPV6, DESTINATION_OPTIONS] {
            let rest = packet(POD6, WORLD6, protocol, vec![0; 64]).fragment(79, 185);
            assert_eq!(bench.pod_sends(&rest), redirected, "as IPv4's: an echo's rest has no id");
        }
    });
}

/// One set has prefixes of both, and one map entry stands for each address.
#[test]
fn the_families_do_not_meet() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let mut tables = tables();
        let all = [(net("::/0"), POLICY)];
        tables.sets.insert(1, all.into());
        tables.exempt = [net("::/0")].into();
        bench.apply(&tables);
        let question = tcp(POD, WORLD, 4000, 80, SYN);
        let outside = (Pass, Some(Reason::OutsidePolicy));
        assert_eq!(bench.pod_sends(&question), outside, "::/0 is not IPv4's");
        let question = tcp(POD6, WORLD6, 4000, 80, SYN);
        assert_eq!(bench.pod_sends(&question), (Pass, Some(Reason::Exempt)));
        tables.exempt = [net("0.0.0.0/0")].into();
        bench.apply(&tables);
        assert_eq!(bench.pod_sends(&question), (Redirect, Some(Reason::Redirected)));
    });
}

#[test]
fn a_gateway_takes_new_flows_of_the_families_it_has_addresses_for() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let mut tables = tables();
        for (families, v4, v6) in [
            ([1, 1], Reason::Redirected, Reason::Redirected),
            ([1, 0], Reason::Redirected, Reason::NoGateway),
            ([0, 1], Reason::NoGateway, Reason::Redirected),
        ] {
            tables.policies.get_mut(&POLICY).unwrap().accepting = families;
            bench.apply(&tables);
            bench.forget_flows();
            assert_eq!(bench.pod_sends(&udp(POD, WORLD, 1, 2)).1, Some(v4));
            assert_eq!(bench.pod_sends(&udp(POD6, WORLD6, 1, 2)).1, Some(v6));
        }
    });
}

#[test]
fn either_underlay_carries_either_family_and_a_flow_stays_on_its_gateway() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let gateways = [
            "2001:db8:1::10",
            "2001:db8:1::11",
            "2001:db8:1::12",
            "192.0.2.10",
            "192.0.2.11",
            "192.0.2.12",
        ];
        let with = |gateways: &[&str]| {
            let mut tables = tables();
            tables.policies.insert(POLICY, policy(gateways, abi::FAILURE_CLOSED));
            for last in 20..80 {
                tables.endpoints.insert([0xfd00, 0x244, 1, 0, 0, 0, 0, last].into(), 1);
                tables.endpoints.insert([10, 244, 1, last as u8].into(), 1);
            }
            tables
        };
        bench.apply(&with(&gateways));
        let v6 = (20..80).map(|last| (format!("fd00:244:1::{last:x}"), WORLD6));
        let v4 = (20..80).map(|last| (format!("10.244.1.{last}"), WORLD));
        let mut chosen = std::collections::BTreeSet::new();
        for (pod, world) in v6.chain(v4) {
            let question = udp(&pod, world, 4000, 53);
            let send = |bench: &Bench| {
                let outcome = bench.pod_sends(&question);
                assert_eq!(outcome, (Redirect, Some(Reason::Redirected)), "{pod}");
                abi::ip(bench.flow(&key(&pod, world, UDP, 4000, 53)).unwrap().gateway)
            };
            let gateway = send(&bench);
            let twin = bench.tables.policies[&POLICY].choose_gateway(address(&pod));
            assert_eq!(Some(gateway), twin, "{pod}: program and agent choose alike");
            assert_eq!(send(&bench), gateway);
            chosen.insert((address(&pod).is_ipv6(), gateway));
        }
        assert_eq!(chosen.len(), 2 * gateways.len(), "all are in use by both families");

        let question = udp(POD6, WORLD6, 4000, 53);
        let gateway = |bench: &Bench| {
            bench.pod_sends(&question);
            abi::ip(bench.flow(&key(POD6, WORLD6, UDP, 4000, 53)).unwrap().gateway)
        };
        bench.apply(&with(&gateways[..1]));
        bench.forget_flows();
        assert_eq!(gateway(&bench), address(gateways[0]));
        bench.apply(&with(&gateways));
        assert_eq!(gateway(&bench), address(gateways[0]), "more gateways move no live flow");
        bench.apply(&with(&gateways[1..]));
        assert_ne!(gateway(&bench), address(gateways[0]), "a lost one does");
    });
}
