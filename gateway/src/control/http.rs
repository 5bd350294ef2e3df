//! The HTTP API.

use super::{Gateway, listener::ApiListener};
use axum::{Router, routing::get};
use std::{io, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// Serves the API until SIGINT or SIGTERM.
pub fn run_until_signal(gateway: &Arc<Gateway>, listener: ApiListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router =
        Router::new().route("/healthz", get(|| async { "ok\n" })).with_state(Arc::clone(gateway));
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        match listener {
            ApiListener::Tcp(socket) => {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                axum::serve(socket, router).with_graceful_shutdown(stop).await
            }
            ApiListener::Unix(socket, _file) => {
                let socket = tokio::net::UnixListener::from_std(socket)?;
                axum::serve(socket, router).with_graceful_shutdown(stop).await
            }
        }
    })
}
