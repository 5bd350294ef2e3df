//! `/openapi.json` says of the API what is true, and its schema of the policy documents is the parser's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::POLICY;
use jsonschema::{Draft, Validator};
use policy::Format;
use running::{Running, client::Answer, documents, dual_documents, only_payments};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"];

fn described(running: &Running) -> Value {
    let answer = running.get("/openapi.json");
    assert_eq!(answer.status, 200);
    answer.json()
}

/// Fields that a schema does not know are errors in it: what is sent must be described. Not of the
/// policy documents, whose schemas say so themselves.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                map.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// For the schema at this place of the document.
fn validator(document: &Value, pointer: &str) -> Validator {
    let mut whole = document.clone();
    close(&mut whole["components"]["schemas"]);
    whole["$ref"] = json!(format!("#{pointer}"));
    jsonschema::options().with_draft(Draft::Draft202012).build(&whole).unwrap()
}

fn pointer(path: &str, method: &str) -> String {
    let path = path.split('?').next().unwrap().replace('/', "~1");
    format!("/paths/{path}/{}", method.to_lowercase())
}

/// Several documents are what a list of them is.
fn as_one(mut documents: Vec<Value>) -> Value {
    if documents.len() == 1 { documents.remove(0) } else { documents.into() }
}

/// The answer has a status, a media type and a body as described.
fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
    let place = format!("{}/responses/{}", pointer(path, method), answer.status);
    let mut described = document.pointer(&place).unwrap_or_else(|| panic!("{place}: {answer:?}"));
    let mut place = place;
    if let Some(reference) = described.get("$ref") {
        reference.as_str().unwrap().strip_prefix('#').unwrap().clone_into(&mut place);
        described = document.pointer(&place).unwrap();
    }
    let media_type = answer.header("content-type").split(';').next().unwrap();
    assert!(described["content"].get(media_type).is_some(), "{place}: {media_type}");
    let schema = format!("{place}/content/{}/schema", media_type.replace('/', "~1"));
    let body = match media_type {
        "application/json" => answer.json(),
        "text/plain" => answer.text().into(),
        "application/yaml" => as_one(serde_saphyr::from_multiple(answer.text()).unwrap()),
        _ => panic!("{media_type}"),
    };
    let errors: Vec<_> = validator(document, &schema)
        .iter_errors(&body)
        .map(|error| format!("{method} {path}: {}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{body:#}");
    for name in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        assert!(!answer.header(&name.to_ascii_lowercase()).is_empty(), "{place}: {name}");
    }
}

#[test]
fn a_route_takes_the_methods_that_are_described_and_refuses_others() {
    let running = Running::empty();
    let document = described(&running);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let operations: BTreeSet<String> =
            operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        for method in METHODS {
            let answer = running.address.ask(method, path, &[], b"");
            let allowed = operations.contains(method);
            assert_eq!(answer.status != 405, allowed, "{method} {path}: {answer:?}");
            if !allowed {
                // RFC 9110, 15.5.6. HEAD comes with GET.
                let named = answer.header("allow").split(',').map(str::trim).map(str::to_owned);
                let named: BTreeSet<String> = named.filter(|method| method != "HEAD").collect();
                assert_eq!(named, operations, "{method} {path}");
                assert!(!answer.error(405).is_empty());
            }
        }
    }
}

