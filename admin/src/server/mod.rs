//! Connections: how many, how slow they may be, and how they end.
//!
//! Every connection has one of the `seats`; `watched` sees who waits for whom, so that only those
//! are closed that nobody will miss.

mod seats;
mod watched;

use crate::{answer::ApiError, listener::ApiListener, listener::SocketFile};
use axum::{
    Router,
    http::{HeaderValue, Request, StatusCode, header},
    response::IntoResponse,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seats::{NoSeat, Seat, Seats};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tracing::{debug, warn};
use watched::{Arriving, Leaving, Stream, WatchedStream};

/// What clients may take of the process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At a time. One more takes the place of the client that was waited for longest: for a request,
    /// for more of its body, or to take an answer. When all wait for the server, it is told to come
    /// again.
    pub connections: usize,
    /// For a request's head, from the answer before on: an idle connection ends too.
    pub head: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
    /// How long one connection is served; clients connect again.
    pub life: Duration,
    /// How long what was asked may take to be answered when the connection or the process is to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 512,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            life: Duration::from_secs(600),
            drain: Duration::from_secs(5),
        }
    }
}

/// Before the next attempt where the process has no file descriptor left.
const RETRY: Duration = Duration::from_millis(100);
/// Nobody gives way to another before: a client that has just connected may have to wait for a
/// processor before it asks. In a flood all others wait meanwhile, so it is short.
const GRACE: Duration = Duration::from_millis(50);
/// Of connections that are told to come again.
const REFUSED: usize = 32;
/// Of the process's file descriptors the connections get one in so many; the rest is for what the
/// process is there for.
const DESCRIPTORS: u64 = 4;
/// Bytes of a request's head; hyper answers 431 to more, and to more than `HEADERS` lines.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 100;

/// Answers with `router` until `stop` ends, and then no longer than it takes to answer what was asked.
pub async fn serve(
    listener: ApiListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (listener, _file) = Listener::of(listener)?;
    let seats = Seats::new(affordable(limits.connections), GRACE);
    // They take descriptors as well, but few, and for a short time.
    let refused = Seats::new(REFUSED, Duration::ZERO);
    let come_again = Router::new().fallback(come_again);
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            // Finished ones are taken off, so that the set does not grow.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                warn!("the API cannot accept a connection: {error}");
                // It may be for want of descriptors.
                let _ = seats.free_one();
                sleep(RETRY).await;
                continue;
            }
        };
        let seat = loop {
            match seats.take() {
                Ok(seat) => break Ok((seat, &router)),
                Err(NoSeat::AllBusy) => break refused.take().map(|seat| (seat, &come_again)),
                Err(NoSeat::Within(rest)) => tokio::select! {
                    Some(_) = connections.join_next() => {}
                    () = sleep(rest) => {}
                },
            }
        };
        let Ok((seat, router)) = seat else { continue };
        connections.spawn(connection(stream, router.clone(), seat, limits, stopped.clone()));
        // All others first: a request that has arrived is read before its connection can be taken
        // for one that is waited for.
        yield_now().await;
    }
    drop(listener);
    let _ = stopping.send(true);
    let _ = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// As many connections as wanted, or as the process's file descriptors are enough for. The limit of
/// those is raised where the process may.
fn affordable(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64).saturating_mul(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // What it comes to is read below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit });
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / DESCRIPTORS).unwrap_or(usize::MAX).clamp(1, connections)
}

async fn come_again() -> impl IntoResponse {
    let message = "the API has as many requests to answer as it can";
    let mut response = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        .hint("ask again in a second")
        .retry_after(1)
        .into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn connection(
    stream: Box<dyn Stream>,
    router: Router,
    mut seat: Seat,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let client = Arc::clone(&seat.client);
    let stream = WatchedStream::new(stream, Arc::clone(&client), limits.stall);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let client = Arc::clone(&client);
        let answer = router.call(request.map(|body| Arriving::new(body, Arc::clone(&client))));
        async move {
            Ok::<_, std::convert::Infallible>(answer.await?.map(|body| Leaving::new(body, client)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        // Who has no more to ask still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let end = async {
        tokio::select! {
            // An error is the end of the process, too.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(limits.life) => {}
        }
    };
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return Some(served),
            () = end => {}
        }
        connection.as_mut().graceful_shutdown();
        timeout(limits.drain, connection).await.ok()
    };
    let served = tokio::select! {
        served = served => served,
        _ = &mut seat.lost => None,
    };
    match served {
        Some(Ok(())) => {}
        Some(Err(error)) => debug!("an API connection broke: {error}"),
        None => debug!("an API connection was ended"),
    }
}

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
                // Fails where the client is gone again, which is found out soon enough.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Listener::Unix(socket) => Box::new(socket.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests;
