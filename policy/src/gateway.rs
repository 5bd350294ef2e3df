//! What a gateway takes from the documents. It needs no pods: a packet's VNI names the policy.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::document::{Egress, EgressNode, EgressPolicy, PolicySet};
use crate::error::{LoadError, PolicyError, Warning};
use crate::id::PolicyId;
use crate::parse::{Draft, Source};

/// What one gateway's configuration lets policies claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Where egress IPs must lie.
    pub egress_prefixes: Vec<IpNet>,
    /// The addresses of the gateway's ports, which are nobody's egress IPs.
    pub own_addresses: Vec<IpAddr>,
    /// The routers that the ports send to. Claiming one's address would take it from the network.
    pub next_hops: Vec<IpAddr>,
}

/// The documents as one gateway sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayPolicies {
    /// Those that name this gateway, sorted by id.
    pub policies: Vec<GatewayPolicy>,
    /// All nodes, in document order.
    pub nodes: Vec<GatewayNode>,
}

/// One policy's part at one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPolicy {
    pub id: PolicyId,
    pub name: String,
    pub egress_ips: Vec<IpAddr>,
    /// These keep their sessions and take no new ones.
    pub draining_ips: Vec<IpAddr>,
}

/// One node that may tunnel to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayNode {
    pub name: String,
    pub tunnel_address: IpAddr,
    /// The inner sources accepted from it.
    pub source_cidrs: Vec<IpNet>,
}

/// A set, and what one gateway takes from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForGateway {
    pub set: PolicySet,
    pub warnings: Vec<Warning>,
    pub compiled: GatewayPolicies,
}

/// Reads a set for the gateway of this name. What is wrong with the documents and what does not fit
/// the gateway is told together.
pub fn load_for_gateway(
    sources: &[Source<'_>],
    gateway: &str,
    limits: &GatewayLimits,
) -> Result<ForGateway, LoadError> {
    let mut draft = Draft::read(sources)?;
    // Without all documents it cannot be said which gateways there are.
    let mut found = match draft.errors.is_empty() {
        true => check_identity(&draft.set, gateway, limits),
        false => Vec::new(),
    };
    found.extend(check_egress_ips(&draft.set, gateway, limits));
    for error in found {
        draft.errors.push(draft.claims.locate_error(error));
    }
    let (set, warnings) = draft.finish()?;
    let compiled = take(&set, gateway);
    Ok(ForGateway { set, warnings, compiled })
}

/// Compiles the set for the gateway of this name, or tells everything that does not fit it.
pub fn compile_gateway(
    set: &PolicySet,
    gateway: &str,
    limits: &GatewayLimits,
) -> Result<GatewayPolicies, Vec<PolicyError>> {
    let mut errors = check_identity(set, gateway, limits);
    errors.extend(check_egress_ips(set, gateway, limits));
    if errors.is_empty() { Ok(take(set, gateway)) } else { Err(errors) }
}

fn take(set: &PolicySet, gateway: &str) -> GatewayPolicies {
    let mut policies: Vec<GatewayPolicy> = parts(set, gateway)
        .map(|(policy, _, egress)| GatewayPolicy {
            id: policy.policy_id(),
            name: policy.name().to_owned(),
            egress_ips: egress.egress_ips.clone(),
            draining_ips: egress.draining_ips.clone(),
        })
        .collect();
    policies.sort_by_key(|policy| policy.id);
    GatewayPolicies { policies, nodes: set.nodes.iter().map(GatewayNode::from).collect() }
}

/// The policies of this gateway, each with its entry for it and that entry's index.
fn parts<'s>(
    set: &'s PolicySet,
    gateway: &str,
) -> impl Iterator<Item = (&'s EgressPolicy, usize, &'s Egress)> {
    set.policies.iter().flat_map(move |policy| {
        let entries = policy.spec.egress.iter().enumerate();
        let here = entries.filter(move |(_, egress)| egress.gateway == gateway);
        here.map(move |(index, egress)| (policy, index, egress))
    })
}

impl From<&EgressNode> for GatewayNode {
    fn from(node: &EgressNode) -> GatewayNode {
        GatewayNode {
            name: node.name().to_owned(),
            tunnel_address: node.spec.tunnel_address,
            source_cidrs: node.spec.source_cidrs().to_vec(),
        }
    }
}

/// The documents must know this gateway, and by an address that it has: else nodes send their
/// packets elsewhere. A set without gateways cannot send any.
fn check_identity(set: &PolicySet, gateway: &str, limits: &GatewayLimits) -> Vec<PolicyError> {
    let document = format!("EgressGateway/{gateway}");
    let error = |path: &str, reason: String, hint: String| {
        vec![PolicyError {
            file: None,
            document: document.clone(),
            path: path.to_owned(),
            reason,
            hint,
        }]
    };
    let Some(found) = set.gateways.iter().find(|found| found.name() == gateway) else {
        if set.gateways.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = set.gateways.iter().map(|gateway| gateway.name()).collect();
        return error(
            "",
            "this gateway has no EgressGateway document".to_owned(),
            format!("add one, or configure this gateway as one of: {}", names.join(", ")),
        );
    };
    let address = found.spec.tunnel_address;
    if limits.own_addresses.is_empty() || limits.own_addresses.contains(&address) {
        return Vec::new();
    }
    error(
        ".spec.tunnelAddress",
        format!("{address} is not an address of this gateway's ports"),
        "nodes send to this address: set it to the first address of the tunnel port".to_owned(),
    )
}

fn check_egress_ips(set: &PolicySet, gateway: &str, limits: &GatewayLimits) -> Vec<PolicyError> {
    let mut errors = Vec::new();
    for (policy, index, egress) in parts(set, gateway) {
        let lists = [("egressIPs", &egress.egress_ips), ("drainingIPs", &egress.draining_ips)];
        for (field, addresses) in lists {
            for (position, address) in addresses.iter().enumerate() {
                if let Some((reason, hint)) = objection(*address, limits) {
                    let path = format!(".spec.egress[{index}].{field}[{position}]");
                    let document = policy.reference();
                    errors.push(PolicyError { file: None, document, path, reason, hint });
                }
            }
        }
    }
    errors
}

/// Why this gateway cannot send from the address, and what to do about it.
fn objection(address: IpAddr, limits: &GatewayLimits) -> Option<(String, String)> {
    if limits.own_addresses.contains(&address) {
        let reason = format!("{address} is an address of the gateway's own ports");
        return Some((reason, "choose another address of its egress_prefixes".to_owned()));
    }
    if limits.next_hops.contains(&address) {
        let reason = format!("{address} is the address of a router that the gateway sends to");
        return Some((reason, "choose another address of its egress_prefixes".to_owned()));
    }
    if limits.egress_prefixes.iter().any(|prefix| prefix.contains(&address)) {
        return None;
    }
    let prefixes: Vec<String> = limits.egress_prefixes.iter().map(IpNet::to_string).collect();
    Some((
        format!("{address} is outside the gateway's egress_prefixes"),
        format!("this gateway's policies may claim: {}", prefixes.join(", ")),
    ))
}
