//! Every mistake in a document: what is written, and what is said of it. One long table on purpose: a
//! reader looks here for a mistake by its words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use policy::{Format, LoadError, PolicyId};

/// One mistake: the documents, and the (document, path, reason, hint) of the only error. The
/// texts are parts of what is said.
fn assert_error(documents: &[&str], expected: (&str, &str, &str, &str)) {
    let errors = errors(documents);
    let (document, path, reason, hint) = expected;
    let [error] = errors.as_slice() else { panic!("{expected:?}: got {errors:#?}") };
    assert_eq!((error.document.as_str(), error.path.as_str()), (document, path), "{error}");
    assert!(error.reason.contains(reason), "{reason:?} is not in the reason of {error}");
    assert!(error.hint.contains(hint), "{hint:?} is not in the hint of {error}");
}

#[test]
fn mistakes_in_a_policy() {
    // (a line of the spec, path below .spec, reason, hint)
    let cases = [
        ("selectors: []", "selectors", "at least one item", ""),
        ("selectors: {}", "selectors", "expected a list, found a map", ""),
        (
            "selectors: [{}]",
            "selectors[0]",
            "needs a podSelector or a namespaceSelector",
            "podSelector: {}",
        ),
        (
            "selectors: [{nodeSelector: {}, podSelector: {}}]",
            "selectors[0].nodeSelector",
            "unknown field",
            "podSelector",
        ),
        (
            "selectors: [{podSelector: {matchLabels: {app: 1}}}]",
            "selectors[0].podSelector.matchLabels.app",
            "expected text, found the number 1",
            "quotes",
        ),
        (
            "selectors: [{podSelector: {matchLabels: {a.b/c: x y}}}]",
            "selectors[0].podSelector.matchLabels[\"a.b/c\"]",
            "not a label value",
            "at most 63",
        ),
        (
            "selectors: [{podSelector: {matchLabels: {-app: x}}}]",
            "selectors[0].podSelector.matchLabels.-app",
            "not a label key",
            "example.com/name",
        ),
        (
            "selectors: [{podSelector: {matchExpressions: [{key: app, operator: Is}]}}]",
            "selectors[0].podSelector.matchExpressions[0].operator",
            "\"Is\" is not known here",
            "In, NotIn, Exists, DoesNotExist",
        ),
        (
            "selectors: [{podSelector: {matchExpressions: [{key: app, operator: In}]}}]",
            "selectors[0].podSelector.matchExpressions[0].values",
            "need at least one value",
            "",
        ),
        (
            "selectors: [{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}}]",
            "selectors[0].podSelector.matchExpressions[0].values",
            "take no values",
            "remove them",
        ),
        (
            "selectors: [{podSelector: {matchExpressions: [{operator: Exists}]}}]",
            "selectors[0].podSelector.matchExpressions[0].key",
            "is required",
            "",
        ),
        ("destinationCIDRs: []", "destinationCIDRs", "at least one item", ""),
        ("destinationCIDRs:", "destinationCIDRs", "is required", ""),
        (
            "destinationCIDRs: [198.51.100.10/24]",
            "destinationCIDRs[0]",
            "bits set after its prefix",
            "write 198.51.100.0/24 or 198.51.100.10/32",
        ),
        (
            "destinationCIDRs: [\"2001:db8::1/32\"]",
            "destinationCIDRs[0]",
            "bits set after its prefix",
            "write 2001:db8::/32 or 2001:db8::1/128",
        ),
        (
            "destinationCIDRs: [198.51.100.10]",
            "destinationCIDRs[0]",
            "no prefix length",
            "198.51.100.10/32",
        ),
        ("destinationCIDRs: [198.51.100.0/33]", "destinationCIDRs[0]", "not a CIDR", ""),
        ("destinationCIDRs: [example.com]", "destinationCIDRs[0]", "not a CIDR", "192.0.2.0/24"),
        (
            "destinationCIDRs: [\"::ffff:10.0.0.0/104\"]",
            "destinationCIDRs[0]",
            "IPv4-mapped",
            "10.0.0.0",
        ),
        (
            "destinationCIDRs: [0.0.0.0/0, 0.0.0.0/0]",
            "destinationCIDRs[1]",
            "already in .spec.destinationCIDRs[0]",
            "remove",
        ),
        (
            "excludedCIDRs: [10.0.0.1/8]",
            "excludedCIDRs[0]",
            "bits set after its prefix",
            "10.0.0.0/8",
        ),
        ("excludedCIDRs: 10.0.0.0/8", "excludedCIDRs", "expected a list", ""),
        (
            "priority: high",
            "priority",
            "expected a whole number from -2147483648 to 2147483647",
            "",
        ),
        ("priority: 2147483648", "priority", "found the number 2147483648", ""),
        ("priority: 0.5", "priority", "found the number 0.5", ""),
        ("failureMode: closed", "failureMode", "\"closed\" is not known here", "Closed, Open"),
        ("policyID: 0", "policyID", "expected a whole number from 1 to 16777215", ""),
        ("policyID: 16777216", "policyID", "expected a whole number from 1 to 16777215", ""),
        ("policyID: 99999999999999999999", "policyID", "expected a whole number", ""),
        ("policyID: \"7\"", "policyID", "found the text \"7\"", ""),
        ("egress: []", "egress", "at least one item", ""),
        ("egress: [{egressIPs: [203.0.113.16]}]", "egress[0].gateway", "is required", ""),
        (
            "egress: [{gateway: gw-b, egressIPs: [203.0.113.16]}]",
            "egress[0].gateway",
            "no EgressGateway is named \"gw-b\"",
            "known: gw-a",
        ),
        ("egress: [{gateway: gw-a}]", "egress[0].egressIPs", "at least one address", "drainingIPs"),
        (
            "egress: [{gateway: gw-a, egressIPs: []}]",
            "egress[0].egressIPs",
            "at least one address",
            "drainingIPs",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.256]}]",
            "egress[0].egressIPs[0]",
            "not an IP address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16/32]}]",
            "egress[0].egressIPs[0]",
            "is a CIDR",
            "write 203.0.113.16",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16, 203.0.113.16]}]",
            "egress[0].egressIPs[1]",
            "already in .spec.egress[0].egressIPs[0]",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [0.0.0.0]}]",
            "egress[0].egressIPs[0]",
            "the unspecified address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [\"::\"]}]",
            "egress[0].egressIPs[0]",
            "the unspecified address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [0.1.2.3]}]",
            "egress[0].egressIPs[0]",
            "0.0.0.0/8",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [240.0.0.1]}]",
            "egress[0].egressIPs[0]",
            "240.0.0.0/4",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [224.0.0.1]}]",
            "egress[0].egressIPs[0]",
            "a multicast address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [\"ff02::1\"]}]",
            "egress[0].egressIPs[0]",
            "a multicast address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [127.0.0.1]}]",
            "egress[0].egressIPs[0]",
            "a loopback address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [\"::1\"]}]",
            "egress[0].egressIPs[0]",
            "a loopback address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [169.254.1.1]}]",
            "egress[0].egressIPs[0]",
            "a link-local address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [\"fe80::1\"]}]",
            "egress[0].egressIPs[0]",
            "a link-local address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [255.255.255.255]}]",
            "egress[0].egressIPs[0]",
            "the broadcast address",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [\"::ffff:203.0.113.16\"]}]",
            "egress[0].egressIPs[0]",
            "IPv4-mapped",
            "write 203.0.113.16",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16], drainingIPs: [203.0.113.16]}]",
            "egress[0].drainingIPs[0]",
            "in egressIPs as well",
            "remove one",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [192.0.2.10]}]",
            "egress[0].egressIPs[0]",
            "tunnel address of EgressGateway/gw-a",
            "",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}, {gateway: gw-a, egressIPs: [203.0.113.17]}]",
            "egress[1]",
            "is for gateway gw-a as well",
            "one entry",
        ),
        (
            "egress: [{gateway: gw-a, egressIPs: [203.0.113.16], weight: 1}]",
            "egress[0].weight",
            "unknown field",
            "known here: gateway",
        ),
        ("rateLimit: {}", "rateLimit", "reserved", "remove"),
        ("destinationSets: [github]", "destinationSets", "reserved", "remove"),
        ("natMode: EndpointIndependent", "natMode", "reserved", "remove"),
        ("excludedCidrs: []", "excludedCidrs", "unknown field", "did you mean excludedCIDRs?"),
        ("comment: x", "comment", "unknown field", "known here: selectors"),
    ];
    for (line, path, reason, hint) in cases {
        let policy = policy_with("p", &spec_with(line));
        let path = format!(".spec.{path}");
        assert_error(&[GATEWAY, &policy], ("EgressPolicy/p", &path, reason, hint));
    }
}

