//! What is on disk when the process is killed at any moment, and when the disk does not take it.
//!
//! Only the process dies here: what a crash of the machine leaves is fsync's promise, and not run.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::EGRESS;
use running::{
    client::{Address, Answer},
    hosts, policy,
    process::{Run, Setup},
    wait_until,
};
use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

const YAML: [(&str, &str); 1] = [("Content-Type", "application/yaml")];

/// A guess at how long a set takes to be applied, before one was.
const FIRST: Duration = Duration::from_millis(100);

/// The set of this number: its one policy is named by it. Large enough that writing it takes a while.
fn set(number: u64) -> String {
    let padding = "#".repeat(100_000);
    policy(&format!("set-{number}"), 7, EGRESS) + "---\n" + &hosts() + &padding + "\n"
}

fn put(address: &Address, text: &str) -> Answer {
    address.ask("PUT", "/v1/policies", &YAML, text.as_bytes())
}

/// Number and generation of the set in force; `(0, 0)` when there is none.
fn in_force(address: &Address) -> (u64, u64) {
    let answer = address.ask("GET", "/v1/policies", &[], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    let name = answer
        .text()
        .split("name: set-")
        .nth(1)
        .map_or("0", |rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap());
    let generation = answer.header("etag").trim_matches('"').parse().unwrap();
    (name.parse().unwrap(), generation)
}

/// A gateway that is sent one set after the other until it is killed.
struct Stream {
    sent: AtomicU64,
    /// Number and generation of the last set that was acknowledged.
    acknowledged: (u64, u64),
    /// What the last acknowledgement took, so that kills fall where they can meet something.
    took: Duration,
}

impl Stream {
    /// Sends sets until one is not answered any more.
    fn run(&mut self, socket: &Path) {
        loop {
            let number = self.sent.fetch_add(1, SeqCst) + 1;
            let text = set(number);
            let head = format!(
                "PUT /v1/policies HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
                 Content-Type: application/yaml\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            let mut answer = String::new();
            let began = Instant::now();
            let asked = UnixStream::connect(socket).and_then(|mut stream| {
                stream.write_all(head.as_bytes())?;
                stream.write_all(text.as_bytes())?;
                stream.read_to_string(&mut answer)
            });
            let generation = answer
                .strip_prefix("HTTP/1.1 200 ")
                .and_then(|answer| answer.split("\"generation\":").nth(1))
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            match generation {
                Some(generation) => {
                    self.acknowledged = (number, generation);
                    self.took = began.elapsed();
                }
                None => {
                    assert!(asked.is_err() || answer.is_empty(), "refused: {answer}");
                    return;
                }
            }
        }
    }
}

fn kill_at_random(rounds: u32) {
    let setup = Setup::new();
    let socket = setup.path("api.sock");
    let random = RandomState::new();
    let mut stream = Stream { sent: AtomicU64::new(0), acknowledged: (0, 0), took: FIRST };
    let (mut newer, mut at_start) = (0, 0);
    for round in 0..rounds {
        let mut hasher = random.build_hasher();
        hasher.write_u32(round);
        let draw = hasher.finish();
        if draw.is_multiple_of(8) {
            // In the midst of its start: it only reads then.
            let mut child = setup.command(&setup.config).spawn().unwrap();
            thread::sleep(Duration::from_micros(draw >> 32 & 0x3_ffff));
            child.kill().unwrap();
            child.wait().unwrap();
            at_start += 1;
        }
        let mut run: Run = setup.start();
        let (number, generation) = in_force(&run.address);
        let (acknowledged, its_generation) = stream.acknowledged;
        let sent = stream.sent.load(SeqCst);
        assert!(
            (acknowledged..=sent).contains(&number),
            "round {round}: set {number} is in force, {acknowledged} was acknowledged, {sent} sent"
        );
        // A set that was being written keeps its generation to itself, so numbers may be left out.
        assert!(generation - its_generation >= number - acknowledged, "round {round}");
        assert_eq!(generation == its_generation, number == acknowledged, "round {round}");
        newer += u32::from(number > acknowledged);
        stream.sent.store(number, SeqCst);
        stream.acknowledged = (number, generation);

        let pid = run.child.id().to_string();
        let delay = stream.took.mul_f64(f64::from(draw as u32) / f64::from(u32::MAX) * 3.0);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            });
            stream.run(&socket);
        });
        run.child.wait().unwrap();
        fs::remove_file(&socket).unwrap();
    }
    let (acknowledged, sent) = (stream.acknowledged.0, stream.sent.load(SeqCst));
    println!(
        "{rounds} times killed ({at_start} more during a start): {acknowledged} sets acknowledged of \
         {sent}; {newer} times the set that came up was newer than the last acknowledged"
    );
    assert!(acknowledged > u64::from(rounds) / 2, "too few sets were ever applied");
    let left = fs::read_dir(setup.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
    let refused = left.filter(|name| name.to_string_lossy().contains("refused"));
    assert_eq!(refused.count(), 0);
}

