//! `/v1/policies`: the whole set, read and replaced as one.

use super::{Api, blocking, error::ApiError, json, query::Query};
use crate::control::{
    PolicyStore,
    policies::{Accepted, ApplyOptions},
    state_dir::SetRecord,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use policy::{Format, PolicySet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};

/// The generation of the set, as a number; `ETag` has it in its own form.
const GENERATION: HeaderName = HeaderName::from_static("egress-gateway-generation");
const YAML: &str = "application/yaml";
const JSON: &str = "application/json";

/// The set in force, or one of those before it, as YAML documents or as a JSON list of them.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut query = Query::of(request.uri())?;
    let wanted = query.value::<u64>("generation", "a number")?;
    query.finish()?;
    let format = answer_format(request.headers())?;
    let gateway = Arc::clone(&api.gateway);
    blocking(move || {
        let accepted = gateway.policies.accepted();
        let older;
        let (generation, set) = match wanted {
            Some(wanted) if wanted != accepted.generation => {
                older = older_set(&gateway.policies, &accepted, wanted)?;
                (wanted, &older)
            }
            _ => (accepted.generation, &accepted.set),
        };
        let (content_type, text) = match format {
            Format::Yaml => (YAML, Ok(set.to_yaml())),
            Format::Json => (JSON, serde_json::to_string(set).map(|text| text + "\n")),
        };
        let text = text.map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("policies: {error}"))
        })?;
        let answer = ([(header::CONTENT_TYPE, content_type)], text).into_response();
        Ok(with_generation(answer, generation))
    })
    .await?
}

fn older_set(
    policies: &PolicyStore,
    accepted: &Accepted,
    generation: u64,
) -> Result<PolicySet, ApiError> {
    let record = accepted.history.iter().find(|record| record.generation == generation);
    let Some(record) = record else {
        let message = format!("the policies of generation {generation} are not kept");
        let hint = match &*accepted.history {
            [] => "none was accepted yet".to_owned(),
            [newest, .., oldest] => {
                format!("there are {} to {}", oldest.generation, newest.generation)
            }
            [only] => format!("there is {}", only.generation),
        };
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).hint(&hint));
    };
    policies.read(record).map_err(|error| {
        // They were valid once: what is wrong is the file, not the request.
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })
}

/// The last sets, newest first: when each was accepted, and what it changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    pub sets: Vec<PastSet>,
}

/// An accepted set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastSet {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub accepted_at: String,
    /// Policies of all gateways in the set.
    pub policies: usize,
    /// Names of policies of this gateway, against the set before.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

impl From<&SetRecord> for PastSet {
    fn from(record: &SetRecord) -> Self {
        let SetRecord { generation, accepted_at, policies, added, changed, removed, .. } =
            record.clone();
        PastSet { generation, accepted_at, policies, added, changed, removed }
    }
}

/// What [`get`] has by `generation`.
pub(super) async fn history(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    let accepted = api.gateway.policies.accepted();
    let sets = accepted.history.iter().map(PastSet::from).collect();
    Ok(json(StatusCode::OK, &History { sets }))
}

/// Replaces the set. The answer comes when every worker runs it.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut query = Query::of(request.uri())?;
    let dry_run = query.flag("dryRun")?;
    query.finish()?;
    let (head, body) = request.into_parts();
    let format = body_format(&head.headers)?;
    let in_force = api.gateway.policies.published().load().generation();
    let expected = expected_generation(&head.headers, in_force)?;

    let text = api.bodies.read(body).await?;
    let _turn = api.puts.acquire().await.map_err(|_| closing())?;
    let gateway = Arc::clone(&api.gateway);
    let began = Instant::now();
    let applied = blocking(move || {
        let options = ApplyOptions { dry_run, expected };
        gateway.policies.apply(&text, format, options, &gateway.workers)
    })
    .await?;
    if !dry_run {
        api.metrics.reloaded(&applied, began.elapsed());
    }
    let applied = applied.inspect_err(|error| tracing::warn!("policies not applied: {error}"))?;
    if !dry_run {
        let (generation, kept, cut) =
            (applied.generation, applied.sessions_kept, applied.sessions_cut);
        let (added, changed, removed) =
            (applied.added.len(), applied.changed.len(), applied.removed.len());
        tracing::info!(generation, added, changed, removed, kept, cut, "policies applied");
    }
    Ok(with_generation(json(StatusCode::OK, &applied), applied.generation))
}

fn with_generation(mut response: Response, generation: u64) -> Response {
    let headers = response.headers_mut();
    headers.insert(GENERATION, generation.into());
    // Digits between quotes are a valid header.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{generation}\"")) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn closing() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping")
}

/// How the body is written, by its Content-Type.
fn body_format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let refused = |reason: String| {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason)
            .hint("send application/yaml (any number of documents) or application/json, in UTF-8")
    };
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(refused(format!("Content-Encoding {encoding:?} is not understood")));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(refused("there is no Content-Type".to_owned()));
    };
    let text = value.to_str().unwrap_or_default();
    let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
    let charset = parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(refused(format!("Content-Type {text}: the charset is not UTF-8")));
    }
    match media_type.trim().to_ascii_lowercase().as_str() {
        YAML => Ok(Format::Yaml),
        JSON => Ok(Format::Json),
        _ => Err(refused(format!("Content-Type {value:?} is not understood"))),
    }
}

/// What the client likes best of the two forms; YAML where it does not care (RFC 9110, 12.5.1).
fn answer_format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').map(str::to_owned));
    }
    if ranges.iter().all(|range| range.trim().is_empty()) {
        return Ok(Format::Yaml);
    }
    let quality = |wanted: &str| {
        let fitting = ranges.iter().filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let precision = match parts.next()? {
                media_type if media_type.eq_ignore_ascii_case(wanted) => 2,
                "application/*" => 1,
                "*/*" => 0,
                _ => return None,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            Some((precision, quality.unwrap_or(1.0)))
        });
        // The most precise range counts, whatever the others say.
        fitting.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality)
    };
    let (yaml, json) = (quality(YAML), quality(JSON));
    match (yaml, json) {
        _ if yaml <= 0.0 && json <= 0.0 => {
            let message = "the policies are there as application/yaml and as application/json";
            Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, message))
        }
        _ if json > yaml => Ok(Format::Json),
        _ => Ok(Format::Yaml),
    }
}

/// The generation that has to be in force, by If-Match.
fn expected_generation(headers: &HeaderMap, in_force: u64) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match tag {
        None => Err(ApiError::bad_request(format!("If-Match {value:?} is not one entity tag"))
            .hint("send the ETag of the last answer, with its quotes")),
        Some(tag) => match tag.parse() {
            Ok(generation) => Ok(Some(generation)),
            Err(_) => {
                let message = format!(
                    "the policies are at generation {in_force}, not {tag}: read them again"
                );
                Err(ApiError::new(StatusCode::PRECONDITION_FAILED, message))
            }
        },
    }
}
