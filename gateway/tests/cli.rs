//! The command line as it is typed: the real program, against a gateway with a real worker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::{POLICY, POLICY_2};
use running::{
    Running, documents, only_payments,
    program::{Files, ask, program, run, run_with},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

#[test]
fn policies_are_applied_shown_and_compared() {
    let (running, files) = (Running::empty(), Files::new());
    let (both, one) =
        (files.write("both.yaml", &documents()), files.write("one.yaml", &only_payments()));

    let applied = ask(&running, &["policy", "apply", "-f", &both]).ok();
    assert_eq!(
        applied,
        "generation 1 is in force; policies: 2 added, 0 changed, 0 removed; \
         sessions: 0 kept, 0 cut\n+ payments\n+ reports\n"
    );
    running.open(POLICY, 1000);
    running.open(POLICY_2, 1001);

    let yaml = ask(&running, &["policy", "get"]).ok();
    assert_eq!(yaml, running.get("/v1/policies").text());
    let json: Value =
        serde_json::from_str(&ask(&running, &["policy", "get", "-o", "json"]).ok()).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(4));
    // What was got can be applied, in both forms.
    for (name, text) in [("got.yaml", yaml), ("got.json", json.to_string())] {
        let file = files.write(name, &text);
        let diff = ask(&running, &["policy", "diff", "-f", &file]).ok();
        assert_eq!(diff, "no difference to generation 1\n");
    }

    let diff = ask(&running, &["policy", "diff", "-f", &one]).ok();
    assert_eq!(
        diff,
        "- EgressPolicy/reports: 203.0.113.17 at gw-a; 1 destination\n\
         documents: 0 added, 0 changed, 1 removed; sessions: 1 kept, 1 cut\n"
    );
    let moved = documents().replace("203.0.113.17", "203.0.113.18");
    let diff =
        run_with(&["policy", "diff", "-f", "-", "--api", &running.address.url()], &moved).ok();
    assert_eq!(
        diff,
        "~ EgressPolicy/reports\n    .spec.egress[gw-a].egressIPs: 1 removed, 1 added\n      \
         - 203.0.113.17\n      + 203.0.113.18\n\
         documents: 0 added, 1 changed, 0 removed; sessions: 1 kept, 1 cut\n"
    );
    let dry = ask(&running, &["policy", "apply", "-f", &one, "--dry-run"]).ok();
    assert!(dry.starts_with("dry run: generation 1 stays in force; policies: 0 added"), "{dry}");
    assert_eq!(running.get("/v1/policies").header("etag"), "\"1\"");

    let stale = ["policy", "apply", "-f", &one, "--if-match", "7"];
    assert!(ask(&running, &stale).failed(1).contains("at generation 1, not 7"));
    let json =
        ask(&running, &["policy", "apply", "-f", &one, "--if-match", "1", "-o", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["generation"], &json["sessionsCut"]), (&json!(2), &json!(1)));
}

#[test]
fn warnings_go_to_standard_error() {
    let (running, files) = (Running::empty(), Files::new());
    let text = only_payments().replace("0.0.0.0/0]", "0.0.0.0/0]\n  excludedCIDRs: [\"::/0\"]");
    let file = files.write("policy.yaml", &text);
    let done = ask(&running, &["policy", "apply", "-f", &file]);
    assert!(
        done.err.starts_with("warning: EgressPolicy/payments: .spec.excludedCIDRs[0]"),
        "{done:?}"
    );
    assert!(done.ok().starts_with("generation 1"));
}

#[test]
fn a_bad_policy_file_is_told_with_its_places() {
    let (running, files) = (Running::usual(), Files::new());
    let wrong = documents().replace("payments}\nspec:", "payments}\nspec:\n  prority: 7");
    let wrong = wrong.replace("203.0.113.17", "198.51.100.1");
    let (syntax, wrong, outside) = (
        files.write("syntax.yaml", "kind: [\n"),
        files.write("wrong.yaml", &wrong),
        files.write(
            "outside.json",
            &documents_as_json(&running).replace("203.0.113.16", "198.51.100.1"),
        ),
    );
    for verb in ["apply", "diff"] {
        let fail = |file: &str| ask(&running, &["policy", verb, "-f", file]).failed(2);
        let message = fail(&syntax);
        assert!(message.contains(&format!("{syntax}: line 1, column ")), "{message}");
        let message = fail(&wrong);
        assert!(
            message.contains("EgressPolicy/payments: .spec.prority: unknown field"),
            "{message}"
        );
        let message = fail(&outside);
        assert!(
            message.starts_with(&format!(
                "error: {outside} has a mistake:\n  EgressPolicy/payments: .spec.egress[0].egressIPs[0]: \
                 198.51.100.1 is outside the gateway's egress_prefixes (this gateway's"
            )),
            "{message}"
        );
        assert!(fail("/not/there.yaml").contains("/not/there.yaml: No such file"));
    }
    assert_eq!(running.get("/v1/policies").header("etag"), "\"1\"");
}

