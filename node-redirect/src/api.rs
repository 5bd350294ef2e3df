//! The agent's HTTP API, and the one request that `status` makes of it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::list;
use crate::metrics;
use crate::state::Shared;

pub async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on api.listen {listen}; is the port in use? (`ss -ltnp`)")
    })
}

pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/map", get(map))
        .route("/v1/status", get(status))
        .with_state(shared);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("the API ended: {error}");
    }
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
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
}

/// One GET from a running agent.
pub async fn fetch(agent: SocketAddr, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect(agent).await.with_context(|| format!("no agent on {agent}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::get(path).header(header::HOST, agent.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let code = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !code.is_success() {
        bail!("{agent}{path} answers {code}");
    }
    Ok(body)
}
