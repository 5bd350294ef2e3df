//! Clients that want nothing or never come to the point: they disturb neither workers nor others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use running::{Running, client::Stream, documents, only_payments, wait_until};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// For one request of another client, with worker, API and clients on the same few cores.
const PROMPT: Duration = Duration::from_secs(3);
const PUT: &str = "PUT /v1/policies HTTP/1.1\r\nHost: x\r\nContent-Type: application/yaml\r\n";

/// File descriptors for so many connections, or for as many as the system allows.
fn connections_for(wanted: u64) -> usize {
    // Of the process beside them.
    const SPARE: u64 = 1500;
    let (_, maximum) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = (wanted + SPARE).min(maximum);
    setrlimit(Resource::RLIMIT_NOFILE, limit, maximum).unwrap();
    if limit < wanted + SPARE {
        eprintln!("only {} connections: RLIMIT_NOFILE is {maximum}", limit - SPARE);
    }
    usize::try_from(limit - SPARE).unwrap()
}

/// Every route of an operator is answered soon, reads and writes; the longest.
fn others_are_answered(running: &Running) -> Duration {
    let mut longest = Duration::ZERO;
    let mut timed = |what: &str, ask: &dyn Fn() -> u16| {
        let began = Instant::now();
        assert_eq!(ask(), 200, "{what}");
        let took = began.elapsed();
        assert!(took < PROMPT, "{what} took {took:?}");
        longest = longest.max(took);
    };
    for path in ["/healthz", "/readyz", "/metrics", "/v1/sessions", "/v1/stats", "/v1/policies"] {
        timed(path, &|| running.get(path).status);
    }
    timed("PUT", &|| running.put(&only_payments()).status);
    timed("PUT", &|| running.put(&documents()).status);
    longest
}

#[test]
fn ten_thousand_idle_connections_disturb_neither_workers_nor_clients() {
    let count = connections_for(10_000);
    let running = Running::usual();
    let mut idle: Vec<Box<dyn Stream>> = Vec::with_capacity(count);
    let mut longest = Duration::ZERO;
    let mut sport = 4000;
    while idle.len() < count {
        let more = (count - idle.len()).min(1000);
        idle.extend((0..more).map(|_| running.address.connect()));
        longest = longest.max(others_are_answered(&running));
        // The worker goes on: a packet opens its session.
        sport += 1;
        running.open(harness::POLICY, sport);
    }
    eprintln!("{} idle connections: requests took at most {longest:?}", idle.len());
    assert_eq!(running.get("/readyz").status, 200);
}

#[test]
fn slow_writers_do_not_keep_others_from_writing() {
    let running = Running::usual();
    let mut slow: Vec<_> = (0..20).map(|_| running.address.connect()).collect();
    for stream in &mut slow {
        stream.write_all(format!("{PUT}Content-Length: 100000\r\n\r\napi").as_bytes()).unwrap();
    }
    let mut endless: Vec<_> = (0..20).map(|_| running.address.connect()).collect();
    for stream in &mut endless {
        let chunks = "Transfer-Encoding: chunked\r\n\r\n1\r\n#\r\n";
        stream.write_all(format!("{PUT}{chunks}").as_bytes()).unwrap();
    }
    let generation = running.gateway.policies.published().load().generation();
    for _ in 0..5 {
        others_are_answered(&running);
        for stream in &mut endless {
            stream.write_all(b"1\r\n#\r\n").unwrap();
        }
    }
    drop((slow, endless));
    wait_until("no half of a set came into force", || {
        running.gateway.policies.published().load().generation() == generation + 10
    });
}

#[test]
fn what_is_not_http_disturbs_nobody() {
    let running = Running::usual();
    let head = "GET /v1/policies HTTP/1.1\r\nHost: x\r\n";
    for (request, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), 400),
        (format!("{head}X: {}\r\n\r\n", "x".repeat(300_000)), 431),
        (format!("{head}{}\r\n", "X: x\r\n".repeat(200)), 431),
        (format!("{PUT}Content-Length: -1\r\n\r\n"), 400),
        (format!("{PUT}Content-Length: 2\r\nContent-Length: 3\r\n\r\nxx"), 400),
        (format!("{PUT}Transfer-Encoding: chunked\r\n\r\nnot a length\r\n"), 400),
        (format!("{PUT}Content-Length: 999999999999\r\n\r\n"), 413),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n".to_owned(), 200),
    ] {
        let answer = running.address.send(request.as_bytes(), b"");
        let shown = &request[..request.len().min(80)];
        assert_eq!(answer.status, status, "{shown:?}: {}", answer.text());
        assert_eq!(running.get("/healthz").text(), "ok\n", "after {shown:?}");
    }
    others_are_answered(&running);
}
