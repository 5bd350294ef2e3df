//! The agent's HTTP API, and the one request that `status` makes of it.

use std::sync::Arc;
use std::time::Duration;

use admin::answer::ApiError;
use admin::client::Api;
use admin::listen::Listen;
use admin::listener::ApiListener;
use admin::server::{self, Limits};
use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::body::Bytes;

use crate::list;
use crate::metrics;
use crate::state::Shared;

const ROUTES: [&str; 5] = ["/v1/map", "/v1/status", "/healthz", "/readyz", "/metrics"];
/// For the agent to answer; what it is asked for lies in memory.
const ANSWER: Duration = Duration::from_secs(10);

pub fn bind(listen: &Listen) -> Result<ApiListener> {
    ApiListener::bind(listen).context("the API cannot start; is the port in use? (`ss -lntxp`)")
}

/// Serves until the process ends.
pub async fn serve(listener: ApiListener, shared: Arc<Shared>) {
    let served = server::serve(listener, routes(shared), Limits::default(), std::future::pending());
    if let Err(error) = served.await {
        tracing::error!("the API ended: {error}");
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/map", get(map))
        .route("/v1/status", get(status))
        .fallback(|request: Request| async move {
            ApiError::unknown_route(request.uri().path(), &ROUTES)
        })
        .method_not_allowed_fallback(|request: Request| async move {
            ApiError::unknown_method(request.uri().path(), request.method())
        })
        .with_state(shared)
}

/// Ready is whoever redirects. Files that are not valid do not change that: the set before is in force.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let status = shared.status();
    match (status.ready, &status.node_error) {
        (true, None) => "ready\n".into_response(),
        (_, Some(problem)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response()
        }
        (false, None) => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match metrics::text(&shared) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => failed(&error),
    }
}

async fn map(State(shared): State<Arc<Shared>>) -> Response {
    let names = shared.names().clone();
    match list::rows(&shared.maps, &names) {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => failed(&error),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let status = shared.status().clone();
    Json(status).into_response()
}

fn failed(error: &anyhow::Error) -> Response {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response()
}

/// One GET from the agent that listens there.
pub async fn fetch(agent: &Listen, path: &str) -> Result<Bytes> {
    let request = hyper::Request::get(path).body(Default::default())?;
    let answer = Api::from(agent).ask(request, ANSWER).await?;
    if !answer.status.is_success() {
        bail!("{agent}{path} answers {}", answer.status);
    }
    Ok(answer.body)
}
