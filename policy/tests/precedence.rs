//! The compiled maps against the rule as it is written, for random policies, pods and packets.
//!
//! The rule: for one pod and one destination, among the policies that select the pod, contain the
//! destination and do not exclude it, the one wins that has the higher priority, then the longer
//! matching prefix, then comes earlier. [`naive_winner`] follows that sentence and shares no code
//! with the compiler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::*;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::{Action, PolicySet, compile_node};
use proptest::collection::vec;
use proptest::prelude::*;

/// A policy as a test thinks of it.
#[derive(Debug, Clone)]
struct Rule {
    selectors: Vec<PodsWith>,
    destinations: Vec<IpNet>,
    excluded: Vec<IpNet>,
    priority: i32,
}

/// Selects by namespace and by one label; `None` of both is a selector of all pods.
#[derive(Debug, Clone)]
struct PodsWith {
    namespace: Option<u8>,
    label: Option<Label>,
}

#[derive(Debug, Clone)]
enum Label {
    Is(u8),
    OneOf(Vec<u8>),
    NoneOf(Vec<u8>),
    Present,
    Absent,
}

#[derive(Debug, Clone)]
struct Pod {
    namespace: u8,
    app: Option<u8>,
}

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

fn naive_selects(selector: &PodsWith, pod: &Pod) -> bool {
    let label = match &selector.label {
        None => true,
        Some(Label::Is(app)) => pod.app == Some(*app),
        Some(Label::OneOf(apps)) => pod.app.is_some_and(|app| apps.contains(&app)),
        Some(Label::NoneOf(apps)) => pod.app.is_none_or(|app| !apps.contains(&app)),
        Some(Label::Present) => pod.app.is_some(),
        Some(Label::Absent) => pod.app.is_none(),
    };
    label && selector.namespace.is_none_or(|namespace| namespace == pod.namespace)
}

/// Networks that often contain each other: few distinct bits, all lengths.
fn net() -> impl Strategy<Value = IpNet> {
    let v4 = (0u32..8, 0u8..=32).prop_map(|(bits, length)| {
        let address = Ipv4Addr::from(bits << 29 | bits << 8 | bits);
        IpNet::from(Ipv4Net::new(address, length).unwrap()).trunc()
    });
    let v6 = (0u128..4, 0u8..=128).prop_map(|(bits, length)| {
        // 2000::/3, so that no network is IPv4-mapped.
        let address = Ipv6Addr::from(1 << 125 | bits << 123 | bits << 64 | bits);
        IpNet::from(Ipv6Net::new(address, length).unwrap()).trunc()
    });
    prop_oneof![3 => v4, 1 => v6]
}

fn nets(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<IpNet>> {
    vec(net(), count).prop_map(|mut nets| {
        nets.sort();
        nets.dedup();
        nets
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let label = prop_oneof![
        (0u8..3).prop_map(Label::Is),
        vec(0u8..3, 1..3).prop_map(Label::OneOf),
        vec(0u8..3, 1..3).prop_map(Label::NoneOf),
        Just(Label::Present),
        Just(Label::Absent),
    ];
    let selector = (proptest::option::of(0u8..2), proptest::option::of(label))
        .prop_map(|(namespace, label)| PodsWith { namespace, label });
    (vec(selector, 1..3), nets(1..5), nets(0..4), -1..2).prop_map(
        |(selectors, destinations, excluded, priority)| Rule {
            selectors,
            destinations,
            excluded,
            priority,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    (0u8..2, proptest::option::of(0u8..3)).prop_map(|(namespace, app)| Pod { namespace, app })
}

/// A random address, and the first and last of every network with their neighbours outside.
fn destinations(rules: &[Rule], random: u32) -> Vec<IpAddr> {
    let nets = rules.iter().flat_map(|rule| rule.destinations.iter().chain(&rule.excluded));
    let ends = nets.flat_map(|net| {
        let (first, last) = (net.network(), net.broadcast());
        let step = |address: IpAddr, by: i8| match address {
            IpAddr::V4(v4) => {
                IpAddr::from((u32::from(v4).wrapping_add_signed(by.into())).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                IpAddr::from((u128::from(v6).wrapping_add_signed(by.into())).to_be_bytes())
            }
        };
        [first, last, step(first, -1), step(last, 1)]
    });
    ends.chain([IpAddr::from(random.to_be_bytes())]).collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{}\"", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn selector_text(PodsWith { namespace, label }: &PodsWith) -> String {
    let apps = |apps: &[u8]| list(&apps.iter().map(|app| format!("app-{app}")).collect::<Vec<_>>());
    let expression = |operator: &str, values: &str| {
        format!("{{matchExpressions: [{{key: app, operator: {operator}{values}}}]}}")
    };
    let pods = match label {
        None => "{}".to_owned(),
        Some(Label::Is(app)) => format!("{{matchLabels: {{app: app-{app}}}}}"),
        Some(Label::OneOf(list)) => expression("In", &format!(", values: {}", apps(list))),
        Some(Label::NoneOf(list)) => expression("NotIn", &format!(", values: {}", apps(list))),
        Some(Label::Present) => expression("Exists", ""),
        Some(Label::Absent) => expression("DoesNotExist", ""),
    };
    let namespaces = namespace.map_or("{}".to_owned(), |namespace| {
        format!("{{matchLabels: {{kubernetes.io/metadata.name: ns-{namespace}}}}}")
    });
    format!("{{podSelector: {pods}, namespaceSelector: {namespaces}}}")
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

fn pod_text(index: usize, pod: &Pod) -> String {
    let label = pod.app.map_or(String::new(), |app| format!("app: app-{app}"));
    ENDPOINT
        .replace("pod-a", &format!("pod-{index}"))
        .replace("shop", &format!("ns-{}", pod.namespace))
        .replace("app: payments", &label)
        .replace("10.244.1.10", &format!("10.244.1.{}", index + 1))
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
