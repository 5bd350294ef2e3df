//! A generator in a process of its own: it is told a job and steps, and asked what came of them.

use crate::job::{Event, Job, Second, Step};
use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The EAL maps its memory, and links come up.
const TO_START: Duration = Duration::from_secs(60);
/// After its input has ended.
const TO_END: Duration = Duration::from_secs(3);
/// How often a wait looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Of what it says beside events, the last lines are kept.
const KEPT_LINES: usize = 12;

/// A generator that waits for steps. It ends when it is dropped.
#[derive(Debug)]
pub struct Generator {
    child: Child,
    /// `None` once it is to end.
    input: Option<ChildStdin>,
    events: Receiver<Event>,
    said: Said,
    /// Disconnected once all of its output has been read.
    reading: Receiver<()>,
    is_broken: bool,
}

/// The last lines that are not events, for the one who asks why it failed.
#[derive(Clone, Debug, Default)]
struct Said(Arc<Mutex<VecDeque<String>>>);

/// What a step may use while it waits.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Waiting<'a> {
    pub stop: &'a AtomicBool,
    pub second: &'a mut dyn FnMut(&Second),
}

/// The user wants to stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Generator {
    /// Starts a program that speaks as [`crate::job`] says, and waits until it is ready.
    pub fn start(mut command: Command, job: &Job, stop: &AtomicBool) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A process group of its own: Ctrl-C is for the suite, which ends generators in its own order.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("generator {program}"))?;
        let (said, (events, received)) = (Said::default(), crossbeam_channel::unbounded());
        let (reads, reading) = crossbeam_channel::bounded(0);
        if let Some(output) = child.stdout.take() {
            let (said, reads) = (said.clone(), reads.clone());
            thread::spawn(move || {
                said.read(output, Some(&events));
                drop(reads);
            });
        }
        if let Some(errors) = child.stderr.take() {
            let said = said.clone();
            thread::spawn(move || {
                said.read(errors, None);
                drop(reads);
            });
        }
        let input = child.stdin.take();
        let mut generator =
            Generator { child, input, events: received, said, reading, is_broken: false };
        // One that ended before it was told has said why: its events come first.
        let _ = generator.say(job);
        match generator.event(TO_START, &mut Waiting { stop, second: &mut |_| () })? {
            Event::Ready => Ok(generator),
            Event::Failed(reason) => bail!("the generator could not start: {reason}"),
            event @ (Event::Second(_)
            | Event::Established { .. }
            | Event::Measured(_)
            | Event::Capacity { .. }) => {
                bail!("the generator began with {event:?} instead of being ready")
            }
        }
    }

    /// Does one step. An error that leaves the generator whole is of this step only: see
    /// [`Generator::is_broken`].
    pub fn step(
        &mut self,
        step: &Step,
        within: Duration,
        waiting: &mut Waiting<'_>,
    ) -> Result<Event> {
        self.say(step)?;
        let event = self.event(within, waiting)?;
        if let Event::Failed(reason) = event {
            bail!(reason);
        }
        Ok(event)
    }

    /// Whether it cannot be asked any more.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn say(&mut self, line: &impl serde::Serialize) -> Result<()> {
        let line = serde_json::to_string(line)? + "\n";
        let written = match &mut self.input {
            Some(input) => input.write_all(line.as_bytes()).and_then(|()| input.flush()),
            None => Ok(()),
        };
        written.map_err(|_| self.gone())
    }

    /// The next event that is not a second.
    fn event(&mut self, within: Duration, waiting: &mut Waiting<'_>) -> Result<Event> {
        let until = Instant::now() + within;
        loop {
            if waiting.stop.load(Ordering::Relaxed) {
                self.is_broken = true;
                bail!(Interrupted);
            }
            match self.events.recv_timeout(LOOK) {
                Ok(Event::Second(second)) => (waiting.second)(&second),
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => (),
                Err(RecvTimeoutError::Timeout) => {
                    self.is_broken = true;
                    let seconds = within.as_secs();
                    bail!("the generator did not answer within {seconds} s{}", self.said.quoted());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
        }
    }

    fn gone(&mut self) -> anyhow::Error {
        self.is_broken = true;
        self.input = None;
        let how = match wait(&mut self.child, TO_END) {
            Some(status) => status.to_string(),
            None => "it closed its output".to_owned(),
        };
        // Its last lines are often the reason, and may still be on their way.
        let _ = self.reading.recv_timeout(TO_END);
        anyhow!("the generator ended by itself: {how}{}", self.said.quoted())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.input = None;
        if self.is_broken || wait(&mut self.child, TO_END).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait(child: &mut Child, within: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Said {
    /// To the end. What is no event was not meant for the suite: drivers print where they like.
    fn read(&self, from: impl Read, events: Option<&Sender<Event>>) {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            match events.map(|events| (events, serde_json::from_str(&line))) {
                Some((events, Ok(event))) => {
                    if events.send(event).is_err() {
                        return;
                    }
                }
                Some((_, Err(_))) | None => self.keep(line),
            }
        }
    }

    fn keep(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// On lines of their own, indented; empty where nothing was said.
    fn quoted(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n    {line}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Checksums, Ends, FarSide};

    fn job() -> Job {
        let ends = Ends::Devices { tunnel: "t".into(), external: "e".into() };
        Job {
            ends,
            core: 0,
            hugepages: false,
            eal_args: Vec::new(),
            far_side: FarSide::Nat,
            flows: 1,
            nodes: 1,
            checksums: Checksums::Valid,
        }
    }

    /// A generator of these shell commands, after it has read its job.
    fn start(commands: &str) -> Result<Generator> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read -r job; {commands}")]);
        Generator::start(command, &job(), &AtomicBool::new(false))
    }

    fn establish(generator: &mut Generator, within: Duration) -> Result<Event> {
        let waiting = &mut Waiting { stop: &AtomicBool::new(false), second: &mut |_| () };
        generator.step(&Step::Establish, within, waiting)
    }

    #[test]
    fn a_generator_that_cannot_start_says_why() {
        for (commands, expected) in [
            ("echo '{\"failed\":\"no such device\"}'", "could not start: no such device"),
            ("echo it is late >&2; exit 3", "exit status: 3\n    it is late"),
            ("echo '{\"established\":{\"flows\":1,\"seconds\":1}}'; cat", "instead of being ready"),
        ] {
            let error = start(commands).unwrap_err().to_string();
            assert!(error.contains(expected), "{commands}: {error}");
        }
        let none = Generator::start(Command::new("/nonexistent"), &job(), &AtomicBool::new(false));
        assert!(
            format!("{:#}", none.unwrap_err()).contains("generator /nonexistent: No such file")
        );
    }

    #[test]
    fn one_that_does_not_answer_is_given_up_with_its_last_lines() {
        let mut generator =
            start("echo '\"ready\"'; echo a driver hangs >&2; cat >/dev/null").unwrap();
        while generator.said.quoted().is_empty() {
            thread::yield_now();
        }
        let error = establish(&mut generator, Duration::from_millis(1)).unwrap_err().to_string();
        assert_eq!(error, "the generator did not answer within 0 s\n    a driver hangs");
        assert!(generator.is_broken());
    }

    #[test]
    fn a_step_that_fails_leaves_the_generator_whole() {
        let mut generator = start(
            "echo '\"ready\"'; read -r step; echo '{\"failed\":\"no answer to ARP\"}'; read -r step; \
             echo '{\"established\":{\"flows\":1,\"seconds\":0.5}}'; cat",
        )
        .unwrap();
        let within = Duration::from_secs(60);
        let error = establish(&mut generator, within).unwrap_err().to_string();
        assert_eq!((error.as_str(), generator.is_broken()), ("no answer to ARP", false));
        let event = establish(&mut generator, within).unwrap();
        assert!(matches!(event, Event::Established { flows: 1, .. }), "{event:?}");
    }

    #[test]
    fn it_ends_with_its_input_and_is_ended_else() {
        for commands in ["echo '\"ready\"'; cat", "echo '\"ready\"'; exec sleep 1000"] {
            let generator = start(commands).unwrap();
            let pid = nix::unistd::Pid::from_raw(generator.child.id() as i32);
            drop(generator);
            assert!(nix::sys::signal::kill(pid, None).is_err(), "{commands}");
        }
    }
}
