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
            "egress[0].egressIPs: the policy selects IPv6 destinations, but gateway gw-a has no IPv6 egress IP in it: these packets are dropped",
        ),
        (
            "destinationCIDRs: [\"::/0\"]",
            "egress[0].egressIPs: the policy selects IPv6 destinations, but gateway gw-a has no IPv6 egress IP in it: these packets are dropped",
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

const GATEWAY_V6: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-b}
spec: {tunnelAddress: \"2001:db8:2::10\"}
";

#[test]
fn dual_stack_documents_have_none() {
    let node = NODE.replace("[10.244.1.0/24]", "[10.244.1.0/24, \"fd00:244:1::/64\"]");
    let pod = ENDPOINT.replace("[10.244.1.10]", "[10.244.1.10, \"fd00:244:1::10\"]");
    let both = "destinationCIDRs: [0.0.0.0/0, \"::/0\"]\n\
                excludedCIDRs: [10.0.0.0/8, \"fd00::/8\"]\n\
                egress: [{gateway: gw-a, egressIPs: [203.0.113.16, \"2001:db8:113::10\"]}]";
    let policy = policy_with("p", &spec_with(both));
    assert_eq!(warnings(&[GATEWAY, &node, &pod, &policy]), [""; 0]);
    // What covers all of one family covers nothing of the other: neither is shadowed or doubled.
    let [v4, v6] = [("v4", "0.0.0.0/0", "203.0.113.16"), ("v6", "::/0", "2001:db8:113::10")].map(
        |(name, destination, ip)| {
            let lines = format!(
                "destinationCIDRs: [\"{destination}\"]\n\
                 egress: [{{gateway: gw-a, egressIPs: [\"{ip}\"]}}]"
            );
            policy_with(name, &spec_with(&lines))
        },
    );
    assert_eq!(warnings(&[GATEWAY, &node, &pod, &v4, &v6]), [""; 0]);
}

#[test]
fn each_gateway_of_a_policy_needs_an_egress_ip_of_each_family() {
    let missing = |index: usize, family: &str, gateway: &str| {
        format!(
            "EgressPolicy/p.spec.egress[{index}].egressIPs: the policy selects {family} \
             destinations, but gateway {gateway} has no {family} egress IP in it: these packets \
             are dropped"
        )
    };
    let v4 = "{gateway: gw-a, egressIPs: [203.0.113.16]}";
    let v6 = "{gateway: gw-b, egressIPs: [\"2001:db8:113::10\"]}";
    let draining_v6 = "{gateway: gw-a, egressIPs: [203.0.113.16], drainingIPs: [\"2001:db8::1\"]}";
    let any = "destinationCIDRs: [0.0.0.0/0, \"::/0\"]";
    let cases = [
        (any, [v4, v6].join(", "), vec![missing(1, "IPv4", "gw-b"), missing(0, "IPv6", "gw-a")]),
        (any, draining_v6.to_owned(), vec![missing(0, "IPv6", "gw-a")]),
        ("destinationCIDRs: [198.51.100.0/24]", v6.to_owned(), vec![missing(0, "IPv4", "gw-b")]),
        ("destinationCIDRs: [\"2001:db8:100::/48\"]", v6.to_owned(), vec![]),
        // Excluded as a whole, which has a warning of its own.
        (
            "destinationCIDRs: [0.0.0.0/0, \"2001:db8::/32\"]\nexcludedCIDRs: [\"2001::/16\"]",
            v4.to_owned(),
            vec![
                "EgressPolicy/p.spec.destinationCIDRs[1]: 2001:db8::/32 is taken out as a whole by \
                 excludedCIDRs 2001::/16"
                    .to_owned(),
            ],
        ),
    ];
    for (destinations, egress, expected) in cases {
        let lines = format!("{destinations}\negress: [{egress}]");
        let policy = policy_with("p", &spec_with(&lines));
        assert_eq!(warnings(&[GATEWAY, GATEWAY_V6, &policy]), expected, "{lines}");
    }
}

#[test]
fn ranges_of_one_family_say_nothing_of_the_other() {
    // 10.244.1.10 and 2001:db8:: are in neither family's ranges of the other.
    let all_v6 = NODE.replace("[10.244.1.0/24]", "[\"::/0\"]");
    let pod = "EgressEndpoint/shop/pod-a.spec.ips[0]: 10.244.1.10 is not in a range of \
               EgressNode/node1: gateways drop what it sends";
    assert_eq!(warnings(&[&all_v6, ENDPOINT]), [pod]);
    let node2 = NODE
        .replace("node1", "node2")
        .replace("192.0.2.1,", "192.0.2.2,")
        .replace("[10.244.1.0/24]", "[0.0.0.0/0, \"fd00:244:1::/65\"]");
    let overlap =
        "EgressNode/node2.spec.podCIDRs[1]: fd00:244:1::/65 overlaps ::/0 of EgressNode/node1";
    assert_eq!(warnings(&[&all_v6, &node2]), [overlap]);
    let excluded = "destinationCIDRs: [0.0.0.0/0]\nexcludedCIDRs: [\"fd00::/8\"]";
    let policy = policy_with("p", &spec_with(excluded));
    let outside =
        "EgressPolicy/p.spec.excludedCIDRs[0]: fd00::/8 is outside of all destinationCIDRs";
    assert_eq!(warnings(&[GATEWAY, &policy]), [outside]);
}

#[test]
fn tunnels_have_one_family() {
    let node_v6 = NODE.replace("192.0.2.1,", "\"2001:db8:2::1\",");
    let said = |address: &str, own: &str, gateways: &str, other: &str| {
        format!(
            "EgressNode/node1.spec.tunnelAddress: {address} is {own}, and the tunnel address of \
             {gateways} is {other}: no packet gets from one to the other"
        )
    };
    assert_eq!(warnings(&[GATEWAY, NODE]), [""; 0]);
    assert_eq!(warnings(&[GATEWAY_V6, &node_v6]), [""; 0]);
    assert_eq!(warnings(&[&node_v6]), [""; 0]);
    assert_eq!(warnings(&[GATEWAY, GATEWAY_V6, NODE]), [said("192.0.2.1", "IPv4", "gw-b", "IPv6")]);
    let more: Vec<String> = (1..=4)
        .map(|n| GATEWAY.replace("gw-a", &format!("gw-{n}")).replace("2.10", &format!("2.1{n}")))
        .collect();
    let mut documents: Vec<&str> = more.iter().map(String::as_str).collect();
    documents.push(&node_v6);
    let expected = said("2001:db8:2::1", "IPv6", "gw-1, gw-2, gw-3, others", "IPv4");
    assert_eq!(warnings(&documents), [expected]);
}