#[test]
fn mistakes_in_what_documents_share() {
    let cases = [
        (
            GATEWAY.replace("v1alpha1", "v1"),
            "EgressGateway/gw-a",
            ".apiVersion",
            "not a version",
            "egress-gateway.io/v1alpha1",
        ),
        (
            GATEWAY.replace("apiVersion: egress-gateway.io/v1alpha1\n", ""),
            "EgressGateway/gw-a",
            ".apiVersion",
            "is required",
            "",
        ),
        (
            GATEWAY.replace("EgressGateway", "Service"),
            "document 1",
            ".kind",
            "\"Service\" is not a kind",
            "EgressPolicy, EgressGateway",
        ),
        (GATEWAY.replace("kind: EgressGateway\n", ""), "document 1", ".kind", "is required", ""),
        (
            GATEWAY.replace("spec: {tunnelAddress: 192.0.2.10}\n", ""),
            "EgressGateway/gw-a",
            ".spec",
            "is required",
            "",
        ),
        (
            GATEWAY.replace("spec:", "specs: {}\nspec:"),
            "EgressGateway/gw-a",
            ".specs",
            "unknown field",
            "",
        ),
        (GATEWAY.replace("{name: gw-a}", "{}"), "document 1", ".metadata.name", "is required", ""),
        (
            GATEWAY.replace("metadata: {name: gw-a}\n", ""),
            "document 1",
            ".metadata",
            "is required",
            "",
        ),
        (
            GATEWAY.replace("gw-a", "GW_A"),
            "EgressGateway/GW_A",
            ".metadata.name",
            "DNS-1123",
            "lower-case",
        ),
        (
            GATEWAY.replace("gw-a", "12"),
            "document 1",
            ".metadata.name",
            "expected text, found the number 12",
            "quotes",
        ),
        (
            GATEWAY.replace("gw-a", &"a".repeat(254)),
            "document 1",
            ".metadata.name",
            "DNS-1123",
            "253",
        ),
        (
            GATEWAY.replace("gw-a", "gw-a, namespace: x"),
            "EgressGateway/gw-a",
            ".metadata.namespace",
            "cluster-scoped",
            "remove",
        ),
        (
            GATEWAY.replace("gw-a", "gw-a, label: {}"),
            "EgressGateway/gw-a",
            ".metadata.label",
            "unknown field",
            "labels",
        ),
        (
            GATEWAY.replace("gw-a", "gw-a, annotations: {a/b/c: x}"),
            "EgressGateway/gw-a",
            ".metadata.annotations[\"a/b/c\"]",
            "not a label key",
            "",
        ),
        (
            ENDPOINT.replace("node: node1", "").replace("shop", "a.b"),
            "EgressEndpoint/a.b/pod-a",
            ".metadata.namespace",
            "DNS-1123 label",
            "",
        ),
        ("[1]\n".to_owned(), "document 1", "", "expected a map, found the number 1", ""),
        ("just text\n".to_owned(), "document 1", "", "expected a map", ""),
    ];
    for (text, document, path, reason, hint) in &cases {
        assert_error(&[text], (document, path, reason, hint));
    }
}

