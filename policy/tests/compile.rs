//! What gateways and nodes take from the documents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::*;
use ipnet::IpNet;
use policy::{
    Action, FailureMode, Format, GatewayLimits, LoadError, PolicyId, Source, compile_gateway,
    compile_node, load_for_gateway,
};

const GATEWAY_B: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-b}
spec: {tunnelAddress: 192.0.2.11}
";

const NODE2: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {name: node2}
spec:
  tunnelAddress: 192.0.2.2
  podCIDRs: [10.244.2.0/24]
  sourceCheck: ClusterCIDR
  clusterCIDRs: [10.244.0.0/16]
";

const PAYMENTS: &str = "\
selectors: [{podSelector: {matchLabels: {app: payments}}}]
destinationCIDRs: [0.0.0.0/0]
excludedCIDRs: [10.0.0.0/8]
egress:
- {gateway: gw-b, egressIPs: [203.0.113.17]}
- {gateway: gw-a, egressIPs: [203.0.113.16], drainingIPs: [203.0.113.18]}
failureMode: Open
policyID: 9";

const ALL: &str = "\
selectors: [{podSelector: {}}]
destinationCIDRs: [198.51.100.0/24]
egress: [{gateway: gw-a, egressIPs: [203.0.113.19]}]
policyID: 3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn id(id: u32) -> PolicyId {
    PolicyId::new(id).unwrap()
}

fn limits() -> GatewayLimits {
    GatewayLimits {
        egress_prefixes: nets(&["203.0.113.16/28"]),
        own_addresses: vec![ip("192.0.2.10"), ip("203.0.113.2")],
        next_hops: vec![ip("203.0.113.30")],
    }
}

#[test]
fn a_gateway_takes_its_own_part_of_each_policy() {
    let documents = [&policy_with("pay", PAYMENTS), &policy_with("all", ALL)];
    let (set, _) = load_good(&[documents[0], documents[1], GATEWAY, GATEWAY_B, NODE, NODE2]);
    let compiled = compile_gateway(&set, "gw-a", &limits()).unwrap();

    let [all, payments] = compiled.policies.as_slice() else { panic!("{compiled:?}") };
    assert_eq!((all.id, all.name.as_str()), (id(3), "all"));
    assert_eq!((payments.id, payments.name.as_str()), (id(9), "pay"));
    assert_eq!(payments.egress_ips, [ip("203.0.113.16")]);
    assert_eq!(payments.draining_ips, [ip("203.0.113.18")]);

    let [node1, node2] = compiled.nodes.as_slice() else { panic!("{compiled:?}") };
    assert_eq!((node1.name.as_str(), node1.tunnel_address), ("node1", ip("192.0.2.1")));
    assert_eq!(node1.source_cidrs, nets(&["10.244.1.0/24"]));
    assert_eq!(node2.source_cidrs, nets(&["10.244.0.0/16"]));
}

