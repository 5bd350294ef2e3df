//! First packet wins and fixes the direction.

use node_redirect::abi::{self, Flow};
use node_redirect::config::Flows;
use node_redirect::counters::Reason;
use node_redirect::flows;
use node_redirect::tables::{Set, Tables};

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

#[test]
fn answers_of_flows_that_the_world_opened_are_not_redirected() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let inbound = (Pass, Some(Reason::InboundFlow));
        let answers = [
            (tcp(WORLD, POD, 4000, 80, SYN), tcp(POD, WORLD, 80, 4000, SYN | ACK)),
            (udp(WORLD, POD, 4000, 53), udp(POD, WORLD, 53, 4000)),
            (sctp(WORLD, POD, 4000, 80), sctp(POD, WORLD, 80, 4000)),
            (icmp(WORLD, POD, 8, 7), icmp(POD, WORLD, 0, 7)),
            (packet(WORLD, POD, 47, vec![0; 8]), packet(POD, WORLD, 47, vec![0; 8])),
        ];
        for (question, answer) in &answers {
            let redirected = (Redirect, Some(Reason::Redirected));
            assert_eq!(bench.pod_sends(answer), redirected, "{answer:?} that nobody asked for");
            bench.forget_flows();
            bench.pod_receives(question, 0);
            assert_eq!(bench.pod_sends(answer), inbound, "{answer:?}");
        }
        for (question, _) in &answers {
            bench.pod_receives(question, 0);
        }
        bench.apply(&Tables { exempt: [net("192.0.2.0/24")].into(), ..tables() });
        for (_, answer) in &answers {
            assert_eq!(bench.pod_sends(answer), inbound, "after a change of policy: {answer:?}");
        }
        let ping = icmp(POD, WORLD, 8, 7);
        let redirected = (Redirect, Some(Reason::Redirected));
        assert_eq!(
            bench.pod_sends(&ping),
            redirected,
            "the pod's own ping with the world's identifier"
        );
    });
}

#[test]
fn what_opens_no_inbound_flow() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        for (description, packet, mark) in [
            ("a SYN-ACK", tcp(WORLD, POD, 80, 4000, SYN | ACK), 0),
            ("TCP in mid-flow", tcp(WORLD, POD, 80, 4000, ACK), 0),
            ("an echo reply", icmp(WORLD, POD, 0, 7), 0),
            ("an ICMP error", icmp_error(WORLD, POD, 3, &udp(POD, WORLD, 1, 2)), 0),
            ("a later fragment", udp(WORLD, POD, 53, 4000).fragment(5, 100), 0),
            ("UDP from a service", udp(SERVICE, POD, 53, 4000), 0),
            ("UDP through our tunnel", udp(WORLD, POD, 53, 4000), MARK_FROM_TUNNEL),
            ("a SYN through our tunnel", tcp(WORLD, POD, 80, 4000, SYN), MARK_FROM_TUNNEL),
        ] {
            bench.pod_receives(&packet, mark);
            assert_eq!(bench.flow_count(), 0, "{description}");
        }
        let question = udp(POD, WORLD, 4000, 53);
        assert_eq!(bench.pod_sends(&question).0, Redirect);
        bench.pod_receives(&udp(WORLD, POD, 53, 4000), MARK_FROM_TUNNEL);
        let flow = bench.flow(&key(POD, WORLD, UDP, 4000, 53)).unwrap();
        assert_eq!((flow.kind, flow.flags), (abi::FLOW_REDIRECTED, abi::FLOW_REPLIED));
    });
}

#[test]
fn answers_to_what_the_pod_sent_past_the_policies_open_nothing() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        for (pod, remote, reason) in [
            (POD, EXCLUDED, Reason::Excluded),
            (UNSELECTED, WORLD, Reason::NotSelected),
            (NARROW, "203.0.113.99", Reason::OutsidePolicy),
            (POD, OPEN, Reason::FailedOpen),
        ] {
            let question = udp(pod, remote, 4000, 53);
            assert_eq!(bench.pod_sends(&question), (Pass, Some(reason)));
            bench.pod_receives(&udp(remote, pod, 53, 4000), 0);
            let flow = bench.flow(&key(pod, remote, UDP, 4000, 53)).unwrap();
            assert_eq!(
                (flow.kind, flow.flags),
                (abi::FLOW_PASSED, abi::FLOW_REPLIED),
                "{reason:?}"
            );
            assert_eq!(bench.pod_sends(&question), (Pass, Some(reason)), "by the flow table");
        }
        let mut all = tables();
        all.sets.insert(1, Set::from([(net("0.0.0.0/0"), POLICY)]));
        bench.apply(&all);
        let now_under_policy = udp(POD, EXCLUDED, 4000, 53);
        assert_eq!(bench.pod_sends(&now_under_policy), (Redirect, Some(Reason::Redirected)));

        let before = bench.flow_count();
        bench.pod_sends(&udp(UNSELECTED, SERVICE, 4000, 53));
        bench.pod_sends(&tcp(UNSELECTED, WORLD, 4000, 80, SYN));
        assert_eq!(bench.flow_count(), before, "no entries where no answer could open a flow");
    });
}

