//! Sets of several texts: what is told names the file that it is in, and others where they matter.

use crate::common::*;
use ::policy::{Format, LoadError, PolicySet, Source, Warning, parse_sources};

fn load_files(files: &[(&str, &str)]) -> Result<(PolicySet, Vec<Warning>), LoadError> {
    let sources = files.iter().map(|&(name, text)| {
        let format = if name.ends_with(".json") { Format::Json } else { Format::Yaml };
        Source { file: Some(name), text, format }
    });
    parse_sources(&sources.collect::<Vec<_>>())
}

/// What is said of these files, a line for each mistake.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    let error = load_files(files).unwrap_err();
    error.to_string().lines().map(str::to_owned).collect()
}

const GATEWAY_JSON: &str = r#"[{"apiVersion": "egress-gateway.io/v1alpha1", "kind": "EgressGateway",
    "metadata": {"name": "gw-a"}, "spec": {"tunnelAddress": "192.0.2.10"}}]"#;

#[test]
fn all_files_are_one_set_in_their_order() {
    let [p, q] = ["p", "q"].map(|name| policy_with(name, SPEC));
    let (set, warnings) = load_files(&[("1.yaml", &q), ("2.json", GATEWAY_JSON), ("3.yaml", &p)])
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((set.policies[0].name(), set.policies[1].name()), ("q", "p"));
    // The later document loses, and the warning says where it is.
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(warning.file.as_deref(), Some("3.yaml"));
    let told = "3.yaml: EgressPolicy/p: .spec: has no effect: every destination is won by q ";
    assert!(warning.to_string().starts_with(told), "{warning}");
}

#[test]
fn each_mistake_names_its_file_and_the_document_in_it() {
    let spec = "egress: [{gateway: gw-a, egressIPs: [nowhere]}]\ncolour: red";
    let policy = policy_with("p", &spec_with(spec));
    let two = format!("{GATEWAY}---\nkind: Pod\n");
    let expected = [
        "a.yaml: EgressPolicy/p: .spec.colour: unknown field ",
        "a.yaml: EgressPolicy/p: .spec.egress[0].egressIPs[0]: \"nowhere\" is not an IP address ",
        "b.yaml: document 2: .apiVersion: is required",
        "b.yaml: document 2: .kind: the text \"Pod\" is not a kind of document ",
    ];
    let said = said(&[("a.yaml", &policy), ("b.yaml", &two)]);
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn what_two_files_disagree_on_names_both() {
    let policy = |name: &str, line: &str| policy_with(name, &spec_with(line));
    let (p, q) = (policy("p", "policyID: 7"), policy("q", "policyID: 7"));
    let node = NODE.replace("192.0.2.1,", "192.0.2.10,");
    let expected = "policy id 7 is also that of EgressPolicy/p of a.yaml";
    let files = [("a.yaml", &*p), ("b.yaml", &q), ("c.yaml", GATEWAY)];
    assert!(said(&files)[0].contains(expected), "{:?}", said(&files));
    let expected = "192.0.2.10 is also that of EgressGateway/gw-a of c.yaml";
    let files = [("c.yaml", GATEWAY), ("d.yaml", &node)];
    assert!(said(&files)[0].contains(expected), "{:?}", said(&files));
    // In one file the name is enough.
    let both = format!("{p}---\n{q}---\n{GATEWAY}");
    let said = said(&[("a.yaml", &both)]);
    assert!(said[0].contains("is also that of EgressPolicy/p ("), "{said:?}");
}

#[test]
fn one_name_in_two_places_names_both() {
    let twice = format!("{NODE}---\n{GATEWAY}");
    let across = said(&[("a.yaml", &twice), ("b.json", GATEWAY_JSON)]);
    let expected = "b.json: EgressGateway/gw-a: .metadata.name: document 2 of a.yaml and document 1 \
                    of b.json have this name (rename one, or remove it)";
    assert_eq!(across, [expected]);
    let within = said(&[("a.yaml", &format!("{GATEWAY}---\n{GATEWAY}"))]);
    let expected = "a.yaml: EgressGateway/gw-a: .metadata.name: documents 1 and 2 of a.yaml have \
                    this name (rename one, or remove it)";
    assert_eq!(within, [expected]);
}

#[test]
fn every_file_that_is_not_well_formed_is_told() {
    let files = [("a.yaml", "a: *b\n"), ("b.yaml", GATEWAY), ("c.json", "{\n,}"), ("d.yaml", "")];
    let said = said(&files);
    let expected = ["a.yaml: line 1, column 4: ", "c.json: line 2, column 1: ", "d.yaml: line 1"];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn texts_that_are_too_large_together_are_refused() {
    let half = "#".repeat(::policy::MAX_BYTES / 2 + 1);
    let good = format!("{GATEWAY}{half}");
    let said = said(&[("a.yaml", &good), ("b.yaml", &good)]);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("b.yaml: line 1, column 1: the text has "), "{said:?}");
}

/// What HTTP answers has no files, and no empty place for them.
#[test]
fn without_a_file_nothing_is_said_of_one() {
    let LoadError::Invalid(errors) = load(&["kind: Pod\n"]).unwrap_err() else { panic!() };
    let text = serde_json::to_value(&errors[0]).unwrap();
    let keys: Vec<&String> = text.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["document", "hint", "path", "reason"]);
    assert!(errors[0].to_string().starts_with("document 1: "), "{}", errors[0]);
}
