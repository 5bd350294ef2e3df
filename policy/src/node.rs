//! What a node takes from the documents: which of its pods is under which policies, and where
//! those send which destinations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::document::{EgressPolicy, FailureMode, PolicySet};
use crate::error::Warning;
use crate::id::PolicyId;
use crate::precedence::PolicyMap;
use crate::selection::Selection;
use crate::warnings::shadowed;

/// Names one distinct set of policies within one [`NodePolicies`]; counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SetId(pub u32);

/// The documents as one node sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePolicies {
    /// The pods of this node that at least one policy selects.
    pub endpoints: BTreeMap<IpAddr, SetId>,
    /// The destinations of each distinct set of policies. Pods share them, so the tables grow
    /// with pods plus prefixes, not with their product.
    pub sets: BTreeMap<SetId, PolicyMap>,
    /// All policies, also those that select no pod of this node.
    pub policies: BTreeMap<PolicyId, NodePolicy>,
    /// What never leaves through a gateway, whatever a policy says: the pods, nodes and gateways
    /// that the documents know. Sorted, each once.
    pub exempt: Vec<IpNet>,
    /// Name and tunnel address of all gateways.
    pub gateways: Vec<(String, IpAddr)>,
    /// Policies that select pods of this node and win no destination for any of them.
    pub shadowed: Vec<Warning>,
}

/// Where a policy's packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePolicy {
    pub name: String,
    pub gateways: Vec<NodeGateway>,
    pub failure_mode: FailureMode,
}

/// One gateway of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGateway {
    pub name: String,
    pub tunnel_address: IpAddr,
    /// Those that take new flows. Empty when the policy is only draining there: flows that are on
    /// this gateway stay, and no new one may choose it.
    pub egress_ips: Vec<IpAddr>,
}

/// Compiles the set for the node of this name.
pub fn compile_node(set: &PolicySet, node: &str) -> NodePolicies {
    let tunnels: BTreeMap<&str, IpAddr> =
        set.gateways.iter().map(|gateway| (gateway.name(), gateway.spec.tunnel_address)).collect();
    let mut compiled = NodePolicies {
        policies: set.policies.iter().map(|policy| node_policy(policy, &tunnels)).collect(),
        exempt: exempt(set),
        gateways: set
            .gateways
            .iter()
            .map(|gateway| (gateway.name().to_owned(), gateway.spec.tunnel_address))
            .collect(),
        ..NodePolicies::default()
    };

    let selection = Selection::new(&set.policies);
    let mut sets: BTreeMap<Vec<usize>, SetId> = BTreeMap::new();
    for endpoint in &set.endpoints {
        let is_here = endpoint.spec.node.as_deref().is_none_or(|name| name == node);
        let selecting = if is_here { selection.policies_of(endpoint) } else { Vec::new() };
        if selecting.is_empty() {
            continue;
        }
        let next = SetId(sets.len() as u32 + 1);
        let id = *sets.entry(selecting).or_insert(next);
        compiled.endpoints.extend(endpoint.spec.ips.iter().map(|&ip| (ip, id)));
    }
    for (policies, id) in &sets {
        let policies: Vec<&EgressPolicy> = policies.iter().map(|&i| &set.policies[i]).collect();
        compiled.sets.insert(*id, PolicyMap::compile(&policies));
    }
    let maps = sets.iter().map(|(policies, id)| (policies.as_slice(), &compiled.sets[id]));
    compiled.shadowed = shadowed(&set.policies, maps);
    compiled
}

fn node_policy(policy: &EgressPolicy, tunnels: &BTreeMap<&str, IpAddr>) -> (PolicyId, NodePolicy) {
    let gateways = policy.spec.egress.iter().filter_map(|egress| {
        Some(NodeGateway {
            name: egress.gateway.clone(),
            tunnel_address: *tunnels.get(egress.gateway.as_str())?,
            egress_ips: egress.egress_ips.clone(),
        })
    });
    let compiled = NodePolicy {
        name: policy.name().to_owned(),
        gateways: gateways.collect(),
        failure_mode: policy.spec.failure_mode,
    };
    (policy.policy_id(), compiled)
}

fn exempt(set: &PolicySet) -> Vec<IpNet> {
    let nodes = set.nodes.iter().map(|node| &node.spec);
    let pods = nodes.clone().flat_map(|node| node.pod_cidrs.iter().chain(&node.cluster_cidrs));
    let tunnels = nodes
        .map(|node| node.tunnel_address)
        .chain(set.gateways.iter().map(|gateway| gateway.spec.tunnel_address));
    let mut exempt: Vec<IpNet> = pods.copied().chain(tunnels.map(IpNet::from)).collect();
    exempt.sort_unstable();
    exempt.dedup();
    exempt
}
