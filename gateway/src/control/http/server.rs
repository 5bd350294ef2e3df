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

/// What clients may take of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At a time; more wait in the kernel's queue.
    connections: usize,
    /// For a request's head, from the answer before on: an idle connection ends too.
    head: Duration,
    /// How long one connection is served; clients connect again.
    life: Duration,
    /// How long what was asked may take to be answered when the connection or the process is to end.
    drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 128,
            head: Duration::from_secs(30),
            life: Duration::from_secs(600),
            drain: Duration::from_secs(5),
        }
    }
}

/// Before the next attempt where the process has no file descriptor left.
const RETRY: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    listener: ApiListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (listener, _file) = Listener::of(listener)?;
    let free = Arc::new(Semaphore::new(limits.connections));
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
            connection(stream, router, limits, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    let _ = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn accept(
    listener: &Listener,
    free: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Stream>, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

async fn connection(
    stream: Box<dyn Stream>,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let end = async {
        tokio::select! {
            // An error is the end of the process, too.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(limits.life) => {}
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
            timeout(limits.drain, connection).await
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
                // Fails where the client is gone again, which is found out soon enough.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Listener::Unix(socket) => Box::new(socket.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;
    use axum::routing::get;
    use std::{
        net::SocketAddr,
        time::{Duration, Instant},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Runs `test` against a server with these limits; returns how long the server took to stop.
    fn with_server<T: Future<Output = ()>>(
        limits: Limits,
        test: impl FnOnce(SocketAddr) -> T,
    ) -> Duration {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
            let listener = ApiListener::bind(&listen).unwrap();
            let ApiListener::Tcp(socket) = &listener else { panic!("{listener:?}") };
            let address = socket.local_addr().unwrap();
            let slow = || async {
                sleep(Duration::from_secs(60)).await;
                "late"
            };
            let router = Router::new().route("/", get(|| async { "x" })).route("/slow", get(slow));
            let (stop, stopped) = oneshot::channel::<()>();
            let server = serve(listener, router, limits, async {
                let _ = stopped.await;
            });
            let server = tokio::spawn(server);
            test(address).await;
            let began = Instant::now();
            stop.send(()).unwrap();
            timeout(PATIENCE, server).await.expect("the server ends").unwrap().unwrap();
            began.elapsed()
        })
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(ASK).await.unwrap();
        let mut answer = [0; 200];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{:?}", &answer[..read]);
    }

    /// Until the server closes the connection.
    async fn is_closed(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }

    #[test]
    fn an_idle_connection_does_not_hold_the_process() {
        let mut kept = None;
        let took = with_server(Limits::default(), async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream).await;
            kept = Some(stream);
        });
        assert!(took < Limits::default().drain / 2, "{took:?}");
    }

    #[test]
    fn an_answer_that_does_not_come_holds_it_for_a_bounded_time() {
        let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
        let mut kept = Vec::new();
        with_server(limits, async |address| {
            for request in [&b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"GET / HT"] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request).await.unwrap();
                kept.push(stream);
            }
            // The server has taken both when it answers a later one.
            ask(&mut TcpStream::connect(address).await.unwrap()).await;
        });
    }

    #[test]
    fn a_slow_head_an_idle_and_an_old_connection_end() {
        let short = Duration::from_millis(50);
        with_server(Limits { head: short, ..Limits::default() }, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            is_closed(&mut stream).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream).await;
            is_closed(&mut stream).await;
        });
        with_server(Limits { life: short, ..Limits::default() }, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            is_closed(&mut stream).await;
        });
    }

    #[test]
    fn more_connections_than_allowed_wait_for_their_turn() {
        let limits = Limits { connections: 1, ..Limits::default() };
        with_server(limits, async |address| {
            let mut first = TcpStream::connect(address).await.unwrap();
            ask(&mut first).await;
            let mut second = TcpStream::connect(address).await.unwrap();
            second.write_all(ASK).await.unwrap();
            ask(&mut first).await;
            let nothing = second.try_read(&mut [0; 1]).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            drop(first);
            let mut answer = [0; 15];
            timeout(PATIENCE, second.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        });
    }
}
