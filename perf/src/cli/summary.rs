//! Results as tables: packets, sessions, latency.

use crate::{
    result::{Results, Run},
    suite::{group::word, nearness::APART},
};
use admin::{number, table::Table};

/// All tables that have rows.
pub(super) fn text(results: &Results) -> String {
    let mut text = String::new();
    for (title, table) in [
        ("Packets", packets(&results.runs)),
        ("Scaling without I/O, by the workers' busy time", scaling(&results.runs)),
        ("Sessions", sessions(&results.runs)),
        ("Latency, in µs", latencies(&results.runs)),
    ] {
        if let Some(table) = table {
            text += &format!("{title}\n{table}\n");
        }
    }
    let sum = |of: fn(&Run) -> usize| results.runs.iter().map(of).sum::<usize>();
    let (repeats, disturbed) = (sum(|run| run.repeats), sum(|run| run.disturbed));
    if let Some(cycles) = results.machine.cpu_distance_cycles {
        text += &format!(
            "A cache line takes {cycles} cycles from CPU to CPU; over {APART} times as many in {} of {repeats} \
             repeats\n",
            sum(|run| run.apart)
        );
    }
    if disturbed > 0 {
        text += &format!(
            "{disturbed} of {repeats} repeats were disturbed: something else ran on their CPUs for over 1 % of \
             the time\n"
        );
    }
    text
}

/// Cycles are the median, with the smallest and largest of the repeats; ratios are how many times as
/// many the baseline takes (or as few packets it gets through, where cycles are not known).
fn packets(runs: &[Run]) -> Option<Table> {
    let rows: Vec<&Run> = runs
        .iter()
        .filter(|run| run.scenario.starts_with("throughput") || run.scenario == "ndr")
        .collect();
    let mut table = Table::new(&[
        "SYSTEM",
        "IO",
        "DIRECTION",
        "FRAMES",
        ">FLOWS",
        "ORDER",
        ">MPPS",
        ">GBIT/S",
        ">CYCLES",
        "RANGE",
        ">LOSS",
        ">×KERNEL",
        ">×TESTPMD",
        "SCENARIO",
    ]);
    for run in &rows {
        let versus =
            |name| ratio(run, runs, name).map_or("-".into(), |ratio| format!("{ratio:.2}"));
        table.row([
            run.system.clone(),
            run.io.clone(),
            word(&run.direction),
            word(&run.frames),
            number::short(u64::from(run.flows)),
            word(&run.order),
            format!("{:.3}", run.mpps),
            format!("{:.2}", run.gbps),
            run.cycles_per_packet.map_or("-".into(), |cycles| format!("{cycles:.0}")),
            match run.spread.of.as_str() {
                "cycles_per_packet" => format!("{:.0}–{:.0}", run.spread.min, run.spread.max),
                _ => format!("{:.2}–{:.2} Mpps", run.spread.min, run.spread.max),
            },
            percent(run.loss),
            versus("kernel"),
            versus("testpmd"),
            scenario(run),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

/// Packets of all workers together, and how many times one worker's they are.
fn scaling(runs: &[Run]) -> Option<Table> {
    let rows: Vec<&Run> = runs.iter().filter(|run| run.scenario == "scaling").collect();
    let heads = [
        "SYSTEM",
        ">WORKERS",
        ">FLOWS EACH",
        ">MPPS",
        ">RANGE",
        ">×ONE WORKER",
        ">CYCLES",
        ">LOSS",
    ];
    let mut table = Table::new(&heads);
    for run in &rows {
        table.row([
            run.system.clone(),
            run.workers.to_string(),
            number::short(u64::from(run.flows)),
            format!("{:.2}", run.mpps),
            format!("{:.2}–{:.2}", run.spread.min, run.spread.max),
            run.scaling(runs).map_or("-".into(), |ratio| format!("{ratio:.2}")),
            run.cycles_per_packet.map_or("-".into(), |cycles| format!("{cycles:.0}")),
            percent(run.loss),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

fn sessions(runs: &[Run]) -> Option<Table> {
    let are_told = ["new sessions", "churn", "tear-down", "capacity"];
    let is_told = |run: &&Run| are_told.iter().any(|scenario| run.scenario.starts_with(scenario));
    let rows: Vec<&Run> = runs.iter().filter(is_told).collect();
    let mut table = Table::new(&[
        "SYSTEM",
        "SCENARIO",
        "IO",
        ">FLOWS",
        ">SESSIONS/S",
        ">SESSIONS",
        ">BYTES EACH",
        ">TURN P99.9",
        ">LOSS",
        "REMARKS",
    ]);
    for run in &rows {
        table.row([
            run.system.clone(),
            scenario(run),
            run.io.clone(),
            number::short(u64::from(run.flows)),
            run.sessions_per_second.map_or("-".into(), |rate| number::short(rate as u64)),
            run.sessions.map_or("-".into(), number::grouped),
            run.bytes_per_session.map_or("-".into(), |bytes| format!("{bytes:.0}")),
            run.turn_p999_us.map_or("-".into(), |us| format!("{us:.1} µs")),
            percent(run.loss),
            run.remarks.join("; "),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

fn latencies(runs: &[Run]) -> Option<Table> {
    let heads = [
        "SYSTEM",
        "SCENARIO",
        "IO",
        "DIRECTION",
        ">FLOWS",
        ">MPPS",
        ">P50",
        ">P90",
        ">P99",
        ">P99.9",
        ">MAX",
    ];
    let mut table = Table::new(&heads);
    let rows: Vec<_> = runs.iter().filter_map(|run| Some((run, run.latency_us?))).collect();
    for (run, latency) in &rows {
        let us = |us: f64| format!("{us:.1}");
        table.row([
            run.system.clone(),
            scenario(run),
            run.io.clone(),
            word(&run.direction),
            number::short(u64::from(run.flows)),
            format!("{:.3}", run.mpps),
            us(latency.p50),
            us(latency.p90),
            us(latency.p99),
            us(latency.p999),
            us(latency.max),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

/// With how often its CPUs were apart.
fn scenario(run: &Run) -> String {
    match run.apart {
        0 => run.scenario.clone(),
        apart => format!("{}, {apart} of {} apart", run.scenario, run.repeats),
    }
}

/// How many times as good as a baseline that was asked the same; `None` where there is none.
pub(super) fn ratio(run: &Run, runs: &[Run], baseline: &str) -> Option<f64> {
    let same = |other: &&Run| {
        other.system == baseline
            && (&other.scenario, other.direction, other.flows, other.order)
                == (&run.scenario, run.direction, run.flows, run.order)
            && other.frames == run.frames
    };
    let other = runs.iter().find(same).filter(|_| run.system != baseline)?;
    match (run.cycles_per_packet, other.cycles_per_packet) {
        (Some(ours), Some(theirs)) => Some(theirs / ours),
        _ => Some(run.mpps / other.mpps),
    }
    .filter(|ratio| ratio.is_finite())
}

fn percent(part: f64) -> String {
    match part {
        0.0 => "0".into(),
        part if part < 1e-4 => format!("{part:.0e}"),
        part => format!("{:.2} %", part * 100.0),
    }
}
