//! What is valid and may not be what was meant. Runs on a valid set, and on what a node compiled.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{EgressPolicy, PolicySet};
use crate::error::Warning;
use crate::precedence::{Action, PolicyMap};

/// Every warning that a set deserves.
pub(crate) fn warnings(_set: &PolicySet) -> Vec<Warning> {
    Vec::new()
}

/// Policies that compete in some of these sets and win no destination in any.
pub(crate) fn shadowed<'a>(
    policies: &[EgressPolicy],
    sets: impl Iterator<Item = (&'a [usize], &'a PolicyMap)>,
) -> Vec<Warning> {
    let mut winning = BTreeSet::new();
    let mut rivals: BTreeMap<usize, &[usize]> = BTreeMap::new();
    for (competing, map) in sets {
        winning.extend(map.entries.iter().filter_map(|(_, action)| match action {
            Action::Redirect(id) => Some(*id),
            Action::Exclude => None,
        }));
        for &policy in competing {
            rivals.entry(policy).or_insert(competing);
        }
    }
    rivals.retain(|&policy, _| !winning.contains(&policies[policy].policy_id()));
    rivals.into_iter().map(|(policy, competing)| shadow(policies, policy, competing)).collect()
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
    Warning { document: policies[policy].reference(), path: ".spec".to_owned(), reason, hint }
}
