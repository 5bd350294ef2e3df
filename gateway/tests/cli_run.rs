//! `egress-gateway run` with DPDK, on devices that swallow everything: how it starts, ends, and
//! what it says when it cannot.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use running::{documents, process::Setup};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

/// From the signal to the end of the process, with an idle client.
const END: Duration = Duration::from_secs(3);

#[test]
fn it_starts_takes_policies_and_ends_at_a_signal() {
    let setup = Setup::new();
    for (signal, ready) in [("-TERM", 503), ("-INT", 200)] {
        let mut run = setup.start();
        assert_eq!(run.address.ask("GET", "/readyz", &[], b"").status, ready);
        let yaml = [("Content-Type", "application/yaml")];
        let answer = run.address.ask("PUT", "/v1/policies", &yaml, documents().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(run.address.ask("GET", "/readyz", &[], b"").status, 200);
        let metrics = run.address.ask("GET", "/metrics", &[], b"");
        assert!(metrics.text().contains("packet_io=\"DPDK "), "{}", metrics.text());

        // A client that keeps its connection does not hold the process.
        let mut idle = UnixStream::connect(setup.path("api.sock")).unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        idle.read_exact(&mut [0; 12]).unwrap();
        let began = Instant::now();
        assert_eq!(run.stop(signal), Some(0));
        assert!(began.elapsed() < END, "{:?}", began.elapsed());
        assert!(!setup.path("api.sock").exists());
    }
}

#[test]
fn an_api_address_in_use_is_told_before_anything_starts() {
    let setup = Setup::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let socket = format!("unix:{}", setup.path("api.sock").display());
    let message = setup.failure(&setup.with(&socket, &address), 1);
    assert!(
        message.contains(&format!("api.listen {address}: Address already in use")),
        "{message}"
    );
    let _taken = UnixListener::bind(setup.path("api.sock")).unwrap();
    let message = setup.failure(&setup.config, 1);
    assert!(message.contains("Address already in use"), "{message}");
    assert!(setup.path("api.sock").exists(), "the other's socket stays");
    assert!(!setup.path("state").exists());
}

#[test]
fn what_is_wrong_at_the_start_is_one_clear_error() {
    let setup = Setup::new();
    for (old, new, says) in [
        ("net_null0", "net_af_packet0,iface=nosuch0", "there is no interface nosuch0"),
        ("net_null0", "0000:ff:1f.7", "there is no PCI device 0000:ff:1f.7"),
        ("cores = [0]", "cores = [4095]", "CPU 4095 is not one this process may use"),
    ] {
        let message = setup.failure(&setup.with(old, new), 1);
        assert!(message.contains(says), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!setup.path("api.sock").exists(), "nothing is left");
    }
}

#[test]
fn a_policy_file_that_is_not_valid_is_bad_input() {
    let setup = Setup::new();
    for (text, says) in [
        ("kind: [", "line 1, column "),
        (
            &*documents().replace("203.0.113.17", "198.51.100.1"),
            "outside the gateway's egress_prefixes",
        ),
    ] {
        fs::write(setup.path("policy.yaml"), text).unwrap();
        let message = setup.failure(&setup.config, 2);
        assert!(message.contains(says) && message.contains("policy.yaml"), "{message}");
        assert!(!setup.path("state").exists() && !setup.path("api.sock").exists());
    }
    fs::write(setup.path("policy.yaml"), documents()).unwrap();
    let run = setup.start();
    assert_eq!(run.address.ask("GET", "/readyz", &[], b"").status, 200);
}
