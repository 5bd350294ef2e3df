//! The generator and a gateway's worker in one process, on ring devices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use harness::*;
use perf::job::{Direction, Ends, Event, FarSide, Frames, Order, Step};

const FLOWS: u32 = 1000;
/// Slow enough for two busy threads on one CPU.
const SLOW: f64 = 20_000.0;

fn ring(max_sessions: u32) -> Generator {
    let ends = Ends::Ring { worker_core: cores()[1], max_sessions };
    Generator::start(&job(ends, FarSide::Nat, FLOWS))
}

fn establish(generator: &mut Generator) {
    let event = generator.step(&Step::Establish);
    assert!(matches!(event, Event::Established { flows: FLOWS, .. }), "{event:?}");
}

#[test]
fn what_is_sent_comes_back_translated_in_all_directions_lengths_and_orders() {
    let mut generator = ring(100_000);
    let early = generator.step(&send(load(Direction::Both), SLOW));
    assert!(matches!(&early, Event::Failed(why) if why.contains("Establish")), "{early:?}");
    let (nonsense, _) = generator.answer("{}");
    assert!(matches!(&nonsense, Event::Failed(why) if why.contains("no step")), "{nonsense:?}");

    establish(&mut generator);
    for (direction, directions) in [
        (Direction::In2out, [true, false]),
        (Direction::Out2in, [false, true]),
        (Direction::Both, [true, true]),
    ] {
        for (frames, order, mean) in [
            (Frames::Smallest, Order::Random, 64.0),
            (Frames::Imix, Order::Sequential, (7.0 * 64.0 + 4.0 * 570.0 + 1468.0) / 12.0),
            (Frames::Largest, Order::Random, 1468.0),
        ] {
            let load = harness::load(direction);
            let step = send(perf::job::Load { frames, order, latency: true, ..load }, SLOW);
            let measured = generator.came_back(&step, directions, 0.05);
            let latency = measured.latency.unwrap();
            assert_eq!(latency.samples, measured.received.iter().sum::<u64>());
            assert!(0.0 < latency.min && latency.min <= latency.p50, "{latency:?}");
            assert!(latency.p50 <= latency.p999 && latency.p999 <= latency.max, "{latency:?}");
            let inside = measured.inside.as_ref().unwrap();
            assert!(inside.busy_cycles > 0 && inside.turns > 0, "{inside:?}");
            assert!(inside.packets >= measured.received.iter().sum());
            assert_eq!(inside.sessions, u64::from(FLOWS));
            let turns: u64 = inside.turn_cycles.iter().map(|(_, count)| count).sum();
            // Both are read while the worker runs, one after the other.
            assert!((inside.turns / 2..=inside.turns * 2).contains(&turns), "{inside:?}");
            for (direction, tunnel) in [(0, 0.0), (1, 50.0)] {
                let received = measured.received[direction] as f64;
                let length = measured.received_bytes[direction] as f64 / received.max(1.0);
                let expected = if received > 0.0 { mean + tunnel } else { 0.0 };
                assert!((length - expected).abs() <= expected * 0.02, "{length} {expected}");
            }
        }
    }
}

#[test]
fn as_fast_as_it_goes_each_packet_is_still_judged_and_counted_once() {
    let mut generator = ring(100_000);
    establish(&mut generator);
    let load = load(Direction::Both);
    let step = Step::Send { load, packets_per_second: None, warm_up: 0.05, seconds: 1.2 };
    let (event, seconds) = generator.answer(&serde_json::to_string(&step).unwrap());
    let Event::Measured(measured) = event else { panic!("{event:?}") };
    assert!(seconds >= 1);
    // The worker's own transmit ring may be full.
    assert_eq!(measured.wrong, 0, "{measured:?}");
    assert!(measured.received.iter().all(|received| *received > 1000), "{measured:?}");
    assert!(measured.sent[0].abs_diff(measured.sent[1]) < 1000, "as many of each: {measured:?}");
    let inside = measured.inside.unwrap();
    let (stages, busy) = (inside.stages.values().sum::<u64>() as f64, inside.busy_cycles as f64);
    assert!(stages > busy * 0.5 && stages < busy * 2.0, "stages tell where it goes: {inside:?}");
    assert!(["receive", "classify", "translate"].iter().all(|s| inside.stages[*s] > 0));
}

#[test]
fn every_packet_of_a_fresh_flow_opens_a_session() {
    let mut generator = ring(100_000);
    establish(&mut generator);
    let step = Step::NewSessions { per_second: Some(SLOW), seconds: 0.2 };
    for times in 1..=2 {
        let measured = generator.came_back(&step, [true, false], 0.05);
        let inside = measured.inside.unwrap();
        assert!(inside.sessions_created >= measured.received[0], "{inside:?}");
        assert!(
            inside.sessions > u64::from(FLOWS) + times * 1000,
            "none was met again: {inside:?}"
        );
    }
    let churn = perf::job::Load { new_sessions: 0.25, ..load(Direction::In2out) };
    let measured = generator.came_back(&send(churn, SLOW), [true, false], 0.05);
    let share = measured.inside.unwrap().sessions_created as f64 / measured.sent[0] as f64;
    assert!((0.2..0.3).contains(&share), "{share}");
}

#[test]
fn a_table_holds_exactly_what_it_was_made_for() {
    let mut generator = ring(5000);
    establish(&mut generator);
    let mut opened = 0;
    // The first ends at what it was asked for, the second at what there is room for.
    for (most, ends) in [(2000, 2000..3000), (100_000, 4000..4001)] {
        let event = generator.step(&Step::Capacity { most });
        let Event::Capacity { opened: more, refused, .. } = event else { panic!("{event:?}") };
        opened += more;
        assert!(ends.contains(&opened), "{opened} opened, {refused} refused");
        assert_eq!(refused >= 5000, most > 4000, "{refused}");
    }
}

#[test]
fn the_search_ends_at_a_rate_that_passed() {
    let mut generator = ring(100_000);
    establish(&mut generator);
    // On a busy machine packets are lost at any rate; the search is about the way there.
    let step = Step::Search { load: load(Direction::In2out), loss: 0.5, seconds: 0.1 };
    let measured = generator.measured(&step);
    let last = measured.trials.iter().rfind(|trial| trial.passed).unwrap();
    let rate = measured.sent[0] as f64 / measured.seconds;
    assert!(rate <= last.packets_per_second * 1.05, "{rate} {:?}", measured.trials);
    for trial in &measured.trials {
        assert_eq!(trial.passed, trial.loss <= 0.5, "{trial:?}");
    }
}
