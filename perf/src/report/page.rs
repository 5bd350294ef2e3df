//! The page: what was measured, from the question that most readers have to the figures themselves.

use super::{
    figures::figures,
    plot::{Bar, Line, Point, bars, lines},
    text::{direction, escaped, flows, frames, number, optional, order, short, system, table},
};
use crate::{
    job::{Direction, Frames, Order},
    result::{Results, Run},
    suite::{nearness::APART, scenarios::workers},
};

use gateway::datapath::laps::Stage;
use std::collections::BTreeMap;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--grid:#d8dee4;--soft:#57606a}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--grid:#30363d;--soft:#9198a1}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:52rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid var(--grid)}
svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--ink)}.g{stroke:var(--grid)}
.legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}
table{border-collapse:collapse;font-size:13px}td,th{padding:.15rem .5rem;border-bottom:1px solid var(--grid);text-align:left;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}.soft{color:var(--soft)}
@media print{h2{break-after:avoid}svg{break-inside:avoid}}";

/// Frames of 64 octets inside the tunnel, per second, that 10 Gbit/s of Ethernet carry outside: 114 octets
/// and 20 of preamble and gap.
const MPPS_OF_10_GBIT: f64 = 10_000.0 / ((114.0 + 20.0) * 8.0);
/// Of a core's cycles, that may be used.
const LOAD: f64 = 0.7;

/// The page of a result; with ratios to an earlier one.
pub fn html(results: &Results, earlier: Option<&Results>) -> String {
    let runs = results.runs.as_slice();
    let parts = [
        over_flows("Cycles per packet", "cycles per packet", runs, |run| {
            (run.cycles_per_packet, "cycles_per_packet")
        }),
        over_flows("Million packets per second", "Mpps", runs, |run| (Some(run.mpps), "mpps")),
        baselines(runs),
        stages(runs),
        latency(runs),
        sessions(runs),
        scaling(runs),
        sizes(runs),
        sizing(runs),
        section("All figures", &figures(runs, earlier)),
    ];
    let machine = &results.machine;
    let hypervisor = match &machine.hypervisor {
        Some(name) => format!("hypervisor: {name}"),
        None => "no hypervisor".to_owned(),
    };
    let facts = [
        format!("{} CPUs: {}", machine.cpus, machine.cpu),
        hypervisor,
        format!("{} GiB", machine.memory_gib),
        format!("time stamp counter {} GHz", number(machine.tsc_hz as f64 / 1e9, 2)),
        match machine.cpu_distance_cycles {
            Some(cycles) => format!("a cache line takes {cycles} cycles from CPU to CPU"),
            None => "what a cache line takes from CPU to CPU is not known".to_owned(),
        },
        format!("kernel {}", machine.kernel),
        machine.dpdk.clone(),
        format!("egress-perf {}", machine.egress_perf),
        machine.date.clone(),
    ];
    let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>();
    let apart = match machine.cpu_distance_cycles {
        Some(_) => format!(
            " In {} the two CPUs were apart: a cache line took over {APART} times as long from the one to the other \
             as at best.",
            sum(|run| run.apart)
        ),
        None => String::new(),
    };
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head>\
         <meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/>\
         <title>egress-perf</title><style>{STYLE}</style></head><body>\
         <h1>Egress gateway: what a packet costs</h1>\
         <p><b>Measured on virtual devices, not on a NIC.</b> Mpps per GHz are implied: 1000 / cycles per \
         packet. Cycles are those of the time stamp counter. Each figure is the median of its repeats, with the \
         smallest and the largest; systems took turns within one run. {} of {} repeats were disturbed: something else \
         ran on their CPUs for over 1 % of the time.{apart}</p>\
         <p class=\"soft\">{}</p><p class=\"soft\"><code>{}</code></p>{}</body></html>\n",
        sum(|run| run.disturbed),
        sum(|run| run.repeats),
        escaped(&facts.join(" · ")),
        escaped(&machine.command.join(" ")),
        parts.concat(),
    )
}

fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        return format!("<h2>{title}</h2><p class=\"soft\">Not part of this run.</p>");
    }
    format!("<h2>{title}</h2>{body}")
}

/// The place of a system in the plots' colours; a peer has the last.
fn colour(system: &str) -> usize {
    const KNOWN: [&str; 8] = [
        "gateway, memif",
        "gateway zero-copy, memif",
        "router, memif",
        "testpmd, memif",
        "kernel, veth",
        "gateway, af_xdp",
        "gateway, af_packet",
        "gateway, ring",
    ];
    KNOWN.iter().position(|known| *known == system).unwrap_or(KNOWN.len())
}