#[test]
fn mistakes_in_gateways_nodes_and_endpoints() {
    let gateway = |spec: &str| GATEWAY.replace("tunnelAddress: 192.0.2.10", spec);
    let node =
        |spec: &str| NODE.replace("tunnelAddress: 192.0.2.1, podCIDRs: [10.244.1.0/24]", spec);
    let endpoint = |spec: &str| ENDPOINT.replace("ips: [10.244.1.10], node: node1", spec);
    let cases = [
        (gateway(""), "EgressGateway/gw-a", "tunnelAddress", "is required", ""),
        (
            gateway("tunnelAddress: 192.0.2.10/24"),
            "EgressGateway/gw-a",
            "tunnelAddress",
            "is a CIDR",
            "192.0.2.10",
        ),
        (
            gateway("tunnelAddress: 127.0.0.1"),
            "EgressGateway/gw-a",
            "tunnelAddress",
            "loopback",
            "",
        ),
        (node("tunnelAddress: 192.0.2.1"), "EgressNode/node1", "podCIDRs", "at least one CIDR", ""),
        (
            node("tunnelAddress: 192.0.2.1, podCIDRs: []"),
            "EgressNode/node1",
            "podCIDRs",
            "at least one CIDR",
            "",
        ),
        (
            node("tunnelAddress: 192.0.2.1, podCIDRs: [10.244.1.1/24]"),
            "EgressNode/node1",
            "podCIDRs[0]",
            "bits set",
            "10.244.1.0/24",
        ),
        (
            node("tunnelAddress: 192.0.2.1, sourceCheck: ClusterCIDR"),
            "EgressNode/node1",
            "clusterCIDRs",
            "at least one CIDR",
            "",
        ),
        (
            node("tunnelAddress: 192.0.2.1, podCIDRs: [10.0.0.0/8], sourceCheck: None"),
            "EgressNode/node1",
            "sourceCheck",
            "not known here",
            "NodeCIDR, ClusterCIDR",
        ),
        (endpoint("ips: []"), "EgressEndpoint/shop/pod-a", "ips", "at least one item", ""),
        (
            endpoint("ips: [10.244.1.10, 10.244.1.10]"),
            "EgressEndpoint/shop/pod-a",
            "ips[1]",
            "already in",
            "",
        ),
        (
            endpoint("ips: [10.244.1.10], node: node9"),
            "EgressEndpoint/shop/pod-a",
            "node",
            "no EgressNode is named \"node9\"",
            "add a document",
        ),
    ];
    for (text, document, path, reason, hint) in &cases {
        assert_error(&[text], (document, &format!(".spec.{path}"), reason, hint));
    }
}

