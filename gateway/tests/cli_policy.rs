//! `policy diff`, `get --generation` and `history` as they are typed. The sets of the past come from a server
//! that is a script: what is tested is what the program makes of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use running::{
    Running, documents, only_payments,
    program::{Files, ask, run},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

fn policy(name: &str, destinations: usize, egress_ips: &[&str]) -> Value {
    let destinations: Vec<_> = (0..destinations).map(|n| format!("10.{n}.0.0/16")).collect();
    json!({
        "apiVersion": "egress-gateway.io/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": name},
        "spec": {
            "selectors": [{"podSelector": {"matchLabels": {"app": "x"}}}],
            "destinationCIDRs": destinations,
            "egress": [{"gateway": "gw-a", "egressIPs": egress_ips}],
        }
    })
}

/// With the gateway and the node of the harness.
fn set(policies: &[Value]) -> String {
    let hosts = running::hosts();
    let documents = policies.iter().map(Value::to_string);
    documents.chain([hosts]).collect::<Vec<_>>().join("\n---\n")
}

#[track_caller]
fn fits(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_diff_is_told_by_its_exit_status_only_when_asked() {
    let (running, files) = (Running::usual(), Files::new());
    let (same, other) =
        (files.write("same.yaml", &documents()), files.write("other.yaml", &only_payments()));
    for (file, flags, code) in [
        (&same, &[][..], 0),
        (&same, &["--exit-code"], 0),
        (&other, &[], 0),
        (&other, &["--exit-code"], 1),
        (&other, &["--exit-code", "-o", "json"], 1),
    ] {
        let done = ask(&running, &[&["policy", "diff", "-f", file], flags].concat());
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{flags:?}: {done:?}");
        assert!(!done.out.is_empty());
    }
    let done = run(&["policy", "diff"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("--file") && done.err.contains("Usage:"), "{done:?}");
}

#[test]
fn long_lists_and_another_order_read_well() {
    let (running, files) = (Running::empty(), Files::new());
    let (a, b) = (policy("a", 60, &["203.0.113.16"]), policy("b", 1, &["203.0.113.17"]));
    assert_eq!(running.put(&set(&[a.clone(), b.clone()])).status, 200);

    let shorter = policy("a", 10, &["203.0.113.16", "203.0.113.18"]);
    let file = files.write("shorter.yaml", &set(&[shorter, b.clone()]));
    let diff = |flags: &[&str]| {
        let text = ask(&running, &[&["policy", "diff", "-f", &file], flags].concat()).ok();
        fits(&text);
        text
    };
    let text = diff(&[]);
    assert!(text.starts_with("~ EgressPolicy/a\n"), "{text}");
    assert!(text.contains("    .spec.destinationCIDRs: 50 removed, 10 unchanged\n"), "{text}");
    assert!(text.contains("      - … and 30 more (--full shows all)\n"), "{text}");
    assert!(text.contains("      + 203.0.113.18\n"), "{text}");
    assert!(text.ends_with("documents: 0 added, 1 changed, 0 removed; sessions: 0 kept, 0 cut\n"));
    assert_eq!(diff(&["--full"]).lines().filter(|line| line.contains("- 10.")).count(), 50);

    // Nothing but the order differs, and that decides who has 10.0.0.0/16.
    let file = files.write("order.yaml", &set(&[b, a]));
    let done = ask(&running, &["policy", "diff", "-f", &file, "--exit-code"]);
    assert_eq!(done.code, 1, "{done:?}");
    fits(&done.out);
    assert_eq!(
        done.out.lines().next().unwrap(),
        "! EgressPolicy/b wins 10.0.0.0/16 over EgressPolicy/a, for pods that both select: it stands first"
    );
    let json = ask(&running, &["policy", "diff", "-f", &file, "-o", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["documents"], json!([]));
    assert_eq!(json["order"], json!([{"wins": "b", "over": "a", "destination": "10.0.0.0/16"}]));
}

/// Answers each connection by its path, once for each of `answers`.
fn serve(answers: Vec<(&'static str, u16, Value)>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for (path, status, body) in answers {
            let (stream, _) = listener.accept().unwrap();
            answer(stream, path, status, &body);
        }
    });
    (url, server)
}

fn answer(mut stream: TcpStream, path: &str, status: u16, body: &Value) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    reader.take(length.unwrap_or(0)).read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(head.split(' ').nth(1), Some(path), "{head}");
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn sets_of_the_past_are_shown_and_compared() {
    let (then, here) =
        (json!([policy("a", 2, &["203.0.113.16"])]), json!([policy("a", 1, &["203.0.113.16"])]));
    let (url, server) = serve(vec![
        ("/v1/policies?generation=6", 200, then.clone()),
        ("/v1/policies?generation=6", 200, then),
        ("/v1/policies", 200, here.clone()),
        ("/v1/policies?generation=7", 200, here.clone()),
        ("/v1/policies", 200, here),
        (
            "/v1/policies?generation=1",
            404,
            json!({"error": "generation 1 is not kept", "hint": "the gateway keeps 3 to 7"}),
        ),
    ]);
    let ask = |arguments: &[&str]| run(&[arguments, &["--api", &url]].concat());
    let got = ask(&["policy", "get", "--generation", "6", "-o", "json"]).ok();
    assert!(got.contains("10.1.0.0/16"), "{got}");
    assert_eq!(
        ask(&["policy", "diff", "--generation", "6"]).ok(),
        "~ EgressPolicy/a\n    .spec.destinationCIDRs: 1 removed, 1 unchanged\n      - 10.1.0.0/16\n\
         documents: 0 added, 1 changed, 0 removed\n"
    );
    assert_eq!(
        ask(&["policy", "diff", "--from", "7", "--exit-code"]).ok(),
        "no difference to generation 7\n"
    );
    let message = ask(&["policy", "get", "--generation", "1"]).failed(1);
    assert_eq!(message, "error: generation 1 is not kept (the gateway keeps 3 to 7)\n");
    server.join().unwrap();
}

#[test]
fn the_history_is_a_table() {
    let many: Vec<_> = (0..300).map(|n| format!("policy-{n}")).collect();
    let at = "2026-11-23T05:31:00Z";
    let sets = json!({"sets": [
        {"generation": 8, "acceptedAt": at, "policies": 312, "added": many, "changed": ["a"], "removed": []},
        {"generation": 7, "acceptedAt": at, "policies": 12, "added": [], "changed": [], "removed": ["b"]},
        {"generation": 6, "acceptedAt": at, "policies": 13, "added": [], "changed": [], "removed": []},
    ]});
    let path = "/v1/policies/history";
    let (url, server) = serve(vec![
        (path, 200, sets.clone()),
        (path, 200, sets.clone()),
        (path, 200, json!({"sets": []})),
    ]);
    let ask = |rest: &[&str]| run(&[&["policy", "history", "--api", &url], rest].concat());
    let table = ask(&[]).ok();
    fits(&table);
    let words: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["GENERATION", "ACCEPTED", "POLICIES", "DIFFERENCE"]);
    assert_eq!(words[1][..4], ["8", at, "312", "+policy-0"], "{table}");
    let whole = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(whole.contains(" +policy-4 +(295 more) ~a 7 "), "{table}");
    assert!(
        words.contains(&vec!["7", at, "12", "-b"]) && words.contains(&vec!["6", at, "13", "-"])
    );
    let json: Value = serde_json::from_str(&ask(&["-o", "json"]).ok()).unwrap();
    assert_eq!(json, sets);
    let none = ask(&[]);
    assert_eq!((none.code, none.err.as_str()), (0, "no sets: no policies were accepted yet\n"));
    server.join().unwrap();
}

/// A gateway of a version that keeps no sets says so in its own words.
#[test]
fn a_gateway_that_does_not_know_the_question_is_an_error() {
    let answer = json!({"error": "there is no /v1/policies/history", "hint": "there are others"});
    let (url, server) = serve(vec![("/v1/policies/history", 404, answer)]);
    let message = run(&["policy", "history", "--api", &url]).failed(1);
    assert!(message.contains("there is no /v1/policies/history"), "{message}");
    server.join().unwrap();
}
