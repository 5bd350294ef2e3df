//! What is not HTTP, or too much of it, gets a refusal that can be read, and does no harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use admin::server::Limits;
use common::{Server, get_of, rest_of, status, wait_until};
use std::{
    io::Write,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

const HOST: &str = "Host: x\r\n";

#[test]
fn malformed_requests_are_refused_and_others_answered() {
    let server = Server::tcp(Limits::default());
    let huge = format!("GET / HTTP/1.1\r\n{HOST}X: {}\r\n\r\n", "x".repeat(300_000));
    let many = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "X: x\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(60_000));
    let longer = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(300_000));
    let body = |head: &str| format!("PUT /body HTTP/1.1\r\n{HOST}{head}\r\n\r\nxx");
    let client_hello = "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03";
    for (request, expected) in [
        ("GARBAGE\r\n\r\n", "400"),
        ("\0\0\0\0\r\n\r\n", "400"),
        (client_hello, "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nX : space\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n", "400"),
        // Who speaks HTTP/2 would not understand it.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (&huge, "431"),
        (&many, "431"),
        (&long, "404"),
        (&longer, "431"),
        (&body("Content-Length: -1"), "400"),
        (&body("Content-Length: 99999999999999999999999999"), "400"),
        (&body("Content-Length: 2\r\nContent-Length: 3"), "400"),
        (&body("Transfer-Encoding: gzip"), "400"),
        (&body("Content-Length: 2097152"), "413"),
        (&body("Transfer-Encoding: chunked"), "413"),
    ] {
        let mut stream = server.address.connect();
        let _ = stream.write_all(request.as_bytes());
        stream.finish_writing();
        let answer = rest_of(&mut *stream).unwrap();
        let shown = &request[..request.len().min(80)];
        assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
        assert_eq!(status(&server.address.get("/")), "200", "after {shown:?}");
    }
}

#[test]
fn garbage_behind_a_request_does_not_take_its_answer_away() {
    let server = Server::tcp(Limits::default());
    let pipelined = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3) + "GARBAGE\r\n\r\n";
    let answer = server.address.send(pipelined.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 3, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
}

#[test]
fn who_has_no_more_to_ask_still_gets_an_answer() {
    let server = Server::tcp(Limits::default());
    let mut stream = server.address.connect();
    stream.write_all(get_of("/held").as_bytes()).unwrap();
    stream.finish_writing();
    wait_until("it is asked", || server.held.asked.load(SeqCst) == 1);
    assert_eq!(status(&server.address.get("/")), "200");
    server.held.released.add_permits(1);
    let answer = rest_of(&mut *stream).unwrap();
    assert!(status(&answer) == "200" && answer.ends_with("held"), "{answer}");

    // Half a head is none.
    for half in ["", "GET / HT"] {
        let began = Instant::now();
        let mut stream = server.address.connect();
        stream.write_all(half.as_bytes()).unwrap();
        stream.finish_writing();
        let _ = rest_of(&mut *stream);
        assert!(began.elapsed() < Limits::default().head / 2, "{half:?}");
    }
}

/// The client goes on sending what is refused, and has nothing read before it is through: without
/// care the kernel would throw the answer away with a reset.
#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::tcp(Limits::default());
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..10 {
        let mut stream = server.address.connect();
        let head = format!("PUT /body HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..400 {
            stream.write_all(chunk.as_bytes()).unwrap();
        }
        stream.finish_writing();
        assert_eq!(status(&rest_of(&mut *stream).unwrap()), "413");
    }
}

#[test]
fn chunks_without_end_are_given_up() {
    let server = Server::tcp(Limits::default());
    let mut stream = server.address.connect();
    let head = format!("PUT /body HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let began = Instant::now();
    while stream.write_all(chunk.as_bytes()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "the server takes it all");
        thread::yield_now();
    }
    assert_eq!(status(&server.address.get("/")), "200");
}