fn documents_as_json(running: &Running) -> String {
    let accept = [("Accept", "application/json")];
    running.address.ask("GET", "/v1/policies", &accept, b"").text().to_owned()
}

#[test]
fn sessions_are_listed_and_ended() {
    let running = Running::usual();
    assert_eq!(ask(&running, &["sessions"]).err, "no sessions\n");
    for sport in 1000..1004 {
        running.open(POLICY, sport);
    }
    running.open(POLICY_2, 1004);

    let table = ask(&running, &["sessions"]).ok();
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["PROTO", "INTERNAL", "EXTERNAL", "REMOTE", "STATE", "IDLE", "POLICY"]);
    assert_eq!(lines.clone().count(), 5);
    assert!(lines.all(|line| line.starts_with("UDP") && line.len() <= 100), "{table}");

    for (filter, count) in [
        (&["--policy", "payments"][..], 4),
        (&["--egress-ip", "203.0.113.17"], 1),
        (&["--src", "10.244.1.10", "--protocol", "UDP"], 5),
        (&["--protocol", "tcp"], 0),
        (&["--dst", "198.51.100.10", "--limit", "2"], 2),
        (&["--limit", "0"], 5),
    ] {
        let done = ask(&running, &[&["sessions", "-o", "json"], filter].concat());
        let is_cut = done.err.contains("there are more than 2");
        assert_eq!(is_cut, filter.contains(&"2"), "{done:?}");
        let json: Value = serde_json::from_str(&done.ok()).unwrap();
        assert_eq!(json["sessions"].as_array().map(Vec::len), Some(count), "{filter:?}");
    }
    let wide = ask(&running, &["sessions", "-o", "wide", "--policy", "reports"]).ok();
    assert!(wide.contains("node1") && wide.contains("OUT BYTES"), "{wide}");

    let message = ask(&running, &["sessions", "flush"]).failed(2);
    assert!(message.contains("which sessions?"), "{message}");
    let flush = |rest: &[&str]| ask(&running, &[&["sessions", "flush"], rest].concat());
    assert_eq!(flush(&["--policy", "reports"]).ok(), "1 sessions ended\n");
    assert!(flush(&["--policy", "nobody"]).failed(2).contains("not at this gateway"));
    assert!(flush(&["--all", "--policy", "payments"]).failed(2).contains("which of the two"));
    assert_eq!(flush(&["--all", "-o", "json"]).ok(), "{\"flushed\":4}\n");
}

#[test]
fn statistics_fit_a_terminal() {
    let running = Running::usual();
    running.open(POLICY, 1000);
    let unknown = harness::tunnelled(
        harness::NODE,
        99,
        &harness::udp((harness::POD, 1), (harness::REMOTE, 2), 64, b""),
    );
    running.receive(gateway::verdict::Side::Tunnel, unknown);
    running::wait_until("it is dropped", || {
        running.get("/v1/stats").json()["drops"].as_array().is_some_and(|drops| !drops.is_empty())
    });
    let text = ask(&running, &["stats"]).ok();
    assert!(text.starts_with("gateway gw-a, version 0.1.0, up "), "{text}");
    for wanted in
        ["1,000,001", "64.0M", "net_null1", "203.0.113.2/24", "unknown_policy", "No policy of"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let json: Value = serde_json::from_str(&ask(&running, &["stats", "-o", "json"]).ok()).unwrap();
    assert_eq!(json["ports"][0]["rx"]["packets"], 1_000_001);

    // A series goes on until somebody ends it.
    let url = running.address.url();
    let mut child = program(&["stats", "--watch", "-o", "json", "--api", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        let stats: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(stats["gateway"], "gw-a");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn everything_works_over_a_socket_file() {
    let files = Files::new();
    let socket = files.path("api.sock");
    let running = Running::on_unix_socket(&socket);
    let file = files.write("policy.yaml", &documents());
    ask(&running, &["policy", "apply", "-f", &file]).ok();
    running.open(POLICY, 1000);
    assert!(ask(&running, &["sessions"]).ok().contains("10.244.1.10:1000"));
}

#[test]
fn an_api_that_is_not_there_is_one_clear_error() {
    let files = Files::new();
    let missing = format!("unix:{}", files.path("no.sock").display());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [missing, format!("http://{closed}"), format!("http://{closed}/")] {
        for command in [&["stats"][..], &["sessions"], &["policy", "get"]] {
            let message = run(&[command, &["--api", &url]].concat()).failed(1);
            assert!(
                message.contains("no gateway answers at") && message.contains("--api"),
                "{message}"
            );
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
    for url in
        ["127.0.0.1:9480", "https://127.0.0.1:9480", "http://127.0.0.1", "unix:", "ftp://x:1"]
    {
        let done = run(&["stats", "--api", url]);
        assert_eq!(done.code, 2, "{url}: {done:?}");
        assert!(done.err.contains("write "), "{url}: {done:?}");
    }
}

#[test]
fn what_answers_but_is_no_gateway_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort",
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        for _ in answers {
            run(&["stats", "--api", &url]).failed(1);
        }
    });
}
