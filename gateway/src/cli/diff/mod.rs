//! What differs between two sets of documents, field by field. `text` prints it, `order` finds out where it
//! matters that documents stand in another order, and `command` is `policy diff`.

mod command;
mod order;
mod summary;
mod text;

pub(super) use command::{DiffArgs, run};

use order::{OrderChange, order_changes};
use text::Printer;

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A document that is new, gone or changed.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    /// `EgressPolicy/payments`
    document: String,
    kind: Kind,
    /// What a new or removed document is, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
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
fn changes(old: &[Value], new: &[Value]) -> Vec<Change> {
    let (old, new) = (by_name(old), by_name(new));
    let whole = |name: &String, kind, document: &Value| Change {
        document: name.clone(),
        kind,
        summary: Some(summary::of(document)),
        fields: Vec::new(),
    };
    let mut changes = Vec::new();
    for (name, document) in &old {
        match new.get(name) {
            None => changes.push(whole(name, Kind::Removed, document)),
            Some(new) if new != document => {
                let mut fields = Vec::new();
                compare(String::new(), Some(document), Some(new), &mut fields);
                let (document, kind) = (name.clone(), Kind::Changed);
                changes.push(Change { document, kind, summary: None, fields });
            }
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    changes.extend(added.map(|(name, document)| whole(name, Kind::Added, document)));
    changes.sort_by(|a, b| a.document.cmp(&b.document));
    changes
}

/// How many of them are of that kind.
fn count(changes: &[Change], kind: Kind) -> usize {
    changes.iter().filter(|change| change.kind == kind).count()
}

fn by_name(documents: &[Value]) -> BTreeMap<String, &Value> {
    documents.iter().map(|document| (name_of(document), document)).collect()
}

/// `EgressEndpoint/shop/pod-a`, the namespace where it has one.
fn name_of(document: &Value) -> String {
    let metadata = &document["metadata"];
    let parts = [&document["kind"], &metadata["namespace"], &metadata["name"]];
    parts.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/")
}

/// Objects are compared key by key, and lists of objects element by element: by the gateway that each is
/// for, or by their place where there are equally many. All else is compared as a whole.
fn compare(path: String, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<Field>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in keys(old, new) {
                compare(format!("{path}.{key}"), old.get(key), new.get(key), fields);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if let (Some(old), Some(new)) = (by_gateway(old), by_gateway(new)) =>
        {
            let before = fields.len();
            let added = new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name));
            for (gateway, _) in old.iter().chain(added) {
                let of = |list: &[(&str, &Value)]| {
                    list.iter().find(|(name, _)| name == gateway).map(|(_, value)| (*value).clone())
                };
                let (old, new) = (of(&old), of(&new));
                compare(format!("{path}[{gateway}]"), old.as_ref(), new.as_ref(), fields);
            }
            if fields.len() == before {
                // The same elements in another order.
                let names = |list: &[(&str, &Value)]| list.iter().map(|(name, _)| *name).collect();
                fields.push(Field { path, old: Some(names(&old)), new: Some(names(&new)) });
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if old.len() == new.len() && old.iter().chain(new).all(Value::is_object) =>
        {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(format!("{path}[{index}]"), Some(old), Some(new), fields);
            }
        }
        _ => fields.push(Field { path, old: old.cloned(), new: new.cloned() }),
    }
}

/// The elements with the gateway that each is for, where each has one of its own.
fn by_gateway(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Option<Vec<(&str, &Value)>> =
        list.iter().map(|element| Some((element.get("gateway")?.as_str()?, element))).collect();
    let named = named.filter(|named| !named.is_empty())?;
    let mut names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    (names.len() == named.len()).then_some(named)
}

fn keys<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a str> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
