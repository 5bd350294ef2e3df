//! Mistakes in what all documents share, and in the specs of gateways, nodes and endpoints.

use crate::{assert_error, common::*};

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
