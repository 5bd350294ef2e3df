//! The generator and the router twin, two processes, over memif.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use harness::*;
use perf::job::{Direction, Ends, Event, FarSide, Frames, Job, Step};
use std::process::{Child, Command};
use tempfile::TempDir;

const SLOW: f64 = 20_000.0;

/// The twin, ended when it is dropped.
struct Router(Child);

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn device(dir: &TempDir, number: u8, role: &str) -> String {
    let socket = dir.path().join(format!("{number}.sock"));
    format!("net_memif{number},role={role},socket-abstract=no,socket={}", socket.display())
}

fn router(dir: &TempDir) -> Router {
    let [tunnel, external] = [0, 1].map(|number| device(dir, number, "server"));
    let child = Command::new(PROGRAM)
        .args(["router", "--tunnel", &tunnel, "--external", &external, "--no-huge"])
        .args(["--core", &cores()[1].to_string()])
        .spawn()
        .unwrap();
    Router(child)
}

fn job(dir: &TempDir, far_side: FarSide) -> Job {
    let [tunnel, external] = [0, 1].map(|number| device(dir, number, "client"));
    harness::job(Ends::Devices { tunnel, external }, far_side, 1000)
}

#[test]
fn a_router_brings_everything_to_the_other_side_untranslated() {
    let dir = tempfile::tempdir().unwrap();
    let mut router = router(&dir);
    let mut generator = Generator::start(&job(&dir, FarSide::Router));
    let event = generator.step(&Step::Establish);
    assert!(matches!(event, Event::Established { flows: 1000, .. }), "{event:?}");
    for frames in [Frames::Smallest, Frames::Imix, Frames::Largest] {
        let load = perf::job::Load { frames, ..load(Direction::Both) };
        generator.came_back(&send(load, SLOW), [true, true], 0.05);
    }

    // It ends when it is told to, and does so well.
    let pid = nix::unistd::Pid::from_raw(router.0.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(router.0.wait().unwrap().success());
}

#[test]
fn what_is_not_translated_by_a_nat_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let _router = router(&dir);
    let mut generator = Generator::start(&job(&dir, FarSide::Nat));
    let event = generator.step(&Step::Establish);
    let Event::Failed(why) = event else { panic!("{event:?}") };
    assert!(why.contains("1000 of 1000 flows' first packets do not come out"), "{why}");
    assert!(!why.contains(" 0 frames came otherwise"), "{why}");
    let measured = generator.measured(&send(load(Direction::In2out), SLOW));
    assert_eq!(measured.received, [0, 0]);
    assert!(measured.wrong > 0, "{measured:?}");
}

#[test]
fn without_another_end_the_step_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let [tunnel, external] = [0, 1].map(|number| device(&dir, number, "server"));
    let ends = Ends::Devices { tunnel, external };
    let mut generator = Generator::start(&harness::job(ends, FarSide::Nat, 1000));
    let event = generator.step(&Step::Establish);
    let Event::Failed(why) = event else { panic!("{event:?}") };
    assert!(why.contains("net_memif0") && why.contains("who holds its other end?"), "{why}");
}
