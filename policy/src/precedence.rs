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
        let mut competition = Competition::new(policies);
        let mut containing: Vec<&[Mark]> = Vec::new();
        for marks in marks.chunk_by(|a, b| a.prefix == b.prefix) {
            let prefix = marks[0].prefix;
            while let Some(left) = containing.pop_if(|outer| !outer[0].prefix.contains(&prefix)) {
                left.iter().for_each(|mark| competition.leave(mark));
            }
            marks.iter().for_each(|mark| competition.enter(mark));
            containing.push(marks);
            entries.push((prefix, competition.decide()));
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

/// The rule itself, for a prefix that is inside exactly the prefixes of the marks that were entered
/// and not left. A step costs the same whether ten policies hold the prefix or ten thousand.
#[derive(Debug)]
struct Competition<'p> {
    policies: &'p [&'p EgressPolicy],
    standing: Vec<Standing>,
    /// The destinations of those that do not exclude the prefix, the winner last.
    ranked: BTreeSet<Rank>,
}

/// What one policy says of the prefix.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// The lengths of its destinations.
    lengths: Vec<u8>,
    /// How many of its exclusions hold.
    exclusions: usize,
}

/// Priority, prefix length, and that the earlier document wins.
type Rank = (i32, u8, Reverse<usize>);

impl<'p> Competition<'p> {
    fn new(policies: &'p [&'p EgressPolicy]) -> Self {
        let standing = vec![Standing::default(); policies.len()];
        Competition { policies, standing, ranked: BTreeSet::new() }
    }

    fn rank(&self, policy: usize, length: u8) -> Rank {
        (self.policies[policy].spec.priority, length, Reverse(policy))
    }

    fn enter(&mut self, mark: &Mark) {
        let standing = &mut self.standing[mark.policy];
        if mark.excluded {
            standing.exclusions += 1;
            for index in 0..self.standing[mark.policy].lengths.len() {
                let rank = self.rank(mark.policy, self.standing[mark.policy].lengths[index]);
                self.ranked.remove(&rank);
            }
        } else {
            let length = mark.prefix.prefix_len();
            standing.lengths.push(length);
            if standing.exclusions == 0 {
                self.ranked.insert(self.rank(mark.policy, length));
            }
        }
    }

    /// Undoes the latest [`enter`](Self::enter) of a mark that still holds.
    fn leave(&mut self, mark: &Mark) {
        let standing = &mut self.standing[mark.policy];
        if mark.excluded {
            standing.exclusions -= 1;
            if standing.exclusions == 0 {
                for index in 0..self.standing[mark.policy].lengths.len() {
                    let rank = self.rank(mark.policy, self.standing[mark.policy].lengths[index]);
                    self.ranked.insert(rank);
                }
            }
        } else {
            let length = mark.prefix.prefix_len();
            standing.lengths.retain(|other| *other != length);
            self.ranked.remove(&self.rank(mark.policy, length));
        }
    }

    fn decide(&self) -> Action {
        self.ranked.last().map_or(Action::Exclude, |(.., Reverse(policy))| {
            Action::Redirect(self.policies[*policy].policy_id())
        })
    }
}
