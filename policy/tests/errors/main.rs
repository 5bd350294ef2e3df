//! Every mistake in a document: what is written, and what is said of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod between;
mod cilium;
#[path = "../common/mod.rs"]
mod common;
mod documents;
mod files;
mod policy;

use ::policy::{Format, LoadError, parse};
use common::*;

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
    let Err(LoadError::Invalid(errors)) = parse(&text, Format::Json) else { panic!() };
    assert_eq!(errors.len(), 1001);
    assert_eq!(errors[1000].reason, "4000 more errors are not listed");
}
