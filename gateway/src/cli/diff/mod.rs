//! What differs between two sets of documents, field by field.

use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// A document that is new, gone or changed.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    /// `EgressPolicy/payments`
    document: String,
    kind: Kind,
    /// Of a changed document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Added,
    Changed,
    Removed,
}

/// A field with what it is and what it would be.
#[derive(Debug, PartialEq, Serialize)]
struct Field {
    path: String,
    old: Option<Value>,
    new: Option<Value>,
}

/// The changes from one set to another, by name. Both are lists of documents in the form that the
/// gateway gives out, in which every default is written.
pub(super) fn changes(old: &[Value], new: &[Value]) -> Vec<Change> {
    let (old, new) = (by_name(old), by_name(new));
    let mut changes = Vec::new();
    for (name, document) in &old {
        let change = |kind, fields| Change { document: name.clone(), kind, fields };
        match new.get(name) {
            None => changes.push(change(Kind::Removed, Vec::new())),
            Some(new) if new != document => {
                let mut fields = Vec::new();
                compare(String::new(), Some(document), Some(new), &mut fields);
                changes.push(change(Kind::Changed, fields));
            }
            Some(_) => {}
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    changes.extend(added.map(|name| Change {
        document: name.clone(),
        kind: Kind::Added,
        fields: Vec::new(),
    }));
    changes.sort_by(|a, b| a.document.cmp(&b.document));
    changes
}

fn by_name(documents: &[Value]) -> BTreeMap<String, &Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = |document: &Value| {
        let metadata = &document["metadata"];
        [text(&document["kind"]), text(&metadata["namespace"]), text(&metadata["name"])]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    };
    documents.iter().map(|document| (name(document), document)).collect()
}

/// Objects are compared key by key, everything else as a whole: a list with one more element reads
/// better in full than as a shift of all behind it.
fn compare(path: String, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<Field>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        for key in keys(old, new) {
            compare(format!("{path}.{key}"), old.get(key), new.get(key), fields);
        }
        return;
    }
    if let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, new)
        && old.len() == new.len()
        && old.iter().chain(new).all(Value::is_object)
    {
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            compare(format!("{path}[{index}]"), Some(old), Some(new), fields);
        }
        return;
    }
    fields.push(Field { path, old: old.cloned(), new: new.cloned() });
}

fn keys<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a str> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).map(String::as_str).collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.kind {
            Kind::Added => '+',
            Kind::Changed => '~',
            Kind::Removed => '-',
        };
        writeln!(f, "{mark} {}", self.document)?;
        for Field { path, old, new } in &self.fields {
            writeln!(f, "    {path}")?;
            for (mark, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    writeln!(f, "    {mark} {value}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(name: &str, spec: Value) -> Value {
        json!({"kind": "EgressPolicy", "metadata": {"name": name}, "spec": spec})
    }

    #[test]
    fn names_documents_and_fields() {
        let old = [
            policy("a", json!({"priority": 0, "egress": [{"gateway": "g", "egressIPs": ["1"]}]})),
            policy("b", json!({})),
            policy("c", json!({})),
        ];
        let new = [
            policy("c", json!({})),
            policy(
                "a",
                json!({"priority": 0, "egress": [{"gateway": "g", "egressIPs": ["1", "2"]}]}),
            ),
            policy("d", json!({})),
        ];
        let text: String = changes(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            "~ EgressPolicy/a\n    .spec.egress[0].egressIPs\n    - [\"1\"]\n    + [\"1\",\"2\"]\n\
             - EgressPolicy/b\n+ EgressPolicy/d\n"
        );
        assert_eq!(changes(&new, &new), []);
    }
}