#[test]
fn a_gateway_takes_ipv6_as_whole_as_ipv4() {
    let both = "\
selectors: [{podSelector: {}}]
destinationCIDRs: [\"::/0\", 0.0.0.0/0]
egress:
- gateway: gw-a
  egressIPs: [\"2001:db8:113::10\", 203.0.113.16, \"2001:db8:113::11\"]
  drainingIPs: [203.0.113.18, \"2001:db8:113::12\"]
policyID: 5";
    let nodes = [
        NODE.replace("[10.244.1.0/24]", "[\"fd00:244:1::/64\", 10.244.1.0/24]")
            .replace("192.0.2.1,", "\"2001:db8:2::1\","),
        NODE2
            .replace("192.0.2.2", "\"2001:db8:2::2\"")
            .replace("[10.244.0.0/16]", "[10.244.0.0/16, \"fd00:244::/48\"]"),
    ];
    let gateway = GATEWAY.replace("192.0.2.10", "\"2001:db8:2::10\"");
    let policy = policy_with("p", both);
    let (set, warnings) = load_good(&[&gateway, &nodes[0], &nodes[1], &policy]);
    assert_eq!(warnings, []);
    let mut limits = limits();
    limits.egress_prefixes.extend(nets(&["2001:db8:113::/64"]));
    limits.own_addresses.extend([ip("2001:db8:2::10"), ip("2001:db8:113::2")]);
    limits.next_hops.extend([ip("2001:db8:113::1"), ip("fe80::1")]);

    let compiled = compile_gateway(&set, "gw-a", &limits).unwrap();
    let [policy] = compiled.policies.as_slice() else { panic!("{compiled:?}") };
    let [first, second, third] = ["2001:db8:113::10", "203.0.113.16", "2001:db8:113::11"].map(ip);
    assert_eq!(policy.egress_ips, [first, second, third]);
    assert_eq!(policy.draining_ips, [ip("203.0.113.18"), ip("2001:db8:113::12")]);
    let nodes: Vec<_> = compiled
        .nodes
        .iter()
        .map(|node| (node.tunnel_address, node.source_cidrs.clone()))
        .collect();
    let expected = [
        (ip("2001:db8:2::1"), nets(&["fd00:244:1::/64", "10.244.1.0/24"])),
        (ip("2001:db8:2::2"), nets(&["10.244.0.0/16", "fd00:244::/48"])),
    ];
    assert_eq!(nodes, expected);

    // Refused for the same reasons as IPv4.
    let claimed = ["2001:db8:113::2", "2001:db8:113::1", "2001:db8:114::1"];
    for (address, reason) in claimed.into_iter().zip(["own ports", "a router", "outside"]) {
        let policy = policy_with("p", &both.replace("2001:db8:113::11", address));
        let (set, _) = load_good(&[&gateway, &policy]);
        let errors = compile_gateway(&set, "gw-a", &limits).unwrap_err();
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(error.path, ".spec.egress[0].egressIPs[2]");
        assert!(error.reason.contains(reason), "{error}");
    }
    let elsewhere = gateway.replace("2001:db8:2::10", "2001:db8:2::11");
    let errors = compile_gateway(&load_good(&[&elsewhere]).0, "gw-a", &limits).unwrap_err();
    assert_eq!(errors[0].path, ".spec.tunnelAddress");
}

#[test]
fn a_gateway_refuses_what_it_cannot_send_from() {
    let spec = spec_with(
        "egress: [{gateway: gw-a, egressIPs: [203.0.113.16, 203.0.113.2, 203.0.113.30], \
         drainingIPs: [203.0.113.32]}]",
    );
    let gateway = GATEWAY.replace("192.0.2.10", "192.0.2.12");
    let (set, _) = load_good(&[&gateway, &policy_with("p", &spec)]);
    let errors = compile_gateway(&set, "gw-a", &limits()).unwrap_err();
    let said: Vec<(String, bool)> = errors
        .iter()
        .map(|error| {
            (format!("{}{}: {}", error.document, error.path, error.reason), error.hint.is_empty())
        })
        .collect();
    let expected = [
        "EgressGateway/gw-a.spec.tunnelAddress: 192.0.2.12 is not an address of this gateway's ports",
        "EgressPolicy/p.spec.egress[0].egressIPs[1]: 203.0.113.2 is an address of the gateway's own ports",
        "EgressPolicy/p.spec.egress[0].egressIPs[2]: 203.0.113.30 is the address of a router that the gateway sends to",
        "EgressPolicy/p.spec.egress[0].drainingIPs[0]: 203.0.113.32 is outside the gateway's egress_prefixes",
    ];
    assert_eq!(said, expected.map(|text| (text.to_owned(), false)));
}

/// Mistakes in the documents do not hide those that only a gateway sees.
#[test]
fn what_does_not_fit_the_gateway_is_told_with_all_other_mistakes() {
    let text = [
        GATEWAY,
        &policy_with("payments", &SPEC.replace("203.0.113.16", "198.51.100.1")),
        &policy_with("other", &format!("{SPEC}priorty: 5")),
    ]
    .join("---\n");
    let load = |text: &str| {
        let source = Source { file: Some("set.yaml"), text, format: Format::Yaml };
        match load_for_gateway(&[source], "gw-a", &limits()) {
            Err(LoadError::Invalid(errors)) => {
                errors.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let told = load(&text);
    assert_eq!(told.len(), 2, "{told:#?}");
    let unknown =
        "set.yaml: EgressPolicy/other: .spec.priorty: unknown field (did you mean priority?)";
    assert_eq!(told[0], unknown);
    let outside =
        "set.yaml: EgressPolicy/payments: .spec.egress[0].egressIPs[0]: 198.51.100.1 is outside";
    assert!(told[1].starts_with(outside), "{told:#?}");
    // Which gateways there are is only said where all documents could be read.
    let elsewhere = text.replace("gw-a", "gw-b");
    assert_eq!(load(&elsewhere), [unknown]);
    let told = load(&elsewhere.replace("priorty", "priority"));
    assert!(told[0].contains("this gateway has no EgressGateway document"), "{told:#?}");
}

#[test]
fn a_gateway_must_be_among_the_documents_unless_there_are_none() {
    let (set, _) = load_good(&[GATEWAY]);
    let errors = compile_gateway(&set, "gw-z", &limits()).unwrap_err();
    assert_eq!(errors[0].document, "EgressGateway/gw-z");
    assert!(errors[0].hint.contains("gw-a"));
    let (set, _) = load_good(&[NODE]);
    assert_eq!(compile_gateway(&set, "gw-z", &limits()).unwrap().nodes.len(), 1);
}

#[test]
fn a_node_takes_its_pods_and_shares_maps_between_them() {
    let pods = [
        ENDPOINT.to_owned(),
        ENDPOINT.replace("pod-a", "pod-b").replace("1.10", "1.11").replace(", node: node1", ""),
        ENDPOINT.replace("pod-a", "pod-c").replace("1.10", "2.10").replace("node1", "node2"),
        ENDPOINT.replace("pod-a", "pod-d").replace("1.10", "1.12").replace("payments", "other"),
    ];
    let policies = [policy_with("pay", PAYMENTS), policy_with("all", ALL)];
    let mut documents = vec![GATEWAY, GATEWAY_B, NODE, NODE2];
    documents.extend(policies.iter().chain(&pods).map(String::as_str));
    let compiled = compile_node(&load_good(&documents).0, "node1");

    let sets: Vec<(IpAddr, u32)> =
        compiled.endpoints.iter().map(|(ip, set)| (*ip, set.0)).collect();
    assert_eq!(sets, [(ip("10.244.1.10"), 1), (ip("10.244.1.11"), 1), (ip("10.244.1.12"), 2)]);
    let maps: Vec<_> = compiled.sets.values().map(|map| map.entries.clone()).collect();
    let [any, private, documentation] =
        nets(&["0.0.0.0/0", "10.0.0.0/8", "198.51.100.0/24"]).try_into().unwrap();
    let both = vec![
        (any, Action::Redirect(id(9))),
        (private, Action::Exclude),
        (documentation, Action::Redirect(id(3))),
    ];
    assert_eq!(maps, [both, vec![(documentation, Action::Redirect(id(3)))]]);

    let payments = &compiled.policies[&id(9)];
    assert_eq!((payments.name.as_str(), payments.failure_mode), ("pay", FailureMode::Open));
    let gateways: Vec<_> = payments
        .gateways
        .iter()
        .map(|gateway| (gateway.name.as_str(), gateway.tunnel_address, &*gateway.egress_ips))
        .collect();
    let expected = [
        ("gw-b", ip("192.0.2.11"), &[ip("203.0.113.17")][..]),
        ("gw-a", ip("192.0.2.10"), &[ip("203.0.113.16")][..]),
    ];
    assert_eq!(gateways, expected);
    assert_eq!(compiled.gateways.len(), 2);
    let exempt = [
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.2.0/24",
        "192.0.2.1/32",
        "192.0.2.2/32",
        "192.0.2.10/32",
        "192.0.2.11/32",
    ];
    assert_eq!(compiled.exempt, nets(&exempt));
    assert_eq!(compiled.shadowed, []);
}

#[test]
fn a_policy_that_loses_every_pod_of_the_node_is_told() {
    let strong = policy_with("strong", &format!("{SPEC}priority: 1"));
    let weak = policy_with("weak", &spec_with("destinationCIDRs: [198.51.100.0/24]"));
    let (set, warnings) = load_good(&[GATEWAY, NODE, ENDPOINT, &weak, &strong]);
    let compiled = compile_node(&set, "node1");
    assert_eq!(compiled.shadowed, warnings);
    let [warning] = compiled.shadowed.as_slice() else { panic!("{:?}", compiled.shadowed) };
    assert_eq!(
        warning.to_string(),
        "EgressPolicy/weak: .spec: has no effect: every destination is won by strong \
         (raise its spec.priority, narrow the others, or remove it)"
    );
    assert_eq!(compile_node(&set, "node2").shadowed, []);
}

#[test]
fn ids_are_the_same_in_every_version() {
    // Computed with another implementation of FNV-1a.
    assert_eq!(PolicyId::from_name("payments").get(), 15344903);
    assert_eq!(PolicyId::from_name("a").get(), 14608502);
}
