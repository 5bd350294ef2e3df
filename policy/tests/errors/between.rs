//! Documents that are good by themselves and cannot be true together.

use crate::{assert_error, common::*};
use ::policy::PolicyId;

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
