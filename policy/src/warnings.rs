//! What is valid and may not be what was meant. Runs on a valid set, and on what a node compiled.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::cover::Cover;
use crate::document::{EgressNode, EgressPolicy, PolicySet, SourceCheck};
use crate::error::Warning;
use crate::families;
use crate::precedence::{Action, PolicyMap};
use crate::selection::Selection;
use crate::selector::Selector;

/// Every warning that a set deserves.
pub(crate) fn warnings(set: &PolicySet) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for policy in &set.policies {
        excluded_cidrs(policy, &mut warnings);
        families::missing_egress_ips(policy, &mut warnings);
    }
    competition(set, &mut warnings);
    families::tunnel_ends(set, &mut warnings);
    pod_cidrs(set, &mut warnings);
    endpoint_ips(set, &mut warnings);
    warnings
}

fn warning(document: String, path: String, reason: String, hint: &str) -> Warning {
    Warning { file: None, document, path, reason, hint: hint.to_owned() }
}

/// Exclusions that exclude nothing, and destinations that are excluded as a whole.
fn excluded_cidrs(policy: &EgressPolicy, warnings: &mut Vec<Warning>) {
    let spec = &policy.spec;
    if spec.excluded_cidrs.is_empty() {
        return;
    }
    let destinations = Cover::new(&spec.destination_cidrs);
    for (index, excluded) in spec.excluded_cidrs.iter().enumerate() {
        if !destinations.overlaps(*excluded) {
            let path = format!(".spec.excludedCIDRs[{index}]");
            let reason = format!("{excluded} is outside of all destinationCIDRs");
            warnings.push(warning(policy.reference(), path, reason, "it has no effect: remove it"));
        }
    }
    let excluded = Cover::new(&spec.excluded_cidrs);
    for (index, destination) in spec.destination_cidrs.iter().enumerate() {
        if let Some(by) = excluded.containing(*destination) {
            let path = format!(".spec.destinationCIDRs[{index}]");
            let reason = format!("{destination} is taken out as a whole by excludedCIDRs {by}");
            warnings.push(warning(policy.reference(), path, reason, "remove one of them"));
        }
    }
}

/// Policies that lose everything to others, and those whose rank only their order decides.
///
/// Which policies meet at a pod is seen from the endpoints. Where they are not known, as in
/// Kubernetes, those meet that have a selector in common.
fn competition(set: &PolicySet, warnings: &mut Vec<Warning>) {
    let policies = &set.policies;
    let selection = Selection::new(policies);
    let at_pods: BTreeSet<Vec<usize>> =
        set.endpoints.iter().map(|endpoint| selection.policies_of(endpoint)).collect();
    let has_pods: BTreeSet<usize> = at_pods.iter().flatten().copied().collect();
    let mut by_selector: BTreeMap<&Selector, BTreeSet<usize>> = BTreeMap::new();
    for (index, policy) in policies.iter().enumerate() {
        for selector in &policy.spec.selectors {
            by_selector.entry(selector).or_default().insert(index);
        }
    }
    let meeting: BTreeSet<Vec<usize>> =
        by_selector.into_values().map(|group| group.into_iter().collect()).collect();

    let all: Vec<&[usize]> = at_pods.union(&meeting).map(Vec::as_slice).collect();
    let maps: BTreeMap<&[usize], PolicyMap> =
        all.iter().map(|set| (*set, compile(policies, set))).collect();
    let mut losers = BTreeSet::new();
    for (sets, from_pods) in [(&at_pods, true), (&meeting, false)] {
        let maps = sets.iter().map(|set| (set.as_slice(), &maps[set.as_slice()]));
        for (policy, competing) in without_effect(policies, maps) {
            if has_pods.contains(&policy) == from_pods && losers.insert(policy) {
                warnings.push(shadow(policies, policy, competing));
            }
        }
    }
    for set in all.iter().filter(|set| set.len() > 1) {
        order_decides(policies, set, &mut losers, warnings);
    }
}

fn compile(policies: &[EgressPolicy], set: &[usize]) -> PolicyMap {
    if let [alone] = set
        && let EgressPolicy { spec, .. } = &policies[*alone]
        && spec.excluded_cidrs.is_empty()
    {
        // Most sets are like this. It wins all of its destinations, and the first one says so.
        let first = spec.destination_cidrs.first();
        let action = Action::Redirect(policies[*alone].policy_id());
        return PolicyMap { entries: first.map(|first| (*first, action)).into_iter().collect() };
    }
    let policies: Vec<&EgressPolicy> = set.iter().map(|&index| &policies[index]).collect();
    PolicyMap::compile(&policies)
}

