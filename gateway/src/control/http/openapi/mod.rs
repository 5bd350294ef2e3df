//! `/openapi.json`: what this API takes and answers, for clients and for machines that test it.
//!
//! `paths.yaml` is written by hand: the routes take their queries and headers apart themselves, so there is
//! nothing from which their parameters could be derived. The schemas of the answers are derived from the
//! types that are sent, and those of the policy documents are the file that editors use.

use super::{
    Api, error::ApiError, health::Readiness, neighbours, policies, query::Query, sessions, stats,
    steering::Steering, trace,
};
use crate::control::Applied;
use axum::{
    body::Bytes,
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use policy::PolicyError;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};
use std::{io, sync::Arc};

const PATHS: &str = include_str!("paths.yaml");
const DOCUMENTS: &str = include_str!("../../../../../configs/policy.schema.json");
const SCHEMAS: &str = "/components/schemas";

pub(super) async fn openapi(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    Ok(([(header::CONTENT_TYPE, "application/json")], api.openapi.clone()).into_response())
}

/// The document as it is sent.
pub(super) fn text() -> io::Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(&document()?)?;
    text.push(b'\n');
    Ok(text.into())
}

fn document() -> io::Result<Value> {
    let mut document: Value = serde_saphyr::from_str(PATHS).map_err(io::Error::other)?;
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let schemas = document["components"]["schemas"].as_object_mut();
    let schemas = schemas.ok_or_else(|| io::Error::other("paths.yaml has no schemas"))?;
    schemas.extend(answers());
    schemas.extend(documents()?);
    Ok(document)
}

/// The types of the answers, by name.
fn answers() -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = SCHEMAS.into();
    let mut generator = settings.into_generator();
    for add in ANSWERS {
        add(&mut generator);
    }
    generator.take_definitions(true)
}

const ANSWERS: [fn(&mut SchemaGenerator); 11] = [
    add::<Applied>,
    add::<policies::History>,
    add::<PolicyError>,
    add::<sessions::Sessions>,
    add::<sessions::Flushed>,
    add::<stats::Stats>,
    add::<stats::Ports>,
    add::<neighbours::Neighbours>,
    add::<Steering<'_>>,
    add::<trace::Trace>,
    add::<Readiness>,
];

/// The type with all that it consists of.
fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _: Schema = generator.subschema_for::<T>();
}

/// The definitions of the file, which refer to each other within it, and the whole as `PolicyDocuments`.
fn documents() -> io::Result<Map<String, Value>> {
    let mut whole: Map<String, Value> =
        serde_json::from_str(&DOCUMENTS.replace("#/$defs/", &format!("#{SCHEMAS}/")))?;
    let definitions = whole.remove("$defs").unwrap_or_default();
    whole.remove("$schema");
    let mut schemas: Map<String, Value> = serde_json::from_value(definitions)?;
    schemas.insert("PolicyDocuments".to_owned(), whole.into());
    Ok(schemas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document().unwrap();
        let described: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let served: BTreeSet<&str> =
            super::super::routes().into_iter().map(|(path, _)| path).collect();
        assert_eq!(described, served);
    }

    /// Two types of one name would be told apart by a number behind it.
    #[test]
    fn every_reference_is_there_and_every_name_is_one_type() {
        let document = document().unwrap();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        for reference in &references {
            let path = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(path).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
            let reference = format!("#{SCHEMAS}/{name}");
            assert!(references.contains(&reference), "nothing refers to {name}");
        }
    }

    fn collect(value: &Value, references: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    references.insert(reference.clone());
                }
                map.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
