//! Which pods selectors select.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;

#[test]
fn selectors_select_as_in_kubernetes_and_cilium() {
    // The pod: in namespace shop, with labels app: payments and tier: back.
    let pod = ENDPOINT.replace("app: payments", "app: payments, tier: back");
    let cases = [
        ("{podSelector: {}}", true),
        ("{namespaceSelector: {}}", true),
        ("{podSelector: {matchLabels: {app: payments}}}", true),
        ("{podSelector: {matchLabels: {app: payments, tier: back}}}", true),
        ("{podSelector: {matchLabels: {app: payments, tier: front}}}", false),
        ("{podSelector: {matchLabels: {zone: a}}}", false),
        ("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}", true),
        ("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}", false),
        ("{namespaceSelector: {matchLabels: {team: red}}}", false),
        ("{namespaceSelector: {matchLabels: {app: payments}}}", false),
        ("{podSelector: {matchLabels: {io.kubernetes.pod.namespace: shop}}}", true),
        ("{podSelector: {matchLabels: {io.kubernetes.pod.namespace: bank}}}", false),
        (
            "{podSelector: {matchLabels: {app: payments}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}",
            false,
        ),
        (
            "{podSelector: {matchLabels: {app: other}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}",
            false,
        ),
        (
            "{podSelector: {matchExpressions: [{key: app, operator: In, values: [x, payments]}]}}",
            true,
        ),
        ("{podSelector: {matchExpressions: [{key: app, operator: In, values: [x]}]}}", false),
        ("{podSelector: {matchExpressions: [{key: zone, operator: In, values: [x]}]}}", false),
        ("{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [x]}]}}", true),
        (
            "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [payments]}]}}",
            false,
        ),
        ("{podSelector: {matchExpressions: [{key: zone, operator: NotIn, values: [x]}]}}", true),
        ("{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}", true),
        ("{podSelector: {matchExpressions: [{key: zone, operator: Exists}]}}", false),
        ("{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}", false),
        ("{podSelector: {matchExpressions: [{key: zone, operator: DoesNotExist}]}}", true),
        (
            "{podSelector: {matchLabels: {app: payments}, matchExpressions: [{key: tier, operator: In, values: [front]}]}}",
            false,
        ),
        (
            "{podSelector: {matchLabels: {app: x}}}, {podSelector: {matchLabels: {tier: back}}}",
            true,
        ),
    ];
    for (selectors, expected) in cases {
        let policy = policy_with("p", &spec_with(&format!("selectors: [{selectors}]")));
        let (set, _) = load_good(&[GATEWAY, NODE, &pod, &policy]);
        assert_eq!(set.policies[0].selects(&set.endpoints[0]), expected, "{selectors}");
        let compiled = policy::compile_node(&set, "node1");
        assert_eq!(!compiled.endpoints.is_empty(), expected, "{selectors}");
    }
}

#[test]
fn an_endpoint_without_namespace_is_in_default() {
    let pod = ENDPOINT.replace("namespace: shop, ", "");
    let (set, _) = load_good(&[NODE, &pod]);
    assert_eq!(set.endpoints[0].namespace(), "default");
    assert_eq!(set.endpoints[0].reference(), "EgressEndpoint/default/pod-a");
}
