//! Cilium's policies as ours: what becomes of each field, and that the same packets are selected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::random::*;
use common::*;
use policy::{Action, PolicySet, compile_node};
use proptest::collection::vec;
use proptest::prelude::*;

/// Three gateways; what node selectors see of them.
const GATEWAYS: [(&str, &str); 3] = [
    ("gw-a", "{rack: r1}"),
    ("gw-b", "{rack: r2, kubernetes.io/hostname: node-b}"),
    ("gw-c", "{rack: r2, spare: \"\"}"),
];

fn gateways() -> Vec<String> {
    let gateway = |(index, (name, labels)): (usize, (&str, &str))| {
        GATEWAY
            .replace("{name: gw-a}", &format!("{{name: {name}, labels: {labels}}}"))
            .replace("192.0.2.10", &format!("192.0.2.1{index}"))
    };
    GATEWAYS.into_iter().enumerate().map(gateway).collect()
}

/// The set of this document beside the gateways, which come after it.
fn beside_gateways(document: &str) -> PolicySet {
    let gateways = gateways();
    let texts: Vec<&str> = [document].into_iter().chain(gateways.iter().map(|g| &**g)).collect();
    load_good(&texts).0
}

#[test]
fn each_field_becomes_ours() {
    // (lines of Cilium's spec, the same lines of ours)
    let cases = [
        ("", "egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]"),
        (
            "egressGateway: {nodeSelector: {matchLabels: {rack: r2}}, egressIP: 203.0.113.17}",
            "egress: [{gateway: gw-b, egressIPs: [203.0.113.17]}]",
        ),
        (
            "egressGateway: {nodeSelector: {matchLabels: {kubernetes.io/hostname: gw-c}}, egressIP: 203.0.113.16}",
            "egress: [{gateway: gw-c, egressIPs: [203.0.113.16]}]",
        ),
        (
            "egressGateway: {nodeSelector: {matchLabels: {kubernetes.io/hostname: node-b}}, egressIP: 203.0.113.16}",
            "egress: [{gateway: gw-b, egressIPs: [203.0.113.16]}]",
        ),
        (
            "egressGateway: {nodeSelector: {matchExpressions: [{key: spare, operator: Exists}]}, egressIP: \"2001:db8:113::10\"}",
            "egress: [{gateway: gw-c, egressIPs: [\"2001:db8:113::10\"]}]",
        ),
        (
            "egressGateway: {nodeSelector: {matchExpressions: [{key: rack, operator: NotIn, values: [r1]}, {key: kubernetes.io/hostname, operator: In, values: [gw-c, gw-b]}]}, egressIP: 203.0.113.16}",
            "egress: [{gateway: gw-c, egressIPs: [203.0.113.16]}]",
        ),
        (
            "egressGateway:\negressGateways: [{nodeSelector: {matchLabels: {rack: r2}}, egressIP: 203.0.113.17}]",
            "egress: [{gateway: gw-b, egressIPs: [203.0.113.17]}]",
        ),
        // The single one comes first; two of one gateway are one entry with two addresses.
        (
            "egressGateways: [{nodeSelector: {matchLabels: {rack: r2}}, egressIP: 203.0.113.17}, {nodeSelector: {matchLabels: {rack: r1}}, egressIP: 203.0.113.18}]",
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16, 203.0.113.18]}, {gateway: gw-b, egressIPs: [203.0.113.17]}]",
        ),
        (
            "selectors: [{podSelector: {matchLabels: {io.kubernetes.pod.namespace: shop}}}, {namespaceSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}}]",
            "selectors: [{podSelector: {matchLabels: {io.kubernetes.pod.namespace: shop}}}, {namespaceSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}}]\negress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]",
        ),
        (
            "destinationCIDRs: [192.0.2.0/24, 0.0.0.0/0]\nexcludedCIDRs: [10.0.0.0/8]",
            "destinationCIDRs: [192.0.2.0/24, 0.0.0.0/0]\nexcludedCIDRs: [10.0.0.0/8]\negress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]",
        ),
        // Cilium still redirects a destination inside of an exclusion.
        (
            "destinationCIDRs: [0.0.0.0/0, 10.64.0.0/10]\nexcludedCIDRs: [10.0.0.0/8, 10.65.0.0/16]",
            "destinationCIDRs: [0.0.0.0/0, 10.64.0.0/10]\nexcludedCIDRs: [10.0.0.0/10, 10.128.0.0/9, 10.65.0.0/16]\negress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]",
        ),
    ];
    for (theirs, ours) in cases {
        let converted = beside_gateways(&cilium_with("c", &cilium_spec_with(theirs)));
        let expected = beside_gateways(&policy_with("c", &spec_with(ours)));
        assert_eq!(converted, expected, "{theirs}");
        assert_eq!(policy::parse(&converted.to_yaml(), policy::Format::Yaml).unwrap().0, converted);
    }
}

