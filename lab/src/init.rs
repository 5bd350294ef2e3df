//! Process 1 of the lab's PID namespace, and the holders of its hosts.
//!
//! Everything that a lab makes lives in namespaces that end with this process: when it exits, the kernel kills what is left inside and frees
//! links, mounts, pins and pages. It exits when its standard input closes, so it cannot outlive whoever started it, even one killed by
//! `kill -9`; and `unshare --kill-child` ends it when that parent dies.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, pause, sethostname};

use crate::hugepages::Allowance;

/// The machine's /proc, kept to learn the process ids under which the outside sees us.
const OUTER_PROC: &str = "/run/outer-proc";

/// Of each host: what daemons say.
pub(crate) const LOG: &str = "/run/lab/log";

/// Said on standard output once all hosts are there, after one line `NAME OUTER-PID INNER-PID` for each.
pub(crate) const READY: &str = "ready";

const NO_HUGEPAGES: &str = "hugepages for the gateway (LAB_NO_HUGEPAGES=1 goes without)";

/// `lab init HOST…`. Runs until standard input closes or SIGTERM comes.
pub fn run(hosts: &[String], hugepages: bool) -> Result<()> {
    ensure!(getpid() == Pid::from_raw(1), "`lab init` is started by the lab itself");
    // blocked before the first child, so that none of its signals is missed
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let allowance = hugepages.then(Allowance::take).transpose().context(NO_HUGEPAGES)?;
    let outcome = private_mounts().and_then(|()| {
        let mut holders = Vec::new();
        for host in hosts {
            holders.push(start_holder(host).with_context(|| format!("host {host}"))?);
        }
        println!("{READY}");
        wait_for_the_end(&signals)
    });
    if let Some(allowance) = allowance {
        allowance.give_back()?;
    }
    outcome
}

fn private_mounts() -> Result<()> {
    mount_new("tmpfs", "/run")?;
    fs::create_dir(OUTER_PROC)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/proc"), OUTER_PROC, None::<&str>, bind, None::<&str>).context(OUTER_PROC)?;
    mount_new("proc", "/proc")
}

fn mount_new(kind: &str, target: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {kind} on {target}"))
}

fn start_holder(host: &str) -> Result<Child> {
    let mut holder = Command::new("unshare")
        .args(["--net", "--mount", "--uts"])
        .arg(std::env::current_exe()?)
        .args(["hold", host])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("unshare")?;
    let output = holder.stdout.take().context("stdout")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(!line.is_empty(), "its holder did not start");
    print!("{line}");
    std::io::stdout().flush()?;
    Ok(holder)
}

/// `lab hold HOST`: one host of the lab, which is a network, a mount and a name namespace, for as long as this process lives.
pub fn hold(host: &str) -> Result<()> {
    // /sys/class/net shows the network namespace in which sysfs was mounted
    mount_new("sysfs", "/sys")?;
    mount_new("bpf", "/sys/fs/bpf")?;
    sethostname(host)?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    let outer_pid = fs::read_link(Path::new(OUTER_PROC).join("self"))?;
    // two nodes on one machine must not meet in each other's sockets and lock files
    mount_new("tmpfs", "/run")?;
    fs::create_dir_all(LOG)?;
    println!("{host} {} {}", outer_pid.display(), getpid());
    loop {
        pause();
    }
}

fn wait_for_the_end(signals: &SignalFd) -> Result<()> {
    let input = std::io::stdin();
    loop {
        let mut fds = [
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        // nobody writes to our input: whatever happens there is its end
        if fds.iter().take(1).any(|fd| fd.any() == Some(true)) {
            return Ok(());
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                return Ok(());
            }
        }
        reap();
    }
}

/// Orphans of the whole PID namespace become our children.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// The command that makes the namespaces and starts [`run`] in them.
pub(crate) fn command(lab: &Path, hosts: &[&str], hugepages: bool) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--"])
        .arg(lab)
        .arg("init")
        .args(hugepages.then_some("--hugepages"))
        .args(hosts)
        // Ctrl-C is for the process at the terminal, which then closes our input
        .process_group(0);
    command
}
