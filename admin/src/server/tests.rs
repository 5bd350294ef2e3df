use super::*;
use crate::listen::Listen;
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
fn who_has_asked_for_nothing_gives_way_and_who_waits_for_an_answer_does_not() {
    let drain = Duration::from_millis(50);
    let limits = Limits { connections: 2, drain, ..Limits::default() };
    with_server(limits, async |address| {
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            let mut idle = TcpStream::connect(address).await.unwrap();
            ask(&mut idle).await;
            ask(&mut TcpStream::connect(address).await.unwrap()).await;
            is_closed(&mut idle).await;
        }
        let nothing = first.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    });
}
