//! Health, statistics, metrics, and what every route has in common.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use gateway::{
    control::self_test::{self, Check},
    verdict::{DropReason, Side},
};
use harness::{NODE, POD, POLICY, REMOTE, tunnelled, udp};
use running::{Running, documents, wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant, SystemTime},
};

fn reasons(running: &Running) -> Vec<String> {
    let answer = running.get("/readyz");
    let json = answer.json();
    let reasons: Vec<String> = serde_json::from_value(json["reasons"].clone()).unwrap();
    assert_eq!(answer.status, if reasons.is_empty() { 200 } else { 503 });
    assert_eq!(json["ready"], reasons.is_empty());
    reasons
}

#[test]
fn ready_is_who_forwards() {
    let running = Running::empty();
    assert_eq!(running.get("/healthz").text(), "ok\n");
    assert_eq!(reasons(&running), ["no policy set was accepted yet: apply one"]);
    assert_eq!(running.put(&documents()).status, 200);
    assert!(reasons(&running).is_empty());

    running.link.store(false, SeqCst);
    running.stick();
    wait_until("the watchdog noticed", || reasons(&running).len() == 3);
    assert_eq!(
        reasons(&running),
        [
            "the link of the tunnel port (net_null0) is down",
            "the link of the external port (net_null1) is down",
            "worker 0 on core 1 stands still",
        ]
    );
    assert_eq!(running.get("/healthz").status, 200);
    assert_eq!(running.put("[]").status, 503);
    let told = reasons(&running);
    assert!(told.iter().any(|r| r == "worker 0 runs policy generation 1, not 2"), "{told:?}");
    running.link.store(true, SeqCst);
    running.go_on();
    wait_until("the worker goes on", || running.counters().generation.get() == 2);
    wait_until("the watchdog noticed that too", || reasons(&running).is_empty());
}

/// The watchdog has an opinion within a second; who asks gets it at once.
#[test]
fn a_worker_that_stands_still_is_noticed_within_a_second() {
    let running = Running::usual();
    let stalled = || {
        let text = running.get("/metrics").text().to_owned();
        samples(&text)["egress_gateway_worker_stalled{worker=\"0\"}"]
    };
    assert_eq!((stalled(), reasons(&running).len()), (0.0, 0));
    running.stick();
    let began = Instant::now();
    wait_until("it is noticed", || stalled() == 1.0);
    // The second that is promised, and what a busy machine adds.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(reasons(&running), ["worker 0 on core 1 stands still"]);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    running.go_on();
    wait_until("it turns again", || stalled() == 0.0);
    assert!(reasons(&running).is_empty());
}

#[test]
fn a_self_test_that_runs_or_failed_is_no_readiness() {
    let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
    let fails = Check::new("rss.tunnel", move || {
        wait.recv().unwrap();
        Err("no entry names 1, of 2".to_owned())
    });
    let passes = Check::new("shards", || Ok("256 shards over 1 workers".to_owned()));
    let running = Running::with_checks(vec![passes, fails]);
    assert_eq!(running.put(&documents()).status, 200);
    assert_eq!(reasons(&running), ["the self-test is running"]);
    let self_test = || running.get("/v1/steering").json()["selfTest"].clone();
    assert_eq!(self_test()["state"], "running");
    let metric = || {
        let text = running.get("/metrics").text().to_owned();
        samples(&text)["egress_gateway_self_test_passed"]
    };
    assert_eq!(metric(), 0.0);
    go_on.send(()).unwrap();
    wait_until("it ended", || self_test()["state"] == "failed");
    assert_eq!(reasons(&running), ["self-test rss.tunnel: no entry names 1, of 2"]);
    assert_eq!(
        self_test()["checks"],
        json!([
            {"name": "shards", "result": "passed", "detail": "256 shards over 1 workers"},
            {"name": "rss.tunnel", "result": "failed", "detail": "no entry names 1, of 2"},
        ])
    );
    assert_eq!(metric(), 0.0);
}

#[test]
fn the_self_test_finds_a_worker_that_does_not_poll() {
    let running = Running::usual();
    let workers = &running.gateway.workers;
    assert_eq!(self_test::turns(workers).unwrap(), "1 workers poll their queues");
    running.stick();
    let found = self_test::turns(workers).unwrap_err();
    assert_eq!(found, "worker 0 on core 1 does not turn its loop");
    running.go_on();
}