/// In the order in which a packet meets them; what is not the gateway's comes last.
fn in_order(stages: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let place = |name: &str| Stage::ALL.iter().position(|stage| stage.label() == name);
    let mut parts: Vec<_> = stages.iter().map(|(name, cycles)| (name.clone(), *cycles)).collect();
    parts.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
    parts
}

fn is_throughput(run: &Run) -> bool {
    run.scenario == "throughput"
}

fn is_usual(run: &Run) -> bool {
    is_throughput(run) && run.frames == Frames::Smallest && run.order == Order::Random
}

/// A plot for each direction, a line for each system.
fn over_flows(
    title: &str,
    unit: &str,
    runs: &[Run],
    value: fn(&Run) -> (Option<f64>, &'static str),
) -> String {
    let plot = |wanted: Direction| {
        let mut all: Vec<Line> = Vec::new();
        for run in runs.iter().filter(|run| is_usual(run) && run.direction == wanted) {
            let (Some(y), of) = value(run) else { continue };
            let range = (run.spread.of == of).then_some((run.spread.min, run.spread.max));
            let (min, max) = range.unwrap_or((y, y));
            let point = Point { x: f64::from(run.flows), y, min, max };
            let name = system(run);
            match all.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => {
                    let colour = colour(&name);
                    all.push(Line { name, colour, points: vec![point] });
                }
            }
        }
        let drawn = lines(&format!("{title}, {}", direction(wanted)), "flows", unit, &all);
        if drawn.is_empty() { drawn } else { format!("<h3>{}</h3>{drawn}", direction(wanted)) }
    };
    let body = [Direction::In2out, Direction::Out2in, Direction::Both].map(plot).concat();
    section(&format!("{title}, 64-octet frames, random flows"), &body)
}

/// Who takes how many cycles for the same packets, and how many times the gateway's that is.
fn baselines(runs: &[Run]) -> String {
    let mut body = String::new();
    let usual = |run: &&Run| is_usual(run) && run.direction == Direction::In2out;
    let mut counts: Vec<u32> = runs.iter().filter(usual).map(|run| run.flows).collect();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        let those = || runs.iter().filter(usual).filter(|run| run.flows == count);
        let ours =
            those().find(|run| run.system == "gateway").and_then(|run| run.cycles_per_packet);
        let bar = |run: &Run| {
            let cycles = run.cycles_per_packet?;
            let ratio = ours.map_or(String::new(), |ours| format!(" ({}×)", short(cycles / ours)));
            Some(Bar {
                name: system(run),
                parts: vec![("cycles".to_owned(), cycles)],
                note: short(cycles) + &ratio,
            })
        };
        let drawn = bars("Cycles per packet", &those().filter_map(bar).collect::<Vec<_>>());
        if !drawn.is_empty() {
            let flows = if count == 1 { "1 flow".to_owned() } else { flows(count) + " flows" };
            body += &format!("<h3>{flows}</h3>{drawn}");
        }
    }
    section("Side by side: cycles per packet, in2out, and times the gateway's", &body)
}

fn stages(runs: &[Run]) -> String {
    let bar = |run: &Run| Bar {
        name: format!("{}, {}, {}", system(run), direction(run.direction), flows(run.flows)),
        parts: in_order(&run.stages),
        note: short(run.stages.values().sum()),
    };
    // Sockets take so much more that beside them nothing else would be seen.
    let plot = |through_sockets: bool| {
        let those = runs.iter().filter(|run| is_usual(run) && !run.stages.is_empty());
        let those = those.filter(|run| run.io.starts_with("af_") == through_sockets);
        bars("Cycles per packet by stage", &those.map(bar).collect::<Vec<_>>())
    };
    section("Where the gateway's cycles go", &[false, true].map(plot).concat())
}

