//! What is valid and may not be meant: one warning each, in one place, and none where all is well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;

/// The warnings of these documents, as `document path: reason`.
fn warnings(documents: &[&str]) -> Vec<String> {
    let (_, warnings) = load_good(documents);
    warnings.iter().map(|w| format!("{}{}: {}", w.document, w.path, w.reason)).collect()
}

#[test]
fn good_documents_have_none() {
    let payments = policy_with("payments", SPEC);
    let narrower = policy_with("narrower", &spec_with("destinationCIDRs: [198.51.100.0/24]"));
    let urgent = policy_with(
        "urgent",
        &format!(
            "{}priority: 5",
            spec_with("destinationCIDRs: [0.0.0.0/0]\nexcludedCIDRs: [192.0.2.0/24]")
        ),
    );
    assert_eq!(warnings(&[GATEWAY, NODE, ENDPOINT, &payments]), [""; 0]);
    assert_eq!(warnings(&[GATEWAY, NODE, ENDPOINT, &payments, &narrower]), [""; 0]);
    assert_eq!(warnings(&[GATEWAY, NODE, ENDPOINT, &payments, &urgent]), [""; 0]);
}

#[test]
fn one_policy_alone() {
    let cases = [
        (
            "destinationCIDRs: [198.51.100.0/24]\nexcludedCIDRs: [10.0.0.0/8]",
            "excludedCIDRs[0]: 10.0.0.0/8 is outside of all destinationCIDRs",
        ),
        (
            "destinationCIDRs: [0.0.0.0/0, 198.51.100.0/24]\nexcludedCIDRs: [198.51.0.0/16]",
            "destinationCIDRs[1]: 198.51.100.0/24 is taken out as a whole by excludedCIDRs 198.51.0.0/16",
        ),
        (
            "destinationCIDRs: [0.0.0.0/0, \"::/0\"]",
            "egress[0].egressIPs: destinationCIDRs have IPv6, and there is no IPv6 egress IP on gw-a: such packets are dropped there",
        ),
        (
            "destinationCIDRs: [\"::/0\"]",
            "egress[0].egressIPs: destinationCIDRs have IPv6, and there is no IPv6 egress IP on gw-a: such packets are dropped there",
        ),
    ];
    for (lines, expected) in cases {
        let policy = policy_with("p", &spec_with(lines));
        assert_eq!(warnings(&[GATEWAY, &policy]), [format!("EgressPolicy/p.spec.{expected}")]);
    }
}

#[test]
fn a_policy_that_only_drains_needs_no_address_family() {
    let policy =
        policy_with("p", &spec_with("egress: [{gateway: gw-a, drainingIPs: [203.0.113.16]}]"));
    assert_eq!(warnings(&[GATEWAY, &policy]), [""; 0]);
}

#[test]
fn equal_destinations_of_equal_priority_are_told_once() {
    let first = policy_with("first", &spec_with("destinationCIDRs: [0.0.0.0/0, 192.0.2.0/24]"));
    let second = policy_with(
        "second",
        &spec_with("destinationCIDRs: [198.51.100.0/24, 0.0.0.0/0, 192.0.2.0/24]"),
    );
    let expected = "EgressPolicy/second.spec.destinationCIDRs[1]: 0.0.0.0/0 is in EgressPolicy/first as well, \
                    for the same pods and with the same priority: the earlier document wins";
    // With and without pods that both select.
    assert_eq!(warnings(&[GATEWAY, NODE, ENDPOINT, &first, &second]), [expected]);
    assert_eq!(warnings(&[GATEWAY, &first, &second]), [expected]);
}

#[test]
fn a_policy_without_effect_is_told_only_when_it_has_none_anywhere() {
    let all = policy_with("all", &format!("{SPEC}priority: 1"));
    let same = policy_with("same", SPEC);
    let payments = policy_with(
        "payments",
        &spec_with("selectors: [{podSelector: {matchLabels: {app: payments}}}]"),
    );
    let two = policy_with(
        "two",
        &spec_with("selectors: [{podSelector: {}}, {podSelector: {matchLabels: {app: x}}}]"),
    );
    let no_effect = |name: &str, by: &str| {
        format!("EgressPolicy/{name}.spec: has no effect: every destination is won by {by}")
    };
    assert_eq!(warnings(&[GATEWAY, &same, &all]), [no_effect("same", "all")]);
    // Which pods `payments` selects is known here, and not there.
    assert_eq!(
        warnings(&[GATEWAY, NODE, ENDPOINT, &payments, &all]),
        [no_effect("payments", "all")]
    );
    assert_eq!(warnings(&[GATEWAY, &payments, &all]), [""; 0]);
    assert_eq!(warnings(&[GATEWAY, &two, &all]), [""; 0]);
}

#[test]
fn nodes_and_endpoints() {
    let node2 = NODE
        .replace("node1", "node2")
        .replace("192.0.2.1,", "192.0.2.2,")
        .replace("1.0/24", "1.128/25");
    let expected = "EgressNode/node2.spec.podCIDRs[0]: 10.244.1.128/25 overlaps 10.244.1.0/24 of EgressNode/node1";
    assert_eq!(warnings(&[NODE, &node2]), [expected]);

    let pod = ENDPOINT.replace("10.244.1.10", "10.244.1.10, 10.244.9.9");
    let expected = "EgressEndpoint/shop/pod-a.spec.ips[1]: 10.244.9.9 is not in a range of EgressNode/node1: gateways drop what it sends";
    assert_eq!(warnings(&[NODE, &pod]), [expected]);
}