#[test]
fn disagreements_between_documents() {
    let policy = |name: &str, line: &str| policy_with(name, &spec_with(line));
    let gateway_b = GATEWAY.replace("gw-a", "gw-b").replace("192.0.2.10", "192.0.2.11");
    let node2 = NODE.replace("node1", "node2").replace("10.244.1", "10.244.2");
    let pod_b = ENDPOINT.replace("pod-a", "pod-b");
    let on_b = "egress: [{gateway: gw-b, egressIPs: [203.0.113.16]}]";
    let drained_on_b =
        "egress: [{gateway: gw-b, egressIPs: [203.0.113.17], drainingIPs: [203.0.113.16]}]";

    let two_nodes = [NODE, &node2];
    let reason = "192.0.2.1 is also that of EgressNode/node1";
    assert_error(&two_nodes, ("EgressNode/node2", ".spec.tunnelAddress", reason, "two addresses"));

    let gateway_on_node = GATEWAY.replace("192.0.2.10", "192.0.2.1");
    let reason = "192.0.2.1 is also that of EgressNode/node1";
    let expected = ("EgressGateway/gw-a", ".spec.tunnelAddress", reason, "");
    assert_error(&[NODE, &gateway_on_node], expected);

    let reason =
        "on gateway gw-b here and on gateway gw-a in EgressPolicy/p.spec.egress[0].egressIPs[0]";
    let documents = [GATEWAY, &gateway_b, &policy("p", ""), &policy("q", on_b)];
    let expected = ("EgressPolicy/q", ".spec.egress[0].egressIPs[0]", reason, "one gateway");
    assert_error(&documents, expected);

    let documents = [GATEWAY, &gateway_b, &policy("p", ""), &policy("q", drained_on_b)];
    let expected = ("EgressPolicy/q", ".spec.egress[0].drainingIPs[0]", "on gateway gw-b here", "");
    assert_error(&documents, expected);

    let reason = "10.244.1.10 is also that of EgressEndpoint/shop/pod-a";
    let expected = ("EgressEndpoint/shop/pod-b", ".spec.ips[0]", reason, "one pod");
    assert_error(&[NODE, ENDPOINT, &pod_b], expected);

    let reason = "documents 1 and 2 have this name";
    let expected = ("EgressGateway/gw-a", ".metadata.name", reason, "rename");
    assert_error(&[GATEWAY, GATEWAY], expected);

    let documents = [GATEWAY, &policy("p", "policyID: 7"), &policy("q", "policyID: 7")];
    let reason = "policy id 7 is also that of EgressPolicy/p";
    assert_error(&documents, ("EgressPolicy/q", ".spec.policyID", reason, "as to 1"));
}

