//! Texts that are not well-formed, and those that are more than they look.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use policy::{Format, LoadError, MAX_BYTES, SyntaxError};

fn syntax_error(text: &str, format: Format) -> (usize, usize, String, Option<usize>) {
    match policy::parse(text, format) {
        Err(LoadError::Syntax(errors)) => {
            let [SyntaxError { file: None, line, column, message, document }] = errors.as_slice()
            else {
                panic!("{errors:?}")
            };
            (*line, *column, message.clone(), *document)
        }
        other => panic!("expected a syntax error, got {other:?}\nin\n{text}"),
    }
}

#[test]
fn syntax_errors_have_a_place() {
    use Format::{Json, Yaml};
    let cases = [
        ("a: [1, 2\nb: 3\n", Yaml, (2, 2), Some(1)),
        ("a: 1\n---\n# none\n---\nb: 1\nc: \"x\n", Yaml, (6, 4), Some(2)),
        ("a: 1\n---\nb: {c: 1, d: 2,\n  c: 3}\n", Yaml, (4, 3), Some(2)),
        ("a: *b\n", Yaml, (1, 4), Some(1)),
        ("a: &a [*a]\n", Yaml, (1, 8), Some(1)),
        ("a:\n\t- b\n", Yaml, (2, 2), Some(1)),
        ("", Yaml, (1, 1), None),
        ("# only a comment\n---\n", Yaml, (1, 1), None),
        ("{\"a\": 1,\n \"b\": }", Json, (2, 7), None),
        ("{\"a\": 1, \"a\": 2}", Json, (1, 12), None),
        ("{\"a\": 1} {}", Json, (1, 10), None),
        ("", Json, (1, 1), None),
    ];
    for (text, format, place, document) in cases {
        let (line, column, message, found) = syntax_error(text, format);
        assert_eq!(((line, column), found), (place, document), "{message}\nin\n{text}");
        assert!(!message.is_empty() && !message.contains(" at line "), "{message}");
    }
}

#[test]
fn duplicate_keys_are_named() {
    for (text, format) in [("a: 1\na: 2\n", Format::Yaml), ("{\"a\": 1, \"a\": 2}", Format::Json)] {
        let (.., message, _) = syntax_error(text, format);
        assert!(message.contains("duplicate") && message.contains('a'), "{message}");
    }
}

#[test]
fn a_text_that_is_too_large_is_refused_unread() {
    let text = "#".repeat(MAX_BYTES + 1);
    for format in [Format::Yaml, Format::Json] {
        assert!(syntax_error(&text, format).2.contains("bytes"));
    }
}

#[test]
fn bombs_are_refused_early() {
    let started = Instant::now();
    let doubling: String = (1..12)
        .map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")))
        .collect();
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 9_000].join(","));
    let many = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n---\n";
    let texts = [
        format!("a0: &a0 boom\n{doubling}"),
        long,
        many.repeat(40_000),
        "[".repeat(1 << 20),
        "- ".repeat(1 << 20),
        "{a: ".repeat(1 << 20),
    ];
    for text in texts {
        syntax_error(&text, Format::Yaml);
    }
    syntax_error(&"[".repeat(1 << 20), Format::Json);
    assert!(started.elapsed() < Duration::from_secs(60), "took {:?}", started.elapsed());
}

#[test]
fn json_is_one_document_or_a_list() {
    let gateway = r#"{"apiVersion": "egress-gateway.io/v1alpha1", "kind": "EgressGateway",
        "metadata": {"name": "gw-a"}, "spec": {"tunnelAddress": "192.0.2.10"}}"#;
    let (one, _) = policy::parse(gateway, Format::Json).unwrap();
    let (list, _) = policy::parse(&format!("[{gateway}]"), Format::Json).unwrap();
    assert_eq!(one, list);
    assert_eq!(one, load_good(&[GATEWAY]).0);
    let (none, _) = policy::parse("[]", Format::Json).unwrap();
    assert_eq!(none, policy::PolicySet::default());
}

#[test]
fn what_kubectl_prints_is_accepted() {
    let gateway = GATEWAY.replace(
        "{name: gw-a}",
        "{name: gw-a, uid: 1-2, generation: 3, creationTimestamp: \"2026-01-01T00:00:00Z\", \
         managedFields: [{manager: kubectl}]}\nstatus: {conditions: []}",
    );
    assert_eq!(load_good(&[&gateway]).0, load_good(&[GATEWAY]).0);
}

#[test]
fn text_that_looks_like_something_else_survives_writing_and_reading() {
    let texts =
        ["", "true", "yes", "off", "null", "0", "010", "1_000", "1.0", "1e3", "0x1f", "Inf"];
    let labels: Vec<String> =
        texts.iter().enumerate().map(|(index, text)| format!("l{index}: \"{text}\"")).collect();
    let annotations = r#"{a: "~", b: "- x", c: "x: y", d: "two\nlines\n", e: " # é", f: "---"}"#;
    let metadata = format!("gw-a, labels: {{{}}}, annotations: {annotations}", labels.join(", "));
    let (set, _) = load_good(&[&GATEWAY.replace("gw-a", &metadata)]);
    let labels: Vec<&str> = (0..texts.len())
        .map(|index| set.gateways[0].metadata.labels[&format!("l{index}")].as_str())
        .collect();
    assert_eq!(labels, texts);
    assert_eq!(policy::parse(&set.to_yaml(), Format::Yaml).unwrap().0, set);
}
