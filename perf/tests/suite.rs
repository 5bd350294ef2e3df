//! The suite with systems and a generator that are none: who is measured when, what becomes of it, and
//! of everything that goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fake;

use fake::{CYCLES, Fakes, settings};
use perf::{
    job::{Direction, Order},
    machine,
    progress::Progress,
    result::{Results, Run},
    suite::{self, Done, Settings, scenarios, scenarios::Kind},
};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

/// Measures what `only` selects of the short set.
fn measure(fakes: &mut Fakes, settings: &Settings, only: &[&str]) -> (Done, Vec<Results>) {
    let only: Vec<String> = only.iter().map(|only| only.to_string()).collect();
    let groups = scenarios::groups(true, false, 2, &only);
    let machine = machine::this(std::iter::empty(), settings.tsc_hz);
    let (stop, mut saved) = (AtomicBool::new(false), Vec::new());
    let mut progress = Progress::hidden();
    let done = suite::run(&groups, machine, settings, fakes, &mut progress, &stop, |results| {
        saved.push(results.clone());
        Ok(())
    });
    (done.unwrap(), saved)
}

fn run<'r>(done: &'r Done, system: &str, scenario: &str) -> &'r Run {
    let mut runs = done.results.runs.iter();
    runs.find(|run| run.system == system && run.scenario == scenario).unwrap()
}

const ONE_FLOW: &str = "throughput, 1 flows, in2out";

#[test]
fn systems_take_turns_and_all_but_one_are_paused() {
    let mut fakes = Fakes::default();
    let only = [
        "gateway, memif, throughput, 1 flows, in2out",
        "router, memif, throughput, 1 flows, in2out",
    ];
    measure(&mut fakes, &settings(), &only);
    let log = fakes.log.lock().unwrap().clone();
    let expected = [
        "gateway starts",
        "gateway is ready",
        "gateway pauses",
        "router starts",
        "router is ready",
        "router pauses",
        "gateway resumes",
        "gateway pauses",
        "router resumes",
        "router pauses",
        "router resumes",
        "router pauses",
        "gateway resumes",
        "gateway pauses",
        "gateway resumes",
        "gateway pauses",
        "router resumes",
        "router pauses",
        "gateway ends",
        "router ends",
    ];
    assert_eq!(log, expected);
}

/// One look before all repeats, then these.
fn distances(looks: &[f64]) -> VecDeque<Option<f64>> {
    let first = [Some(looks[0]), None];
    first.into_iter().chain(looks[1..].iter().copied().map(Some)).collect()
}

const US_ALONE: &str = "gateway, memif, throughput, 1 flows, in2out";

#[test]
fn repeats_wait_for_the_cpus_and_are_repeated_where_these_went_apart() {
    let near = distances(&[100.0, 460.0, 460.0, 120.0, 120.0, 110.0, 460.0, 110.0, 110.0]);
    let mut fakes = Fakes { distances: near, ..Fakes::default() };
    let (done, _) = measure(&mut fakes, &settings(), &[US_ALONE]);
    let gateway = run(&done, "gateway", "throughput");
    assert_eq!((gateway.repeats, gateway.apart), (3, 0));
    assert_eq!(done.results.machine.cpu_distance_cycles, Some(100));
    let log = fakes.log.lock().unwrap().clone();
    let expected = [
        "CPUs are at 100",
        "gateway starts",
        "gateway is ready",
        "gateway pauses",
        "CPUs are at 460",
        "CPUs are at 460",
        "CPUs are at 120",
        "gateway resumes",
        "gateway pauses",
        "CPUs are at 120",
        "CPUs are at 110",
        "gateway resumes",
        "gateway pauses",
        "CPUs are at 460",
        "CPUs are at 110",
        "gateway resumes",
        "gateway pauses",
        "CPUs are at 110",
        // Where it is not known, the repeat is as good as any.
        "gateway resumes",
        "gateway pauses",
        "gateway ends",
    ];
    assert_eq!(log, expected);
}

#[test]
fn what_a_gateway_did_wrong_in_a_repeat_that_was_replaced_is_told() {
    let looks = distances(&[100.0, 100.0, 460.0]);
    let mut fakes = Fakes { distances: looks, wrong: 7, ..Fakes::default() };
    let (done, _) = measure(&mut fakes, &settings(), &[US_ALONE]);
    let reason = &done.failures().next().unwrap().reason;
    assert_eq!(reason, "28 frames came back otherwise than foretold");
}

#[test]
fn cpus_that_stay_apart_are_counted_and_waited_for_within_bounds() {
    let looks: Vec<f64> = [100.0].into_iter().chain([460.0; 1000]).collect();
    let mut fakes = Fakes { distances: distances(&looks), ..Fakes::default() };
    let only = [US_ALONE, "router, memif, throughput, 1 flows, in2out"];
    let (done, _) = measure(&mut fakes, &settings(), &only);
    for system in ["gateway", "router"] {
        let run = run(&done, system, "throughput");
        assert_eq!((run.repeats, run.apart), (3, 3), "{system}");
    }
    // Of half a second five waits; two looks at each of six repeats, and at what is repeated of them.
    let looked = looks.len() - fakes.distances.len();
    assert!((12..=1 + 5 + 2 * 6 * 3).contains(&looked), "{looked}");
}

