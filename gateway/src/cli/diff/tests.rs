use super::*;
use serde_json::json;

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "EgressPolicy", "metadata": {"name": name}, "spec": spec})
}

fn text(old: &[Value], new: &[Value], full: bool) -> String {
    let printer = Printer { full };
    let (order, is_all) = order_changes(old, new);
    let text = printer.changes(&changes(old, new)) + &printer.order(&order, is_all);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    text
}

#[test]
fn documents_and_fields_are_named() {
    let egress = |ips: &[&str]| json!([{"gateway": "g", "egressIPs": ips, "drainingIPs": []}]);
    let old = [
        policy("a", json!({"priority": 0, "egress": egress(&["1", "2"])})),
        policy("b", json!({"egress": egress(&["3"]), "destinationCIDRs": ["0.0.0.0/0"]})),
        policy("c", json!({})),
    ];
    let new = [
        policy("c", json!({})),
        policy("a", json!({"priority": 5, "egress": egress(&["2", "4"]), "policyID": 7})),
        policy("d", json!({"egress": egress(&["9"]), "priority": 1, "excludedCIDRs": ["x", "y"]})),
    ];
    assert_eq!(
        text(&old, &new, false),
        "~ EgressPolicy/a\n    \
             .spec.egress[g].egressIPs: 1 removed, 1 added, 1 unchanged\n      - 1\n      + 4\n    \
             .spec.priority: 0 → 5\n    \
             .spec.policyID: not set → 7\n\
         - EgressPolicy/b: 3 at g; 1 destination\n\
         + EgressPolicy/d: 9 at g; 0 destinations; 2 excluded CIDRs; priority 1\n"
    );
    assert_eq!(text(&new, &new, false), "");
    assert_eq!(changes(&new, &new), []);
}

/// What is gone stands where it stood, and what is new where it stands.
#[test]
fn lists_are_compared_element_by_element_in_their_order() {
    let with = |list: &[&str]| [policy("a", json!({"destinationCIDRs": list}))];
    let lines = |old: &[&str], new: &[&str]| -> Vec<String> {
        let text = text(&with(old), &with(new), false);
        text.lines().skip(2).map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(lines(&["a", "b", "c"], &["a", "x", "c"]), ["- b", "+ x"]);
    assert_eq!(lines(&["a", "b", "c"], &["z", "a", "b"]), ["+ z", "- c"]);
    assert_eq!(lines(&["a"], &["b", "c"]), ["- a", "+ b", "+ c"]);
    assert_eq!(lines(&[], &["b"]), ["+ b"]);
    let reordered = text(&with(&["a", "b"]), &with(&["b", "a"]), false);
    assert!(reordered.contains("the same 2 elements in another order"), "{reordered}");
}

#[test]
fn of_long_lists_the_beginning_is_shown_and_all_with_full() {
    let list = |n: std::ops::Range<u32>| {
        let list: Vec<_> = n.map(|i| format!("10.{i}.0.0/16")).collect();
        [policy("a", json!({"destinationCIDRs": list}))]
    };
    let short = text(&list(0..50), &list(50..150), false);
    let count = |text: &str, mark: &str| text.lines().filter(|l| l.starts_with(mark)).count();
    assert_eq!((count(&short, "      + 10"), count(&short, "      - 10")), (20, 20));
    assert!(short.contains("      + … and 80 more") && short.contains("      - … and 30 more"));
    assert!(short.contains(": 50 removed, 100 added\n"), "{short}");
    let full = text(&list(0..50), &list(50..150), true);
    assert_eq!((count(&full, "      + 10"), count(&full, "      - 10")), (100, 50));
    let many: Vec<_> = (0..100).map(|n| policy(&format!("p{n}"), json!({}))).collect();
    let short = text(&[], &many, false);
    assert_eq!(count(&short, "+ EgressPolicy/"), 20);
    assert!(short.contains("… and 80 more added documents (--full shows all)"), "{short}");
    assert_eq!(count(&text(&[], &many, true), "+ EgressPolicy/"), 100);
}

#[test]
fn gateways_of_a_policy_are_told_apart_by_name() {
    let egress = |name: &str, ip: &str| json!({"gateway": name, "egressIPs": [ip]});
    let old = [policy("a", json!({"egress": [egress("g1", "1"), egress("g2", "2")]}))];
    let new = [policy("a", json!({"egress": [egress("g0", "0"), egress("g1", "3")]}))];
    let text = text(&old, &new, false);
    for line in [
        "    .spec.egress[g1].egressIPs: 1 removed, 1 added",
        "    .spec.egress[g2]: {egressIPs: [2], gateway: g2} → not set",
        "    .spec.egress[g0]: not set → {egressIPs: [0], gateway: g0}",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

/// Only between equal policies that can meet at a pod and a prefix.
#[test]
fn order_is_told_where_it_decides() {
    let of = |name: &str, priority: i32, app: &str, cidrs: &[&str]| {
        let selectors = json!([{"podSelector": {"matchLabels": {"app": app}}}]);
        let spec = json!({"priority": priority, "destinationCIDRs": cidrs, "selectors": selectors});
        policy(name, spec)
    };
    let all = ["0.0.0.0/0"];
    let cases = [
        (of("a", 0, "x", &all), of("b", 0, "x", &all), true),
        (of("a", 0, "x", &["10.0.0.0/8", "0.0.0.0/0"]), of("b", 0, "x", &all), true),
        // Priority decides.
        (of("a", 1, "x", &all), of("b", 0, "x", &all), false),
        // The longer prefix decides.
        (of("a", 0, "x", &["10.0.0.0/8"]), of("b", 0, "x", &all), false),
        // No pod is both.
        (of("a", 0, "x", &all), of("b", 0, "y", &all), false),
    ];
    for (a, b, matters) in cases {
        let (old, new) = ([a.clone(), b.clone()], [b, a]);
        let found = order_changes(&old, &new);
        let expected = OrderChange {
            wins: "b".to_owned(),
            over: "a".to_owned(),
            destination: "0.0.0.0/0".to_owned(),
        };
        let expected = if matters { vec![expected] } else { vec![] };
        assert_eq!(found, (expected, true), "{old:?}");
        assert_eq!(order_changes(&old, &old), (vec![], true));
    }
    let (a, b) = (of("a", 0, "x", &all), of("b", 0, "x", &all));
    assert_eq!(
        text(&[a.clone(), b.clone()], &[b.clone(), a.clone()], false),
        "! EgressPolicy/b wins 0.0.0.0/0 over EgressPolicy/a, for pods that both select: it stands \
         first\n"
    );
    // One that comes in between moves nobody.
    assert_eq!(
        order_changes(&[a.clone(), b.clone()], &[a, of("c", 0, "x", &all), b]),
        (vec![], true)
    );
}
