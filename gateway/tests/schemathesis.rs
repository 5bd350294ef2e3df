//! schemathesis sends what `/openapi.json` allows, and what it does not, and judges every answer by it. The tool is a Python program that
//! `./dev test --all` installs beside what is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use harness::{NODE, POD, POLICY, REMOTE, tunnelled, udp};
use running::{Running, client::Address, documents};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

struct Judge(Child);

impl Judge {
    /// Of the API at `url`, which gave out `document`. From its own address the tool would leave that route out.
    fn start(url: &str, document: &Path) -> Self {
        let own = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        let child = Command::new(tool())
            .arg("--config-file")
            .arg(own("schemathesis.toml"))
            .env("SCHEMATHESIS_HOOKS", own("schemathesis.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["run", "--url", url, "--checks", "all", "--no-color"])
            .arg(document)
            .args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES])
            .args(["--seed", "1", "--continue-on-failure", "--generation-database", "none"])
            .args(["--request-timeout", "10"])
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Judge(child)
    }

    /// It found nothing, and it did look: where its own thread crashes it goes on without the operations that
    /// were left, and ends well.
    fn require_clean(self, operations: usize) {
        let output = self.0.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let crashed = String::from_utf8_lossy(&output.stderr);
        println!("{told}\n{crashed}");
        assert!(output.status.success(), "schemathesis found something: see above");
        assert!(crashed.is_empty(), "schemathesis crashed: see above");
        let whole = format!(" {operations} passed");
        let phases = told.lines().filter(|line| line.contains(&whole)).count();
        assert!(phases >= 2, "not all of {operations} operations were tried in both phases");
    }
}

/// Keeps what the API says of itself, and counts its operations.
fn describe(address: &Address, file: &Path) -> usize {
    let document = address.ask("GET", "/openapi.json", &[], b"").json();
    fs::write(file, document.to_string()).unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    paths.map(|path| path.as_object().unwrap().len()).sum()
}

/// With sessions that come and go meanwhile, and another writer of policies.
#[test]
#[ignore = "long, and needs schemathesis: ./dev test --all"]
fn every_answer_is_as_described_while_sessions_and_policies_change() {
    let running = Running::usual();
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("openapi.json");
    let operations = describe(&running.address, &document);
    let judge = Judge::start(&running.address.url(), &document);
    let judged = thread::spawn(move || judge.require_clean(operations));
    let mut sport = 1024;
    while !judged.is_finished() {
        assert_eq!(running.put(&documents()).status, 200);
        let inner = udp((POD, sport), (REMOTE, 53), 64, b"hello");
        running.receive(gateway::verdict::Side::Tunnel, tunnelled(NODE, POLICY, &inner));
        sport = sport.checked_add(1).unwrap_or(1024);
        thread::sleep(Duration::from_millis(20));
    }
    judged.join().unwrap();
    assert!(running.counters().sessions_created.get() > 10);
    assert_eq!(running.get("/readyz").status, 200);
}

#[cfg(feature = "dpdk")]
mod program {
    use super::*;
    use running::{program::program, wait_until};
    use std::net::{SocketAddr, TcpListener, TcpStream};

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
        let document = folder.path().join("openapi.json");
        let operations = describe(&Address::Tcp(address), &document);
        Judge::start(&format!("http://{address}"), &document).require_clean(operations);
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
