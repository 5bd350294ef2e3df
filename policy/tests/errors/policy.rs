//! Mistakes in the spec of a policy. One long table on purpose: a reader looks here for a mistake by
//! its words.

use crate::{assert_error, common::*};

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