#[test]
fn a_killed_gateway_comes_up_with_the_last_acknowledged_set_or_a_newer_one() {
    kill_at_random(12);
}

#[test]
#[ignore = "three hundred starts, some minutes"]
fn three_hundred_kills_lose_no_acknowledged_set() {
    kill_at_random(300);
}

/// The state directory on a small disk of its own, which only the gateway sees.
fn on_small_disk(setup: &Setup) -> Run {
    let state = setup.path("state");
    fs::create_dir(&state).unwrap();
    let inner = setup.command(&setup.config);
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=160k tmpfs \"$0\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&state).arg(inner.get_program());
    command.args(inner.get_args()).env_remove("RUST_LOG");
    setup.wait_for(command)
}

/// A command in the gateway's own view of the file system.
fn inside(run: &Run, command: &[&str]) {
    let pid = run.child.id().to_string();
    let status = Command::new("nsenter").args(["-t", &pid, "-m"]).args(command).status().unwrap();
    assert!(status.success(), "{command:?}");
}

#[test]
fn a_full_and_a_read_only_disk_keep_the_old_set_running() {
    let setup = Setup::new();
    let run = on_small_disk(&setup);
    let state = setup.path("state").display().to_string();
    let small = |name: &str| policy(name, 7, EGRESS) + "---\n" + &hosts();
    assert_eq!(put(&run.address, &small("set-1")).status, 200);
    assert_eq!(put(&run.address, &set(2)).status, 200);

    // What is left has no room for another one of this size.
    let full = put(&run.address, &set(3));
    let message = full.error(507);
    assert!(message.contains("nothing was changed") && message.contains(&state), "{message}");
    assert_eq!(in_force(&run.address), (2, 2));
    let metrics = run.address.ask("GET", "/metrics", &[], b"");
    let failed = "egress_gateway_policy_reloads_total{result=\"failed\"} 1";
    assert!(metrics.text().contains(failed), "{}", metrics.text());
    // Nothing of it is in the way of a smaller one.
    assert_eq!(put(&run.address, &small("set-4")).status, 200);
    assert_eq!(in_force(&run.address), (4, 3));

    inside(&run, &["mount", "-o", "remount,ro", &state]);
    let message = put(&run.address, &small("set-5")).error(500);
    assert!(message.contains("Read-only file system"), "{message}");
    assert_eq!(in_force(&run.address), (4, 3));
    assert_eq!(run.address.ask("GET", "/readyz", &[], b"").status, 200);
    inside(&run, &["mount", "-o", "remount,rw", &state]);
    assert_eq!(put(&run.address, &small("set-6")).status, 200);
    assert_eq!(in_force(&run.address), (6, 4));
}

#[test]
fn state_that_cannot_be_trusted_is_told_and_moved_aside() {
    for (file, content, says) in [
        ("accepted.json", "{", "accepted.json is not a list of accepted sets"),
        ("accepted.json", "{\"version\": 7}", "has version 7, this program reads 2"),
        ("sets/0000000001.yaml", "kind: X", "0000000001.yaml is not the set that was accepted"),
        ("shard-seed.json", "", "shard-seed.json is not a shard seed"),
    ] {
        let setup = Setup::new();
        let run = setup.start();
        assert_eq!(put(&run.address, &set(1)).status, 200);
        drop(run);
        fs::write(setup.path("state").join(file), content).unwrap();
        let log = setup.path("log");
        fs::remove_file(setup.path("api.sock")).unwrap();
        let mut command = setup.command(&setup.config);
        command.stderr(fs::File::create(&log).unwrap());
        let run = setup.wait_for(command);
        let log = fs::read_to_string(log).unwrap();
        let line =
            log.lines().find(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(says) && line.contains("moved to"), "{line}");

        // Without a policy file nothing is allowed, rather than what was allowed before.
        let is_seed = file.starts_with("shard");
        assert_eq!(in_force(&run.address), if is_seed { (1, 1) } else { (0, 0) });
        let metrics = run.address.ask("GET", "/metrics", &[], b"");
        let value = format!("\negress_gateway_state_refused {}\n", u8::from(!is_seed));
        assert!(metrics.text().contains(&value), "{}", metrics.text());
        assert_eq!(put(&run.address, &set(2)).status, 200);
        assert_eq!(in_force(&run.address), (2, 2));
    }
}

#[test]
fn two_gateways_do_not_share_a_state_directory() {
    let setup = Setup::new();
    let run = setup.start();
    assert_eq!(put(&run.address, &set(1)).status, 200);
    let other = setup.with("api.sock", "other.sock");
    let message = setup.failure(&other, 1);
    assert!(message.contains("another egress-gateway uses it"), "{message}");
    wait_until("the first goes on", || in_force(&run.address) == (1, 1));
}
