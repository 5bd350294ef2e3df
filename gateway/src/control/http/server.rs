//! Connections: how many, how slow they may be, and how they end.

use crate::control::listener::{ApiListener, SocketFile};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 128;
/// For a request's head, from the first byte or from the answer before: an idle connection ends too.
const HEAD: Duration = Duration::from_secs(30);
/// How long one connection is served; clients connect again.
const LIFE: Duration = Duration::from_secs(600);
/// How long what was asked may take to be answered when the connection or the process is to end.
const DRAIN: Duration = Duration::from_secs(5);
/// Before the next attempt where the process has no file descriptor left.
const RETRY: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    listener: ApiListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (listener, _file) = Listener::of(listener)?;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            // Finished ones are taken off, so that the set does not grow.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &free) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("the API cannot accept a connection: {error}");
                sleep(RETRY).await;
                continue;
            }
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        connections.spawn(async move {
            connection(stream, router, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn accept(
    listener: &Listener,
    free: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Stream>, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

async fn connection(stream: Box<dyn Stream>, router: Router, mut stopped: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let end = async {
        tokio::select! {
            // An error is the end of the process, too.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(LIFE) => {}
        }
    };
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = end => None,
    };
    let served = match served {
        Some(served) => Ok(served),
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN, connection).await
        }
    };
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("an API connection broke: {error}"),
        Err(_) => debug!("an API connection was ended"),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn of(listener: ApiListener) -> io::Result<(Self, Option<SocketFile>)> {
        Ok(match listener {
            ApiListener::Tcp(socket) => (Listener::Tcp(TcpListener::from_std(socket)?), None),
            ApiListener::Unix(socket, file) => {
                (Listener::Unix(UnixListener::from_std(socket)?), Some(file))
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Listener::Unix(socket) => Box::new(socket.accept().await?.0),
        })
    }
}
