//! Runs one benchmark through criterion and keeps its figures.

use crate::{cycles::Cycles, world::BURST};
use criterion::{BenchmarkId, Criterion, SamplingMode};
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) bench: &'static str,
    /// Flows in the table.
    pub(crate) flows: u32,
    pub(crate) random: bool,
    /// Packet buffers that are in no first or second-level cache.
    pub(crate) cold: bool,
    pub(crate) bytes_per_session: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    /// Of single bursts, where they were timed singly.
    pub(crate) p99: Option<f64>,
}

pub(crate) struct Suite {
    criterion: Criterion<Cycles>,
    folder: PathBuf,
    only: Option<String>,
    pub(crate) rows: Vec<Row>,
}

impl Suite {
    pub(crate) fn new(folder: PathBuf, only: Option<String>) -> Self {
        let criterion = Criterion::default()
            .with_measurement(Cycles)
            .output_directory(&folder)
            .without_plots()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(1500));
        Suite { criterion, folder, only, rows: Vec::new() }
    }

    /// Whether any of these is wanted: a world of ten million flows is not made for nothing.
    pub(crate) fn wants(&self, benches: &[&str]) -> bool {
        let wanted = |only: &str| benches.iter().any(|bench| bench.contains(only));
        self.only.as_deref().is_none_or(wanted)
    }

    /// `round` handles some bursts and adds the cycles of each to its argument. Criterion's iteration
    /// is one packet.
    pub(crate) fn bursts(&mut self, case: Case, mut round: impl FnMut(&mut Vec<u64>)) {
        if !self.wants(&[case.bench]) {
            return;
        }
        let (mut all, mut times) = (Vec::new(), Vec::new());
        let order = if case.random { "random" } else { "sequential" };
        let warmth = if case.cold { "cold" } else { "hot" };
        let name = BenchmarkId::new(format!("{order}-{warmth}"), case.flows);
        let mut group = self.criterion.benchmark_group(case.bench);
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|packets| {
                let (mut done, mut spent) = (0u64, 0u64);
                while done < packets {
                    times.clear();
                    round(&mut times);
                    done += (times.len() * BURST) as u64;
                    spent += times.iter().sum::<u64>();
                    all.extend_from_slice(&times);
                }
                // More may have been done than criterion asked for.
                spent as f64 * packets as f64 / done as f64
            });
        });
        group.finish();
        let samples = self.samples(&case, &format!("{order}-{warmth}"));
        all.sort_unstable();
        let p99 = all.get(all.len() * 99 / 100).map(|cycles| *cycles as f64 / BURST as f64);
        self.rows.push(Row {
            case,
            min: samples[0],
            median: samples[samples.len() / 2],
            max: samples[samples.len() - 1],
            p99,
        });
    }

    /// Cycles per packet of each of criterion's samples, sorted.
    fn samples(&self, case: &Case, function: &str) -> Vec<f64> {
        let file = self
            .folder
            .join(case.bench)
            .join(function)
            .join(case.flows.to_string())
            .join("new/sample.json");
        let text = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let sample: Value = serde_json::from_slice(&text).expect("criterion writes JSON");
        let numbers = |field: &str| -> Vec<f64> {
            let list = sample[field].as_array().expect("a list");
            list.iter().filter_map(Value::as_f64).collect()
        };
        let mut per_packet: Vec<f64> =
            numbers("times").iter().zip(numbers("iters")).map(|(time, n)| time / n).collect();
        per_packet.sort_by(f64::total_cmp);
        per_packet
    }
}
