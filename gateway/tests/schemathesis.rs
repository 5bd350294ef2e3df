//! schemathesis sends what `/openapi.json` allows, and what it does not, and judges every answer by it. The tool is a Python program that
//! `./dev test --all` installs beside what is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::{NODE, POD, POLICY, REMOTE, tunnelled, udp};
use running::{Running, documents};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

/// Of each operation in the phase that makes requests up; those of its other phases are as many as the
/// document has corners.
const EXAMPLES: &str = "50";

fn tool() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("tools/schemathesis/bin/schemathesis");
    assert!(path.exists(), "{} is missing: ./dev test --all installs it", path.display());
    path
}

/// Its report is on standard output, for whoever reads why it failed.
fn start(url: &str) -> Child {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis.toml");
    Command::new(tool())
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{url}/openapi.json"), "--checks", "all", "--no-color"])
        .args(["--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure"])
        .args(["--generation-database", "none", "--request-timeout", "10"])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .spawn()
        .unwrap()
}

/// With sessions that come and go meanwhile, and another writer of policies.
#[test]
#[ignore = "long, and needs schemathesis: ./dev test --all"]
fn every_answer_is_as_described_while_sessions_and_policies_change() {
    let running = Running::usual();
    let mut judge = start(&running.address.url());
    let mut sport = 1024;
    let done = loop {
        if let Some(done) = judge.try_wait().unwrap() {
            break done;
        }
        assert_eq!(running.put(&documents()).status, 200);
        let inner = udp((POD, sport), (REMOTE, 53), 64, b"hello");
        running.receive(gateway::verdict::Side::Tunnel, tunnelled(NODE, POLICY, &inner));
        sport = sport.checked_add(1).unwrap_or(1024);
        thread::sleep(Duration::from_millis(20));
    };
    assert!(done.success(), "schemathesis found something: see above");
    assert!(running.counters().sessions_created.get() > 10);
    assert_eq!(running.get("/readyz").status, 200);
}

#[cfg(feature = "dpdk")]
mod program {
    use super::*;
    use running::{program::program, wait_until};
    use std::{
        fs,
        net::{SocketAddr, TcpListener, TcpStream},
        process::Stdio,
    };

    /// The program as it is run, with DPDK, on devices that receive nothing.
    #[test]
    #[ignore = "long, and needs schemathesis: ./dev test --all"]
    fn every_answer_of_the_program_is_as_described() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let address = free_address();
        let config = format!(
            "{}\n[workers]\ncores = [0]\n[eal]\nhugepages = false\n[nat]\nmax_sessions = 1000\n\
             [policy]\nfile = {:?}\nstate_dir = {:?}\n[api]\nlisten = \"{address}\"\n",
            running::CONFIG.replace("net_null0", "net_null0,no-rx=1"),
            path("policy.yaml"),
            path("state"),
        );
        fs::write(path("gateway.toml"), config).unwrap();
        let mut gateway = program(&["run", "--config", &path("gateway.toml")]);
        let mut gateway = Ended(gateway.stderr(Stdio::null()).spawn().unwrap());
        wait_until("the API is there", || TcpStream::connect(address).is_ok());
        let done = start(&format!("http://{address}")).wait().unwrap();
        assert!(done.success(), "schemathesis found something: see above");
        assert!(gateway.0.try_wait().unwrap().is_none(), "the gateway has ended");
    }

    fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