#[test]
fn the_first_packet_fixes_the_direction() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let (out, back) =
            (|flags| tcp(POD, WORLD, 80, 4000, flags), |flags| tcp(WORLD, POD, 4000, 80, flags));
        let kind = || bench.flow(&key(POD, WORLD, TCP, 80, 4000)).unwrap().kind;

        bench.pod_receives(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_INBOUND);
        assert_eq!(bench.pod_sends(&out(SYN)).0, Redirect, "the pod opens a connection of its own");
        assert_eq!(kind(), abi::FLOW_REDIRECTED);
        bench.pod_receives(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_REDIRECTED, "the world does not take over a live connection");
        bench.pod_sends(&out(FIN | ACK));
        bench.pod_receives(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_INBOUND, "closed: the world may open it again");
    });
}

#[test]
fn a_forged_reset_does_not_shorten_a_live_connection() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let flags = || bench.flow(&key(POD, WORLD, TCP, 80, 4000)).unwrap().flags;
        bench.pod_receives(&tcp(WORLD, POD, 4000, 80, SYN), 0);
        bench.pod_sends(&tcp(POD, WORLD, 80, 4000, SYN | ACK));
        assert_eq!(flags(), abi::FLOW_REPLIED);
        bench.pod_receives(&tcp(WORLD, POD, 4000, 80, RST), 0);
        assert_eq!(flags(), abi::FLOW_REPLIED | abi::FLOW_CLOSING);
        bench.pod_sends(&tcp(POD, WORLD, 80, 4000, ACK));
        assert_eq!(
            flags(),
            abi::FLOW_REPLIED | abi::FLOW_CLOSING,
            "a bare ACK also ends a real close"
        );
        bench.pod_sends(&tcp(POD, WORLD, 80, 4000, ACK).payload(10));
        assert_eq!(flags(), abi::FLOW_REPLIED, "data proves it alive");
    });
}

#[test]
fn icmp_errors_go_the_way_of_the_packet_they_quote() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let question = udp(WORLD, POD, 4000, 53);
        let unreachable = icmp_error(POD, WORLD, 3, &question);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        assert_eq!(bench.pod_sends(&unreachable), redirected, "about a flow that nobody knows");
        bench.pod_receives(&question, 0);
        assert_eq!(bench.pod_sends(&unreachable), inbound);
        let quoted_options = icmp_error(POD, WORLD, 3, &udp(WORLD, POD, 4000, 53).options(8));
        assert_eq!(bench.pod_sends(&quoted_options), inbound);
        let elsewhere = icmp_error(POD, "198.51.100.99", 3, &question);
        assert_eq!(bench.pod_sends(&elsewhere), redirected, "sent to somebody else than it quotes");
        for cut in 8..unreachable.l4.len() {
            let mut short = unreachable.clone();
            short.l4.truncate(cut);
            assert_eq!(bench.pod_sends(&short), redirected, "quote cut at {cut}");
        }
        assert_eq!(bench.flow_count(), 1, "errors make no entries");
    });
}

#[test]
fn fragments_follow_their_first() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        bench.pod_receives(&udp(WORLD, POD, 4000, 53), 0);
        let answer = udp(POD, WORLD, 53, 4000);
        let later = packet(POD, WORLD, UDP, vec![0; 64]).fragment(77, 185);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        assert_eq!(
            bench.pod_sends(&later),
            redirected,
            "its first was not seen: the policy speaks"
        );
        assert_eq!(bench.pod_sends(&answer.clone().fragment(77, MORE_FRAGMENTS)), inbound);
        assert_eq!(bench.pod_sends(&later), inbound);
        let other = packet(POD, WORLD, UDP, vec![0; 64]).fragment(78, 185);
        assert_eq!(bench.pod_sends(&other), redirected, "of another datagram");
        assert_eq!(bench.flow_count(), 1, "a fragment without l4_ports makes no entry");
    });
}

#[test]
fn a_full_flow_table_stops_nothing_but_learning() {
    in_private_namespaces(|| {
        let bench = Bench::with_flow_table(8);
        let full = || bench.maps.event(0).unwrap();
        for port in 1..=8 {
            bench.pod_receives(&tcp(WORLD, POD, port, 80, SYN), 0);
        }
        assert_eq!(full(), 0);
        bench.pod_receives(&tcp(WORLD, POD, 9, 80, SYN), 0);
        assert_eq!((full(), bench.flow_count()), (1, 8), "no new inbound entry");
        let redirected = (Redirect, Some(Reason::Redirected));
        assert_eq!(bench.pod_sends(&udp(POD, WORLD, 1, 2)), redirected, "by look-up");
        assert_eq!(bench.pod_sends(&udp(POD, WORLD, 1, 2)), redirected, "every time");
        assert_eq!((full(), bench.flow_count()), (3, 8));
        let answer = tcp(POD, WORLD, 80, 1, ACK);
        assert_eq!(bench.pod_sends(&answer), (Pass, Some(Reason::InboundFlow)), "live ones stay");
    });
}

#[test]
fn idle_flows_are_aged_and_live_ones_are_not() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        bench.pod_receives(&tcp(WORLD, POD, 4000, 80, SYN), 0);
        bench.pod_sends(&udp(POD, WORLD, 4000, 53));
        let idle = key(POD, WORLD, UDP, 4000, 53);
        let config = Flows::default();
        assert_eq!(flows::age(&bench.maps, &config).unwrap().redirected, 1);
        let long_ago = flows::now_seconds().saturating_sub(config.udp_unreplied_timeout + 1);
        let flow = Flow { last_seen: long_ago, ..bench.flow(&idle).unwrap() };
        bench.maps.flows.set(&idle, &flow).unwrap();
        let counts = flows::age(&bench.maps, &config).unwrap();
        assert_eq!((counts.inbound, counts.redirected), (1, 0));
        assert_eq!(bench.flow(&idle), None);
    });
}
