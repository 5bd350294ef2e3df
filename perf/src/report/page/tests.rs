//! Pages of made-up results.

use super::*;
use crate::{
    job::Latency,
    result::{Machine, Spread},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn results(runs: Vec<Run>) -> Results {
    let machine = Machine {
        cpu: "A <CPU>".to_owned(),
        cpus: 2,
        tsc_hz: 2_300_000_000,
        cpu_distance_cycles: Some(104),
        memory_gib: 4,
        kernel: "6".to_owned(),
        hypervisor: None,
        dpdk: "DPDK 1".to_owned(),
        egress_perf: "0".to_owned(),
        date: "2026-01-01".to_owned(),
        command: vec!["egress-perf".to_owned(), "run & more".to_owned()],
    };
    Results { machine, runs }
}

fn run(system: &str, scenario: &str, flows: u32, value: f64) -> Run {
    let spread = Spread { of: "mpps".to_owned(), min: value, median: value, max: value };
    Run {
        system: system.to_owned(),
        scenario: scenario.to_owned(),
        io: "memif".to_owned(),
        direction: Direction::In2out,
        frame_bytes: 64.0,
        frames: Frames::Smallest,
        flows,
        order: Order::Random,
        workers: 1,
        mpps: value,
        gbps: value,
        cycles_per_packet: Some(value),
        cycles_counted: true,
        stages: BTreeMap::from([("classify".to_owned(), value)]),
        loss: value,
        latency_us: Some(Latency { p50: value, p99: value, ..Latency::default() }),
        sessions_per_second: Some(value),
        sessions: Some(1),
        bytes_per_session: Some(value),
        turn_p999_us: Some(value),
        repeats: 3,
        spread,
        disturbed: 0,
        apart: 1,
        remarks: vec![format!("remark of {system}")],
    }
}

/// A page that a strict reader takes, without anything that would have to be loaded.
fn parse(page: &str) -> String {
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let document = roxmltree::Document::parse(body).unwrap();
    for node in document.descendants().filter(|node| node.is_element()) {
        assert!(!["script", "link", "img", "iframe"].contains(&node.tag_name().name()), "{node:?}");
        assert!(node.attributes().all(|attribute| !attribute.value().contains("://")), "{node:?}");
    }
    assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
    document.root().descendants().filter_map(|node| node.text()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_run_is_told_and_nothing_of_it_is_markup() {
    let hostile = "</td><script>alert(\"1\")</script>&\u{0}\u{7}";
    let text = parse(&html(
        &results(vec![
            run("gateway", "throughput", 1, 200.0),
            run("kernel", "throughput", 1, 3000.0),
            run(hostile, "latency at 50 %", 1_000_000, 5.0),
        ]),
        None,
    ));
    for told in [
        "remark of gateway",
        "remark of kernel",
        "<script>alert(\"1\")",
        "A <CPU>",
        "a cache line takes 104 cycles from CPU to CPU",
        "In 3 the two CPUs were apart",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    // The kernel's cycles, and how many times the gateway's they are.
    assert!(text.contains("3000 (15.0×)"), "{text}");
    // 10 GbE's 9.33 Mpps of 200 cycles, at 70 %.
    assert!(text.contains("9.33") && text.contains("2.7 GHz"), "{text}");
}

#[test]
fn workers_are_shown_beside_one() {
    let crew = |workers, value| Run {
        io: "none".to_owned(),
        workers,
        ..run("gateway", "scaling", 1000, value)
    };
    let page = html(&results(vec![crew(1, 20.0), crew(2, 39.0)]), None);
    let text = parse(&page);
    for told in ["1 worker, 1 k flows each", "20.0 Mpps 1.00×", "39.0 Mpps 1.95×"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    // It is no throughput: the other plots are through devices.
    assert!(!text.contains("Cycles per packet, in2out"), "{text}");
    // Nothing to compare with.
    let text = parse(&html(&results(vec![crew(2, 39.0)]), None));
    assert!(text.contains("39.0 Mpps") && !text.contains('×'), "{text}");
}

#[test]
fn an_empty_result_and_an_earlier_one_have_their_page() {
    assert!(parse(&html(&results(vec![]), None)).contains("Not part of this run."));
    let new = results(vec![run("gateway", "throughput", 10, 3.0), run("x", "churn", 1, 1.0)]);
    let old = results(vec![run("gateway", "throughput", 10, 2.0)]);
    let text = parse(&html(&new, Some(&old)));
    assert!(text.contains("Mpps against earlier") && text.contains("1.50"), "{text}");
}

proptest! {
    #[test]
    fn no_figures_break_the_page(
        values in prop::collection::vec((any::<f64>(), any::<u32>(), ".{0,12}"), 0..6),
        latency in any::<bool>(),
    ) {
        let scenario = if latency { "latency at 50 %" } else { "throughput" };
        let runs = values.iter().map(|(value, flows, name)| run(name, scenario, *flows, *value));
        parse(&html(&results(runs.collect()), None));
    }
}
