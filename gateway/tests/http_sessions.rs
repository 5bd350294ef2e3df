//! `/v1/sessions` by HTTP, against a real worker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use gateway::verdict::Side;
use harness::{
    Family, NODE, POD, POLICY, POLICY_2, REMOTE, SYN, echo, tcp, tunnelled, tunnelled_over, udp,
};
use running::{Running, only_payments, wait_until};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::Ipv6Addr};

const PATH: &str = "/v1/sessions";

fn sessions(running: &Running, query: &str) -> Vec<Value> {
    let answer = running.get(&format!("{PATH}{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["sessions"].as_array().unwrap().clone()
}

/// A UDP, a TCP and an ICMP session, the first under another policy.
fn three_kinds() -> Running {
    let running = Running::usual();
    let packets = [
        (POLICY_2, udp((POD, 1000), (REMOTE, 53), 64, b"hello")),
        (POLICY, tcp((POD, 1001), (REMOTE, 80), SYN, None, b"")),
        (POLICY, echo(POD, REMOTE, true, 77, 64)),
    ];
    for (policy, packet) in packets {
        running.receive(Side::Tunnel, tunnelled(NODE, policy, &packet));
    }
    wait_until("three sessions are open", || running.counters().sessions.get() == 3);
    running
}

#[test]
fn a_session_is_shown_with_names_and_all_its_endpoints() {
    let running = three_kinds();
    let udp = &sessions(&running, "?protocol=udp")[0];
    let external = udp["external"].as_str().unwrap();
    assert!(external.starts_with("203.0.113.17:"), "{udp}");
    let mut rest = udp.clone();
    for (key, most) in [("ageSeconds", 10), ("idleSeconds", 10)] {
        assert!(rest[key].as_u64().unwrap() <= most, "{udp}");
    }
    for varying in ["ageSeconds", "idleSeconds", "external"] {
        rest.as_object_mut().unwrap().remove(varying);
    }
    assert_eq!(
        rest,
        json!({
            "policy": "reports", "protocol": "UDP", "internal": "10.244.1.10:1000",
            "remote": "198.51.100.10:53", "state": "unreplied", "node": "node1", "worker": 0,
            "in2out": {"packets": 1, "bytes": 33}, "out2in": {"packets": 0, "bytes": 0}
        })
    );
    let tcp = &sessions(&running, "?protocol=TCP")[0];
    assert_eq!((&tcp["state"], &tcp["policy"]), (&json!("opening"), &json!("payments")));
    let icmp = &sessions(&running, "?protocol=Icmp")[0];
    assert_eq!(icmp["internal"], "10.244.1.10:77");
    let id = icmp["external"].as_str().unwrap().rsplit_once(':').unwrap().1;
    assert_eq!(icmp["remote"], format!("198.51.100.10:{id}"), "the id that the far end sees");
}

#[test]
fn every_filter_filters() {
    let running = three_kinds();
    for (query, count) in [
        ("", 3),
        ("?src=10.244.1.10", 3),
        ("?src=10.244.1.11", 0),
        ("?dst=198.51.100.10", 3),
        ("?dst=198.51.100.11", 0),
        ("?policy=payments", 2),
        ("?policy=reports", 1),
        ("?egressIP=203.0.113.16", 2),
        ("?egressIP=203.0.113.18", 0),
        ("?protocol=tcp&policy=payments&src=10.244.1.10", 1),
        ("?protocol=tcp&policy=reports", 0),
    ] {
        assert_eq!(sessions(&running, query).len(), count, "{query}");
    }
}

#[test]
fn pages_show_every_session_once() {
    let running = Running::usual();
    for sport in 0..7 {
        running.open(POLICY, 2000 + sport);
    }
    let (mut seen, mut pages, mut cursor) = (BTreeSet::new(), 0, String::new());
    loop {
        let page = running.get(&format!("{PATH}?limit=3{cursor}")).json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 3);
        for session in sessions {
            assert!(seen.insert(session["internal"].as_str().unwrap().to_owned()), "{session}");
        }
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert!((3..=4).contains(&pages), "{pages} pages");
}

#[test]
fn what_is_not_understood_is_refused_rather_than_ignored() {
    let running = three_kinds();
    for (query, says) in [
        ("?sorce=10.244.1.10", "unknown query key sorce: there are src, dst, policy"),
        ("?src=pod-a", "src=pod-a: an IP address is wanted"),
        ("?src=10.0.0.1&src=10.0.0.2", "src is given twice"),
        ("?policy=nobody", "policy=nobody: not at this gateway"),
        ("?protocol=sctp", "TCP, UDP or ICMP is wanted"),
        ("?limit=0", "a number from 1 to 10000"),
        ("?limit=10001", "a number from 1 to 10000"),
        ("?limit=many", "a number from 1 to 10000"),
        ("?cursor=7", "the page before"),
    ] {
        let message = running.get(&format!("{PATH}{query}")).error(400);
        assert!(message.contains(says), "{query}: {message}");
    }
    for (query, says) in [
        ("", "which sessions?"),
        ("?all=false", "which sessions?"),
        ("?all=true&src=10.244.1.10", "which of the two"),
        ("?all=yes", "true or false"),
        ("?limit=1", "unknown query key limit"),
        ("?sorce=10.244.1.10", "unknown query key sorce"),
    ] {
        let message = running.delete(&format!("{PATH}{query}")).error(400);
        assert!(message.contains(says), "{query}: {message}");
    }
    assert_eq!(running.counters().sessions.get(), 3);
}

#[test]
fn sessions_are_ended_by_filter_and_all() {
    let running = three_kinds();
    let flush = |query: &str| running.delete(&format!("{PATH}?{query}")).json();
    assert_eq!(flush("dst=198.51.100.11"), json!({"flushed": 0}));
    assert_eq!(flush("policy=reports"), json!({"flushed": 1}));
    assert_eq!(sessions(&running, "").len(), 2);
    assert_eq!(flush("all=true"), json!({"flushed": 2}));
    assert_eq!(sessions(&running, ""), [] as [Value; 0]);
    wait_until("they are counted", || running.counters().sessions_flushed.get() == 3);
}

#[test]
fn a_cut_session_is_gone_after_a_reload() {
    let running = three_kinds();
    assert_eq!(running.put(&only_payments()).json()["sessionsCut"], 1);
    wait_until("it is gone", || sessions(&running, "").len() == 2);
    assert!(sessions(&running, "").iter().all(|session| session["policy"] == "payments"));
}

#[test]
fn a_stuck_worker_is_named_and_does_not_hold_the_rest() {
    let running = three_kinds();
    running.stick();
    std::thread::scope(|scope| {
        let list = scope.spawn(|| running.get(PATH).error(503));
        assert_eq!(running.get("/healthz").status, 200);
        assert_eq!(running.get("/metrics").status, 200);
        let message = list.join().unwrap();
        assert!(message.contains("worker 0 does not answer"), "{message}");
    });
    assert!(running.delete(&format!("{PATH}?all=true")).error(503).contains("worker 0"));
    running.go_on();
}

/// Three sessions of IPv4 and four of IPv6, one of these over IPv6 and one by ICMPv6.
fn both_families() -> Running {
    let running = Running::dual();
    let remote = (Ipv6Addr::REMOTE, 53);
    let mut frames: Vec<_> = (0..3)
        .map(|n| tunnelled(NODE, POLICY, &udp((POD, 1000 + n), (REMOTE, 53), 64, b"4")))
        .collect();
    let six = |sport| udp((Ipv6Addr::POD, sport), remote, 64, b"6");
    frames.extend((0..2).map(|n| tunnelled(NODE, POLICY, &six(2000 + n))));
    frames.push(tunnelled_over(Ipv6Addr::NODE, POLICY_2, &six(3000)));
    frames.push(tunnelled(NODE, POLICY, &echo(Ipv6Addr::POD, remote.0, true, 77, 64)));
    frames.into_iter().for_each(|frame| running.receive(Side::Tunnel, frame));
    wait_until("all sessions are open", || running.counters().sessions.get() == 7);
    running
}

#[test]
fn ipv6_sessions_are_shown_in_brackets_and_found_by_every_filter() {
    let running = both_families();
    let over_ipv6 = &sessions(&running, "?policy=reports")[0];
    assert_eq!(over_ipv6["internal"], "[fd00:244:1::10]:3000");
    assert_eq!(over_ipv6["remote"], "[2001:db8:100::10]:53");
    assert_eq!((&over_ipv6["node"], &over_ipv6["protocol"]), (&json!("node1-v6"), &json!("UDP")));
    let external = over_ipv6["external"].as_str().unwrap();
    assert!(external.starts_with("[2001:db8:113::11]:"), "{external}");
    for (query, count) in [
        ("", 7),
        ("?src=fd00:244:1::10", 4),
        ("?src=FD00:244:1:0::10", 4),
        ("?src=10.244.1.10", 3),
        ("?src=::ffff:10.244.1.10", 0),
        ("?dst=2001:db8:100::10", 4),
        ("?egressIP=2001:db8:113::10", 3),
        ("?egressIP=203.0.113.16", 3),
        ("?protocol=icmp", 1),
        ("?protocol=icmp&src=10.244.1.10", 0),
    ] {
        assert_eq!(sessions(&running, query).len(), count, "{query}");
    }
}

#[test]
fn pages_go_from_one_family_to_the_other() {
    let running = both_families();
    for limit in 1..=8 {
        let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = running.get(&format!("{PATH}?limit={limit}{cursor}")).json();
            let sessions = page["sessions"].as_array().unwrap();
            assert!(sessions.len() <= limit);
            for session in sessions {
                let internal = session["internal"].as_str().unwrap().to_owned();
                assert!(seen.insert(internal), "{session} twice, {limit} a page");
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 7, "{limit} a page: {seen:?}");
    }
}

#[test]
fn ipv6_sessions_are_ended_by_filter_and_with_all_others() {
    let running = both_families();
    let flush = |query: &str| running.delete(&format!("{PATH}?{query}")).json();
    assert_eq!(flush("src=fd00:244:1::11"), json!({"flushed": 0}));
    assert_eq!(flush("egressIP=2001:db8:113::11"), json!({"flushed": 1}));
    assert_eq!(flush("dst=2001:db8:100::10"), json!({"flushed": 3}));
    assert_eq!(sessions(&running, "").len(), 3);
    assert_eq!(flush("all=true"), json!({"flushed": 3}));
    assert_eq!(sessions(&running, ""), [] as [Value; 0]);
}

/// The documents that go take their sessions with them, of both families alike.
#[test]
fn a_reload_says_how_many_sessions_of_both_families_it_cuts() {
    let running = both_families();
    let documents =
        running::dual_documents().replace("\"2001:db8:113::10\"", "\"2001:db8:113::12\"");
    let answer = running.put(&documents).json();
    assert_eq!((&answer["sessionsKept"], &answer["sessionsCut"]), (&json!(4), &json!(3)));
    wait_until("they are gone", || sessions(&running, "").len() == 4);
}
