//! `/v1/policies` by HTTP, against a real worker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::{EGRESS, POLICY, POLICY_2};
use running::{Running, documents, hosts, only_payments, policy, wait_until};
use serde_json::json;
use std::{fs, io::Write};

const YAML: (&str, &str) = ("Content-Type", "application/yaml");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const PATH: &str = "/v1/policies";

#[test]
fn what_is_put_is_what_is_got_in_both_forms() {
    let running = Running::empty();
    let before = running.get(PATH);
    assert_eq!((before.status, before.text()), (200, "[]\n"));
    assert_eq!(before.header("etag"), "\"0\"");

    let put = running.put(&documents());
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(
        put.json(),
        json!({
            "generation": 1, "added": ["payments", "reports"], "changed": [], "removed": [],
            "sessionsKept": 0, "sessionsCut": 0, "warnings": []
        })
    );
    assert_eq!(put.header("etag"), "\"1\"");

    let yaml = running.get(PATH);
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert_eq!(yaml.header("etag"), "\"1\"");
    assert_eq!(yaml.header("egress-gateway-generation"), "1");
    let accept = |accept| running.address.ask("GET", PATH, &[("Accept", accept)], b"");
    let list = accept("application/json");
    assert_eq!(list.json().as_array().map(Vec::len), Some(4));

    // Each form can be put back, and changes nothing.
    for (header, text) in [(YAML, yaml.text()), (JSON, list.text())] {
        let again = running.put_with(PATH, &[header], text).json();
        for names in ["added", "changed", "removed"] {
            assert_eq!(again[names], json!([]));
        }
    }
    assert_eq!(running.get(PATH).text(), yaml.text());

    for (accepts, form) in [
        ("*/*", "application/yaml"),
        ("application/*", "application/yaml"),
        ("application/yaml;q=0.5, application/json", "application/json"),
        ("text/html, application/json;q=0.1", "application/json"),
        ("*/*, application/yaml;q=0", "application/json"),
    ] {
        assert_eq!(accept(accepts).header("content-type"), form, "{accepts}");
    }
    assert!(accept("text/html").error(406).contains("application/yaml"));
}

#[test]
fn one_json_document_and_no_documents_are_sets() {
    let running = Running::empty();
    let one = json!({
        "apiVersion": "egress-gateway.io/v1alpha1", "kind": "EgressGateway",
        "metadata": {"name": "gw-a"}, "spec": {"tunnelAddress": "192.0.2.10"}
    });
    assert_eq!(running.put_with(PATH, &[JSON], one.to_string()).status, 200);
    assert_eq!(running.put_with(PATH, &[JSON], "[]").status, 200);
    assert_eq!(running.put("[]").status, 200);
    let empty = running.put("").error(400);
    assert!(empty.contains("there is no document"), "{empty}");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let running = Running::usual();
    running.open(POLICY, 1000);
    running.open(POLICY_2, 1001);
    let put =
        |flag: &str| running.put_with(&format!("{PATH}?dryRun={flag}"), &[YAML], only_payments());
    let dry = put("true").json();
    assert_eq!(
        dry,
        json!({
            "generation": 1, "added": [], "changed": [], "removed": ["reports"],
            "sessionsKept": 1, "sessionsCut": 1, "warnings": []
        })
    );
    assert_eq!(running.get(PATH).header("etag"), "\"1\"");
    assert_eq!(running.counters().sessions.get(), 2);
    assert!(put("maybe").error(400).contains("dryRun=maybe"));
    assert_eq!(put("false").json()["generation"], 2);
}

#[test]
fn sessions_of_what_stays_are_kept_and_others_cut() {
    let running = Running::usual();
    for sport in 1000..1003 {
        running.open(POLICY, sport);
    }
    for sport in 1003..1005 {
        running.open(POLICY_2, sport);
    }
    let put = running.put(&only_payments()).json();
    assert_eq!((&put["sessionsKept"], &put["sessionsCut"]), (&json!(3), &json!(2)));
    wait_until("two sessions are cut", || running.counters().sessions_cut.get() == 2);
    assert_eq!(running.counters().sessions.get(), 3);

    // The policy keeps its name and gets another egress IP: its sessions cannot go on.
    let moved = policy("payments", POLICY, harness::EGRESS_2) + "---\n" + &hosts();
    let put = running.put(&moved).json();
    assert_eq!(put["changed"], json!(["payments"]));
    assert_eq!(put["sessionsCut"], 3);
    wait_until("all sessions are cut", || running.counters().sessions.get() == 0);
}

