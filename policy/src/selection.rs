//! Which policies select a pod, without trying every policy on every pod.
//!
//! Most selectors ask for at least one exact label. Each is filed under one that it asks for, and a
//! pod tries only what is filed under its own labels, and the few that ask for none.

use std::collections::{BTreeSet, HashMap};

use crate::document::{EgressEndpoint, EgressPolicy};
use crate::selector::{NAMESPACE_NAME, POD_NAMESPACE, Selector};

/// An index over the selectors of policies.
#[derive(Debug)]
pub(crate) struct Selection<'p> {
    by_label: HashMap<Label<'p>, Vec<Entry<'p>>>,
    without_label: Vec<Entry<'p>>,
}

/// A label that a selector asks for, of the pod or of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Label<'a> {
    Pod(&'a str, &'a str),
    Namespace(&'a str),
}

#[derive(Debug, Clone, Copy)]
struct Entry<'p> {
    policy: usize,
    selector: &'p Selector,
}

impl<'p> Selection<'p> {
    pub(crate) fn new(policies: &'p [EgressPolicy]) -> Self {
        let mut selection = Selection { by_label: HashMap::new(), without_label: Vec::new() };
        for (policy, object) in policies.iter().enumerate() {
            for selector in &object.spec.selectors {
                let entry = Entry { policy, selector };
                match required_label(selector) {
                    Some(label) => selection.by_label.entry(label).or_default().push(entry),
                    None => selection.without_label.push(entry),
                }
            }
        }
        selection
    }

    /// The policies that select this pod, as ascending indices.
    pub(crate) fn policies_of(&self, endpoint: &EgressEndpoint) -> Vec<usize> {
        let labels = &endpoint.metadata.labels;
        let pod = labels.iter().map(|(key, value)| Label::Pod(key, value));
        let filed = pod
            .chain([Label::Namespace(endpoint.namespace())])
            .filter_map(|label| self.by_label.get(&label))
            .flatten();
        let selecting: BTreeSet<usize> = filed
            .chain(&self.without_label)
            .filter(|entry| entry.selector.matches(endpoint))
            .map(|entry| entry.policy)
            .collect();
        selecting.into_iter().collect()
    }
}

/// One exact label without which the selector matches nothing. A pod's label tells more pods
/// apart than its namespace, so it is preferred.
fn required_label(selector: &Selector) -> Option<Label<'_>> {
    let pod = selector.pod_selector.as_ref().and_then(|part| {
        let mut own = part.match_labels.iter().filter(|(key, _)| *key != POD_NAMESPACE);
        own.next().map(|(key, value)| Label::Pod(key, value))
    });
    let namespace = || {
        let part = selector.namespace_selector.as_ref()?;
        part.match_labels.get(NAMESPACE_NAME).map(|name| Label::Namespace(name))
    };
    pod.or_else(namespace)
}
