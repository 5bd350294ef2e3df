//! The lab's namespaces, held by whoever made them: all ends with this value, or with the process that has it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid};

use crate::host::Host;
use crate::init;

#[derive(Debug)]
pub struct Namespaces {
    hosts: BTreeMap<String, Host>,
    unshare: Child,
}

/// For each lab of this process, by the process id of `unshare`: the other end of its process 1's standard input.
static LIFELINES: Mutex<BTreeMap<u32, ChildStdin>> = Mutex::new(BTreeMap::new());

fn lifelines() -> MutexGuard<'static, BTreeMap<u32, ChildStdin>> {
    LIFELINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all labs of this process and waits until nothing of them is left, for a process that was told to end.
pub fn end_all() {
    for (unshare, lifeline) in std::mem::take(&mut *lifelines()) {
        drop(lifeline);
        let _ = waitpid(Pid::from_raw(unshare.cast_signed()), None);
    }
}

impl Namespaces {
    pub fn make(names: &[&str], hugepages: bool) -> Result<Self> {
        ensure!(geteuid().is_root(), "the lab makes network namespaces: run it as root");
        let mut unshare = init::command(&lab_program()?, names, hugepages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare (apt-get install util-linux)")?;
        let output = unshare.stdout.take().context("stdout")?;
        let lifeline = unshare.stdin.take().context("stdin")?;
        lifelines().insert(unshare.id(), lifeline);
        let mut namespaces = Self { hosts: BTreeMap::new(), unshare };
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == init::READY {
                return Ok(namespaces);
            }
            let host = Host::parse(&line)?;
            namespaces.hosts.insert(host.name().to_owned(), host);
        }
        bail!("the lab's namespaces could not be made: see the error above")
    }

    /// # Errors
    /// When there is no such host; the message names those that exist.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).with_context(|| {
            let names: Vec<&str> = self.hosts.keys().map(String::as_str).collect();
            format!("no host {name:?} in the lab; there are {}", names.join(", "))
        })
    }

    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // process 1 inside waits for this, and `unshare` for process 1: after the wait nothing is left
        drop(lifelines().remove(&self.unshare.id()));
        let _ = self.unshare.wait();
    }
}

/// The `lab` program: this one, or for a test the one that cargo built beside it.
pub(crate) fn lab_program() -> Result<PathBuf> {
    beside("lab", "LAB_BIN")
}

/// A program of this workspace: as the environment says, else beside this one.
pub(crate) fn beside(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("no folder")?;
    // tests are in deps/, the programs one level up
    if folder.ends_with("deps") {
        folder = folder.parent().context("no folder")?;
    }
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is missing: build it, or say where it is in {variable}",
        path.display()
    );
    Ok(path)
}
