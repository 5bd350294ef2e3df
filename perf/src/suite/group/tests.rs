use super::{super::scenarios, *};
use crate::suite::scenarios::Kind;

const TIMING: Timing = Timing { repeats: 4, seconds: 2.0, warm_up: 0.5, patience: 0.0 };

/// The first of the full set with this scenario, and its group.
fn first(scenario: Scenario) -> (Group, Measurement) {
    let groups = scenarios::groups(false, true, 2, &[]);
    let mut all = groups
        .iter()
        .flat_map(|group| group.measurements.iter().map(move |of| (group.clone(), of.clone())));
    all.find(|(_, measurement)| measurement.scenario == scenario).unwrap()
}

#[test]
fn each_scenario_has_its_step_table_and_repeats() {
    let send = |of: Scenario, rate, new_sessions, latency| {
        let load = Load { new_sessions, latency, ..first(of).1.load() };
        Some(Step::Send { load, packets_per_second: rate, warm_up: 0.5, seconds: 2.0 })
    };
    let search = Step::Search { load: first(Scenario::Ndr).1.load(), loss: 1e-5, seconds: 2.0 };
    let new = |per_second, seconds| Some(Step::NewSessions { per_second, seconds });
    for (scenario, step, table, repeats) in [
        (Scenario::Throughput, send(Scenario::Throughput, None, 0.0, false), Table::Flows, 4),
        (Scenario::Mixed(10), send(Scenario::Mixed(10), None, 0.1, false), Table::Churning, 4),
        (Scenario::ZeroChecksums, send(Scenario::ZeroChecksums, None, 0.0, false), Table::Flows, 4),
        (
            Scenario::Latency(90),
            send(Scenario::Latency(90), Some(3.6e6), 0.0, true),
            Table::Flows,
            4,
        ),
        (Scenario::Ndr, Some(search), Table::Flows, 2),
        (Scenario::NewSessions, new(None, 1.0), Table::Wide, 4),
        (Scenario::Churn(1_000_000), new(Some(1e6), 2.0), Table::Churning, 4),
        (Scenario::TearDown, None, Table::Wide, 4),
        (Scenario::Capacity, Some(Step::Capacity { most: 2_000_000 }), Table::Full, 1),
        (Scenario::Scaling, send(Scenario::Scaling, None, 0.0, false), Table::Flows, 4),
    ] {
        let (group, measurement) = first(scenario);
        assert_eq!(measurement.step(&TIMING, Some(4e6)), step, "{scenario:?}");
        assert_eq!((group.table, measurement.timing(&TIMING).repeats), (table, repeats));
        let zero = scenario == Scenario::ZeroChecksums;
        assert_eq!(group.checksums == Checksums::Zero, zero, "{scenario:?}");
    }
}

#[test]
fn tables_have_room_for_what_is_opened_in_them() {
    for group in scenarios::groups(false, true, 2, &[]) {
        for subject in group.subjects() {
            let spec = group.spec(subject);
            assert!(spec.max_sessions > group.flows, "{}", group.name());
            assert_eq!(spec.unreplied_timeout < 10, group.table == Table::Churning);
        }
    }
}

#[test]
fn a_generator_knows_where_it_sends_and_what_comes_of_it() {
    let settings = crate::suite::Settings {
        generator_core: 3,
        system_core: 5,
        cpus: vec![0, 3, 5, 6],
        hugepages: true,
        gateway: None,
        peer: None,
        timing: TIMING,
        tsc_hz: 0,
    };
    let (group, _) = first(Scenario::Throughput);
    let devices = || Some((["t".to_owned(), "e".to_owned()], vec!["--word".to_owned()]));
    for (kind, io, far_side) in [
        (Kind::Gateway, Io::Memif, FarSide::Nat),
        (Kind::Kernel, Io::Veth, FarSide::Nat),
        (Kind::Router, Io::Memif, FarSide::Router),
        (Kind::Testpmd, Io::Memif, FarSide::Wire),
    ] {
        let job = group.job(Subject { kind, io, workers: 1 }, devices(), &settings);
        assert_eq!((job.far_side, job.core, job.flows), (far_side, 3, 1));
        assert_eq!(job.ends, Ends::Devices { tunnel: "t".into(), external: "e".into() });
        assert_eq!(job.eal_args, ["--word"]);
    }
    let inside =
        |io, workers| group.job(Subject { kind: Kind::Gateway, io, workers }, None, &settings).ends;
    assert_eq!(inside(Io::Ring, 1), Ends::Ring { worker_core: 5, max_sessions: 1025 });
    for (workers, worker_cores) in [(1, vec![5]), (2, vec![5, 3]), (4, vec![5, 3, 0, 6])] {
        let expected = Ends::Memory { worker_cores, max_sessions: 1025 };
        assert_eq!(inside(Io::None, workers), expected);
    }
}

#[test]
fn mixed_lengths_have_a_mean() {
    assert_eq!(frame_bytes(Frames::Smallest), 64.0);
    assert!((frame_bytes(Frames::Imix) - 349.67).abs() < 0.01);
}
