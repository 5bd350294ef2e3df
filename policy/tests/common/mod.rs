//! Documents that tests change one thing in.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod random;

use policy::{Format, LoadError, PolicyError, PolicySet, Warning};

pub(crate) const GATEWAY: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-a}
spec: {tunnelAddress: 192.0.2.10}
";

pub(crate) const NODE: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {name: node1}
spec: {tunnelAddress: 192.0.2.1, podCIDRs: [10.244.1.0/24]}
";

pub(crate) const ENDPOINT: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressEndpoint
metadata: {name: pod-a, namespace: shop, labels: {app: payments}}
spec: {ips: [10.244.1.10], node: node1}
";

/// A policy of this name with these lines as its whole spec.
pub(crate) fn policy_with(name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!(
        "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressPolicy\n\
         metadata: {{name: {name}}}\nspec:\n{spec}"
    )
}

/// The lines of a spec that is good beside [`GATEWAY`].
pub(crate) const SPEC: &str = "\
selectors: [{podSelector: {}}]
destinationCIDRs: [0.0.0.0/0]
egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]
";

/// [`SPEC`] with these fields, a line each, replaced or added.
pub(crate) fn spec_with(lines: &str) -> String {
    replaced(SPEC, lines)
}

/// Cilium's policy of this name with these lines as its whole spec.
pub(crate) fn cilium_with(name: &str, spec: &str) -> String {
    let ours = policy_with(name, spec);
    let version = ours.replace("egress-gateway.io/v1alpha1", "cilium.io/v2");
    version.replace("EgressPolicy", "CiliumEgressGatewayPolicy")
}

/// The lines of a spec of Cilium's that is good beside [`GATEWAY`].
pub(crate) const CILIUM_SPEC: &str = "\
selectors: [{podSelector: {}}]
destinationCIDRs: [0.0.0.0/0]
egressGateway: {nodeSelector: {}, egressIP: 203.0.113.16}
";

/// [`CILIUM_SPEC`] with these fields, a line each, replaced or added.
pub(crate) fn cilium_spec_with(lines: &str) -> String {
    replaced(CILIUM_SPEC, lines)
}

fn replaced(spec: &str, lines: &str) -> String {
    let field = |line: &str| line.split(':').next().map(str::to_owned);
    let replaced: Vec<_> = lines.lines().map(field).collect();
    let kept = spec.lines().filter(|kept| !replaced.contains(&field(kept)));
    kept.chain(lines.lines()).map(|line| format!("{line}\n")).collect()
}

pub(crate) fn load(documents: &[&str]) -> Result<(PolicySet, Vec<Warning>), LoadError> {
    policy::parse(&documents.join("---\n"), Format::Yaml)
}

pub(crate) fn load_good(documents: &[&str]) -> (PolicySet, Vec<Warning>) {
    load(documents).unwrap_or_else(|error| panic!("{error}\nin\n{}", documents.join("---\n")))
}

pub(crate) fn errors(documents: &[&str]) -> Vec<PolicyError> {
    match load(documents) {
        Err(LoadError::Invalid(errors)) => errors,
        other => panic!("expected errors, got {other:?}\nin\n{}", documents.join("---\n")),
    }
}
