//! Two results beside each other.

use crate::{
    result::{Results, Run, Spread},
    suite::group::word,
};
use serde::Serialize;

/// One measurement in two results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// What was measured: system, scenario, I/O, direction, frames, flows, order, workers.
    pub run: String,
    /// Of what `old` and `new` are.
    pub of: String,
    pub old: Option<Spread>,
    pub new: Option<Spread>,
    /// The new median by the old one.
    pub ratio: Option<f64>,
    /// Whether some repeat of the one lies within the range of the other.
    pub overlap: Option<bool>,
    pub mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Better,
    Worse,
    /// Within the tolerance, or the ranges overlap.
    Same,
    OnlyInOld,
    OnlyInNew,
}

impl Mark {
    pub fn name(self) -> &'static str {
        match self {
            Mark::Better => "better",
            Mark::Worse => "worse",
            Mark::Same => "same",
            Mark::OnlyInOld => "only in old",
            Mark::OnlyInNew => "only in new",
        }
    }
}

/// Every measurement of either, in the order of the old, then what is only in the new. Medians that
/// differ by more than `tolerance` (0.05 is 5 %) are better or worse, unless their ranges overlap.
pub fn compare(old: &Results, new: &Results, tolerance: f64) -> Vec<Compared> {
    let known = old.runs.iter().map(|run| {
        let name = name(run);
        let newer = new.runs.iter().find(|newer| self::name(newer) == name);
        match newer {
            Some(newer) => both(name, run, newer, tolerance),
            None => one(name, run, Mark::OnlyInOld),
        }
    });
    let names: Vec<String> = old.runs.iter().map(name).collect();
    let added = new.runs.iter().filter(|run| !names.contains(&name(run)));
    let added = added.map(|run| one(name(run), run, Mark::OnlyInNew));
    known.chain(added).collect()
}

fn name(run: &Run) -> String {
    let Run { system, scenario, io, flows, workers, .. } = run;
    let (direction, frames, order) = (word(&run.direction), word(&run.frames), word(&run.order));
    let flows = admin::number::short(u64::from(*flows));
    let workers = if *workers == 1 { String::new() } else { format!(", {workers} workers") };
    format!("{system}, {scenario}, {io}, {direction}, {frames}, {flows} flows, {order}{workers}")
}

fn one(name: String, run: &Run, mark: Mark) -> Compared {
    let spread = Some(run.spread.clone());
    let (old, new) = if mark == Mark::OnlyInOld { (spread, None) } else { (None, spread) };
    Compared { run: name, of: run.spread.of.clone(), old, new, ratio: None, overlap: None, mark }
}

fn both(name: String, old: &Run, new: &Run, tolerance: f64) -> Compared {
    // What the two tell of differently, as cycles of one that is counted and one that is not, is packets
    // in both; their range is not known then.
    let (old, new) = match old.spread.of == new.spread.of {
        true => (old.spread.clone(), new.spread.clone()),
        false => (rate(old), rate(new)),
    };
    let ratio = Some(new.median / old.median).filter(|ratio| ratio.is_finite());
    let overlap = old.min <= new.max && new.min <= old.max;
    let mark = match ratio {
        Some(ratio) if !overlap && (ratio - 1.0).abs() > tolerance => {
            match (ratio > 1.0) == is_more_better(&old.of) {
                true => Mark::Better,
                false => Mark::Worse,
            }
        }
        _ => Mark::Same,
    };
    let of = old.of.clone();
    Compared { run: name, of, old: Some(old), new: Some(new), ratio, overlap: Some(overlap), mark }
}

fn rate(run: &Run) -> Spread {
    Spread { of: "mpps".into(), min: run.mpps, median: run.mpps, max: run.mpps }
}

fn is_more_better(of: &str) -> bool {
    matches!(of, "mpps" | "gbps" | "sessions_per_second" | "sessions")
}

#[cfg(test)]
mod tests;
