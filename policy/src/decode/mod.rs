//! One document: from its tree to a typed value, with everything that is wrong in it.
//!
//! What other documents must agree with is noted as [`Claims`], whether or not the document is
//! good as a whole: so its other mistakes and those of its neighbours are found in the same run.

mod cilium;
mod egress;
mod hosts;
mod metadata;
mod policy;
mod selectors;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::document::{
    API_VERSION, DEFAULT_NAMESPACE, EndpointSpec, GatewaySpec, Metadata, NodeSpec, Object,
    PolicySet, PolicySpec, Spec, reference,
};
use crate::error::Errors;
use crate::path::Path;
use crate::reader::{Fields, Report, Value};
use crate::tree::Tree;
use crate::validate::{Claims, Origin};

/// Reads the documents of one load.
#[derive(Debug, Default)]
pub(crate) struct Decoder<'t> {
    /// What could be read; a valid set only while there are no errors.
    pub(crate) set: PolicySet,
    pub(crate) claims: Claims,
    pub(crate) errors: Errors,
    /// What node selectors of Cilium's policies choose from: names and labels, good or not.
    gateways: BTreeMap<&'t str, BTreeMap<&'t str, &'t str>>,
    /// How many exclusions Cilium's policies have become.
    carved: usize,
}

/// What every kind of document has.
struct Head<'v> {
    /// As written, good or not: so that a reference to it is not called unknown as well.
    name: Option<&'v str>,
    /// `None` when something in it is missing or wrong; the spec is judged all the same.
    metadata: Option<Metadata>,
    spec: Option<Value<'v>>,
}

const KINDS: [&str; 5] =
    [PolicySpec::KIND, GatewaySpec::KIND, NodeSpec::KIND, EndpointSpec::KIND, cilium::KIND];

impl<'t> Decoder<'t> {
    /// Notes what must be known of a document before any other is decoded.
    pub(crate) fn announce(&mut self, tree: &'t Tree<'t>) {
        let name = tree.get("metadata").and_then(|metadata| metadata.get("name"));
        let (Some(GatewaySpec::KIND), Some(name)) = (known_kind(tree), name) else { return };
        let Some(name) = name.as_text() else { return };
        let labels = tree.get("metadata").and_then(|metadata| metadata.get("labels"));
        let entries = if let Some(Tree::Map(entries)) = labels { entries.as_slice() } else { &[] };
        let texts = entries.iter().filter_map(|(key, value)| Some((&**key, value.as_text()?)));
        self.gateways.entry(name).or_insert_with(|| texts.collect());
        self.claims.gateways.insert(name.to_owned());
    }

    /// Reads one document, the `number`th of its text.
    pub(crate) fn decode(&mut self, file: Option<&str>, number: usize, tree: &Tree<'_>) {
        let Decoder { set, claims, errors, gateways, carved } = self;
        let kind = known_kind(tree);
        let called = kind.and_then(|kind| Some((kind, identity(kind, tree)?)));
        let origin = Origin {
            file: file.map(str::to_owned),
            name: match called {
                Some((kind, (namespace, name))) => reference(kind, namespace, name),
                None => format!("document {number}"),
            },
            number,
        };
        let report = &mut Report { origin: Rc::new(origin), errors };
        let root = Value { tree, path: Path::Root };
        let Some(fields) = root.map(report) else { return };
        let head = head(&fields, kind, report);
        let (Some(kind), Head { name, metadata, spec }) = (kind, head) else { return };

        // What a second document of one name says would only collide with the first again.
        let ignored = &mut Claims::default();
        let is_first = called.is_none_or(|(kind, (namespace, name))| {
            let kind = if kind == cilium::KIND { PolicySpec::KIND } else { kind };
            claims.document(reference(kind, namespace, name), report)
        });
        let claims = if is_first { claims } else { ignored };

        match kind {
            PolicySpec::KIND => {
                let spec = spec.and_then(|spec| policy::read(&spec, name, claims, report));
                add(&mut set.policies, metadata, spec);
            }
            cilium::KIND => {
                let spec = spec
                    .and_then(|spec| cilium::read(&spec, name, gateways, carved, claims, report));
                add(&mut set.policies, metadata, spec);
            }
            GatewaySpec::KIND => {
                let spec = spec.and_then(|spec| hosts::gateway(&spec, claims, report));
                add(&mut set.gateways, metadata, spec);
            }
            NodeSpec::KIND => {
                claims.nodes.extend(name.map(str::to_owned));
                let spec = spec.and_then(|spec| hosts::node(&spec, claims, report));
                add(&mut set.nodes, metadata, spec);
            }
            _ => {
                let spec = spec.and_then(|spec| hosts::endpoint(&spec, claims, report));
                add(&mut set.endpoints, metadata, spec);
            }
        }
    }
}

fn add<S>(objects: &mut Vec<Object<S>>, metadata: Option<Metadata>, spec: Option<S>) {
    if let (Some(metadata), Some(spec)) = (metadata, spec) {
        objects.push(Object { metadata, spec });
    }
}

fn known_kind<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    tree.get("kind")?.as_text().filter(|kind| KINDS.contains(kind))
}

/// Namespace and name, as far as they can be used to call the document by.
fn identity<'t>(kind: &str, tree: &'t Tree<'_>) -> Option<(Option<&'t str>, &'t str)> {
    // What is no name at all stays out of every message about the document.
    let text = |key| {
        let text = tree.get("metadata")?.get(key)?.as_text();
        text.filter(|text| text.len() <= 253)
    };
    let namespace =
        (kind == EndpointSpec::KIND).then(|| text("namespace").unwrap_or(DEFAULT_NAMESPACE));
    Some((namespace, text("name")?))
}

/// Reads what all kinds share. Without a kind nothing can be said of the rest.
fn head<'v>(fields: &Fields<'v>, kind: Option<&str>, report: &mut Report<'_>) -> Head<'v> {
    let version = if kind == Some(cilium::KIND) { cilium::API_VERSION } else { API_VERSION };
    check_version(fields, version, report);
    let Some(kind) = kind else {
        refuse_kind(fields, report);
        return Head { name: None, metadata: None, spec: None };
    };
    // `status` is the API server's, as is some of the metadata.
    fields.refuse_unknown(&["apiVersion", "kind", "metadata", "spec", "status"], report);
    let metadata = fields.required("metadata", report);
    let name = metadata.and_then(|metadata| metadata.tree.get("name")?.as_text());
    let metadata = metadata.and_then(|metadata| metadata::read(&metadata, kind, report));
    Head { name, metadata, spec: fields.required("spec", report) }
}

fn refuse_kind(fields: &Fields<'_>, report: &mut Report<'_>) {
    let Some(kind) = fields.required("kind", report) else { return };
    let reason = format!("{} is not a kind of document", kind.tree.describe());
    report.error(kind.path, reason, format!("write one of: {}", KINDS.join(", ")));
}

fn check_version(fields: &Fields<'_>, expected: &str, report: &mut Report<'_>) {
    let Some(version) = fields.required("apiVersion", report) else { return };
    if version.tree.as_text() != Some(expected) {
        let reason = format!("{} is not a version that is known", version.tree.describe());
        report.error(version.path, reason, format!("write {expected}"));
    }
}