#[test]
fn that_cpus_were_apart_is_known_once_they_have_been_near() {
    let late = distances(&[460.0, 460.0, 460.0, 460.0, 460.0, 100.0, 100.0]);
    let mut fakes = Fakes { distances: late, ..Fakes::default() };
    let (done, _) = measure(&mut fakes, &settings(), &[US_ALONE]);
    assert_eq!(run(&done, "gateway", "throughput").apart, 2);
    assert_eq!(done.results.machine.cpu_distance_cycles, Some(100));
}

#[test]
fn what_is_of_one_cpu_alone_does_not_wait() {
    let looks = distances(&[100.0, 460.0, 460.0]);
    let mut fakes = Fakes { distances: looks, ..Fakes::default() };
    let (done, _) = measure(&mut fakes, &settings(), &["tear-down", "capacity"]);
    assert!(done.results.runs.iter().all(|run| run.apart == 0));
    assert_eq!(fakes.distances.len(), 2);
}

#[test]
fn runs_say_what_was_counted() {
    let (done, saved) = measure(&mut Fakes::default(), &settings(), &[ONE_FLOW]);
    assert_eq!(done.skipped, []);
    let gateway = run(&done, "gateway", "throughput");
    assert_eq!((gateway.direction, gateway.order), (Direction::In2out, Order::Random));
    assert_eq!((gateway.io.as_str(), gateway.flows, gateway.repeats), ("memif", 1, 3));
    assert_eq!((gateway.mpps, gateway.frame_bytes), (5.0, 64.0));
    // 84 octets on a wire.
    assert!((gateway.gbps - 5.0 * 84.0 * 8.0 / 1000.0).abs() < 1e-9, "{}", gateway.gbps);
    assert_eq!(gateway.cycles_per_packet, Some(CYCLES as f64));
    assert!(gateway.cycles_counted);
    assert_eq!(gateway.stages["rewrite"], 40.0);
    assert_eq!(gateway.spread.of, "cycles_per_packet");
    // It does not count, and nothing was lost; but others get more from the same generator.
    let kernel = run(&done, "kernel", "throughput");
    assert_eq!((kernel.cycles_per_packet, kernel.cycles_counted), (None, false));
    // Nothing is faster than these: who knows how much of its time it was busy.
    let testpmd = run(&done, "testpmd", "throughput");
    assert_eq!((testpmd.mpps, testpmd.cycles_per_packet), (10.0, None));
    assert_eq!(testpmd.spread.of, "mpps");
    // After each group.
    assert_eq!(saved.len(), 2);
    assert!(saved[0].runs.len() < saved[1].runs.len());
    assert_eq!(saved[1], done.results);
}

#[test]
fn who_is_slower_than_another_with_the_same_generator_took_all_its_time() {
    let peers = scenarios::groups(true, true, 2, &["memif, throughput, 1 flows, in2out".into()]);
    let (stop, settings) = (AtomicBool::new(false), settings());
    let machine = machine::this(std::iter::empty(), settings.tsc_hz);
    let mut fakes = Fakes::default();
    let progress = &mut Progress::hidden();
    let done =
        suite::run(&peers, machine, &settings, &mut fakes, progress, &stop, |_| Ok(())).unwrap();
    // Under its own name. 2 GHz by 5 Mpps.
    let peer = run(&done, "fake", "throughput");
    assert_eq!((peer.cycles_per_packet, peer.cycles_counted), (Some(400.0), false));
}

#[test]
fn sessions_are_ended_between_repeats_that_open_them() {
    let mut fakes = Fakes::default();
    let (done, _) = measure(&mut fakes, &settings(), &["new sessions, 1,000", "tear-down"]);
    assert_eq!(done.skipped, []);
    assert_eq!(run(&done, "gateway", "new sessions").sessions_per_second, Some(5e6));
    let torn = run(&done, "gateway", "tear-down");
    assert_eq!(torn.sessions_per_second, torn.sessions.map(|sessions| sessions as f64 / 0.5));
    // Before the second and third repeat of the one, and in each of the other.
    let flushes = fakes.log.lock().unwrap().iter().filter(|l| l.ends_with("is flushed")).count();
    assert_eq!(flushes, 2 + 3);
}

#[test]
fn a_full_table_tells_its_size() {
    let (done, _) = measure(&mut Fakes::default(), &settings(), &["capacity"]);
    let capacity = run(&done, "gateway", "capacity");
    assert_eq!((capacity.sessions, capacity.repeats), (Some(1_000_000), 1));
    assert_eq!(capacity.sessions_per_second, Some(2000.0));
    assert_eq!(capacity.bytes_per_session, Some(128.0));
    assert!(capacity.remarks[0].contains("1,000,000"), "{:?}", capacity.remarks);
}