#[test]
fn two_names_with_one_hash_collide() {
    let mut names = std::collections::HashMap::new();
    let (first, second) = (0..)
        .find_map(|number| {
            let name = format!("policy-{number}");
            let other = names.insert(PolicyId::from_name(&name), name.clone());
            other.map(|other| (other, name))
        })
        .unwrap();
    let documents = [policy_with(&first, SPEC), policy_with(&second, SPEC)];
    let id = PolicyId::from_name(&first);
    let expected = (
        &*format!("EgressPolicy/{second}"),
        ".spec.policyID",
        &*format!("policy id {id} is also that of EgressPolicy/{first}"),
        "set spec.policyID of one of them",
    );
    assert_error(&[GATEWAY, &documents[0], &documents[1]], expected);
}

#[test]
fn a_name_may_be_used_once_per_kind_and_namespace() {
    let node = NODE.replace("node1", "gw-a");
    let elsewhere = ENDPOINT.replace("shop", "bank").replace("1.10", "1.11");
    load_good(&[GATEWAY, NODE, &node.replace("192.0.2.1", "192.0.2.2"), ENDPOINT, &elsewhere]);
}

#[test]
fn every_error_of_every_document_is_found_at_once() {
    let policy = policy_with(
        "p",
        "selectors: [{}]\n\
         destinationCIDRs: [10.0.0.1/8, nonsense]\n\
         colour: red\n\
         natMode: x\n\
         priority: 1e3\n\
         egress: [{gateway: gw-z, egressIPs: [127.0.0.1, 203.0.113.16, 203.0.113.16]}]",
    );
    let node = NODE.replace("192.0.2.1,", "192.0.2.10, extra: 1,");
    let errors = errors(&[GATEWAY, &policy, &node, "kind: Pod\n", GATEWAY]);
    let places: Vec<String> =
        errors.iter().map(|error| format!("{}{}", error.document, error.path)).collect();
    let expected = [
        "EgressPolicy/p.spec.colour",
        "EgressPolicy/p.spec.natMode",
        "EgressPolicy/p.spec.selectors[0]",
        "EgressPolicy/p.spec.destinationCIDRs[0]",
        "EgressPolicy/p.spec.destinationCIDRs[1]",
        "EgressPolicy/p.spec.priority",
        "EgressPolicy/p.spec.egress[0].egressIPs[0]",
        "EgressPolicy/p.spec.egress[0].egressIPs[2]",
        "EgressNode/node1.spec.extra",
        "document 4.apiVersion",
        "document 4.kind",
        "EgressGateway/gw-a.metadata.name",
        "EgressPolicy/p.spec.egress[0].gateway",
        "EgressNode/node1.spec.tunnelAddress",
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_reference_to_a_document_with_errors_is_not_called_unknown() {
    let gateway = GATEWAY.replace("192.0.2.10", "nowhere");
    let policy = policy_with("p", SPEC);
    let expected = ("EgressGateway/gw-a", ".spec.tunnelAddress", "not an IP address", "");
    assert_error(&[&gateway, &policy], expected);
}

#[test]
fn the_number_of_errors_is_bounded() {
    let text = format!("[{}]", vec!["null"; 5000].join(","));
    let Err(LoadError::Invalid(errors)) = policy::parse(&text, Format::Json) else { panic!() };
    assert_eq!(errors.len(), 1001);
    assert_eq!(errors[1000].reason, "4000 more errors are not listed");
}
