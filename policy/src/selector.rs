//! Which pods a policy is about, in Kubernetes' words.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::document::EgressEndpoint;

/// The label that every namespace bears in Kubernetes, and the only one known of a namespace
/// outside of it.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The label through which a pod selector can ask for the namespace, as in Cilium.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Selects the pods that both of its parts match. An absent part matches all, and at least one
/// is present; a part that is present and empty matches all as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// Matches the label sets that meet every requirement of both forms.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One item of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// At least one for `In` and `NotIn`, none for the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a [`Requirement`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Operator {
    In,
    /// Also true for a label that is absent, as in Kubernetes.
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether it selects this pod.
    pub fn matches(&self, endpoint: &EgressEndpoint) -> bool {
        let namespace = |key: &str| (key == NAMESPACE_NAME).then_some(endpoint.namespace());
        let pod = |key: &str| match key {
            POD_NAMESPACE => Some(endpoint.namespace()),
            _ => endpoint.metadata.labels.get(key).map(String::as_str),
        };
        self.namespace_selector.as_ref().is_none_or(|selector| selector.matches(namespace))
            && self.pod_selector.as_ref().is_none_or(|selector| selector.matches(pod))
    }
}

impl LabelSelector {
    /// Whether the label set behind `value_of` meets every requirement.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels.iter().all(|(key, value)| value_of(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| {
                requirement.operator.holds(value_of(&requirement.key), &requirement.values)
            })
    }
}

impl Operator {
    fn holds(self, value: Option<&str>, values: &[String]) -> bool {
        let listed = || value.is_some_and(|value| values.iter().any(|listed| listed == value));
        match self {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
