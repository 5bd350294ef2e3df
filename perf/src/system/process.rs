//! A program under test: a process group of its own, that can be stopped, and ends with its value.

use super::keeper::Keeper;
use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);
/// Of a log, in an error message.
const LAST_LINES: usize = 20;

#[derive(Debug)]
pub(super) struct Process {
    name: String,
    /// Its standard input stays open, with nothing in it.
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says goes to `NAME.log` in the folder.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        folder: &Path,
        keeper: &mut Keeper,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name}: {}", command.get_program().display()))?;
        let process = Process { name: name.to_owned(), child, log };
        let pid = process.child.id();
        // The number may be another process's by then, which began later.
        let began = began(pid).unwrap_or_default();
        keeper.finally(&format!(
            r#"case "$(cut -d' ' -f22 /proc/{pid}/stat 2>/dev/null)" in ""|{began}) kill -s KILL -- -{pid};; esac"#
        ))?;
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// An error with its last words when it has ended.
    pub(super) fn is_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}). {}", self.name, self.last_words()),
        }
    }

    /// Waits until `done`, and fails when that takes too long or the program ends.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !done(self)? {
            self.is_alive()?;
            if Instant::now() > deadline {
                let (name, seconds) = (&self.name, within.as_secs());
                bail!("{name}: {what} did not come within {seconds} s. {}", self.last_words());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub(super) fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        match last {
            [] => "It said nothing".to_owned(),
            _ => format!("Its last words:\n  {}", last.join("\n  ")),
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        killpg(self.group(), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Whether it has ended; it is not reaped, so that its number stays its own.
    fn is_over(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        !matches!(waitid(Id::Pid(self.group()), flags), Ok(WaitStatus::StillAlive))
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.signal(Signal::SIGTERM);
            let _ = self.signal(Signal::SIGCONT);
            let deadline = Instant::now() + PATIENCE;
            while !self.is_over() && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
        // What it started, too.
        let _ = self.signal(Signal::SIGKILL);
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// When the process began, in ticks since boot: field 22 of its `stat`, of a name without spaces.
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.split(' ').nth(21).map(str::to_owned)
}

/// Runs a script with `sh -e`, which has to succeed.
pub(super) fn script(mut shell: Command, text: &str) -> Result<String> {
    let output = shell.args(["sh", "-euc", text]).stdin(Stdio::null()).output();
    let output = output.with_context(|| shell.get_program().display().to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\nof the script:\n{text}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(text: &str) -> (tempfile::TempDir, Keeper, Process) {
        let (folder, mut keeper) = (tempfile::tempdir().unwrap(), Keeper::start().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        let process = Process::start("it", command, folder.path(), &mut keeper).unwrap();
        (folder, keeper, process)
    }

    fn state(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.split(' ').nth(2)?.chars().next()
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline);
            thread::sleep(POLL);
        }
    }

    #[test]
    fn one_that_ends_early_is_told_with_its_last_words() {
        let (_folder, _keeper, mut process) = sh("echo why not >&2; exit 3");
        let never = process.wait_until("the end", Duration::from_secs(60), |_| Ok(false));
        let error = never.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why not"), "{error}");
    }

    #[test]
    fn it_stops_and_goes_on_with_its_children() {
        let (_folder, _keeper, mut process) = sh("sleep 1000 & echo $!; wait");
        let second = Duration::from_secs(10);
        process.wait_until("a number", second, |it| Ok(it.said().ends_with('\n'))).unwrap();
        let (pid, child) = (process.pid(), process.said().trim().parse().unwrap());
        process.pause().unwrap();
        until(|| [pid, child].map(state) == [Some('T'); 2]);
        process.resume().unwrap();
        until(|| [pid, child].map(state) == [Some('S'); 2]);
        process.pause().unwrap();
        drop(process);
        assert_eq!(state(pid), None, "stopped ones end, too");
        until(|| matches!(state(child), None | Some('Z')));
    }

    #[test]
    fn the_keeper_ends_what_we_could_not() {
        let (_folder, keeper, process) = sh("trap '' TERM; sleep 1000");
        let pid = process.pid();
        drop(keeper);
        until(|| state(pid) == Some('Z'));
        drop(process);
    }
}
