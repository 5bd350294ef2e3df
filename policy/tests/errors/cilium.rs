//! Mistakes in Cilium's policies, and what of them cannot be had here.

use crate::{assert_error, common::*};
use ::policy::PolicyId;

const NAME: &str = "CiliumEgressGatewayPolicy/c";

#[test]
fn mistakes_in_a_cilium_policy() {
    let labelled = GATEWAY.replace("{name: gw-a}", "{name: gw-a, labels: {rack: r1, zone: z}}");
    let sixty_five = "{nodeSelector: {}, egressIP: 203.0.113.16},".repeat(65);
    let too_many = format!("egressGateways: [{sixty_five}]");
    // (a line of the spec, path below .spec, reason, hint)
    let cases = [
        ("selectors: []", "selectors", "at least one item", ""),
        ("selectors: [{}]", "selectors[0]", "needs a podSelector or a namespaceSelector", "{}"),
        (
            "selectors: [{podSelector: {}, nodeSelector: {}}]",
            "selectors[0].nodeSelector",
            "unknown field",
            "podSelector",
        ),
        ("destinationCIDRs: []", "destinationCIDRs", "at least one item", ""),
        ("destinationCIDRs: [10.0.0.1/8]", "destinationCIDRs[0]", "bits set", "10.0.0.0/8"),
        ("excludedCIDRs: [10.0.0.0]", "excludedCIDRs[0]", "no prefix length", "10.0.0.0/32"),
        ("egressGateway:", "egressGateway", "is required", ""),
        ("egressGateway: []", "egressGateway", "expected a map, found a list", ""),
        (
            "egressGateway: {nodeSelector: {}, interface: eth1}",
            "egressGateway.interface",
            "is not supported: a gateway claims its egress IPs",
            "write egressIP",
        ),
        (
            "egressGateway: {nodeSelector: {}, interface: eth1, egressIP: 203.0.113.16}",
            "egressGateway.interface",
            "exclude each other, in Cilium as well",
            "remove it",
        ),
        (
            "egressGateway: {nodeSelector: {}}",
            "egressGateway.egressIP",
            "is required here: there is no default route",
            "egress_prefixes",
        ),
        (
            "egressGateway: {egressIP: 203.0.113.16}",
            "egressGateway.nodeSelector",
            "is required",
            "",
        ),
        (
            "egressGateway: {nodeSelector: {}, egressIP: 203.0.113.16/32}",
            "egressGateway.egressIP",
            "is a CIDR",
            "write 203.0.113.16",
        ),
        (
            "egressGateway: {nodeSelector: {}, egressIP: 192.0.2.10}",
            "egressGateway.egressIP",
            "is the tunnel address of EgressGateway/gw-a",
            "",
        ),
        (
            "egressGateway: {nodeSelector: {}, egressIP: 203.0.113.16, maxGatewayNodes: 1}",
            "egressGateway.maxGatewayNodes",
            "unknown field",
            "nodeSelector",
        ),
        (
            "egressGateway: {nodeSelector: {matchLabels: {rack: r2}}, egressIP: 203.0.113.16}",
            "egressGateway.nodeSelector",
            "no EgressGateway has these labels",
            "known: gw-a (rack=r1, zone=z)",
        ),
        (
            "egressGateways: [{nodeSelector: {}, egressIP: 203.0.113.16}]",
            "egressGateways[0].egressIP",
            "203.0.113.16 is already in .spec.egressGateway.egressIP",
            "remove one",
        ),
        ("priority: 1", "priority", "unknown field", "known here: selectors"),
        ("egressgateways: []", "egressgateways", "unknown field", "did you mean egressGateways?"),
    ];
    for (line, path, reason, hint) in cases {
        let policy = cilium_with("c", &cilium_spec_with(line));
        assert_error(&[&labelled, &policy], (NAME, &format!(".spec.{path}"), reason, hint));
    }
    let policy = cilium_with("c", &cilium_spec_with(&too_many));
    let errors = errors(&[&labelled, &policy]);
    assert_eq!(errors[0].reason, "65 gateways are more than 64");
    let none = cilium_with("c", CILIUM_SPEC);
    let expected = "add documents of kind EgressGateway, with labels";
    let reason = "no EgressGateway has these labels";
    assert_error(&[&none], (NAME, ".spec.egressGateway.nodeSelector", reason, expected));
}

#[test]
fn each_kind_has_its_own_version() {
    let policy = cilium_with("c", CILIUM_SPEC).replace("cilium.io/v2", "cilium.io/v2alpha1");
    let reason = "\"cilium.io/v2alpha1\" is not a version that is known";
    assert_error(&[GATEWAY, &policy], (NAME, ".apiVersion", reason, "write cilium.io/v2"));
    let ours = GATEWAY.replace("egress-gateway.io/v1alpha1", "cilium.io/v2");
    let reason = "\"cilium.io/v2\" is not a version";
    assert_error(&[&ours], ("EgressGateway/gw-a", ".apiVersion", reason, "v1alpha1"));
}

#[test]
fn a_name_is_that_of_one_policy_of_either_kind() {
    let (ours, theirs) = (policy_with("c", SPEC), cilium_with("c", CILIUM_SPEC));
    let reason = "documents 2 and 3 make one policy of this name: EgressPolicy/c and \
                  CiliumEgressGatewayPolicy/c";
    assert_error(&[GATEWAY, &ours, &theirs], (NAME, ".metadata.name", reason, "rename one"));
    let reason = "documents 2 and 3 make one policy of this name: CiliumEgressGatewayPolicy/c and \
                  EgressPolicy/c";
    let expected = ("EgressPolicy/c", ".metadata.name", reason, "rename one");
    assert_error(&[GATEWAY, &theirs, &ours], expected);
}

#[test]
fn ids_and_egress_ips_are_those_of_all_policies() {
    let id = PolicyId::from_name("c");
    let ours = policy_with("p", &format!("{SPEC}policyID: {id}"));
    let reason = format!("policy id {id} is also that of EgressPolicy/p");
    let theirs = cilium_with("c", CILIUM_SPEC);
    let hint = "set spec.policyID of one of them";
    assert_error(&[GATEWAY, &ours, &theirs], (NAME, ".metadata.name", &reason, hint));

    let gateway_b = GATEWAY.replace("gw-a", "gw-b").replace("192.0.2.10", "192.0.2.11");
    let on_b = policy_with("p", &spec_with("egress: [{gateway: gw-b, egressIPs: [203.0.113.16]}]"));
    let reason = "203.0.113.16 is on gateway gw-a here and on gateway gw-b in \
                  EgressPolicy/p.spec.egress[0].egressIPs[0]";
    let expected = (NAME, ".spec.egressGateway.egressIP", reason, "one gateway");
    assert_error(&[GATEWAY, &gateway_b, &on_b, &theirs], expected);
}
