//! The HTTP API.
//!
//! | route | file |
//! |---|---|
//! | `GET`, `PUT /v1/policies`, `GET /v1/policies/history` | `policies` |
//! | `GET`, `DELETE /v1/sessions` | `sessions` |
//! | `GET /v1/stats`, `/v1/ports` | `stats` |
//! | `GET /v1/neighbors` | `neighbours` |
//! | `GET /v1/trace` | `trace` |
//! | `GET /v1/steering` | `steering` |
//! | `GET /healthz`, `/readyz`, `/metrics` | `health` |
//! | `GET /openapi.json` | `openapi` |
//!
//! `admin::server` accepts connections and ends them; `error` says what went wrong; `query`
//! reads what stands behind the `?`, `body` what is sent. Whatever waits for a worker or for the disk
//! runs on a thread of its own, so that health and metrics answer meanwhile.

mod body;
mod error;
mod health;
pub mod neighbours;
mod openapi;
pub mod policies;
mod query;
pub mod sessions;
pub mod stats;
mod steering;
pub mod trace;

use super::{Gateway, listener::ApiListener, metrics::Metrics};
use admin::{
    answer::json,
    server::{self, Limits},
};
use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::StatusCode,
    routing::{MethodRouter, get},
};
use body::Bodies;
use error::ApiError;
use std::{io, sync::Arc};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

/// Policy sets that are parsed and applied at the same time. Each may be large.
const PUTS: usize = 2;

/// What the routes share.
#[derive(Debug)]
struct Api {
    gateway: Arc<Gateway>,
    metrics: Metrics,
    openapi: Bytes,
    puts: Semaphore,
    bodies: Bodies,
}

/// Serves the API until SIGINT or SIGTERM.
pub fn run_until_signal(gateway: &Arc<Gateway>, listener: ApiListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        serve(gateway, listener, async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await
    });
    // A thread that still waits for a worker is not waited for.
    runtime.shutdown_background();
    served
}

/// Serves the API until `stop` ends, and then no longer than it takes to answer what was asked.
pub async fn serve(
    gateway: &Arc<Gateway>,
    listener: ApiListener,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Metrics::new(gateway).map_err(io::Error::other)?;
    let (puts, bodies) = (Semaphore::new(PUTS), Bodies::new(policy::MAX_BYTES));
    let openapi = openapi::text()?;
    let api = Api { gateway: Arc::clone(gateway), metrics, openapi, puts, bodies };
    server::serve(listener, router(Arc::new(api)), Limits::default(), stop).await
}

/// Each is described in `openapi/paths.yaml`.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("/v1/policies", get(policies::get).put(policies::put)),
        ("/v1/policies/history", get(policies::history)),
        ("/v1/sessions", get(sessions::list).delete(sessions::flush)),
        ("/v1/stats", get(stats::stats)),
        ("/v1/ports", get(stats::ports)),
        ("/v1/neighbors", get(neighbours::list)),
        ("/v1/steering", get(steering::steering)),
        ("/v1/trace", get(trace::trace)),
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(openapi::openapi)),
    ]
}

fn router(api: Arc<Api>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(api)
}

async fn unknown_route(request: Request) -> ApiError {
    let message = format!("there is no {}", request.uri().path());
    let paths: Vec<_> = routes().into_iter().map(|(path, _)| path).collect();
    ApiError::new(StatusCode::NOT_FOUND, message).hint(&format!("there are {}", paths.join(", ")))
}

async fn unknown_method(request: Request) -> ApiError {
    ApiError::unknown_method(request.uri().path(), request.method())
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the request ended early: {error}"),
        )
    })
}
