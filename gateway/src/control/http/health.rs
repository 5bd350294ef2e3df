//! Whether the process lives, whether it forwards, and what it counted.

use super::{Api, error::ApiError, json};
use crate::control::{Gateway, WorkerHandle};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// 200 while the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether packets are forwarded.
#[derive(Serialize, JsonSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Every reason why not.
    reasons: Vec<String>,
}

/// 200 when packets are forwarded; else 503 with every reason why not.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Response {
    let reasons = reasons(&api.gateway);
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &Readiness { ready: reasons.is_empty(), reasons })
}

fn reasons(gateway: &Gateway) -> Vec<String> {
    let mut reasons = Vec::new();
    let generation = gateway.policies.published().load().generation();
    if generation == 0 {
        reasons.push("no policy set was accepted yet: apply one".to_owned());
    }
    reasons.extend(gateway.self_test.report().complaints());
    for port in &gateway.ports {
        if !port.watch.link_is_up() {
            reasons.push(format!("the link of the {} port ({}) is down", port.side, port.device));
        }
    }
    for WorkerHandle { id, core, .. } in &gateway.workers {
        if gateway.watchdog.is_stalled(*id) {
            reasons.push(format!("worker {id} on core {core} stands still"));
        }
    }
    for worker in &gateway.workers {
        let running = worker.counters.generation.get();
        if running < generation {
            let id = worker.id;
            reasons.push(format!("worker {id} runs policy generation {running}, not {generation}"));
        }
    }
    reasons
}

/// For Prometheus.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let text = api.metrics.text().map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
