//! `stats`: ports and workers as tables, once or every second.

use super::{
    Failure, Output, Result,
    client::ApiArgs,
    cycles, example, print,
    table::{Table, duration, grouped, short},
};
use clap::Args;
use gateway::control::http::stats::{Port, Stats, Worker};
use std::{
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(1);
/// Home, and everything behind it away.
const CLEAR: &str = "\x1b[H\x1b[2J";

const EXAMPLES: &str = example!(
    "  egress-gateway stats
  egress-gateway stats --watch
  egress-gateway stats -o json | jq '.drops[] | select(.reason == \"egress_guard\")'"
);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatsArgs {
    /// Once a second, with rates, until stopped
    #[arg(short, long)]
    watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) fn run(args: &StatsArgs) -> Result<()> {
    let mut before: Option<(Stats, Instant)> = None;
    loop {
        let stats: Stats = args.api.api.get("/v1/stats")?;
        let now = Instant::now();
        let text = match args.output {
            Output::Json => json(&stats, args.watch)?,
            Output::Text => {
                let clear = if args.watch && io::stdout().is_terminal() { CLEAR } else { "" };
                let past = before.as_ref().map(|(stats, then)| (stats, now - *then));
                format!("{clear}{}", text(&stats, past))
            }
        };
        print(&text)?;
        if !args.watch {
            return Ok(());
        }
        before = Some((stats, now));
        thread::sleep(EVERY);
    }
}

/// In a series, one line each.
fn json(stats: &Stats, is_series: bool) -> Result<String> {
    let text = match is_series {
        true => serde_json::to_string(stats),
        false => serde_json::to_string_pretty(stats),
    };
    Ok(text.map_err(|error| Failure::Failed(error.to_string()))? + "\n")
}

fn text(stats: &Stats, past: Option<(&Stats, Duration)>) -> String {
    let mut parts =
        vec![heading(stats), ports(stats), devices(stats), workers(stats), sessions(stats)];
    if let Some((before, passed)) = past {
        parts.push(rates(stats, before, passed));
    }
    let before = past.map(|(before, _)| before.workers.as_slice());
    parts.extend(cycles::table(&stats.workers, before));
    if stats.drops.is_empty() {
        parts.push("no drops\n".to_owned());
    } else {
        parts.push(drops(stats));
    }
    parts.join("\n")
}

fn heading(stats: &Stats) -> String {
    format!(
        "gateway {}, version {}, up {}; policy generation {}: {} policies, {} nodes\n",
        stats.gateway,
        stats.version,
        duration(stats.uptime_seconds),
        stats.generation,
        stats.policies,
        stats.nodes,
    )
}

fn ports(stats: &Stats) -> String {
    let mut table = Table::new(&["PORT", "LINK", ">MTU", "MAC", "DEVICE", "ADDRESSES"]);
    for Port { side, link, mtu, mac, device, addresses, .. } in &stats.ports {
        table.row([
            side.clone(),
            link.clone(),
            mtu.to_string(),
            mac.clone(),
            device.clone(),
            addresses.join(" "),
        ]);
    }
    table.to_string()
}

fn devices(stats: &Stats) -> String {
    let mut table = Table::new(&[
        "PORT",
        ">RX PACKETS",
        ">RX BYTES",
        ">TX PACKETS",
        ">TX BYTES",
        ">RX MISSED",
        ">RX ERRORS",
        ">TX ERRORS",
        ">NO BUFFER",
    ]);
    for Port { side, rx, tx, .. } in &stats.ports {
        table.row([
            side.clone(),
            grouped(rx.packets),
            short(rx.bytes),
            grouped(tx.packets),
            short(tx.bytes),
            short(rx.missed),
            short(rx.errors),
            short(tx.errors),
            short(rx.no_buffer),
        ]);
    }
    table.to_string()
}

fn workers(stats: &Stats) -> String {
    let mut table = Table::new(&[
        ">WORKER",
        ">CORE",
        ">OUT PACKETS",
        ">OUT BYTES",
        ">IN PACKETS",
        ">IN BYTES",
        ">DROPS",
        ">BUSY",
        ">NEIGHBOURS",
        ">ICMP ERRORS",
    ]);
    for worker in &stats.workers {
        table.row([
            worker.worker.to_string(),
            worker.core.to_string(),
            grouped(worker.in2out.packets),
            short(worker.in2out.bytes),
            grouped(worker.out2in.packets),
            short(worker.out2in.bytes),
            short(dropped(worker)),
            busy(worker),
            worker.neighbours.to_string(),
            short(worker.icmp_errors_sent),
        ]);
    }
    table.to_string()
}

fn sessions(stats: &Stats) -> String {
    let mut table =
        Table::new(&[">WORKER", ">SESSIONS", ">CREATED", ">EXPIRED", ">CUT", ">FLUSHED"]);
    for Worker { worker, sessions, .. } in &stats.workers {
        table.row([
            worker.to_string(),
            grouped(sessions.live),
            grouped(sessions.created),
            grouped(sessions.expired),
            grouped(sessions.cut),
            grouped(sessions.flushed),
        ]);
    }
    table.to_string()
}

fn drops(stats: &Stats) -> String {
    let mut table = Table::new(&["SIDE", ">WORKER", ">DROPPED", "REASON", "WHAT IT MEANS"]);
    for drop in &stats.drops {
        table.row([
            drop.side.clone(),
            drop.worker.to_string(),
            grouped(drop.packets),
            drop.reason.clone(),
            drop.help.clone(),
        ]);
    }
    table.to_string()
}

fn rates(stats: &Stats, before: &Stats, passed: Duration) -> String {
    let mut table =
        Table::new(&["PER SECOND", ">RX PACKETS", ">RX BITS", ">TX PACKETS", ">TX BITS"]);
    let rate = |now: u64, then: u64| {
        short((now.saturating_sub(then) as f64 / passed.as_secs_f64()).round() as u64)
    };
    for (now, then) in stats.ports.iter().zip(&before.ports) {
        table.row([
            now.side.clone(),
            rate(now.rx.packets, then.rx.packets),
            rate(now.rx.bytes * 8, then.rx.bytes * 8),
            rate(now.tx.packets, then.tx.packets),
            rate(now.tx.bytes * 8, then.tx.bytes * 8),
        ]);
    }
    table.to_string()
}

fn dropped(worker: &Worker) -> u64 {
    worker.ports.iter().map(|port| port.drops).sum()
}

/// The share of turns that found packets.
fn busy(worker: &Worker) -> String {
    let busy = worker.polls.saturating_sub(worker.empty_polls) as f64;
    format!("{:.1}%", 100.0 * busy / (worker.polls.max(1)) as f64)
}