/// Equal destinations of equal priority in one set: one warning for each policy that comes late.
fn order_decides(
    policies: &[EgressPolicy],
    set: &[usize],
    losers: &mut BTreeSet<usize>,
    warnings: &mut Vec<Warning>,
) {
    let mut first_uses: HashMap<(i32, IpNet), usize> = HashMap::new();
    for &index in set {
        let policy = &policies[index];
        for (position, destination) in policy.spec.destination_cidrs.iter().enumerate() {
            let key = (policy.spec.priority, *destination);
            let first = *first_uses.entry(key).or_insert(index);
            if first != index && losers.insert(index) {
                let path = format!(".spec.destinationCIDRs[{position}]");
                let first = policies[first].reference();
                let reason = format!(
                    "{destination} is in {first} as well, for the same pods and with the same \
                     priority: the earlier document wins"
                );
                let hint = "set spec.priority to say which one is meant";
                warnings.push(warning(policy.reference(), path, reason, hint));
            }
        }
    }
}

/// Nodes from which a gateway accepts the same sources: one can send as the other's pod.
fn pod_cidrs(set: &PolicySet, warnings: &mut Vec<Warning>) {
    let checked = |node: &&EgressNode| node.spec.source_check == SourceCheck::NodeCIDR;
    let mut ranges: Vec<(IpNet, &EgressNode, usize)> = Vec::new();
    for node in set.nodes.iter().filter(checked) {
        let cidrs = node.spec.pod_cidrs.iter().enumerate();
        ranges.extend(cidrs.map(|(index, cidr)| (*cidr, node, index)));
    }
    ranges.sort_by_key(|(cidr, ..)| *cidr);
    let mut containing: Vec<(IpNet, &EgressNode)> = Vec::new();
    for (cidr, node, index) in ranges {
        while containing.last().is_some_and(|(outer, _)| !outer.contains(&cidr)) {
            containing.pop();
        }
        let other = containing.iter().find(|(_, other)| other.name() != node.name());
        if let Some((outer, other)) = other {
            let path = format!(".spec.podCIDRs[{index}]");
            let reason = format!("{cidr} overlaps {outer} of {}", other.reference());
            let hint = "each node should have its own range; for CNIs without fixed ranges \
                        set sourceCheck: ClusterCIDR";
            warnings.push(warning(node.reference(), path, reason, hint));
        }
        containing.push((cidr, node));
    }
}

/// Endpoints whose packets no gateway accepts from their node.
fn endpoint_ips(set: &PolicySet, warnings: &mut Vec<Warning>) {
    let nodes: BTreeMap<&str, (&EgressNode, Cover)> = set
        .nodes
        .iter()
        .map(|node| (node.name(), (node, Cover::new(node.spec.source_cidrs()))))
        .collect();
    for endpoint in &set.endpoints {
        let node = endpoint.spec.node.as_deref().and_then(|name| nodes.get(name));
        let Some((node, accepted)) = node else { continue };
        for (index, ip) in endpoint.spec.ips.iter().enumerate() {
            if accepted.containing(IpNet::from(*ip)).is_none() {
                let path = format!(".spec.ips[{index}]");
                let reason = format!(
                    "{ip} is not in a range of {}: gateways drop what it sends",
                    node.reference()
                );
                warnings.push(warning(endpoint.reference(), path, reason, "add the range there"));
            }
        }
    }
}

/// Policies that compete in some of these sets and win no destination in any.
pub(crate) fn shadowed<'a>(
    policies: &[EgressPolicy],
    sets: impl Iterator<Item = (&'a [usize], &'a PolicyMap)>,
) -> Vec<Warning> {
    let losers = without_effect(policies, sets).into_iter();
    losers.map(|(policy, competing)| shadow(policies, policy, competing)).collect()
}

/// The indices of such policies, each with one set that it is in.
fn without_effect<'a>(
    policies: &[EgressPolicy],
    sets: impl Iterator<Item = (&'a [usize], &'a PolicyMap)>,
) -> BTreeMap<usize, &'a [usize]> {
    let mut winning = BTreeSet::new();
    let mut competing = BTreeMap::new();
    for (set, map) in sets {
        winning.extend(map.entries.iter().filter_map(|(_, action)| match action {
            Action::Redirect(id) => Some(*id),
            Action::Exclude => None,
        }));
        for &policy in set {
            competing.entry(policy).or_insert(set);
        }
    }
    competing.retain(|&policy, _| !winning.contains(&policies[policy].policy_id()));
    competing
}

fn shadow(policies: &[EgressPolicy], policy: usize, competing: &[usize]) -> Warning {
    const SHOWN: usize = 3;
    let others = competing.iter().filter(|&&other| other != policy);
    let mut names: Vec<&str> = others.map(|&other| policies[other].name()).collect();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("others");
    }
    let (reason, hint) = if names.is_empty() {
        ("its excludedCIDRs take out all of its destinationCIDRs".to_owned(), String::new())
    } else {
        (
            format!("has no effect: every destination is won by {}", names.join(", ")),
            "raise its spec.priority, narrow the others, or remove it".to_owned(),
        )
    };
    Warning {
        file: None,
        document: policies[policy].reference(),
        path: ".spec".to_owned(),
        reason,
        hint,
    }
}
