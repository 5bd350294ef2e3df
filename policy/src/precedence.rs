//! Which policy wins a destination, resolved ahead of time into one prefix map.
//!
//! For one pod and one destination, a policy competes when it selects the pod, contains the
//! destination and does not exclude it. Among those the winner has the higher `priority`, then
//! the longer matching prefix, then the earlier document.
//!
//! The map holds every prefix, destination or excluded, that the set's policies write. Two
//! destinations whose longest match in it is the same prefix are inside exactly the same prefixes,
//! so the rule says the same of both: its answer for a prefix is the map's entry.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::document::EgressPolicy;
use crate::id::PolicyId;

/// What a node does with the destinations whose longest match is one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send to a gateway of this policy.
    Redirect(PolicyId),
    /// Leave as without a policy.
    Exclude,
}

/// The destinations of one set of policies: the longest match wins, no match is as `Exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyMap {
    /// Sorted by prefix, each once.
    pub entries: Vec<(IpNet, Action)>,
}

/// One prefix as one policy writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    prefix: IpNet,
    /// Index in the compiled policies, which are in document order.
    policy: usize,
    excluded: bool,
}

impl PolicyMap {
    /// Compiles policies that are given in document order.
    pub(crate) fn compile(policies: &[&EgressPolicy]) -> PolicyMap {
        let mut marks = Vec::new();
        for (policy, EgressPolicy { spec, .. }) in policies.iter().enumerate() {
            let mark = |excluded| move |&prefix| Mark { prefix, policy, excluded };
            marks.extend(spec.destination_cidrs.iter().map(mark(false)));
            marks.extend(spec.excluded_cidrs.iter().map(mark(true)));
        }
        // Sorting puts each prefix right before what it contains, as networks are canonical.
        marks.sort_unstable();

        let mut entries = Vec::new();
        let mut containing: Vec<&[Mark]> = Vec::new();
        for marks in marks.chunk_by(|a, b| a.prefix == b.prefix) {
            let prefix = marks[0].prefix;
            while containing.last().is_some_and(|outer| !outer[0].prefix.contains(&prefix)) {
                containing.pop();
            }
            containing.push(marks);
            entries.push((prefix, decide(policies, containing.iter().copied().flatten())));
        }
        PolicyMap { entries }
    }

    /// What becomes of a packet to this destination; `None` is as [`Action::Exclude`].
    pub fn lookup(&self, destination: IpAddr) -> Option<Action> {
        let host = IpNet::from(destination);
        // What contains the host is sorted before it, and the last that does is the longest.
        let end = self.entries.partition_point(|(prefix, _)| *prefix <= host);
        let entry = self.entries[..end].iter().rfind(|(prefix, _)| prefix.contains(&host));
        entry.map(|(_, action)| *action)
    }
}

/// The rule itself, for a prefix that is inside exactly the prefixes of `marks`.
fn decide<'m>(policies: &[&EgressPolicy], marks: impl Iterator<Item = &'m Mark> + Clone) -> Action {
    let excluding: BTreeSet<usize> =
        marks.clone().filter(|mark| mark.excluded).map(|mark| mark.policy).collect();
    marks
        .filter(|mark| !excluding.contains(&mark.policy))
        .max_by_key(|mark| {
            let priority = policies[mark.policy].spec.priority;
            (priority, mark.prefix.prefix_len(), Reverse(mark.policy))
        })
        .map_or(Action::Exclude, |mark| Action::Redirect(policies[mark.policy].policy_id()))
}
