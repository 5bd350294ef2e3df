//! What a run could leave behind.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, id},
    thread,
    time::{Duration, Instant},
};

const SETTINGS: [&str; 2] =
    ["/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_buckets"];

/// In the command line of a gateway that is measured, which others on the machine do not have.
pub(crate) const GATEWAY: &str = "egress-perf-gateway-";

/// Of the process with that number and of the whole machine.
#[derive(Debug, PartialEq)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    pub(crate) fn now() -> Self {
        Traces::of(id())
    }

    pub(crate) fn of(pid: u32) -> Self {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/sys/class/net").unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with(&format!("egw{pid}-")) {
                found.insert(format!("interface {name}"));
            }
        }
        let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
        let tables = String::from_utf8(tables.stdout).unwrap();
        found.extend(
            tables.lines().filter(|line| line.contains(&format!("egw{pid}_"))).map(str::to_owned),
        );
        for entry in fs::read_dir(std::env::temp_dir()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("egress-perf-") {
                found.insert(format!("folder {name}"));
            }
        }
        for path in SETTINGS {
            found.insert(format!("{path}={}", fs::read_to_string(path).unwrap_or_default().trim()));
        }
        for word in [GATEWAY, "dpdk-testpmd", "sleep\0infinity"] {
            found.extend(children(word).iter().map(|pid| format!("process {pid}: {word}")));
        }
        Traces(found)
    }
}

/// Live processes whose command line has that in it.
pub(crate) fn children(word: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    pids.filter(has).collect()
}

/// Waits until things are as they were.
pub(crate) fn gone(before: &Traces) {
    gone_of(id(), before);
}

pub(crate) fn gone_of(pid: u32, before: &Traces) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = Traces::of(pid);
        if now == *before {
            return;
        }
        let left: Vec<_> = now.0.symmetric_difference(&before.0).collect();
        assert!(Instant::now() < deadline, "left behind: {left:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