#[test]
fn steering_says_where_a_packet_goes() {
    let running = Running::usual();
    let mut steering = running.get("/v1/steering").json();
    let shards = steering["shard"]["map"].take();
    assert_eq!(shards, json!(vec![0; 256]));
    assert_eq!(
        steering,
        json!({
            "workers": [{"id": 0, "core": 1, "queue": 0}],
            "shard": {"seed": "07".repeat(16), "hash": "egress-shard-1", "map": null},
            "l4Ports": {"residues": 1, "map": [0]},
            "ports": [
                {"side": "tunnel", "rss": null, "reason": "memory"},
                {"side": "external", "rss": null, "reason": "memory"},
            ],
            "mode": "single",
            "reason": "there is one worker",
            "idle": "spin",
            "selfTest": {"state": "passed", "checks": []},
        })
    );
    assert!(running.get("/v1/steering?x=1").error(400).contains("x"));
}

/// A packet of a node that nobody knows, and one for a policy that is not there.
fn two_drops(running: &Running) {
    let inner = udp((POD, 1), (REMOTE, 2), 64, b"x");
    running.receive(Side::Tunnel, tunnelled([192, 0, 2, 99].into(), POLICY, &inner));
    running.receive(Side::Tunnel, tunnelled(NODE, 99, &inner));
    let drops = |reason| running.counters().drops(Side::Tunnel, reason);
    wait_until("both are dropped", || {
        drops(DropReason::UnknownNode) == 1 && drops(DropReason::UnknownPolicy) == 1
    });
}

#[test]
fn statistics_say_what_was_counted() {
    let running = Running::usual();
    running.open(POLICY, 1000);
    two_drops(&running);
    let stats = running.get("/v1/stats").json();
    assert_eq!(stats["gateway"], "gw-a");
    assert_eq!((&stats["generation"], &stats["policies"]), (&json!(1), &json!(2)));
    assert_eq!(stats["nodes"], 1);
    let port = &stats["ports"][0];
    assert_eq!(port["side"], "tunnel");
    assert_eq!(port["addresses"], json!(["192.0.2.10/24"]));
    assert_eq!((&port["link"], &port["mac"]), (&json!("up"), &json!("02:00:00:00:00:10")));
    let rx =
        json!({"packets": 1_000_001, "bytes": 64_000_002, "missed": 5, "errors": 6, "noBuffer": 8});
    assert_eq!(port["rx"], rx);
    assert_eq!(port["tx"], json!({"packets": 3, "bytes": 4, "errors": 7}));
    assert_eq!(running.get("/v1/ports").json()["ports"], stats["ports"]);
    let worker = &stats["workers"][0];
    assert_eq!(worker["in2out"], json!({"packets": 1, "bytes": 33}));
    assert_eq!((&worker["sessions"]["live"], &worker["core"]), (&json!(1), &json!(1)));
    assert_eq!(worker["ports"][0]["drops"], 2);
    let table = running.gateway.workers[0].table;
    assert_eq!(worker["sessions"]["tableBytes"], table.bytes);
    let each = stats["sessionBytes"].as_f64().unwrap();
    assert_eq!(each * table.sessions as f64, table.bytes as f64);
    assert!(each > 48.0, "an index entry each way and a session: {each}");
    let reasons: Vec<&Value> = (0..2).map(|n| &stats["drops"][n]["reason"]).collect();
    assert_eq!(reasons, ["unknown_node", "unknown_policy"]);
    assert_eq!(stats["drops"][0]["help"], DropReason::UnknownNode.help());
    assert!(running.get("/v1/stats?wach=1").error(400).contains("wach"));
}

/// Samples by name with labels, after every line was found sound.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), Some(help)) => {
                assert!(help.ends_with('.'), "{line}")
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            }
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with("egress_gateway_"), "{line}");
                let family = name.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| family.strip_suffix(suffix))
                    .filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"))
                    .unwrap_or(family);
                assert!(types.contains_key(family), "{line}");
                assert!(
                    samples.insert(name.to_owned(), value.parse().unwrap()).is_none(),
                    "{line}"
                );
            }
        }
    }
    samples
}

