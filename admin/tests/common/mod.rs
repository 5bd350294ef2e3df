//! A server with a few routes, and clients that say exactly what a test wants.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use admin::{
    listen::Listen,
    listener::ApiListener,
    server::{Limits, serve},
};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::StatusCode,
    routing::{get, put},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that `PUT /body` takes.
pub const LARGEST_BODY: usize = 1 << 20;
/// Bytes of `GET /large`: more than sockets keep.
pub const LARGE: usize = 64 << 20;

/// Ends with the value.
pub struct Server {
    pub address: Address,
    /// `GET /held` counts itself, and waits for a permit.
    pub held: Arc<Held>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

#[derive(Debug)]
pub struct Held {
    pub asked: AtomicUsize,
    pub released: Semaphore,
}

#[derive(Clone, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Server {
    pub fn tcp(limits: Limits) -> Self {
        Self::start(&"127.0.0.1:0".parse().unwrap(), limits, tempfile::tempdir().unwrap())
    }

    pub fn unix(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        Self::start(&Listen::Unix(path), limits, folder)
    }

    fn start(listen: &Listen, limits: Limits, folder: TempDir) -> Self {
        let listener = ApiListener::bind(listen).unwrap();
        let address = match (&listener, listen) {
            (ApiListener::Tcp(socket), _) => Address::Tcp(socket.local_addr().unwrap()),
            (_, Listen::Unix(path)) => Address::Unix(path.clone()),
            (_, Listen::Tcp(_)) => panic!("{listener:?}"),
        };
        let (stop, stopped) = oneshot::channel();
        let held = Arc::new(Held { asked: AtomicUsize::new(0), released: Semaphore::new(0) });
        let router = router(Arc::clone(&held));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let stop = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve(listener, router, limits, stop)).unwrap();
        });
        let (stop, thread) = (Some(stop), Some(thread));
        Server { address, held, stop, thread, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the server panicked");
    }
}

fn router(held: Arc<Held>) -> Router {
    let large = Bytes::from(vec![b'x'; LARGE]);
    let held = || async move {
        held.asked.fetch_add(1, SeqCst);
        held.released.acquire().await.unwrap().forget();
        "held"
    };
    let body = |body: Body| async {
        match to_bytes(body, LARGEST_BODY).await {
            Ok(bytes) => (StatusCode::OK, format!("{} bytes", bytes.len())),
            Err(error) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        }
    };
    Router::new()
        .route("/", get(|| async { "x" }))
        .route("/held", get(held))
        .route("/body", put(body))
        .route("/large", get(|| async { large }))
}

pub trait Stream: Read + Write + Send {
    fn set_nonblocking(&self, nonblocking: bool);
    fn finish_writing(&self);
}

impl Stream for TcpStream {
    fn set_nonblocking(&self, nonblocking: bool) {
        TcpStream::set_nonblocking(self, nonblocking).unwrap();
    }

    fn finish_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn set_nonblocking(&self, nonblocking: bool) {
        UnixStream::set_nonblocking(self, nonblocking).unwrap();
    }

    fn finish_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Address {
    pub fn try_connect(&self) -> io::Result<Box<dyn Stream>> {
        fn of(path: &Path) -> io::Result<Box<dyn Stream>> {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
        match self {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Address::Unix(path) => of(path),
        }
    }

    pub fn connect(&self) -> Box<dyn Stream> {
        self.try_connect().unwrap()
    }

    /// All that is answered to these bytes until the server closes the connection.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<String> {
        let mut stream = self.try_connect()?;
        // A server that has already refused need not take the rest.
        let _ = stream.write_all(bytes);
        rest_of(&mut *stream)
    }

    pub fn send(&self, bytes: &[u8]) -> String {
        self.try_send(bytes).unwrap()
    }

    pub fn get(&self, path: &str) -> String {
        self.send(get_of(path).as_bytes())
    }
}

pub fn get_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

pub fn rest_of(stream: &mut dyn Stream) -> io::Result<String> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What was read before a reset was read.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

/// That many more file descriptors, or as many as the system allows.
pub fn raise_descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).unwrap();
    raised
}
