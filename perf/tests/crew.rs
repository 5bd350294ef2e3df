//! A gateway's workers without I/O, in the generator's process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use harness::*;
use perf::job::{Direction, Ends, Event, FarSide, Frames, Load, Order, Step};

const FLOWS: u32 = 1000;

/// On as many CPUs as there are, in turn.
fn crew(workers: usize, far_side: FarSide) -> Generator {
    let worker_cores = (0..workers).map(|worker| cores()[worker % 2]).collect();
    let ends = Ends::Memory { worker_cores, max_sessions: 2000 };
    Generator::start(&job(ends, far_side, FLOWS))
}

fn flood(load: Load) -> Step {
    Step::Send { load, packets_per_second: None, warm_up: 0.02, seconds: 0.1 }
}

fn failed(event: &Event, expected: &str) {
    let Event::Failed(why) = event else { panic!("{event:?}") };
    assert!(why.contains(expected), "{why}");
}

#[test]
fn all_that_workers_are_given_comes_back_translated() {
    for workers in [1, 2] {
        let mut crew = crew(workers, FarSide::Nat);
        failed(&crew.step(&flood(load(Direction::In2out))), "Establish must come first");
        let event = crew.step(&Step::Establish);
        assert!(matches!(event, Event::Established { flows: FLOWS, .. }), "{event:?}");
        for (direction, frames, order) in [
            (Direction::In2out, Frames::Smallest, Order::Random),
            (Direction::Out2in, Frames::Imix, Order::Sequential),
            (Direction::Both, Frames::Largest, Order::Random),
        ] {
            let load = Load { frames, order, ..load(direction) };
            let measured = crew.measured(&flood(load));
            assert!(measured.sent.iter().sum::<u64>() > 0, "{measured:?}");
            assert_eq!((measured.received, measured.wrong), (measured.sent, 0));
            let inside = measured.inside.as_ref().unwrap();
            assert_eq!(inside.sessions, u64::from(FLOWS) * workers as u64);
            // One is as fast as its cycles say, and none is faster.
            let packets = measured.received.iter().sum::<u64>() as f64;
            let cycles = inside.busy_cycles as f64 / packets;
            let together = measured.tsc_hz as f64 / (packets / measured.seconds) * workers as f64;
            assert!(together <= cycles * 1.001, "{together} {cycles}");
            assert!(workers > 1 || together >= cycles * 0.999, "{together} {cycles}");
        }
    }
}

#[test]
fn what_is_not_as_foretold_is_found() {
    let mut crew = crew(1, FarSide::Router);
    let event = crew.step(&Step::Establish);
    failed(&event, "1000 not answered, 1000 frames came otherwise than foretold");
}

#[test]
fn what_needs_a_wire_is_refused() {
    let mut crew = crew(1, FarSide::Nat);
    crew.step(&Step::Establish);
    let load = load(Direction::In2out);
    for step in [
        send(load, 1000.0),
        flood(Load { latency: true, ..load }),
        flood(Load { new_sessions: 0.1, ..load }),
        Step::Search { load, loss: 0.0, seconds: 0.1 },
        Step::NewSessions { per_second: None, seconds: 0.1 },
        Step::Capacity { most: 1 },
    ] {
        failed(&crew.step(&step), "without I/O");
    }
}
