//! Random policies and pods as a test thinks of them, and their documents' parts. What decides here
//! shares no code with the crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

use super::ENDPOINT;

/// A policy as a test thinks of it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) selectors: Vec<PodsWith>,
    pub(crate) destinations: Vec<IpNet>,
    pub(crate) excluded: Vec<IpNet>,
    pub(crate) priority: i32,
}

/// Selects by namespace and by one label; `None` of both is a selector of all pods.
#[derive(Debug, Clone)]
pub(crate) struct PodsWith {
    pub(crate) namespace: Option<u8>,
    pub(crate) label: Option<Label>,
}

#[derive(Debug, Clone)]
pub(crate) enum Label {
    Is(u8),
    OneOf(Vec<u8>),
    NoneOf(Vec<u8>),
    Present,
    Absent,
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: u8,
    pub(crate) app: Option<u8>,
}

pub(crate) fn naive_selects(selector: &PodsWith, pod: &Pod) -> bool {
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
pub(crate) fn net() -> impl Strategy<Value = IpNet> {
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

pub(crate) fn nets(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<IpNet>> {
    vec(net(), count).prop_map(|mut nets| {
        nets.sort();
        nets.dedup();
        nets
    })
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
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

pub(crate) fn pod() -> impl Strategy<Value = Pod> {
    (0u8..2, proptest::option::of(0u8..3)).prop_map(|(namespace, app)| Pod { namespace, app })
}

/// A random address, and the first and last of every network with their neighbours outside.
pub(crate) fn destinations(rules: &[Rule], random: u32) -> Vec<IpAddr> {
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

pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{}\"", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

pub(crate) fn selector_text(PodsWith { namespace, label }: &PodsWith) -> String {
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

pub(crate) fn pod_text(index: usize, pod: &Pod) -> String {
    let label = pod.app.map_or(String::new(), |app| format!("app: app-{app}"));
    ENDPOINT
        .replace("pod-a", &format!("pod-{index}"))
        .replace("shop", &format!("ns-{}", pod.namespace))
        .replace("app: payments", &label)
        .replace("10.244.1.10", &format!("10.244.1.{}", index + 1))
}