#[test]
fn the_generators_own_gateway_is_measured_without_a_system() {
    let mut fakes = Fakes::default();
    let (done, _) = measure(&mut fakes, &settings(), &["ring"]);
    assert_eq!(run(&done, "gateway", "throughput").io, "ring");
    assert_eq!(run(&done, "gateway", "throughput").cycles_per_packet, Some(CYCLES as f64));
    assert_eq!(*fakes.log.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn workers_without_io_are_measured_beside_one() {
    let mut fakes = Fakes::default();
    let (done, saved) = measure(&mut fakes, &settings(), &["none"]);
    assert_eq!(done.skipped, []);
    assert_eq!(*fakes.log.lock().unwrap(), Vec::<String>::new());
    let runs = &done.results.runs;
    let told: Vec<_> = runs.iter().map(|run| (run.flows, run.workers, run.mpps)).collect();
    assert_eq!(told, [(100_000, 1, 5.0), (100_000, 2, 10.0)]);
    for run in runs {
        assert_eq!((run.scenario.as_str(), run.io.as_str()), ("scaling", "none"));
        assert_eq!((run.spread.of.as_str(), run.spread.median), ("mpps", run.mpps));
        assert_eq!(run.cycles_per_packet, Some(CYCLES as f64));
        assert_eq!(run.scaling(runs), Some(run.workers as f64));
    }
    assert_eq!(saved.len(), 1);
    let mut wrong = Fakes { wrong: 7, ..Fakes::default() };
    let (done, _) = measure(&mut wrong, &settings(), &["none"]);
    assert_eq!(done.failures().count(), 2);
    assert_eq!(done.skipped[1].system, "gateway with 2 workers over none");
}

#[test]
fn what_a_machine_cannot_have_is_skipped() {
    let mut fakes = Fakes { missing: vec![Kind::Testpmd], ..Fakes::default() };
    let (done, _) = measure(&mut fakes, &settings(), &["memif, throughput, 1 flows, in2out"]);
    let [skipped] = &done.skipped[..] else { panic!("{:?}", done.skipped) };
    assert_eq!(skipped.system, "testpmd over memif");
    assert_eq!(skipped.reason, "it is not installed");
    assert_eq!(done.failures().count(), 0);
    assert_eq!(done.results.runs.len(), 3);
}

#[test]
fn failures_of_the_gateway_are_failures() {
    let start = Fakes { missing: vec![Kind::Gateway], ..Fakes::default() };
    let die = Fakes { trouble: Some((Kind::Gateway, "DIES")), ..Fakes::default() };
    let refuse = Fakes { trouble: Some((Kind::Gateway, "REFUSES")), ..Fakes::default() };
    let wrong = Fakes { wrong: 7, ..Fakes::default() };
    let table = [
        (start, ONE_FLOW, "it is not installed"),
        // With the last that the generator said.
        (die, ONE_FLOW, "\n    EAL: cannot have this device"),
        (refuse, "new sessions, 1,000", "no session opens"),
        (wrong, ONE_FLOW, "21 frames came back otherwise than foretold"),
    ];
    for (mut fakes, only, reason) in table {
        let (done, _) = measure(&mut fakes, &settings(), &[only]);
        let failed = done.failures().find(|failed| failed.system == "gateway over memif");
        assert!(failed.unwrap().reason.contains(reason), "{reason}: {:?}", done.skipped);
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_ends_its_systems() {
    // The generator says no more; the first second after that ends the run.
    let mut fakes = Fakes { trouble: Some((Kind::Router, "HANGS")), ..Fakes::default() };
    let groups = scenarios::groups(true, false, 2, &["memif, throughput, 1 flows, out2in".into()]);
    let (stop, settings) = (AtomicBool::new(false), settings());
    let log = fakes.log.clone();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let is_measured = |line: &String| line == "router resumes";
            while !log.lock().unwrap().iter().any(is_measured) {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let machine = machine::this(std::iter::empty(), settings.tsc_hz);
        let progress = &mut Progress::hidden();
        suite::run(&groups, machine, &settings, &mut fakes, progress, &stop, |_| Ok(())).unwrap()
    });
    assert!(done.is_interrupted);
    assert_eq!(run(&done, "gateway", "throughput").repeats, 1);
    assert_eq!(done.skipped, []);
    let log = log.lock().unwrap();
    assert!(
        ["gateway ends", "router ends"].iter().all(|end| log.iter().any(|l| l == end)),
        "{log:?}"
    );
}

#[test]
fn results_are_as_the_schema_says_and_every_field_is_described() {
    let (done, _) = measure(&mut Fakes::default(), &settings(), &[]);
    let schema = serde_json::to_value(schemars::schema_for!(Results)).unwrap();
    let value = serde_json::to_value(&done.results).unwrap();
    assert!(done.results.runs.len() > 30, "{}", done.results.runs.len());
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    let mut bad = value.clone();
    bad["runs"][0]["mpps"] = "fast".into();
    assert!(!jsonschema::validator_for(&schema).unwrap().is_valid(&bad));

    let types = schema["$defs"].as_object().unwrap().iter();
    let types = types.map(|(name, of)| (name.as_str(), of)).chain([("Results", &schema)]);
    for (name, of) in types {
        let fields = of["properties"].as_object().into_iter().flatten();
        for (field, of) in fields {
            assert!(of["description"].is_string(), "{name}.{field} has no description");
        }
    }
}
