//! A generator process, spoken to as the suite does.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use perf::job::{
    Checksums, Direction, Ends, Event, FarSide, Frames, Job, Load, Measured, Order, Step,
};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_egress-perf");

/// Ends with its input.
pub struct Generator {
    child: Child,
    input: Option<ChildStdin>,
    events: BufReader<ChildStdout>,
}

impl Drop for Generator {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "a generator whose input ends, ends well");
        }
    }
}

impl Generator {
    pub fn start(job: &Job) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("generate")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut generator = Generator { child, input, events: BufReader::new(output) };
        generator.say(&serde_json::to_string(job).unwrap());
        assert!(matches!(generator.next(), Event::Ready));
        generator
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn next(&mut self) -> Event {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// What a line leads to, and how many seconds were told meanwhile.
    pub fn answer(&mut self, line: &str) -> (Event, usize) {
        self.say(line);
        let mut seconds = 0;
        loop {
            let event = self.next();
            if !matches!(event, Event::Second(_)) {
                return (event, seconds);
            }
            seconds += 1;
        }
    }

    pub fn step(&mut self, step: &Step) -> Event {
        self.answer(&serde_json::to_string(step).unwrap()).0
    }

    pub fn measured(&mut self, step: &Step) -> Measured {
        let event = self.step(step);
        let Event::Measured(measured) = event else { panic!("{event:?}") };
        *measured
    }

    /// The same, and each direction that was sent came back, but for `loss`; nothing came otherwise. On a
    /// busy machine a thread may be off its CPU for longer than anybody waits: then it is tried again.
    pub fn came_back(&mut self, step: &Step, directions: [bool; 2], loss: f64) -> Measured {
        let mut tries = 0;
        loop {
            let measured = self.measured(step);
            assert_eq!(measured.wrong, 0, "{measured:?}");
            let pairs = measured.sent.iter().zip(&measured.received);
            let is_lost = |(sent, received): (&u64, &u64)| {
                assert!(received <= sent, "{measured:?}");
                (*received as f64) < *sent as f64 * (1.0 - loss)
            };
            let lost = pairs.map(is_lost).fold(false, |any, lost| any | lost);
            assert_eq!(measured.sent.map(|sent| sent > 0), directions, "{measured:?}");
            if !lost {
                return measured;
            }
            tries += 1;
            assert!(tries < 20, "{measured:?}");
        }
    }
}

/// The generator's CPU, and one for what it measures; the same where there is one only.
pub fn cores() -> [usize; 2] {
    let cpus = std::thread::available_parallelism().unwrap().get();
    [0, 1.min(cpus - 1)]
}

pub fn job(ends: Ends, far_side: FarSide, flows: u32) -> Job {
    Job {
        ends,
        core: cores()[0],
        hugepages: false,
        eal_args: Vec::new(),
        far_side,
        flows,
        nodes: 5,
        checksums: Checksums::Valid,
    }
}

pub fn load(direction: Direction) -> Load {
    Load {
        direction,
        frames: Frames::Smallest,
        order: Order::Random,
        new_sessions: 0.0,
        latency: false,
    }
}

pub fn send(load: Load, packets_per_second: f64) -> Step {
    let packets_per_second = Some(packets_per_second);
    Step::Send { load, packets_per_second, warm_up: 0.02, seconds: 0.2 }
}
