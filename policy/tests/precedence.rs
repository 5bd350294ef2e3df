//! The compiled maps against the rule as it is written, for random policies, pods and packets.
//!
//! The rule: for one pod and one destination, among the policies that select the pod, contain the
//! destination and do not exclude it, the one wins that has the higher priority, then the longer
//! matching prefix, then comes earlier. [`naive_winner`] follows that sentence and shares no code
//! with the compiler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::random::*;
use common::*;
use policy::{Action, PolicySet, compile_node};
use proptest::collection::vec;
use proptest::prelude::*;

fn naive_winner(rules: &[Rule], pod: &Pod, destination: IpAddr) -> Option<usize> {
    let mut winner: Option<(usize, i32, u8)> = None;
    for (index, rule) in rules.iter().enumerate() {
        if !rule.selectors.iter().any(|selector| naive_selects(selector, pod)) {
            continue;
        }
        if rule.excluded.iter().any(|net| net.contains(&destination)) {
            continue;
        }
        let mut longest = None;
        for net in &rule.destinations {
            if net.contains(&destination) && longest.is_none_or(|len| net.prefix_len() > len) {
                longest = Some(net.prefix_len());
            }
        }
        let Some(longest) = longest else { continue };
        let is_better = match winner {
            None => true,
            Some((_, priority, _)) if rule.priority != priority => rule.priority > priority,
            Some((_, _, length)) => longest > length,
        };
        if is_better {
            winner = Some((index, rule.priority, longest));
        }
    }
    winner.map(|(index, ..)| index)
}

fn policy_text(index: usize, rule: &Rule) -> String {
    let selectors: Vec<String> = rule.selectors.iter().map(selector_text).collect();
    let spec = format!(
        "selectors: [{}]\ndestinationCIDRs: {}\nexcludedCIDRs: {}\npriority: {}\npolicyID: {}\n\
         egress: [{{gateway: gw-a, egressIPs: [203.0.113.16]}}]",
        selectors.join(", "),
        list(&rule.destinations),
        list(&rule.excluded),
        rule.priority,
        index + 1,
    );
    // Names in an order of their own: it must not matter.
    policy_with(&format!("p{}", 100 - index), &spec)
}

fn set_of(rules: &[Rule], pods: &[Pod]) -> PolicySet {
    let policies = rules.iter().enumerate().map(|(index, rule)| policy_text(index, rule));
    let pods = pods.iter().enumerate().map(|(index, pod)| pod_text(index, pod));
    let texts: Vec<String> = policies.chain(pods).collect();
    let documents: Vec<&str> =
        [GATEWAY, NODE].into_iter().chain(texts.iter().map(String::as_str)).collect();
    load_good(&documents).0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn compiled_maps_obey_the_rule(
        rules in vec(rule(), 0..6),
        pods in vec(pod(), 1..5),
        random in any::<u32>(),
    ) {
        let compiled = compile_node(&set_of(&rules, &pods), "node1");
        for (index, pod) in pods.iter().enumerate() {
            let source = IpAddr::from([10, 244, 1, index as u8 + 1]);
            let map = compiled.endpoints.get(&source).map(|set| &compiled.sets[set]);
            let is_selected =
                rules.iter().any(|rule| rule.selectors.iter().any(|s| naive_selects(s, pod)));
            prop_assert_eq!(map.is_some(), is_selected);

            for destination in destinations(&rules, random) {
                let expected = naive_winner(&rules, pod, destination);
                let longest = map.and_then(|map| {
                    let matching = map.entries.iter().filter(|(net, _)| net.contains(&destination));
                    matching.max_by_key(|(net, _)| net.prefix_len()).map(|(_, action)| *action)
                });
                prop_assert_eq!(map.and_then(|map| map.lookup(destination)), longest);
                let winner = match longest {
                    Some(Action::Redirect(id)) => Some(id.get() as usize - 1),
                    Some(Action::Exclude) | None => None,
                };
                prop_assert_eq!(winner, expected, "from {} to {}", source, destination);
            }
        }
        let prefixes = |map: &policy::PolicyMap| map.entries.iter().map(|(net, _)| *net).collect::<Vec<_>>();
        for map in compiled.sets.values() {
            let mut sorted = prefixes(map);
            sorted.sort();
            sorted.dedup();
            prop_assert_eq!(prefixes(map), sorted, "each prefix once, in order");
        }
    }

    #[test]
    fn a_set_survives_writing_and_reading(rules in vec(rule(), 0..4), pods in vec(pod(), 0..3)) {
        let set = set_of(&rules, &pods);
        let yaml = policy::parse(&set.to_yaml(), policy::Format::Yaml).unwrap().0;
        prop_assert_eq!(&yaml, &set);
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(policy::parse(&json, policy::Format::Json).unwrap().0, set);
    }
}
