//! The command line as it is typed. Nothing is measured here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use serde_json::Value;
use std::{
    fs,
    process::{Command, Output},
};

const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/old.json");
const NEW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/new.json");

fn egress_perf(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_egress-perf")).args(words).output().unwrap()
}

/// Standard output of what has to succeed.
fn ok(words: &[&str]) -> String {
    let done = egress_perf(words);
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Standard error of what has to end with this status.
fn failed(status: i32, words: &[&str]) -> String {
    let done = egress_perf(words);
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(status), "{words:?}: {error}");
    error
}

#[test]
fn each_subcommand_has_help_with_examples_and_exit_status() {
    for command in ["run", "list", "compare", "report", "generate", "router", "completions", "man"]
    {
        let help = ok(&[command, "--help"]);
        assert!(help.contains("Usage: egress-perf"), "{command}: {help}");
        assert!(help.contains("Examples:\n  "), "{command}: {help}");
        assert!(help.contains("Exit status: 0 done, 1 failed, 2 bad use"), "{command}: {help}");
    }
    assert!(ok(&["--help"]).contains("Exit status:\n  0"));
    assert!(ok(&["completions", "bash"]).contains("complete -F"));
    assert!(ok(&["man"]).contains(".TH egress-perf 1"));
}

#[test]
fn bad_use_ends_with_2_and_says_what_is_wrong() {
    for (words, error) in [
        (&["fly"][..], "unrecognized subcommand 'fly'"),
        (&["compare", OLD], "<NEW>"),
        (&["compare", OLD, NEW, "--tolerance", "much"], "a percentage, as 5%"),
        (&["run", "--seconds", "0"], "0.1 to 600 seconds"),
        (&["run", "--repeats", "0"], "--repeats <N>"),
        (&["run", "--only", "nonsense"], "--only nonsense: nothing in the set has that"),
        (&["run", "--system-core", "0"], "are both 0"),
        (&["run", "--system-core", "4096"], "--system-core 4096: there is no such CPU"),
        (&["list", "--only", "nonsense"], "`egress-perf list` shows all"),
        (&["report", "/nonexistent.json"], "/nonexistent.json: No such file"),
        (&["report", OLD, "--earlier", NEW], "--html <OUT>"),
        (&["router", "--tunnel", "a"], "--external <DEVICE>"),
    ] {
        let text = failed(2, words);
        assert!(text.contains(error), "{words:?}: {text}");
    }
}

#[test]
fn files_that_are_no_results_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    for (text, error) in [
        ("", "EOF while parsing"),
        ("{\"machine\": 1}", "line 1 column 13"),
        ("{\"runs\": []}", "missing field `machine`"),
    ] {
        let path = folder.path().join("bad.json");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        for words in [&["report", path][..], &["compare", OLD, path], &["compare", path, NEW]] {
            let said = failed(2, words);
            assert!(said.contains(path) && said.contains(error), "{text}: {said}");
        }
    }
}

#[test]
fn the_set_is_listed_with_its_time() {
    let quick = ok(&["list", "--quick"]);
    assert!(quick.contains("throughput") && quick.contains("kernel over veth"), "{quick}");
    assert!(quick.contains("gateway with 1 worker"), "{quick}");
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(quick.contains("gateway with 2 workers over none"), (2..4).contains(&cpus));
    let json = |words| serde_json::from_str::<Value>(&ok(words)).unwrap();
    let (quick, full) =
        (json(&["list", "--quick", "-o", "json"]), json(&["list", "-o", "json", "--peer"]));
    assert!(quick["minutes"].as_f64().unwrap() < full["minutes"].as_f64().unwrap());
    let peers = |set: &Value| set.to_string().matches("peer over memif").count();
    assert_eq!(peers(&quick), 0);
    assert!(peers(&full) > 5);
    let one = json(&[
        "list",
        "--only",
        "churn of 1.0 M",
        "--repeats",
        "1",
        "--seconds",
        "3",
        "-o",
        "json",
    ]);
    assert_eq!(one["measurements"].as_array().unwrap().len(), 1);
    // Three seconds until sessions expire, and one repeat.
    assert_eq!(one["measurements"][0]["minutes"], 0.1);
}

#[test]
fn results_are_compared() {
    let text = ok(&["compare", OLD, NEW]);
    assert!(text.ends_with("2 better, 2 worse, 3 the same, 2 only in one\n"), "{text}");
    assert!(text.contains("0.750"), "{text}");
    let all: Value = serde_json::from_str(&ok(&["compare", OLD, NEW, "-o", "json"])).unwrap();
    assert_eq!(all[1]["mark"], "worse");
    assert_eq!(all[1]["ratio"], 0.75);
    let runs: Vec<&str> = [6, 7].map(|at: usize| all[at]["run"].as_str().unwrap()).to_vec();
    assert_eq!(format!("{}, 2 workers", runs[0]), runs[1]);
    // Only what asks for it fails.
    assert_eq!(egress_perf(&["compare", OLD, NEW, "--fail-if-slower"]).status.code(), Some(1));
    ok(&["compare", OLD, NEW, "--fail-if-slower", "--tolerance", "30%"]);
    ok(&["compare", NEW, NEW, "--fail-if-slower", "--tolerance", "0"]);
}

#[test]
fn results_are_shown_as_tables() {
    let text = ok(&["report", OLD]);
    for expected in [
        "Packets\n",
        "198–204",
        "Scaling without I/O",
        "38.00–40.00",
        "1.95",
        "Sessions\n",
        "1.60M",
        "Latency, in µs\n",
        "20.0",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{text}");
    let text = ok(&["report", NEW]);
    assert!(text.contains("1 of 24 repeats were disturbed"), "{text}");
    assert!(
        text.contains("104 cycles from CPU to CPU; over 1.5 times as many in 2 of 24"),
        "{text}"
    );
    assert!(text.contains(", 2 of 3 apart"), "{text}");
}

#[test]
fn the_schema_is_of_the_files() {
    let schema: Value = serde_json::from_str(&ok(&["schema"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for path in [OLD, NEW] {
        let results = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(validator.is_valid(&results), "{path}");
    }
}
