//! One host of the lab, seen from outside: run commands in it, start daemons, or do something in its network with a thread of one's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::daemon::Daemon;
use crate::init::LOG;

#[derive(Debug)]
pub struct Host {
    name: String,
    /// Of its holder, as this process sees it.
    pid: u32,
    /// The same, as processes inside the lab see it.
    inner_pid: u32,
}

impl Host {
    /// From what its holder says: `NAME OUTER-PID INNER-PID`.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next().with_context(|| format!("from a holder: {line:?}"));
        Ok(Self { name: next()?.to_owned(), pid: next()?.parse()?, inner_pid: next()?.parse()? })
    }

    /// The line that [`Host::parse`] reads.
    #[must_use]
    pub(crate) fn to_line(&self) -> String {
        format!("{} {} {}", self.name, self.pid, self.inner_pid)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    #[must_use]
    pub(crate) fn inner_pid(&self) -> u32 {
        self.inner_pid
    }

    /// A file of this host, as a path that works from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// `program`, to be run in this host's namespaces. It dies with the lab, for it is in the lab's PID namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string(), "--pid", "--net", "--mount", "--uts", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, whatever its exit status.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        let [program, arguments @ ..] = words else { bail!("no command") };
        self.command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("{}: nsenter", self.name))
    }

    /// Runs a command that has to succeed. Its standard output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        if !output.status.success() {
            bail!(
                "{}$ {}: {}\n{}{}",
                self.name,
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that reads `input`, for example `ip -batch -`.
    pub fn run_with_input(&self, words: &[&str], input: &str) -> Result<()> {
        let [program, arguments @ ..] = words else { bail!("no command") };
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: nsenter", self.name))?;
        // a program that ends early closes the pipe; its exit status tells more than our write error
        let _ = child.stdin.take().context("stdin")?.write_all(input.as_bytes());
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{}$ {}: {}\n{errors}{input}", self.name, words.join(" "), output.status);
        }
        Ok(())
    }

    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // written beside and renamed, so that whoever watches the file never reads half of it
        let whole = path.with_extension("new");
        std::fs::write(&whole, text).with_context(|| format!("{}: {inside}", self.name))?;
        Ok(std::fs::rename(whole, path)?)
    }

    /// Starts a program that keeps running; what it says goes to `NAME.log` in this host's log folder.
    pub fn daemon(&self, name: &str, words: &[&str]) -> Result<Daemon> {
        let [program, arguments @ ..] = words else { bail!("no command") };
        let mut command = self.command(program);
        command.args(arguments);
        Daemon::start(name, command, self.path(&format!("{LOG}/{name}.log")))
    }

    /// What all daemons of this host have said.
    #[must_use]
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(self.path(LOG)).into_iter().flatten().flatten();
        let mut logs: Vec<_> = files.map(|file| file.path()).collect();
        logs.sort();
        let text = |path: &PathBuf| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(path).unwrap_or_default();
            format!("--- {}: {name}\n{}\n", self.name, String::from_utf8_lossy(&bytes))
        };
        logs.iter().map(text).collect()
    }

    /// Runs `work` on a thread that is in this host's network namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let namespace = File::open(&path).with_context(|| path)?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering {}", self.name))?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
