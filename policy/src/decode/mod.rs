//! One document: from its tree to a typed value, with everything that is wrong in it.
//!
//! What other documents must agree with is noted as [`Claims`], whether or not the document is
//! good as a whole: so its other mistakes and those of its neighbours are found in the same run.

mod hosts;
mod metadata;
mod policy;

use crate::document::{
    API_VERSION, DEFAULT_NAMESPACE, EndpointSpec, GatewaySpec, Metadata, NodeSpec, Object,
    PolicySet, PolicySpec, Spec, reference,
};
use crate::error::Errors;
use crate::reader::{Fields, Report, Value};
use crate::tree::Tree;
use crate::validate::Claims;

/// Reads the documents of one load.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// What could be read; a valid set only while there are no errors.
    pub(crate) set: PolicySet,
    pub(crate) claims: Claims,
    pub(crate) errors: Errors,
}

/// What every kind of document has.
struct Head<'t> {
    kind: &'t str,
    /// As written, good or not: so that a reference to it is not called unknown as well.
    name: Option<&'t str>,
    /// `None` when something in it is missing or wrong; the spec is judged all the same.
    metadata: Option<Metadata>,
    spec: Option<Value<'t>>,
}

const KINDS: [&str; 4] = [PolicySpec::KIND, GatewaySpec::KIND, NodeSpec::KIND, EndpointSpec::KIND];

impl Decoder {
    /// Reads one document, the `number`th of the text.
    pub(crate) fn decode(&mut self, tree: &Tree, number: usize) {
        let Decoder { set, claims, errors } = self;
        let report = &mut Report { document: format!("document {number}"), errors };
        let root = Value { tree, path: String::new() };
        let Some(Head { kind, name, metadata, spec }) = head(&root, report) else { return };

        // What a second document of one name says would only collide with the first again.
        let ignored = &mut Claims::default();
        let claims = if claims.document(number, report) { claims } else { ignored };

        match kind {
            PolicySpec::KIND => {
                let spec = spec.and_then(|spec| policy::read(&spec, name, claims, report));
                add(&mut set.policies, metadata, spec);
            }
            GatewaySpec::KIND => {
                claims.gateways.extend(name.map(str::to_owned));
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

/// Reads what all kinds share. `None` when the kind is not known: then nothing can be said of
/// the rest.
fn head<'t>(root: &Value<'t>, report: &mut Report<'_>) -> Option<Head<'t>> {
    let fields = root.map(report)?;
    let kind = known_kind(&fields);
    let name = fields.text_in("metadata", "name");
    // What is no name at all stays out of every message about the document.
    let is_short = |text: &&str| text.len() <= 253;
    if let (Some(kind), Some(name)) = (kind, name.filter(is_short)) {
        let namespace = (kind == EndpointSpec::KIND).then(|| {
            fields.text_in("metadata", "namespace").filter(is_short).unwrap_or(DEFAULT_NAMESPACE)
        });
        report.document = reference(kind, namespace, name);
    }

    check_version(&fields, report);
    let Some(kind) = kind else {
        refuse_kind(&fields, report);
        return None;
    };
    // `status` is the API server's, as is some of the metadata.
    fields.refuse_unknown(&["apiVersion", "kind", "metadata", "spec", "status"], report);
    let metadata = fields.required("metadata", report);
    let metadata = metadata.and_then(|metadata| metadata::read(&metadata, kind, report));
    let spec = fields.required("spec", report);
    Some(Head { kind, name, metadata, spec })
}

fn known_kind<'t>(fields: &Fields<'t>) -> Option<&'t str> {
    fields.optional("kind")?.tree.as_text().filter(|kind| KINDS.contains(kind))
}

fn refuse_kind(fields: &Fields<'_>, report: &mut Report<'_>) {
    let Some(kind) = fields.required("kind", report) else { return };
    let reason = format!("{} is not a kind of document", kind.tree.describe());
    report.error(kind.path, reason, format!("write one of: {}", KINDS.join(", ")));
}

fn check_version(fields: &Fields<'_>, report: &mut Report<'_>) {
    let Some(version) = fields.required("apiVersion", report) else { return };
    if version.tree.as_text() != Some(API_VERSION) {
        let reason = format!("{} is not a version that is known", version.tree.describe());
        report.error(version.path, reason, format!("write {API_VERSION}"));
    }
}
