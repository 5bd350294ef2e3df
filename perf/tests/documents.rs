//! What the documents say of results is what results are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use perf::{report, result::Results};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/performance.md");
const REFERENCE: &str = include_str!("../results/reference.json");

fn schema() -> Value {
    serde_json::to_value(schemars::schema_for!(Results)).unwrap()
}

#[test]
fn every_field_of_a_result_is_described() {
    let schema = schema();
    for part in ["Machine", "Run"] {
        let fields = schema["$defs"][part]["properties"].as_object().unwrap();
        assert!(fields.len() > 5, "{fields:?}");
        for field in fields.keys() {
            assert!(DOCUMENT.contains(&format!("`{field}`")), "{part}: {field}");
        }
    }
}

#[test]
fn the_committed_run_fits_the_schema_and_makes_a_page() {
    let value: Value = serde_json::from_str(REFERENCE).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    let results: Results = serde_json::from_value(value).unwrap();
    let page = report::html(&results, None);
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let plots = roxmltree::Document::parse(body).unwrap();
    let plots = plots.descendants().filter(|node| node.tag_name().name() == "svg").count();
    assert!(plots > 8, "{plots}");
    assert!(!page.contains("Not part of this run"), "a whole run");
}
