//! Policies that change while flows live, and TCP sessions as they age.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::{
    datapath::request::{Request, SessionFilter},
    nat::{Protocol, SessionState},
    verdict::DropReason,
};
use harness::*;
use std::sync::Arc;

/// The l4_port of the only session's packets, seen by one more datagram of the pod.
fn source_of(bench: &mut Bench, vni: u32) -> Option<(std::net::Ipv4Addr, u16)> {
    let packet = udp((POD, 4000), (REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled(NODE, vni, &packet));
    out.first().map(|frame| Seen::of(frame)).map(|seen| (seen.source, seen.sport))
}

#[test]
fn a_flow_keeps_its_translation_through_every_reload_that_allows_it() {
    let mut bench = Bench::new();
    let before = source_of(&mut bench, POLICY).unwrap();
    let other = [203, 0, 113, 25].into();
    for (generation, description, list) in [
        (2, "the same again", policies(2, &[(POLICY, &[EGRESS], &[])])),
        (3, "another address beside it", policies(3, &[(POLICY, &[EGRESS, EGRESS_2, other], &[])])),
        (4, "it drains", policies(4, &[(POLICY, &[EGRESS_2], &[EGRESS])])),
    ] {
        bench.publish(list);
        assert_eq!(source_of(&mut bench, POLICY), Some(before), "{description}");
        assert_eq!(bench.counters.generation.get(), generation);
        let answer = udp((REMOTE, 53), (before.0, before.1), 64, b"y");
        assert_eq!(bench.world_sends(&from_router(&answer)).len(), 1, "{description}");
    }
    let new_flow = udp((POD, 5000), (REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled(NODE, POLICY, &new_flow));
    assert_eq!(Seen::of(&out[0]).source, EGRESS_2, "a draining address takes no new flow");
}

#[test]
fn a_removed_policy_stops_at_once_in_both_directions() {
    let mut bench = Bench::new();
    let l4_port = bench.open_udp(4000, (REMOTE, 53));
    bench.publish(policies(2, &[(POLICY_2, &[EGRESS_2], &[])]));
    let answer = udp((REMOTE, 53), (EGRESS, l4_port), 64, b"y");
    assert_eq!(bench.world_sends(&from_router(&answer)).len(), 0);
    assert_eq!(source_of(&mut bench, POLICY), None);
    assert_eq!((bench.sessions(), bench.counters.sessions_cut.get()), (0, 1));
}

/// An idle worker must not wait for packets between two steps of a long piece of work.
#[test]
fn a_worker_says_while_it_has_work_besides_packets() {
    let mut bench = Bench::new();
    for sport in 1..=500 {
        bench.open_udp(sport, (REMOTE, 53));
    }
    let turns_of_work = |bench: &mut Bench| {
        let mut turns = 0;
        bench.worker.poll_once(&mut bench.io, bench.now);
        while bench.worker.has_work() {
            turns += 1;
            bench.worker.poll_once(&mut bench.io, bench.now);
        }
        turns
    };
    assert_eq!(turns_of_work(&mut bench), 0);
    let (reply, answer) = crossbeam_channel::bounded(1);
    let filter = SessionFilter { policy: Some(POLICY_2), ..SessionFilter::default() };
    bench.requests.send(Request::Flush { filter, reply }).unwrap();
    assert_eq!(turns_of_work(&mut bench), 3, "500 slots, 128 at a time");
    assert_eq!(answer.try_recv(), Ok(0));
    bench.policies.store(Arc::new(usual_policies(2)));
    assert_eq!(turns_of_work(&mut bench), 7, "500 slots, 64 at a time");
}

#[test]
fn silent_sessions_of_a_removed_policy_are_swept() {
    let mut bench = Bench::new();
    for sport in 1..=500 {
        bench.open_udp(sport, (REMOTE, 53));
    }
    bench.publish(policies(2, &[(POLICY_2, &[EGRESS_2], &[])]));
    for _ in 0..10 {
        bench.poll();
    }
    assert_eq!((bench.sessions(), bench.counters.sessions_cut.get()), (0, 500));
}

/// Each change comes before the sweep of the one before has ended.
#[test]
fn silent_sessions_are_swept_however_fast_changes_come() {
    let mut bench = Bench::new();
    for sport in 1..=500 {
        bench.open_udp(sport, (REMOTE, 53));
    }
    for generation in 2..20 {
        bench.publish(policies(generation, &[(POLICY_2, &[EGRESS_2], &[])]));
        bench.poll();
    }
    assert_eq!((bench.sessions(), bench.counters.sessions_cut.get()), (0, 500));
}

#[test]
fn a_node_that_is_removed_loses_its_sessions() {
    let mut bench = Bench::new();
    bench.open_udp(4000, (REMOTE, 53));
    let entry = gateway::nat::policy_table::PolicyEntry::new("p", &[EGRESS.into()], &[]);
    let table = gateway::nat::PolicyTable::new(
        2,
        [(POLICY, entry)].into(),
        Default::default(),
        vec![],
        Default::default(),
    );
    bench.publish(table);
    assert_eq!(source_of(&mut bench, POLICY), None);
    assert_eq!(bench.dropped(DropReason::UnknownNode), 1);
    bench.poll();
    assert_eq!(bench.sessions(), 0);
}

/// The packet's VNI is authoritative.
#[test]
fn a_flow_that_comes_under_another_policy_is_rebound_or_begins_anew() {
    let mut bench = Bench::new();
    bench.publish(policies(2, &[(POLICY, &[EGRESS], &[]), (POLICY_2, &[EGRESS_2], &[EGRESS])]));
    let before = source_of(&mut bench, POLICY).unwrap();
    assert_eq!(source_of(&mut bench, POLICY_2), Some(before), "its egress IP is in both pools");
    let answer = udp((REMOTE, 53), (before.0, before.1), 64, b"y");
    let back = bench.world_sends(&from_router(&answer));
    assert_eq!(Seen::in_tunnel(&back[0], NODE).1, POLICY_2, "answers bear the new VNI");

    bench.publish(usual_policies(3));
    let after = source_of(&mut bench, POLICY_2).unwrap();
    assert_eq!(after.0, EGRESS_2, "UDP goes on with the address of its policy");
    assert_eq!((bench.sessions(), bench.counters.sessions_cut.get()), (1, 1));

    assert_eq!(source_of(&mut bench, 99), None);
    assert_eq!(bench.sessions(), 1, "a VNI that means nothing ends no session of a policy");
}

/// A pod that moved: the session's answers go where its last valid packet came from.
#[test]
fn answers_follow_the_pod_to_another_node() {
    let mut bench = Bench::new();
    let l4_port = bench.open_udp(4000, (REMOTE, 53));
    let packet = udp((POD, 4000), (REMOTE, 53), 64, b"x");
    assert!(bench.pod_sends(&tunnelled(NODE2, POLICY, &packet)).is_empty(), "not its pod");
    let answer = from_router(&udp((REMOTE, 53), (EGRESS, l4_port), 64, b"y"));
    Seen::in_tunnel(&bench.world_sends(&answer)[0], NODE);

    let mut nodes = std::collections::HashMap::new();
    for vtep in [NODE, NODE2] {
        let source_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
        let entry = gateway::nat::policy_table::NodeEntry { name: "node".into(), source_cidrs };
        nodes.insert(vtep.into(), entry);
    }
    let policy = usual_policies(2).policy(POLICY).unwrap().clone();
    bench.publish(gateway::nat::PolicyTable::new(
        2,
        [(POLICY, policy)].into(),
        nodes,
        vec![],
        Default::default(),
    ));
    assert_eq!(bench.pod_sends(&tunnelled(NODE2, POLICY, &packet)).len(), 1);
    Seen::in_tunnel(&bench.world_sends(&answer)[0], NODE2);
}

#[test]
fn tcp_sessions_live_as_rfc_5382_says() {
    const REMOTE_PORT: u16 = 443;
    struct Life {
        description: &'static str,
        segments: &'static [(bool, u8, bool)],
        state: SessionState,
        idle_limit: u64,
    }
    const POD_SAYS: bool = true;
    const WORLD_SAYS: bool = false;
    let handshake =
        [(POD_SAYS, SYN, false), (WORLD_SAYS, SYN | ACK, false), (POD_SAYS, ACK, false)];
    for Life { description, segments, state, idle_limit } in [
        Life {
            description: "handshake done",
            segments: &[],
            state: SessionState::TcpEstablished,
            idle_limit: 7440,
        },
        Life {
            description: "reset from outside",
            segments: &[(WORLD_SAYS, RST, false)],
            state: SessionState::TcpReset,
            idle_limit: 240,
        },
        Life {
            description: "reset from outside, and the pod goes on",
            segments: &[(WORLD_SAYS, RST, false), (POD_SAYS, ACK, true)],
            state: SessionState::TcpEstablished,
            idle_limit: 7440,
        },
        Life {
            description: "closed by both",
            segments: &[
                (POD_SAYS, FIN | ACK, false),
                (WORLD_SAYS, FIN | ACK, false),
                (POD_SAYS, ACK, false),
            ],
            state: SessionState::TcpTimeWait,
            idle_limit: 120,
        },
    ] {
        let mut bench = Bench::new();
        let mut l4_port = 0;
        for (pod_says, flags, payload) in handshake.iter().chain(segments) {
            let data: &[u8] = if *payload { b"data" } else { b"" };
            if *pod_says {
                let packet = tcp((POD, 4000), (REMOTE, REMOTE_PORT), *flags, None, data);
                l4_port = Seen::of(&bench.pod_sends(&tunnelled(NODE, POLICY, &packet))[0]).sport;
            } else {
                let packet = tcp((REMOTE, REMOTE_PORT), (EGRESS, l4_port), *flags, None, data);
                assert_eq!(bench.world_sends(&from_router(&packet)).len(), 1, "{description}");
            }
        }
        let page = list(&mut bench);
        assert_eq!(page[0].state, state, "{description}");
        bench.advance(idle_limit * 1000 - 1000);
        bench.poll();
        assert_eq!(bench.sessions(), 1, "{description}: one second before");
        bench.advance(2000);
        bench.poll();
        assert_eq!(bench.sessions(), 0, "{description}: one second after");
    }
}

fn list(bench: &mut Bench) -> Vec<gateway::nat::SessionRecord> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    let filter = SessionFilter::default();
    let request = Request::List { filter, from: 0, limit: 100, page: Vec::new(), reply };
    bench.requests.send(request).unwrap();
    bench.poll();
    answer.try_recv().unwrap().sessions
}

#[test]
fn sessions_are_listed_page_by_page_counted_and_flushed() {
    let mut bench = Bench::new();
    for sport in 1..=1000 {
        bench.open_udp(sport, (REMOTE, if sport % 2 == 0 { 53 } else { 80 }));
    }
    bench.pod_sends(&tunnelled(NODE2, POLICY_2, &echo(POD_C, REMOTE, true, 9, 64)));

    let mut seen = std::collections::HashSet::new();
    let mut from = Some(0);
    while let Some(first) = from {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let filter = SessionFilter { protocol: Some(Protocol::Udp), ..Default::default() };
        let page = Vec::with_capacity(77);
        let request = Request::List { filter, from: first, limit: 77, page, reply };
        bench.requests.send(request).unwrap();
        let page = loop {
            bench.poll();
            if let Ok(page) = answer.try_recv() {
                break page;
            }
        };
        assert!(page.sessions.len() <= 77);
        for session in page.sessions {
            assert!(seen.insert(session.internal), "{session:?} twice");
            assert_eq!((session.in2out.packets, session.in2out.bytes), (1, 33));
        }
        from = page.next;
    }
    assert_eq!(seen.len(), 1000);

    let ask = |bench: &mut Bench, request: Request| {
        bench.requests.send(request).unwrap();
        (0..20).for_each(|_| bench.poll());
    };
    let (reply, answer) = crossbeam_channel::bounded(1);
    let keeps_one = Arc::new(policies(2, &[(POLICY_2, &[EGRESS_2], &[])]));
    ask(&mut bench, Request::Assess { policies: keeps_one, reply });
    assert_eq!(answer.try_recv(), Ok((1, 1000)));

    let (reply, answer) = crossbeam_channel::bounded(1);
    let filter = SessionFilter { policy: Some(POLICY), ..Default::default() };
    ask(&mut bench, Request::Flush { filter, reply });
    assert_eq!(answer.try_recv(), Ok(1000));
    assert_eq!((bench.sessions(), bench.counters.sessions_flushed.get()), (1, 1000));
    let per_policy: Vec<_> = bench.worker.nat().policy_sessions().iter().collect();
    assert!(per_policy.contains(&(POLICY, 0)) && per_policy.contains(&(POLICY_2, 1)));
}