#[test]
fn what_is_answered_is_described() {
    let running = Running::empty();
    let document = described(&running);
    let get = |path: &str, status: u16| {
        let answer = running.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        check(&document, "GET", path, &answer);
    };
    get("/readyz", 503);
    get("/v1/policies", 200);
    let put = |path: &str, headers: &[(&str, &str)], body: &[u8], status: u16| {
        let answer = running.put_with(path, headers, body);
        assert_eq!(answer.status, status, "{answer:?}");
        check(&document, "PUT", path, &answer);
    };
    let yaml = [("Content-Type", "application/yaml")];
    let all = documents();
    put("/v1/policies?dryRun=true", &yaml, all.as_bytes(), 200);
    put("/v1/policies", &yaml, all.as_bytes(), 200);
    let overlapping = all.replace("app: reports", "app: payments");
    put("/v1/policies", &yaml, overlapping.as_bytes(), 200);
    put("/v1/policies", &yaml, b"kind: [", 400);
    put("/v1/policies", &yaml, b"\xff", 400);
    put("/v1/policies", &yaml, b"kind: x\n---\nkind: EgressNode", 422);
    put("/v1/policies", &[], b"", 415);
    let outdated = [yaml[0], ("If-Match", "\"1\"")];
    put("/v1/policies", &outdated, only_payments().as_bytes(), 412);
    let long = [yaml[0], ("Content-Length", "99999999")];
    put("/v1/policies", &long, b"", 413);

    running.open(POLICY, 4000);
    for path in ["/readyz", "/healthz", "/metrics", "/openapi.json", "/v1/policies", "/v1/stats"] {
        get(path, 200);
    }
    for path in
        ["/v1/ports", "/v1/steering", "/v1/sessions?limit=1", "/v1/sessions?src=10.244.1.10"]
    {
        get(path, 200);
    }
    let json = [("Accept", "application/json")];
    let answer = running.address.ask("GET", "/v1/policies", &json, b"");
    check(&document, "GET", "/v1/policies", &answer);
    let answer = running.address.ask("GET", "/v1/policies", &[("Accept", "text/html")], b"");
    assert_eq!(answer.status, 406);
    check(&document, "GET", "/v1/policies", &answer);
    for path in ["/v1/policies?x=1", "/v1/stats?x=1", "/v1/sessions?limit=0", "/openapi.json?x=1"] {
        get(path, 400);
    }
    for (path, status) in [("/v1/sessions", 400), ("/v1/sessions?all=true", 200)] {
        let answer = running.delete(path);
        assert_eq!(answer.status, status);
        check(&document, "DELETE", path, &answer);
    }
    running.stick();
    get("/v1/sessions", 503);
    running.go_on();
}