#[test]
fn if_match_guards_against_lost_updates() {
    let running = Running::usual();
    let put = |tag: &str| running.put_with(PATH, &[YAML, ("If-Match", tag)], only_payments());
    for stale in ["\"0\"", "\"2\""] {
        let answer = put(stale);
        assert_eq!(answer.json()["generation"], 1);
        assert!(answer.error(412).contains("at generation 1"), "{answer:?}");
    }
    assert!(put("\"of-another-program\"").error(412).contains("not of-another-program"));
    for wrong in ["1", "W/\"1\"", "\"1\", \"2\""] {
        assert!(put(wrong).status >= 400, "{wrong}");
    }
    assert_eq!(running.get(PATH).header("etag"), "\"1\"");
    assert_eq!(put("\"1\"").json()["generation"], 2);
    assert_eq!(put("*").json()["generation"], 3);
}

#[test]
fn what_is_no_document_is_refused_with_its_place() {
    let running = Running::usual();
    let broken = hosts() + "---\nkind: [unclosed\n";
    for (header, body, line, column) in [
        (YAML, broken.as_bytes(), 11, 7),
        (JSON, b"{\"kind\":\n  nonsense}", 2, 4),
        (YAML, b"kind: \xffsomething", 1, 7),
    ] {
        let answer = running.put_with(PATH, &[header], body);
        assert!(!answer.error(400).is_empty());
        let json = answer.json();
        let place = (json["line"].as_u64().unwrap(), json["column"].as_u64().unwrap());
        assert_eq!(place, (line, column), "{json}");
    }
    assert_eq!(running.get(PATH).header("etag"), "\"1\"");
}

#[test]
fn every_mistake_of_a_set_is_told_at_once() {
    let running = Running::usual();
    let outside = policy("far", 7, [203, 0, 113, 99].into());
    let own = policy("own", 8, [203, 0, 113, 2].into());
    let here = [outside, own, hosts()].join("---\n");
    let wrong =
        here.replace("destinationCIDRs: [0.0.0.0/0]", "destinationCIDRs: [0.0.0.1/0]\n  a: b");
    for (documents, wanted) in [
        (here, [("EgressPolicy/far", "egress_prefixes"), ("EgressPolicy/own", "own ports")]),
        (wrong, [("EgressPolicy/far", "bits set after"), ("EgressPolicy/own", "unknown")]),
    ] {
        let answer = running.put(&documents);
        assert_eq!(answer.status, 422, "{}", answer.text());
        let json = answer.json();
        let errors = json["errors"].as_array().unwrap();
        for (document, reason) in wanted {
            let told = errors.iter().any(|error| {
                let fields = ["path", "hint"].iter().all(|field| error[field].is_string());
                fields
                    && error["document"] == document
                    && error["reason"].as_str().unwrap().contains(reason)
            });
            assert!(told, "{document} {reason}: {json}");
        }
    }
    assert_eq!(running.get(PATH).header("etag"), "\"1\"");
}

#[test]
fn only_yaml_and_json_in_utf8_are_taken() {
    let running = Running::empty();
    let put = |headers: &[(&str, &str)]| running.put_with(PATH, headers, documents());
    assert!(put(&[]).error(415).contains("no Content-Type"));
    for wrong in
        ["text/plain", "application/x-www-form-urlencoded", "application/yaml;charset=latin1"]
    {
        assert!(put(&[("Content-Type", wrong)]).error(415).contains(wrong));
    }
    assert!(put(&[YAML, ("Content-Encoding", "gzip")]).error(415).contains("gzip"));
    for right in ["application/yaml; charset=UTF-8", "Application/YAML"] {
        assert_eq!(put(&[("Content-Type", right)]).status, 200, "{right}");
    }
}

#[test]
fn a_set_that_is_too_large_is_refused_unread() {
    let running = Running::empty();
    let length = (policy_limit() + 1).to_string();
    let head = [YAML, ("Content-Length", length.as_str())];
    let answer = running.put_with(PATH, &head, "never sent whole");
    assert!(answer.error(413).contains(&policy_limit().to_string()));
    // Without a length it is found out on the way.
    let mut body = format!("{:x}\r\n", policy_limit() + 1).into_bytes();
    body.resize(body.len() + policy_limit() + 1, b'#');
    body.extend(b"\r\n0\r\n\r\n");
    let answer = running.put_with(PATH, &[YAML, ("Transfer-Encoding", "chunked")], body);
    answer.error(413);
    // What is just small enough is read, and judged.
    let mut text = documents();
    text.push('#');
    text.extend(std::iter::repeat_n('x', policy_limit() - text.len()));
    assert_eq!(running.put(&text).status, 200);
}

fn policy_limit() -> usize {
    ::policy::MAX_BYTES
}

