//! What the session table and the burst pipeline cost, without I/O: `./dev bench`.
//!
//! Cycles are those of the time stamp counter, per packet (per entry for tables alone). Packet buffers
//! are restored and sent packets taken back between the timed turns of the loop. Compare figures of
//! one run only: machines differ, and so do their neighbours.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should panic")]

mod burst;
mod cycles;
mod listing;
mod owner;
mod parts;
mod reload;
mod report;
mod suite;
mod workers;
mod world;

use clap::Parser;
use std::path::PathBuf;
use suite::Suite;

#[derive(Parser, Debug)]
#[command(about = "Cycles per packet of the session table and the burst pipeline")]
struct Arguments {
    /// Also write the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Flows that are in the table.
    #[arg(long, value_delimiter = ',', default_value = "1,10000,100000,1000000,10000000")]
    flows: Vec<u32>,
    /// Only benches with this in their name.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// `cargo bench` says this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let mut suite = Suite::new(folder, arguments.only);
    for flows in &arguments.flows {
        parts::worker(&mut suite, *flows);
        parts::ipv6(&mut suite, *flows);
        parts::tables(&mut suite, *flows);
        owner::owners(&mut suite, *flows);
    }
    burst::colliding(&mut suite);
    let mut pairs = Vec::new();
    if suite.wants(&["two_workers"]) {
        let flows = arguments.flows.iter().filter(|flows| (1_000..=1_000_000).contains(*flows));
        pairs = flows.map(|flows| workers::two_workers(*flows)).collect();
    }
    let mut lists = Vec::new();
    if suite.wants(&["listing"]) {
        let flows = arguments.flows.iter().filter(|flows| (100_000..=1_000_000).contains(*flows));
        lists = flows.map(|flows| listing::sessions(*flows)).collect();
    }
    let mut reloads = None;
    if suite.wants(&["reload"]) {
        let flows = arguments.flows.iter().filter(|flows| **flows <= 1_000_000).max();
        reloads = flows.map(|flows| reload::under_load(*flows));
    }
    #[cfg(feature = "dpdk")]
    if suite.wants(&["lookup_rte_hash"]) {
        let options = gateway::dpdk::EalOptions {
            extra_args: vec!["--log-level=4".to_owned()],
            ..Default::default()
        };
        let eal = gateway::dpdk::Eal::start(&options).unwrap();
        for flows in &arguments.flows {
            parts::rte_hash(&mut suite, &eal, *flows);
        }
    }
    let table = report::table(&suite.rows);
    println!("\n{table}");
    pairs.iter().for_each(|figures| print!("{}", figures.text()));
    lists.iter().for_each(|figures| print!("\n{}", figures.text()));
    reloads.iter().for_each(|figures| print!("{}", figures.text()));
    if let Some(file) = arguments.json {
        let mut rows = report::json(&suite.rows);
        rows.extend(pairs.iter().map(workers::Figures::json));
        rows.extend(lists.iter().map(listing::Figures::json));
        rows.extend(reloads.iter().map(reload::Figures::json));
        let text = serde_json::to_string_pretty(&rows).unwrap();
        std::fs::write(&file, text + "\n").unwrap();
    }
}
