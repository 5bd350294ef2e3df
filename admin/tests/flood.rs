//! Many clients that want nothing, or never come to the point, and one that does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use admin::server::Limits;
use common::{
    Address, PATIENCE, Server, Stream, get_of, raise_descriptors, rest_of, status, wait_until,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// For one request, with a test's threads and the server on the same few cores. Without a seat for
/// those that ask it would be half a minute.
const PROMPT: Duration = Duration::from_secs(3);

/// Between two bytes of a slow client.
const BYTE: Duration = Duration::from_millis(20);

/// Asks all the time, each time over a connection of its own.
struct Other {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    times: usize,
    /// Connections that ended before they were answered, so that another was made. The server cannot
    /// know of a client that has no processor while thousands of others connect.
    again: usize,
    longest: Duration,
}

impl Other {
    fn of(address: &Address) -> Self {
        let (end, address) = (Arc::new(AtomicBool::new(false)), address.clone());
        let thread = {
            let end = Arc::clone(&end);
            thread::spawn(move || {
                let mut asked = Asked::default();
                while !end.load(SeqCst) {
                    let began = Instant::now();
                    while !is_answered(&address) {
                        asked.again += 1;
                        assert!(began.elapsed() < PATIENCE, "never answered");
                    }
                    asked.longest = asked.longest.max(began.elapsed());
                    asked.times += 1;
                }
                asked
            })
        };
        Other { end, thread }
    }

    /// Every request was answered, and each soon.
    fn was_not_disturbed(self) {
        self.end.store(true, SeqCst);
        let asked = self.thread.join().unwrap();
        eprintln!("{asked:?}");
        assert!(asked.times > 0 && asked.longest < PROMPT, "{asked:?}");
        assert!(asked.again <= 2 + asked.times / 20, "{asked:?}");
    }
}

fn is_answered(address: &Address) -> bool {
    let Ok(answer) = address.try_send(get_of("/").as_bytes()) else { return false };
    assert!(answer.is_empty() || answer.ends_with("\r\n\r\nx"), "{answer}");
    !answer.is_empty()
}

fn flood(address: &Address, count: usize) -> Vec<Box<dyn Stream>> {
    (0..count).map(|_| address.connect()).collect()
}

fn idle_connections_do_not_disturb(server: &Server) {
    const WANTED: usize = 10_000;
    let spare = 1000;
    let descriptors = raise_descriptors(WANTED as u64 + spare);
    let count = WANTED.min(usize::try_from(descriptors - spare).unwrap());
    if count < WANTED {
        eprintln!("only {count} connections: RLIMIT_NOFILE is {descriptors}");
    }
    let other = Other::of(&server.address);
    let idle = flood(&server.address, count);
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_millis(200) {
        assert!(is_answered(&server.address), "all are there, and nobody else comes");
    }
    other.was_not_disturbed();
    drop(idle);
}

#[test]
fn ten_thousand_idle_connections_do_not_disturb_others() {
    idle_connections_do_not_disturb(&Server::tcp(Limits::default()));
}

#[test]
fn ten_thousand_idle_connections_to_a_socket_file_do_not_disturb_others() {
    idle_connections_do_not_disturb(&Server::unix(Limits::default()));
}

/// More than are served at a time. Each sends `beginning`, and then goes on a byte at a time.
fn slow_clients_do_not_disturb(beginning: &str, byte: &[u8]) {
    let server = Server::tcp(Limits::default());
    let other = Other::of(&server.address);
    let mut slow = flood(&server.address, 2 * Limits::default().connections);
    for stream in &mut slow {
        let _ = stream.write_all(beginning.as_bytes());
    }
    // Those that have to give way find out, and the rest is slow all the time.
    let began = Instant::now();
    while slow.len() > Limits::default().connections {
        slow.retain_mut(|stream| stream.write_all(byte).is_ok());
        thread::sleep(BYTE);
        assert!(began.elapsed() < PATIENCE, "{} are served at a time", slow.len());
    }
    other.was_not_disturbed();
}

#[test]
fn slow_heads_do_not_disturb_others() {
    slow_clients_do_not_disturb("GET / HTTP/1.1\r\nX: ", b"x");
}

#[test]
fn slow_bodies_do_not_disturb_others() {
    slow_clients_do_not_disturb(
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        b"x",
    );
}

#[test]
fn chunks_without_end_do_not_disturb_others() {
    let head = "PUT /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    slow_clients_do_not_disturb(head, b"1\r\nx\r\n");
}

#[test]
fn answers_that_nobody_takes_do_not_disturb_others() {
    let limits = Limits { connections: 8, ..Limits::default() };
    let server = Server::tcp(limits);
    let other = Other::of(&server.address);
    let mut greedy = flood(&server.address, 3 * limits.connections);
    for stream in &mut greedy {
        let _ = stream.write_all(get_of("/large").as_bytes());
        // The server is done with it, or stuck in the middle of the answer.
        let _ = stream.read(&mut [0; 1]);
    }
    other.was_not_disturbed();
}

#[test]
fn who_takes_an_answer_gets_all_of_it_whoever_comes_meanwhile() {
    raise_descriptors(3000);
    let server = Server::tcp(Limits::default());
    let mut taker = server.address.connect();
    taker.write_all(get_of("/large").as_bytes()).unwrap();
    assert_eq!(taker.read(&mut [0; 1]).unwrap(), 1);
    let (address, end) = (server.address.clone(), Arc::new(AtomicBool::new(false)));
    let newcomers = {
        let end = Arc::clone(&end);
        thread::spawn(move || {
            let mut newcomers = Vec::new();
            while !end.load(SeqCst) && newcomers.len() < 2000 {
                newcomers.extend(address.try_connect());
            }
            newcomers
        })
    };
    let taken = rest_of(&mut *taker).unwrap().len();
    end.store(true, SeqCst);
    let newcomers = newcomers.join().unwrap();
    eprintln!("{} came meanwhile", newcomers.len());
    assert!(taken > common::LARGE, "{taken} bytes of {}", common::LARGE);
}

#[test]
fn an_answer_that_is_not_taken_ends_its_connection() {
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let server = Server::tcp(limits);
    let mut stream = server.address.connect();
    stream.write_all(get_of("/large").as_bytes()).unwrap();
    // The server cannot write more; it closes, and what it has written is all there is.
    thread::sleep(4 * limits.stall);
    let taken = rest_of(&mut *stream).unwrap().len();
    assert!(taken < common::LARGE, "{taken} bytes");
}

#[test]
fn when_all_wait_for_answers_one_more_is_told_to_come_again() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Server::tcp(limits);
    let mut busy = flood(&server.address, limits.connections);
    for stream in &mut busy {
        stream.write_all(get_of("/held").as_bytes()).unwrap();
    }
    wait_until("all are busy", || server.held.asked.load(SeqCst) == limits.connections);
    // Idle ones do not take the place of those that are refused, either.
    let idle = flood(&server.address, 200);
    for _ in 0..100 {
        let answer = server.address.get("/").to_ascii_lowercase();
        assert_eq!(status(&answer), "503", "{answer}");
        for header in ["retry-after: 1", "connection: close", "content-type: application/json"] {
            assert!(answer.contains(header), "{header} is not in {answer}");
        }
        assert!(answer.contains("ask again in a second"), "{answer}");
    }
    server.held.released.add_permits(limits.connections);
    for stream in &mut busy {
        let answer = rest_of(&mut **stream).unwrap();
        assert!(status(&answer) == "200" && answer.ends_with("held"), "{answer}");
    }
    assert_eq!(status(&server.address.get("/")), "200");
    drop(idle);
}
