//! `metadata` of any kind of document.

use crate::document::{DEFAULT_NAMESPACE, EndpointSpec, Metadata, Spec};
use crate::reader::{Report, Value};
use crate::values;

/// Accepted fields. What follows the annotations is written by the API server: it is accepted, so
/// that the output of `kubectl get -o yaml` can be used as it is, and left out, as it means
/// nothing here.
const KNOWN: [&str; 13] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

pub(super) fn read(value: &Value<'_>, kind: &str, report: &mut Report<'_>) -> Option<Metadata> {
    let fields = value.fields(&KNOWN, report)?;
    let name = fields.required("name", report).and_then(|name| values::name(&name, report));
    let namespace = match fields.optional("namespace") {
        Some(namespace) if kind != EndpointSpec::KIND => {
            report.error(namespace.path, format!("{kind} is cluster-scoped"), "remove it");
            None
        }
        Some(namespace) => values::namespace(&namespace, report),
        None => (kind == EndpointSpec::KIND).then(|| DEFAULT_NAMESPACE.to_owned()),
    };
    let labels = values::labels(fields.optional("labels"), report);
    let annotations = values::annotations(fields.optional("annotations"), report);
    Some(Metadata { name: name?, namespace, labels, annotations })
}
