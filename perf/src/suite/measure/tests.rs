use super::{super::scenarios, *};

const GHZ: u64 = 1_000_000_000;

fn measured(sent: u64, received: u64) -> Measured {
    Measured {
        seconds: 2.0,
        tsc_hz: 2 * GHZ,
        sent: [sent, 0],
        received: [received, 0],
        received_bytes: [received * 64, 0],
        ..Measured::default()
    }
}

fn counted(turns: &[(u64, u64)]) -> Sample {
    Sample {
        busy_cycles: 50_000,
        packets: 100,
        turn_cycles: turns.to_vec(),
        sessions_created: 5,
        ..Sample::default()
    }
}

#[test]
fn a_repeat_by_hand() {
    let repeat = Repeat::of(Scenario::Mixed(5), &measured(10_000_000, 8_000_000), None);
    assert_eq!((repeat.mpps, repeat.loss), (4.0, 0.2));
    assert!((repeat.gbps - 4e6 * 84.0 * 8.0 / 1e9).abs() < 1e-9, "{}", repeat.gbps);
    assert_eq!((repeat.cycles, repeat.whole_cycles), (None, Some(500.0)));
    let counted = counted(&[]);
    let repeat = Repeat::of(Scenario::Mixed(5), &measured(8_000_000, 8_000_000), Some(&counted));
    assert_eq!(repeat.cycles, Some(500.0));
    assert_eq!(repeat.sessions_per_second, Some(200_000.0));
    // Nothing came out: nothing is infinite.
    let repeat = Repeat::of(Scenario::Throughput, &measured(0, 0), Some(&Sample::default()));
    assert_eq!((repeat.loss, repeat.cycles, repeat.whole_cycles), (0.0, None, None));
}

#[test]
fn turns_give_percentile_and_disturbance() {
    // Bounds in cycles of 2 GHz.
    for (turns, p999, is_disturbed) in [
        (vec![], None, false),
        (vec![(2_000, 1000)], Some(1.0), false),
        (vec![(2_000, 999), (20_000, 1)], Some(1.0), false),
        (vec![(2_000, 998), (20_000, 2)], Some(10.0), false),
        // Half a millisecond each, at least; of two seconds 20 ms are too many.
        (vec![(2_000, 100_000), (2_000_000, 40)], Some(1.0), false),
        (vec![(2_000, 100_000), (2_000_000, 41)], Some(1.0), true),
        (vec![(2_000, 1_000_000), (1_000_000, 100)], Some(1.0), false),
    ] {
        let repeat =
            Repeat::of(Scenario::Churn(1_000_000), &measured(1, 1), Some(&counted(&turns)));
        assert_eq!((repeat.turn_p999_us, repeat.is_disturbed), (p999, is_disturbed), "{turns:?}");
    }
    for (off_us, turns, is_disturbed) in
        [(20_000.0, 0, false), (20_001.0, 0, true), (15_000.0, 10, false), (15_000.0, 11, true)]
    {
        let gaps = Measured { off_us, ..measured(1, 1) };
        let counted = counted(&[(2_000_000, turns)]);
        let repeat = Repeat::of(Scenario::Throughput, &gaps, Some(&counted));
        assert_eq!(repeat.is_disturbed, is_disturbed, "{off_us} {turns}");
    }
}

fn run_of(scenario: Scenario, repeats: &[Repeat], fastest: f64) -> Run {
    let groups = scenarios::groups(false, true, 2, &[]);
    let mut all = groups.iter().flat_map(|group| &group.measurements);
    let measurement = all.find(|measurement| measurement.scenario == scenario).unwrap();
    run(measurement, (measurement.subjects[0], "it"), repeats, fastest, Vec::new()).unwrap()
}

#[test]
fn cycles_that_nobody_counted_are_the_whole_time_of_who_was_offered_more() {
    let repeat = |mpps: f64, loss: f64| Repeat {
        mpps,
        loss,
        whole_cycles: Some(2000.0 / mpps),
        ..Repeat::default()
    };
    for (loss, fastest, cycles) in [
        (0.0, 4.0, None),
        (0.0, 4.4, None),
        (0.0, 5.0, Some(500.0)),
        (0.005, 4.0, None),
        (0.02, 4.0, Some(500.0)),
    ] {
        let run = run_of(Scenario::Throughput, &[repeat(4.0, loss)], fastest);
        assert_eq!(run.cycles_per_packet, cycles, "loss {loss}, fastest {fastest}");
        assert!(!run.cycles_counted);
    }
    // At half its rate it has time left.
    let run = run_of(Scenario::Latency(50), &[repeat(4.0, 0.02)], 8.0);
    assert_eq!(run.cycles_per_packet, None);
}

#[test]
fn a_run_is_the_median_of_its_repeats_and_tells_their_range() {
    let repeat = |mpps: f64, cycles: f64, p99: f64| Repeat {
        mpps,
        cycles: Some(cycles),
        latency: Some(Latency {
            samples: 10,
            min: p99 / 2.0,
            p99,
            max: p99 * 2.0,
            ..Latency::default()
        }),
        is_disturbed: p99 > 20.0,
        wrong: 1,
        ..Repeat::default()
    };
    let repeats = [repeat(4.0, 220.0, 30.0), repeat(5.0, 200.0, 10.0), repeat(4.5, 205.0, 12.0)];
    let run = run_of(Scenario::Throughput, &repeats, 5.0);
    assert_eq!((run.mpps, run.cycles_per_packet, run.disturbed), (4.5, Some(205.0), 1));
    assert_eq!((run.spread.min, run.spread.median, run.spread.max), (200.0, 205.0, 220.0));
    assert_eq!(run.remarks, ["3 frames came back otherwise than foretold"]);
    let run = run_of(Scenario::Latency(50), &repeats, 5.0);
    let latency = run.latency_us.unwrap();
    assert_eq!((latency.samples, latency.min, latency.p99, latency.max), (30, 5.0, 12.0, 60.0));
    assert_eq!((run.spread.of.as_str(), run.spread.max), ("latency_us.p99", 30.0));
}