#[test]
fn what_kubectl_prints_is_accepted() {
    let printed = cilium_with("c", CILIUM_SPEC).replace(
        "{name: c}",
        "{name: c, uid: 1-2, generation: 3, labels: {team: red}, annotations: {a/b: c}}\nstatus: {}",
    );
    let set = beside_gateways(&printed);
    assert_eq!(set.policies[0].metadata.labels["team"], "red");
    assert_eq!(set.policies[0].policy_id(), policy::PolicyId::from_name("c"));
}

#[test]
fn the_order_of_documents_is_kept_across_kinds() {
    let [a, c] = ["a", "c"].map(|name| policy_with(name, SPEC));
    let b = cilium_with("b", CILIUM_SPEC);
    let (set, _) = load_good(&[&c, &b, GATEWAY, &a]);
    let names: Vec<&str> = set.policies.iter().map(|policy| policy.name()).collect();
    assert_eq!(names, ["c", "b", "a"]);
}

#[test]
fn warnings_are_told_of_what_was_written() {
    let lines = "destinationCIDRs: [0.0.0.0/0, \"::/0\"]\nexcludedCIDRs: [10.0.0.0/8, fd00::/8]\n\
                 egressGateway:\n\
                 egressGateways: [{nodeSelector: {}, egressIP: 203.0.113.16}]";
    let policy = cilium_with("c", &cilium_spec_with(lines).replace("fd00::/8", "\"fd00::/8\""));
    let (_, warnings) = load_good(&[GATEWAY, &policy]);
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    let place = (warning.document.as_str(), warning.path.as_str());
    assert_eq!(place, ("CiliumEgressGatewayPolicy/c", ".spec.egressGateways[0].egressIP"));
    assert!(warning.reason.contains("gateway gw-a has no IPv6 egress IP"), "{warning}");
}

#[test]
fn exclusions_that_would_become_too_many_are_refused() {
    let holes: Vec<String> =
        (0u32..1000).map(|i| format!("\"2001:db8:{:x}::/128\"", i * 3)).collect();
    let lines = format!("destinationCIDRs: [{}]\nexcludedCIDRs: [\"::/0\"]", holes.join(", "));
    let texts: Vec<String> =
        (0..3).map(|n| cilium_with(&format!("c{n}"), &cilium_spec_with(&lines))).collect();
    let mut documents: Vec<&str> = texts.iter().map(String::as_str).collect();
    documents.push(GATEWAY);
    // Two would take all that there is, a third one less.
    let errors = errors(&documents);
    let [first, .., last] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_eq!(last.document, "CiliumEgressGatewayPolicy/c2");
    assert_eq!(first.path, ".spec.excludedCIDRs");
    assert!(first.reason.contains("more than 100000 CIDRs"), "{first}");
}

/// Cilium's rule for one policy: the longest match among destinations and exclusions decides, and an
/// exclusion wins against the same network.
fn naive_redirects(rule: &Rule, pod: &Pod, destination: IpAddr) -> bool {
    let selected = rule.selectors.iter().any(|selector| naive_selects(selector, pod));
    let longest = |nets: &[ipnet::IpNet]| {
        let matching = nets.iter().filter(|net| net.contains(&destination));
        matching.map(|net| i32::from(net.prefix_len())).max().unwrap_or(-1)
    };
    selected && longest(&rule.destinations) > longest(&rule.excluded)
}

fn cilium_text(rule: &Rule) -> String {
    let selectors: Vec<String> = rule.selectors.iter().map(selector_text).collect();
    let spec = format!(
        "selectors: [{}]\ndestinationCIDRs: {}\nexcludedCIDRs: {}\n\
         egressGateway: {{nodeSelector: {{}}, egressIP: 203.0.113.16}}",
        selectors.join(", "),
        list(&rule.destinations),
        list(&rule.excluded),
    );
    cilium_with("c", &spec)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_same_packets_are_selected(
        rule in rule(),
        pods in vec(pod(), 1..5),
        random in any::<u32>(),
    ) {
        let texts: Vec<String> = [cilium_text(&rule)]
            .into_iter()
            .chain(pods.iter().enumerate().map(|(index, pod)| pod_text(index, pod)))
            .collect();
        let documents: Vec<&str> =
            [GATEWAY, NODE].into_iter().chain(texts.iter().map(String::as_str)).collect();
        let (set, _) = load_good(&documents);
        let again = policy::parse(&set.to_yaml(), policy::Format::Yaml).unwrap().0;
        prop_assert_eq!(&again, &set);
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(&policy::parse(&json, policy::Format::Json).unwrap().0, &set);

        let compiled = compile_node(&set, "node1");
        for (index, pod) in pods.iter().enumerate() {
            let source = IpAddr::from([10, 244, 1, index as u8 + 1]);
            let map = compiled.endpoints.get(&source).map(|set| &compiled.sets[set]);
            for destination in destinations(std::slice::from_ref(&rule), random) {
                let action = map.and_then(|map| map.lookup(destination));
                let redirects = matches!(action, Some(Action::Redirect(_)));
                let expected = naive_redirects(&rule, pod, destination);
                prop_assert_eq!(redirects, expected, "from {} to {}", source, destination);
            }
        }
    }
}
