//! A lab that stays until it is told to go: `lab up`, `lab shell`, `lab exec`, `lab down`.
//!
//! A process in the background keeps it. What others need to enter is in a file, which that process has locked: if the lock can be had, the
//! file is a dead process's, whose lab went with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, setsid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::host::Host;
use crate::namespaces::lab_program;
use crate::site::{Arrangement, CRAWLER, PAYMENTS, Site};
use crate::stack::Lab;
use crate::wait::{PATIENCE, until};

/// `LAB_STATE` says otherwise, for a second lab.
const STATE: &str = "/run/egress-gateway-lab";
const READY: &str = "ready";

const HINTS: &str = "\
try: ./dev lab exec pod-a -- curl -s http://198.51.100.10/source
     ./dev lab exec pod-a -- curl -s 'http://[2001:db8:100::10]/source'
     ./dev lab shell node1
     ./dev lab down";

fn state() -> PathBuf {
    std::env::var_os("LAB_STATE").map_or_else(|| PathBuf::from(STATE), PathBuf::from)
}

fn log() -> PathBuf {
    state().with_extension("log")
}

/// Starts the keeper, and returns when all runs.
pub fn up(site: Site, bare: bool) -> Result<()> {
    ensure!(keeper().is_err(), "a lab is up already; `lab down` ends it");
    let errors = File::create(log())?;
    let mut keeper = Command::new(lab_program()?)
        .arg("keep")
        .args(["--workers", &site.workers.to_string()])
        .args(["--underlay", &format!("{:?}", site.underlay).to_lowercase()])
        .args(["--arrangement", arrangement(site)])
        .args(bare.then_some("--bare"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()?;
    let output = BufReader::new(keeper.stdout.take().context("stdout")?);
    for line in output.lines() {
        let line = line?;
        if line == READY {
            println!("{HINTS}");
            return Ok(());
        }
        println!("{line}");
    }
    keeper.wait()?;
    bail!("the lab did not start:\n{}", fs::read_to_string(log())?)
}

/// As the command line has it.
fn arrangement(site: Site) -> &'static str {
    match site.arrangement {
        Arrangement::TwoPorts => "two-ports",
        Arrangement::OneArmedByVlan { .. } => "vlan",
        Arrangement::OneArmedByAddress => "address",
    }
}

/// `lab keep`: what stays in the background.
pub fn keep(site: Site, bare: bool) -> Result<()> {
    // caught, not blocked: what the lab starts would inherit the block and ignore `kill`
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    setsid().context("setsid")?;
    let file = File::options().create(true).write(true).truncate(false).open(state())?;
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow!("a lab is up already; `lab down` ends it"))?;
    file.set_len(0)?;
    let mut lab = Lab::start(site)?;
    if !bare {
        lab.start_product(&site.documents(&[PAYMENTS, CRAWLER]))?;
    }
    let mut entries = format!("{}\n", getpid());
    for host in lab.hosts() {
        entries += &format!("{}\n", host.to_line());
    }
    file.write_all(entries.as_bytes())?;
    println!("hosts: {}", lab.hosts().map(Host::name).collect::<Vec<_>>().join(" "));
    println!("{READY}");
    let signal = signals.forever().next().context("no signal can come")?;
    eprintln!("signal {signal}: the lab ends");
    fs::remove_file(state())?;
    drop(lab);
    Ok(())
}

pub fn down() -> Result<()> {
    let (keeper, _) = keeper()?;
    kill(keeper, Signal::SIGTERM)?;
    until("the lab has ended", PATIENCE, || {
        ensure!(!Path::new(&format!("/proc/{keeper}")).exists(), "its keeper still runs");
        Ok(())
    })?;
    Ok(fs::remove_file(log())?)
}

/// Becomes `words`, run in `host` of the lab that is up.
pub fn exec(host: &str, words: &[String]) -> Result<()> {
    let (_, hosts) = keeper()?;
    let names: Vec<&str> = hosts.iter().map(Host::name).collect();
    let names = names.join(", ");
    let found = hosts.iter().find(|known| known.name() == host);
    let found = found.with_context(|| format!("no host {host:?} in the lab; there are {names}"))?;
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = found.command(program);
    Err(command.args(arguments).stdin(Stdio::inherit()).exec().into())
}

/// The keeper's process id and the hosts that it keeps.
fn keeper() -> Result<(Pid, Vec<Host>)> {
    const NONE: &str = "no lab is up: `lab up` starts one";
    let file = File::open(state()).context(NONE)?;
    ensure!(Flock::lock(file, FlockArg::LockSharedNonblock).is_err(), NONE);
    let text = fs::read_to_string(state())?;
    let mut lines = text.lines();
    let keeper = lines.next().context("a lab is starting: try again in a moment")?;
    let hosts: Result<_> = lines.map(Host::parse).collect();
    Ok((Pid::from_raw(keeper.parse()?), hosts?))
}
