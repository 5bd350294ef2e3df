//! What both test programs need: private namespaces, and frames.
#![allow(dead_code, unreachable_pub)] // each test program uses its part

pub mod frame;
pub mod node;

use std::process::Command;

const INSIDE: &str = "NODE_REDIRECT_TEST_INSIDE";

/// Runs the calling test again as process 1 of its own mount, network and process namespaces, with a bpf file system and /run of its own. When it
/// ends, in whatever way, the kernel removes all of it: interfaces, programs, maps and processes.
pub fn in_private_namespaces(body: impl FnOnce()) {
    assert!(rustix::process::geteuid().is_root(), "this test loads BPF programs: run it as root");
    if std::env::var_os(INSIDE).is_some() {
        prepare_namespaces();
        return body();
    }
    let thread = std::thread::current();
    let test = thread.name().expect("the test harness names its threads").to_owned();
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux");
    assert!(status.success(), "{test} failed inside its namespaces: {status}");
}

fn prepare_namespaces() {
    for mount in [
        "mount -t tmpfs tmpfs /run",
        "mkdir -p /run/netns",
        // /sys shows the network namespace of whoever mounted it.
        "mount -t sysfs sysfs /sys",
        "mount -t bpf bpf /sys/fs/bpf",
        "ip link set lo up",
    ] {
        sh(mount);
    }
}

/// A command that must succeed; its output.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}` failed: {text}{error}");
    text
}