#[test]
fn a_body_that_ends_early_is_no_set() {
    let running = Running::empty();
    let whole = documents();
    let head = [YAML, ("Content-Length", "100000")];
    let mut stream = running.address.connect();
    let text = format!(
        "PUT {PATH} HTTP/1.1\r\nHost: x\r\n{}: {}\r\n{}: {}\r\n\r\n{whole}",
        head[0].0, head[0].1, head[1].0, head[1].1
    );
    stream.write_all(text.as_bytes()).unwrap();
    drop(stream);
    assert_eq!(running.get(PATH).header("etag"), "\"0\"");
}

#[test]
fn a_stuck_worker_is_named() {
    let running = Running::usual();
    running.stick();
    let dry = running.put_with(&format!("{PATH}?dryRun=true"), &[YAML], only_payments()).json();
    let reason = dry["warnings"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, "worker 0 does not answer: its sessions are not counted");
    let answer = running.put(&only_payments());
    assert!(answer.error(503).contains("worker 0 does not run generation 2"), "{answer:?}");
    assert_eq!((&answer.json()["worker"], &answer.json()["generation"]), (&json!(0), &json!(2)));
    // It was published, so the worker takes it as soon as it can.
    running.go_on();
    wait_until("the worker goes on", || running.counters().generation.get() == 2);
}

#[test]
fn a_set_that_cannot_be_kept_is_not_run() {
    let running = Running::usual();
    let folder = running.state_dir();
    fs::remove_dir_all(folder).unwrap();
    fs::write(folder, "in the way").unwrap();
    let answer = running.put(&only_payments());
    let message = answer.error(500);
    assert!(message.contains("nothing was changed"), "{message}");
    assert!(message.contains(&folder.display().to_string()), "{message}");
    assert_eq!(running.get(PATH).header("etag"), "\"1\"");
    assert_eq!(running.counters().generation.get(), 1);
    fs::remove_file(folder).unwrap();
    assert_eq!(running.put(&only_payments()).json()["generation"], 2);
}

#[test]
fn a_restart_comes_up_with_the_accepted_set() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Running::with_state(state.path());
    assert_eq!(first.put(&documents()).status, 200);
    assert_eq!(first.put(&only_payments()).status, 200);
    let text = first.get(PATH).text().to_owned();
    first.stop();

    let second = Running::with_state(state.path());
    let answer = second.get(PATH);
    assert_eq!((answer.text(), answer.header("etag")), (&*text, "\"2\""));
    assert_eq!(second.get("/readyz").status, 200);
    second.open(POLICY, 1000);
    assert_eq!(second.put(&documents()).json()["generation"], 3);
}

#[test]
fn the_last_twenty_sets_can_be_read_again() {
    let running = Running::empty();
    let get = |generation: u64| running.get(&format!("{PATH}?generation={generation}"));
    assert_eq!(running.get("/v1/policies/history").json(), json!({"sets": []}));
    assert!(get(1).error(404).contains("generation 1 are not kept"));
    assert_eq!(get(0).text(), "[]\n");
    for n in 1..=22 {
        let text = policy(&format!("p{n}"), n, EGRESS) + "---\n" + &hosts();
        assert_eq!(running.put(&text).status, 200);
    }
    for n in 3..=22 {
        let answer = get(n);
        assert_eq!(answer.header("etag"), format!("\"{n}\""));
        assert!(answer.text().contains(&format!("name: p{n}\n")), "{}", answer.text());
        assert!(
            running.put_with(&format!("{PATH}?dryRun=true"), &[YAML], answer.text()).status == 200
        );
    }
    let gone = get(2);
    assert_eq!(gone.error(404), "the policies of generation 2 are not kept");
    assert_eq!(gone.json()["hint"], "there are 3 to 22");
    assert_eq!(get(23).status, 404);
    assert!(running.get(&format!("{PATH}?generation=x")).error(400).contains("a number is wanted"));

    let history = running.get("/v1/policies/history").json();
    let sets = history["sets"].as_array().unwrap();
    assert_eq!((sets.len(), &sets[0]["generation"]), (20, &json!(22)));
    assert_eq!(sets[0]["added"], json!(["p22"]));
    assert_eq!(sets[0]["removed"], json!(["p21"]));
    assert!(sets[0]["acceptedAt"].as_str().unwrap().ends_with('Z'), "{sets:?}");

    // A file that is gone is the machine's fault, and told.
    fs::remove_file(running.state_dir().join("sets/0000000005.yaml")).unwrap();
    assert!(get(5).error(500).contains("0000000005.yaml cannot be read"));
}

#[test]
fn many_writers_come_one_after_the_other() {
    let running = Running::empty();
    let mut generations: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let text = policy(&format!("p{n}"), n + 1, EGRESS) + "---\n" + &hosts();
                let running = &running;
                scope.spawn(move || running.put(&text).json()["generation"].as_u64().unwrap())
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    generations.sort_unstable();
    assert_eq!(generations, (1..=8).collect::<Vec<_>>());
    assert_eq!(running.get(PATH).header("etag"), "\"8\"");
}