fn latency(runs: &[Run]) -> String {
    let timed = || runs.iter().filter_map(|run| Some((run, run.latency_us?)));
    let heading =
        ["system", "scenario", "flows", "Mpps", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(timed().map(|(run, latency)| {
        let mut row =
            vec![system(run), run.scenario.clone(), flows(run.flows), number(run.mpps, 2)];
        let figures = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        row.extend(figures.map(|figure| number(figure, 1)));
        row
    }));
    let bar = |(run, latency): (&Run, crate::job::Latency)| Bar {
        name: format!("{}, {}", system(run), run.scenario),
        parts: vec![
            ("p50".to_owned(), latency.p50),
            ("to p99".to_owned(), latency.p99 - latency.p50),
        ],
        note: format!("{} / {} µs", short(latency.p50), short(latency.p99)),
    };
    let drawn = bars("Latency", &timed().map(bar).collect::<Vec<_>>());
    let body = if rows.len() > 1 { drawn + &table(&rows) } else { String::new() };
    section("Latency: p50 and p99", &body)
}

fn sessions(runs: &[Run]) -> String {
    let about = runs.iter().filter_map(|run| Some((run, run.sessions_per_second?)));
    let bar = |(run, rate): (&Run, f64)| Bar {
        name: format!("{}, {}, {}", run.system, run.scenario, flows(run.flows)),
        parts: vec![("sessions per second".to_owned(), rate / 1e6)],
        note: format!("{} M/s", short(rate / 1e6)),
    };
    let drawn = bars("Sessions per second", &about.map(bar).collect::<Vec<_>>());
    let heading = ["system", "scenario", "sessions", "bytes each", "turn p99.9 µs"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let counted =
        runs.iter().filter(|run| run.sessions_per_second.is_some() || run.scenario == "capacity");
    rows.extend(counted.map(|run| {
        vec![
            system(run),
            run.scenario.clone(),
            run.sessions.map_or("–".to_owned(), |sessions| sessions.to_string()),
            optional(run.bytes_per_session, 1),
            optional(run.turn_p999_us, 1),
        ]
    }));
    let body = if rows.len() > 1 { drawn + &table(&rows) } else { String::new() };
    section("Sessions", &body)
}

/// What all workers do together, and how many times one worker's that is.
fn scaling(runs: &[Run]) -> String {
    let those = || runs.iter().filter(|run| run.scenario == "scaling");
    let ratio = |run: &Run| run.scaling(runs).map_or(String::new(), |ratio| number(ratio, 2) + "×");
    let bar = |run: &Run| Bar {
        name: format!("{}, {} flows each", workers(run.workers), flows(run.flows)),
        parts: vec![("Mpps".to_owned(), run.mpps)],
        note: format!("{} Mpps {}", short(run.mpps), ratio(run)),
    };
    let drawn = bars("Mpps of all workers together", &those().map(bar).collect::<Vec<_>>());
    let heading =
        ["system", "workers", "flows each", "Mpps", "min", "max", "times one worker", "cycles"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(those().map(|run| {
        vec![
            system(run),
            run.workers.to_string(),
            flows(run.flows),
            number(run.mpps, 2),
            number(run.spread.min, 2),
            number(run.spread.max, 2),
            ratio(run),
            optional(run.cycles_per_packet, 0),
        ]
    }));
    let note = "<p>Workers without I/O, on a CPU each, with flows of their own. Packets are those of the time in \
                which workers are busy: they fill their ports themselves, which does not count.</p>";
    let body =
        if rows.len() > 1 { note.to_owned() + &drawn + &table(&rows) } else { String::new() };
    section("Scaling: Mpps by workers, and times one worker's", &body)
}

fn sizes(runs: &[Run]) -> String {
    let ours = runs.iter().filter(|run| is_throughput(run) && run.system == "gateway");
    let bar = |run: &Run| Bar {
        name: format!(
            "{}, {}, {}, {}, {}",
            run.io,
            frames(run.frames),
            order(run.order),
            direction(run.direction),
            flows(run.flows)
        ),
        parts: vec![("Gbit/s".to_owned(), run.gbps)],
        note: format!("{} Gbit/s", short(run.gbps)),
    };
    let body = bars(
        "Bits per second on the side where packets come out",
        &ours.map(bar).collect::<Vec<_>>(),
    );
    section("Frame sizes", &body)
}

/// What measured cycles mean for links, by arithmetic.
fn sizing(runs: &[Run]) -> String {
    let random =
        |run: &&Run| is_usual(run) && run.system.starts_with("gateway") && run.io == "memif";
    let heading =
        ["cycles of", "flows", "per packet", "Mpps per GHz", "10 GbE", "25 GbE", "100 GbE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for run in runs.iter().filter(random) {
        let Some(cycles) = run.cycles_per_packet.filter(|cycles| *cycles > 0.0) else { continue };
        let ghz = |links: f64| number(MPPS_OF_10_GBIT * links * cycles / 1000.0 / LOAD, 1);
        rows.push(vec![
            format!("{}, {}", run.system, direction(run.direction)),
            flows(run.flows),
            number(cycles, 0),
            number(1000.0 / cycles, 2),
            format!("{} GHz", ghz(1.0)),
            format!("{} GHz", ghz(2.5)),
            format!("{} GHz", ghz(10.0)),
        ]);
    }
    if rows.len() == 1 {
        return section("What that means for links", "");
    }
    let note = format!(
        "<p>GHz of cores, kept at 70 %, for links full of the smallest packets in the tunnel: 64 octets inside are {} \
         Mpps on 10 GbE. Arithmetic, not a measurement: a NIC's driver takes other cycles than a virtual device's.</p>",
        number(MPPS_OF_10_GBIT, 2)
    );
    section("What that means for links", &(note + &table(&rows)))
}

#[cfg(test)]
mod tests;
