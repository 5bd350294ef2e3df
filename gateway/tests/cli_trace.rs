//! `trace` and `neighbors` as they are typed and as they print.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use gateway::verdict::Side;
use harness::{EXTERNAL_MAC, Family, POLICY, ROUTER_MAC, arp_frame};
use running::{
    Running,
    program::{ask, run},
    wait_until,
};
use serde_json::Value;
use std::net::Ipv4Addr;

fn with_router() -> Running {
    let running = Running::usual();
    let us = (EXTERNAL_MAC, Ipv4Addr::EXTERNAL);
    let arp = arp_frame(1, EXTERNAL_MAC, (ROUTER_MAC, Ipv4Addr::ROUTER), us);
    running.receive(Side::External, arp);
    wait_until("the router is known", || {
        running.get("/v1/neighbors").json()["neighbors"][0]["state"] == "reachable"
    });
    running
}

const USUAL: [&str; 6] = [
    "trace",
    "--src=10.244.1.10",
    "--dst=198.51.100.10",
    "--sport=1000",
    "--dport=53",
    "--proto=udp",
];

fn trace(running: &Running, rest: &[&str]) -> running::program::Done {
    ask(running, &[&USUAL[..], rest].concat())
}

#[track_caller]
fn fits(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_packet_that_leaves_is_told_step_by_step() {
    let running = with_router();
    let text = trace(&running, &["--policy", "payments"]).ok();
    fits(&text);
    assert!(
        text.starts_with("UDP  10.244.1.10:1000 → 198.51.100.10:53\nfrom node1, under payments")
    );
    let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("ok ")).collect();
    let named = |name: &str| steps.iter().any(|line| line.contains(&format!("  {name}  ")));
    for name in ["source", "policy", "destination", "worker", "session", "egress IP", "l4_port"] {
        assert!(named(name), "{name}: {text}");
    }
    assert!(
        text.ends_with("FORWARDED as 203.0.113.16, from an l4_port that is drawn when it comes\n")
    );

    running.open(POLICY, 1000);
    let session = &running.get("/v1/sessions").json()["sessions"][0];
    let text = trace(&running, &["--policy", "payments", "--node", "node1"]).ok();
    assert!(text.ends_with(&format!("FORWARDED as {}\n", session["external"].as_str().unwrap())));
    assert!(text.contains("unreplied at 203.0.113.16:"), "{text}");

    let json = trace(&running, &["--policy", "payments", "-o", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["verdict"], &json["external"]), (&"forwarded".into(), &session["external"]));
    assert_eq!(json["session"]["internal"], "10.244.1.10:1000");
}

#[test]
fn a_packet_that_is_dropped_is_told_with_the_reason_and_what_to_do() {
    let running = with_router();
    for (rest, reason, says) in [
        (
            &["--policy=payments", "--node=node9"][..],
            "unknown_node",
            "has the name or tunnelAddress",
        ),
        (&["--policy=nobody"], "unknown_policy", "there is no EgressPolicy nobody in generation 1"),
        (
            &["--policy=payments", "--dst=203.0.113.17"],
            "hairpin",
            "is an egress IP of this gateway",
        ),
        (&["--policy=payments", "--src=10.244.9.9"], "spoofed_source", "add its range"),
        (
            &["--policy=payments", "--proto=tcp", "--mid-stream"],
            "tcp_no_session",
            "only a SYN opens one",
        ),
    ] {
        // What is given later counts.
        let given: Vec<&str> = USUAL
            .into_iter()
            .filter(|usual| {
                let key = usual.split('=').next().unwrap();
                !key.starts_with("--") || !rest.iter().any(|arg| arg.starts_with(key))
            })
            .collect();
        let done = ask(&running, &[&given[..], rest].concat());
        let text = done.ok();
        fits(&text);
        assert!(text.contains(&format!("\nDROPPED as {reason}\n")), "{text}");
        let line = text.lines().find(|line| line.starts_with("DROP ")).unwrap();
        assert!(line.contains(&format!("{reason}: ")), "{text}");
        let whole = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(whole.contains(says), "{says}: {text}");
    }
}

#[test]
fn what_was_assumed_goes_to_standard_error() {
    let running = with_router();
    let arguments = ["trace", "--src=10.244.1.10", "--dst=198.51.100.10", "--policy=payments"];
    let done = ask(&running, &arguments);
    assert_eq!(done.err, "--sport, --dport not given: a value is assumed\n");
    assert!(done.ok().starts_with("TCP SYN  10.244.1.10:40000 → 198.51.100.10:443\n"));
}

#[test]
fn what_is_wrong_is_refused_with_exit_status_2() {
    let running = with_router();
    let two = ["trace", "--src=10.244.1.10", "--dst=2001:db8::1", "--policy=payments"];
    assert!(ask(&running, &two).failed(2).contains("two address families"));
    let icmp =
        ["trace", "--src=10.0.0.1", "--dst=10.0.0.2", "--policy=a", "--proto=icmp", "--dport=1"];
    assert!(ask(&running, &icmp).failed(2).contains("ICMP has no dport"));
    for arguments in [
        &["trace", "--src=10.0.0.1", "--dst=10.0.0.2"][..],
        &["trace", "--src=pod-a", "--dst=10.0.0.2", "--policy=a"],
        &["trace", "--src=10.0.0.1", "--dst=10.0.0.2", "--policy=a", "--proto=sctp"],
        &["trace", "--src=10.0.0.1", "--dst=10.0.0.2", "--policy=a b"],
        &["trace", "--src=10.0.0.1", "--dst=10.0.0.2", "--policy=a", "--node=a&b"],
        &["trace", "--src=10.0.0.1", "--dst=10.0.0.2", "--policy=a", "--sport=65536"],
    ] {
        let done = run(arguments);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{done:?}");
        assert!(done.err.starts_with("error: "), "{done:?}");
    }
}

#[test]
fn neighbors_are_listed_with_what_waits_for_them() {
    let running = Running::usual();
    for sport in 1..=3 {
        running.open(POLICY, sport);
    }
    // The router was asked for at the start, and three packets wait for it.
    let table = ask(&running, &["neighbors"]).ok();
    fits(&table);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let heads = ["PORT", "ADDRESS", "MAC", "STATE", "AGE", "QUEUED", "WORKER"];
    assert_eq!(lines.next().unwrap(), heads);
    let line = lines.next().unwrap();
    assert_eq!(line[..4], ["external", "203.0.113.1", "-", "incomplete"], "{table}");
    assert_eq!(line[5..], ["3", "0"], "{table}");

    let running = with_router();
    let table = ask(&running, &["neighbors"]).ok();
    let line: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[1..4], ["203.0.113.1", "02:00:00:00:02:01", "reachable"], "{table}");
    let json = ask(&running, &["neighbors", "-o", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    let neighbour = &json["neighbors"][0];
    assert_eq!((&neighbour["port"], &neighbour["queued"]), (&"external".into(), &0.into()));
    assert!(running.get("/v1/neighbors?port=tunnel").error(400).contains("unknown query key"));
}
