//! A program that runs inside the lab until it is told to stop, with its log.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, until};

#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    /// nsenter, which waits for the program and ends as the program does.
    nsenter: Child,
    program: Pid,
}

impl Daemon {
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        // appended, so that a program started again does not erase what came before
        let file = File::options().create(true).append(true).open(&log).context("log file")?;
        let mut nsenter = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name}: nsenter"))?;
        let program = until(&format!("{name} starts"), PATIENCE, || {
            match nsenter.try_wait()? {
                // it will not come back: no reason to wait
                Some(status) => Ok(Err(anyhow!("{name} ended at once: {status}"))),
                None => only_child(nsenter.id()).map(Ok),
            }
        });
        let program =
            program.and_then(|program| program).inspect_err(|_| eprintln!("{}", read_log(&log)))?;
        Ok(Self { name: name.to_owned(), log, nsenter, program })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All that it has written to standard output and standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.nsenter.try_wait()?.is_none())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.program, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Waits until it has ended by itself or by a signal.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        until(&format!("{} ends", self.name), PATIENCE, || {
            self.nsenter.try_wait()?.context("still runs")
        })
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.ended().map(|_| ())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // once nsenter has been waited for, the number may belong to somebody else
        if let Ok(None) = self.nsenter.try_wait() {
            let _ = kill(self.program, Signal::SIGKILL);
            let _ = self.nsenter.wait();
        }
    }
}

fn read_log(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn only_child(parent: u32) -> Result<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let child = children.split_whitespace().next().context("has not forked yet")?;
    Ok(Pid::from_raw(child.parse()?))
}