#[test]
fn metrics_are_sound_and_exact() {
    let running = Running::usual();
    let before = running.get("/metrics");
    assert!(before.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert_eq!(running.put("a: b").status, 422);
    running.open(POLICY, 1000);
    two_drops(&running);
    let text = running.get("/metrics").text().to_owned();
    let (before, after) = (samples(before.text()), samples(&text));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());

    let drop = |reason: &str, side: &str| {
        format!("egress_gateway_drops_total{{reason=\"{reason}\",side=\"{side}\",worker=\"0\"}}")
    };
    for reason in DropReason::ALL {
        for side in Side::ALL {
            let name = drop(reason.label(), side.label());
            let count = f64::from(
                side == Side::Tunnel
                    && matches!(reason, DropReason::UnknownNode | DropReason::UnknownPolicy),
            );
            assert_eq!(after[&name] - before[&name], count, "{name}");
        }
        assert!(text.contains(&format!(" {reason}: {}", reason.help())), "{reason}");
    }
    for (name, value) in [
        ("sessions{policy=\"payments\",worker=\"0\"}", 1.0),
        ("sessions{policy=\"reports\",worker=\"0\"}", 0.0),
        ("sessions{policy=\"(removed)\",worker=\"0\"}", 0.0),
        ("sessions_created_total{worker=\"0\"}", 1.0),
        ("in2out_bytes_total{worker=\"0\"}", 33.0),
        ("device_rx_missed_packets_total{side=\"tunnel\"}", 5.0),
        ("device_rx_no_buffer_total{side=\"external\"}", 8.0),
        ("port_packets_total{side=\"tunnel\",direction=\"rx\",worker=\"0\"}", 3.0),
        ("port_up{side=\"external\"}", 1.0),
        ("steering_mode{mode=\"single\"}", 1.0),
        ("idle_mode{mode=\"spin\"}", 1.0),
        ("self_test_passed", 1.0),
        ("worker_stalled{worker=\"0\"}", 0.0),
        ("policy_generation", 1.0),
        ("worker_policy_generation{worker=\"0\"}", 1.0),
        ("policy_reloads_total{result=\"applied\"}", 1.0),
        ("policy_reloads_total{result=\"refused\"}", 1.0),
        ("policy_reload_duration_seconds_count", 1.0),
        ("policy_last_reload_successful", 0.0),
        ("l4_ports_in_use{egress_ip=\"203.0.113.16\"}", 1.0),
        ("l4_ports_in_use{egress_ip=\"203.0.113.17\"}", 0.0),
        ("l4_ports_in_use_max", 1.0),
        ("build_info{version=\"0.1.0\",packet_io=\"memory\"}", 1.0),
    ] {
        assert_eq!(after.get(&format!("egress_gateway_{name}")), Some(&value), "{name}");
    }
    let succeeded = after["egress_gateway_policy_last_reload_success_timestamp_seconds"];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&succeeded), "{succeeded} {now}");
    // Without its policy a session is still counted until it is ended.
    let total = |samples: &BTreeMap<String, f64>| {
        let of_policies =
            samples.iter().filter(|(name, _)| name.starts_with("egress_gateway_sessions{"));
        of_policies.map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!(total(&after), 1.0);
    assert_eq!(running.put("[]").status, 200);
    wait_until("its end is counted", || total(&samples(running.get("/metrics").text())) == 0.0);
    let emptied = samples(running.get("/metrics").text());
    assert_eq!(emptied["egress_gateway_policy_last_reload_successful"], 1.0);
    assert_eq!(emptied["egress_gateway_l4_ports_in_use_max"], 0.0);
    assert!(!emptied.keys().any(|name| name.contains("egress_ip=")), "{emptied:?}");
}

#[test]
fn unknown_routes_and_methods_are_told_in_json() {
    let running = Running::empty();
    for path in ["/", "/v1", "/v1/policies/", "/v2/policies", "/metrics/x"] {
        assert_eq!(running.get(path).error(404), format!("there is no {path}"));
    }
    for (method, path, allowed) in [
        ("POST", "/v1/policies", "PUT"),
        ("PATCH", "/v1/policies", "GET"),
        ("PUT", "/v1/sessions", "DELETE"),
        ("DELETE", "/v1/stats", "GET"),
        ("PUT", "/readyz", "GET"),
    ] {
        let answer = running.address.ask(method, path, &[], b"");
        assert!(
            answer.error(405).contains(&format!("{path} does not take {method}")),
            "{answer:?}"
        );
        assert!(answer.header("allow").contains(allowed), "{answer:?}");
    }
    let head = running.address.ask("HEAD", "/v1/stats", &[], b"");
    assert_eq!((head.status, head.text()), (200, ""));
}

#[test]
fn what_is_not_http_does_no_harm() {
    let running = Running::usual();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    for bytes in [&b"\0\0\0\0"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", long.as_bytes()] {
        let mut stream = running.address.connect();
        // The server may close before it has all.
        let _ = std::io::Write::write_all(&mut stream, bytes);
        drop(stream);
    }
    assert_eq!(running.get("/readyz").status, 200);
}

#[test]
fn the_api_is_the_same_on_a_socket_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let mut running = Running::on_unix_socket(&path);
    assert_eq!(running.put(&documents()).json()["generation"], 1);
    assert_eq!(running.get("/readyz").status, 200);
    running.stop();
    assert!(!path.exists(), "the socket file goes with the gateway");
}
