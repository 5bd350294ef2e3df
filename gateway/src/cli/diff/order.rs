//! Policies that stand in another order. Of two policies that select a pod and contain its destination by
//! the same prefix, with equal priority, the earlier one wins: then moving a document moves traffic.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Two policies of both sets, of which another one wins for some destinations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderChange {
    /// The policy that is the earlier one in the new set, and so wins.
    pub(crate) wins: String,
    /// The one that won.
    pub(crate) over: String,
    /// A destination that both have.
    pub(crate) destination: String,
}

/// What of an order is looked at: of a set with very many equal policies the rest is left out, and
/// [`order_changes`] says so.
const LOOKS: usize = 2_000_000;

struct Policy<'a> {
    name: &'a str,
    spec: &'a Value,
}

/// Every pair once, and whether there are all. Policies that only one of the sets has are no pair: they are
/// added or removed.
pub(crate) fn order_changes(old: &[Value], new: &[Value]) -> (Vec<OrderChange>, bool) {
    let (old, new) = (policies(old), policies(new));
    let was: HashMap<&str, usize> =
        old.iter().enumerate().map(|(place, policy)| (policy.name, place)).collect();
    // Of those with the same priority and a destination in common, in the order of the new set.
    let mut rivals = BTreeMap::<(i64, &str), Vec<(&Policy<'_>, usize)>>::new();
    for policy in &new {
        let Some(place) = was.get(policy.name) else { continue };
        let priority = policy.spec["priority"].as_i64().unwrap_or(0);
        for destination in destinations(policy.spec) {
            rivals.entry((priority, destination)).or_default().push((policy, *place));
        }
    }
    let (mut found, mut looks) = (BTreeMap::new(), 0);
    for ((_, destination), group) in &rivals {
        // Nothing moved: the places of old ascend.
        if group.is_sorted_by_key(|(_, place)| *place) {
            continue;
        }
        for (index, (earlier, place)) in group.iter().enumerate() {
            for (later, was) in &group[index + 1..] {
                looks += 1;
                if looks > LOOKS {
                    return (found.into_values().collect(), false);
                }
                if was < place && may_meet(earlier.spec, later.spec) {
                    found.entry((earlier.name, later.name)).or_insert_with(|| OrderChange {
                        wins: earlier.name.to_owned(),
                        over: later.name.to_owned(),
                        destination: (*destination).to_owned(),
                    });
                }
            }
        }
    }
    (found.into_values().collect(), true)
}

fn policies<'a>(documents: &'a [Value]) -> Vec<Policy<'a>> {
    let is_policy = |document: &&Value| document["kind"] == "EgressPolicy";
    let policy = |document: &'a Value| {
        let name = document["metadata"]["name"].as_str()?;
        Some(Policy { name, spec: &document["spec"] })
    };
    documents.iter().filter(is_policy).filter_map(policy).collect()
}

fn destinations(spec: &Value) -> BTreeSet<&str> {
    let list = spec["destinationCIDRs"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

/// Whether one pod can be selected by both, as far as the labels tell: false only where each two of their
/// selectors want another value of one label.
fn may_meet(a: &Value, b: &Value) -> bool {
    selectors(a).iter().any(|one| {
        selectors(b).iter().any(|other| {
            ["namespaceSelector", "podSelector"]
                .iter()
                .all(|part| !contradict(&one[part]["matchLabels"], &other[part]["matchLabels"]))
        })
    })
}

fn selectors(spec: &Value) -> &[Value] {
    spec["selectors"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn contradict(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    a.iter().any(|(key, value)| b.get(key).is_some_and(|wanted| wanted != value))
}