/// Both judges say the same of one text.
fn verdicts(schema: &Validator, text: &str) -> (bool, bool) {
    let trees: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    (trees.iter().all(|tree| schema.is_valid(tree)), policy::parse(text, Format::Yaml).is_ok())
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

fn schema_file() -> Validator {
    let schema: Value = serde_json::from_str(&file("configs/policy.schema.json")).unwrap();
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

#[test]
fn the_documents_of_the_examples_fit_their_schema() {
    let schema = schema_file();
    let policies = ["payments", "crawler"].map(|name| file(&format!("lab/policies/{name}.yaml")));
    let (pods, hosts) = (file("lab/policies/pods.yaml"), file("lab/policies/hosts-v6.yaml"));
    let lab = [&hosts, &pods, &policies[0], &policies[1]].map(String::as_str).join("---\n");
    for text in [file("configs/policy.yaml"), documents(), dual_documents(), lab, "[]".to_owned()] {
        assert_eq!(verdicts(&schema, &text), (true, true), "{text}");
    }
}

#[test]
fn what_the_schema_refuses_the_parser_refuses_too() {
    let schema = schema_file();
    let text = documents();
    let selector = "[{podSelector: {matchLabels: {app: payments}}}]";
    let expressions =
        |expression: &str| format!("[{{podSelector: {{matchExpressions: [{expression}]}}}}]");
    let (no_values, values, none, bare) = (
        expressions("{key: app, operator: In}"),
        expressions("{key: app, operator: Exists, values: [x]}"),
        expressions("{key: app, operator: Like, values: [x]}"),
        expressions("{operator: Exists}"),
    );
    for (old, new) in [
        ("kind: EgressPolicy", "kind: EgressPolicies"),
        ("apiVersion: egress-gateway.io/v1alpha1", "apiVersion: egress-gateway.io/v1"),
        ("metadata: {name: payments}", "metadata: {name: Payments}"),
        ("metadata: {name: payments}", "metadata: {}"),
        ("metadata: {name: payments}", "metadata: {name: payments, namespace: shop}"),
        ("metadata: {name: payments}", "metadata: {name: payments, labels: {-a: b}}"),
        ("metadata: {name: payments}", "metadata: {name: payments, labels: {a: 1}}"),
        ("metadata: {name: payments}", "metadata: {name: payments, lables: {}}"),
        ("  policyID: 7\n", "  policyID: 0\n"),
        ("  policyID: 7\n", "  policyID: 16777216\n"),
        ("  policyID: 7\n", "  policyID: \"7\"\n"),
        ("  policyID: 7\n", "  policyID: 7\n  priority: 2147483648\n"),
        ("  policyID: 7\n", "  policyID: 7\n  failureMode: open\n"),
        ("  policyID: 7\n", "  policyID: 7\n  rateLimit: 1\n"),
        ("  policyID: 7\n", "  policyID: 7\n  excludedCIDRs: [10.0.0.0/33]\n"),
        ("  policyID: 7\n", "  policyID: 7\n  excludedCIDRs: [10.0.0.0]\n"),
        ("  policyID: 7\n", "  policyID: 7\n  excludedCIDRs: [10.0.0.0/8, 10.0.0.0/8]\n"),
        ("destinationCIDRs: [0.0.0.0/0]", "destinationCIDRs: []"),
        ("destinationCIDRs: [0.0.0.0/0]", "destinationCIDRs: 0.0.0.0/0"),
        ("[\"203.0.113.16\"]", "[\"203.0.113.256\"]"),
        ("[\"203.0.113.16\"]", "[\"203.0.113.16/32\"]"),
        ("[\"203.0.113.16\"]", "[]"),
        ("gateway: gw-a, ", ""),
        (selector, "[]"),
        (selector, "[{}]"),
        (selector, "[{podSelector: null}]"),
        (selector, "[{podSelectors: {}}]"),
        (selector, &no_values),
        (selector, &values),
        (selector, &none),
        (selector, &bare),
        ("tunnelAddress: 192.0.2.10", "tunnelAddress: [192.0.2.10]"),
        ("spec: {tunnelAddress: 192.0.2.10}", "spec: {}"),
        (", podCIDRs: [10.244.1.0/24]", ""),
        (", podCIDRs: [10.244.1.0/24]", ", podCIDRs: [10.244.1.0/24], sourceCheck: ClusterCIDR"),
        (", podCIDRs: [10.244.1.0/24]", ", podCIDRs: [10.244.1.0/24], sourceCheck: None"),
    ] {
        let old = old.replace("policyID: 7\n", &format!("policyID: {POLICY}\n"));
        assert!(text.contains(&old), "{old}");
        let bad = text.replacen(&old, new, 1);
        assert_eq!(verdicts(&schema, &bad), (false, false), "{old} -> {new}");
    }
}

#[test]
fn what_the_parser_takes_the_schema_takes_too() {
    let schema = schema_file();
    let text = documents();
    let id = format!("policyID: {POLICY}\n");
    let endpoint = "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressEndpoint\n\
                    metadata: {name: pod-a, namespace: shop, uid: x, annotations: {a/b: \"c d\"}}\n\
                    spec: {ips: [10.244.1.10, \"fd00:244:1::10\"], node: node1}\n";
    for (old, new) in [
        (&*id, "policyID: null\n"),
        (&*id, "priority: -2147483648\n"),
        (&*id, "failureMode: Open\n"),
        (
            &*id,
            "excludedCIDRs: [\"2001:db8::/32\", \"::ffff:0:0:0/96\", \"64:ff9b::/96\", \"::/128\"]\n",
        ),
        ("[\"203.0.113.16\"]", "[], drainingIPs: [203.0.113.16]"),
        (
            "{podSelector: {matchLabels: {app: payments}}}",
            "{namespaceSelector: {}, podSelector: null}",
        ),
        (
            "{matchLabels: {app: payments}}",
            "{matchLabels: {a.example/b_c: \"\"}, matchExpressions: [{key: a, operator: In, values: [x]}, \
             {key: a, operator: DoesNotExist, values: []}]}",
        ),
        ("podCIDRs: [10.244.1.0/24]", "sourceCheck: ClusterCIDR, clusterCIDRs: [10.244.0.0/16]"),
        ("apiVersion", &format!("{endpoint}---\napiVersion")),
        ("kind: EgressNode", "kind: EgressNode\nstatus: {ready: true}"),
    ] {
        assert!(text.contains(old), "{old}");
        let good = text.replacen(old, new, 1);
        let said = policy::parse(&good, Format::Yaml);
        assert_eq!(verdicts(&schema, &good), (true, true), "{old} -> {new}: {said:?}");
    }
}
