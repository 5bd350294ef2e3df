//! The process `egress-gateway run` with DPDK, on devices that swallow everything.

use super::{CONFIG, client::Address, wait_until};
use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// A folder with a configuration whose API is a socket file beside it.
pub struct Setup {
    folder: TempDir,
    pub config: String,
}

impl Setup {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "{}\n[workers]\ncores = [0]\n[eal]\nhugepages = false\n[nat]\nmax_sessions = 1000\n\
             [policy]\nfile = {:?}\nstate_dir = {:?}\n[api]\nlisten = \"unix:{}\"\n",
            CONFIG,
            path("policy.yaml"),
            path("state"),
            path("api.sock"),
        );
        Setup { folder, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn with(&self, old: &str, new: &str) -> String {
        assert!(self.config.contains(old), "{old}");
        self.config.replace(old, new)
    }

    pub fn command(&self, config: &str) -> Command {
        fs::write(self.path("gateway.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_egress-gateway"));
        command.arg("run").arg("--config").arg(self.path("gateway.toml")).env_remove("RUST_LOG");
        command
    }

    /// Runs it to its end, which has to be a failure; returns the last line of what it says.
    pub fn failure(&self, config: &str, code: i32) -> String {
        let Output { status, stderr, .. } = self.command(config).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let at = text.find("error: ").unwrap_or_else(|| panic!("{text}"));
        text[at..].to_owned()
    }

    pub fn start(&self) -> Run {
        let mut command = self.command(&self.config);
        command.stderr(Stdio::null());
        self.wait_for(command)
    }

    /// A process that serves the API at the usual place.
    pub fn wait_for(&self, mut command: Command) -> Run {
        let child = command.spawn().unwrap();
        let run = Run { child, address: Address::Unix(self.path("api.sock")) };
        let socket = self.path("api.sock");
        wait_until("the API answers", || {
            UnixStream::connect(&socket).is_ok()
                && run.address.ask("GET", "/healthz", &[], b"").status == 200
        });
        run
    }
}

pub struct Run {
    pub child: Child,
    pub address: Address,
}

impl Run {
    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
