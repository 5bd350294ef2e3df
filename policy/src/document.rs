//! The four kinds of document, as typed values. Only `parse` makes them from text, so a value
//! in a [`PolicySet`] is valid.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::id::PolicyId;
use crate::selector::Selector;

/// The only `apiVersion` that is accepted.
pub const API_VERSION: &str = "egress-gateway.io/v1alpha1";

/// Every document of one load, valid together. The order within a kind is that of the documents:
/// between equal policies the earlier one wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    pub policies: Vec<EgressPolicy>,
    pub gateways: Vec<EgressGateway>,
    pub nodes: Vec<EgressNode>,
    pub endpoints: Vec<EgressEndpoint>,
}

/// Which pods leave to which destinations by which egress IPs.
pub type EgressPolicy = Object<PolicySpec>;
/// A gateway host.
pub type EgressGateway = Object<GatewaySpec>;
/// A node that may send through the gateways, and with which sources.
pub type EgressNode = Object<NodeSpec>;
/// Outside Kubernetes: what a pod would have been.
pub type EgressEndpoint = Object<EndpointSpec>;

/// A Kubernetes-shaped document: `apiVersion` and `kind` follow from the type of its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<S> {
    pub metadata: Metadata,
    pub spec: S,
}

/// The spec of one kind of document.
pub trait Spec: Serialize {
    const KIND: &'static str;
}

/// The part of Kubernetes' object metadata that means something here.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    /// Set for endpoints only; the other kinds are cluster-scoped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The spec of an [`EgressPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// A pod is selected when any of these selects it.
    pub selectors: Vec<Selector>,
    #[serde(rename = "destinationCIDRs")]
    pub destination_cidrs: Vec<IpNet>,
    /// Taken out of the destinations of this policy; others may still claim them.
    #[serde(rename = "excludedCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub excluded_cidrs: Vec<IpNet>,
    /// The higher one wins, before prefix lengths are compared.
    pub priority: i32,
    pub egress: Vec<Egress>,
    pub failure_mode: FailureMode,
    /// As written; [`EgressPolicy::policy_id`] also knows the default.
    #[serde(rename = "policyID", skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<PolicyId>,
}

/// One gateway of a policy and the addresses that the policy's pods get there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// The name of an [`EgressGateway`].
    pub gateway: String,
    #[serde(rename = "egressIPs")]
    pub egress_ips: Vec<IpAddr>,
    /// These keep their sessions and take no new ones.
    #[serde(rename = "drainingIPs", skip_serializing_if = "Vec::is_empty")]
    pub draining_ips: Vec<IpAddr>,
}

/// What becomes of selected traffic while no gateway of the policy is healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub enum FailureMode {
    /// Dropped: nothing leaves with another source.
    #[default]
    Closed,
    /// Leaves by the node, as without a policy.
    Open,
}

/// The spec of an [`EgressGateway`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Where nodes send their tunnelled packets.
    pub tunnel_address: IpAddr,
}

/// The spec of an [`EgressNode`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// The node's VTEP: the outer source of its packets and the target of the replies.
    pub tunnel_address: IpAddr,
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<IpNet>,
    pub source_check: SourceCheck,
    /// The ranges of all pods of the cluster. Never redirected, like `podCIDRs`.
    #[serde(rename = "clusterCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_cidrs: Vec<IpNet>,
}

/// Which inner sources a gateway accepts from a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub enum SourceCheck {
    /// Those in the node's own `podCIDRs`.
    #[default]
    NodeCIDR,
    /// Those in `clusterCIDRs`: for CNIs that give a node no fixed range.
    ClusterCIDR,
}

/// The spec of an [`EgressEndpoint`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSpec {
    pub ips: Vec<IpAddr>,
    /// The name of the [`EgressNode`] it runs on. Unset: every node takes it for its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Spec for PolicySpec {
    const KIND: &'static str = "EgressPolicy";
}

impl Spec for GatewaySpec {
    const KIND: &'static str = "EgressGateway";
}

impl Spec for NodeSpec {
    const KIND: &'static str = "EgressNode";
}

impl Spec for EndpointSpec {
    const KIND: &'static str = "EgressEndpoint";
}

impl<S: Spec> Object<S> {
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// How errors, warnings and logs call this document: `EgressPolicy/payments`, and
    /// `EgressEndpoint/shop/pod-a` for what lives in a namespace.
    pub fn reference(&self) -> String {
        reference(S::KIND, self.metadata.namespace.as_deref(), self.name())
    }
}

/// How a document is called; see [`Object::reference`].
pub(crate) fn reference(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

impl EgressPolicy {
    /// `spec.policyID`, or a stable hash of the name.
    pub fn policy_id(&self) -> PolicyId {
        self.spec.policy_id.unwrap_or_else(|| PolicyId::from_name(self.name()))
    }

    /// Whether it selects this pod: any of its selectors does.
    pub fn selects(&self, endpoint: &EgressEndpoint) -> bool {
        self.spec.selectors.iter().any(|selector| selector.matches(endpoint))
    }
}

impl EgressEndpoint {
    /// Parsing fills an absent namespace with Kubernetes' own default.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }
}

/// The namespace of an endpoint that names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

impl NodeSpec {
    /// The inner sources that a gateway accepts from this node.
    pub fn source_cidrs(&self) -> &[IpNet] {
        match self.source_check {
            SourceCheck::NodeCIDR => &self.pod_cidrs,
            SourceCheck::ClusterCIDR => &self.cluster_cidrs,
        }
    }
}

impl PolicySet {
    /// The set as YAML documents, which [`parse`](crate::parse()) reads back to an equal set.
    pub fn to_yaml(&self) -> String {
        if self.documents().next().is_none() {
            return "[]\n".to_owned();
        }
        let documents: Vec<_> = self.documents().collect();
        serde_saphyr::to_string_multiple(&documents)
            .expect("maps of text, numbers and lists have a YAML form")
    }

    fn documents(&self) -> impl Iterator<Item = Document<'_>> {
        let policies = self.policies.iter().map(Document::Policy);
        let gateways = self.gateways.iter().map(Document::Gateway);
        let nodes = self.nodes.iter().map(Document::Node);
        let endpoints = self.endpoints.iter().map(Document::Endpoint);
        policies.chain(gateways).chain(nodes).chain(endpoints)
    }
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Document<'a> {
    Policy(&'a EgressPolicy),
    Gateway(&'a EgressGateway),
    Node(&'a EgressNode),
    Endpoint(&'a EgressEndpoint),
}

impl<S: Spec> Serialize for Object<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut object = serializer.serialize_struct("Object", 4)?;
        object.serialize_field("apiVersion", API_VERSION)?;
        object.serialize_field("kind", S::KIND)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        object.end()
    }
}

/// As a list of documents.
impl Serialize for PolicySet {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.collect_seq(self.documents())
    }
}
