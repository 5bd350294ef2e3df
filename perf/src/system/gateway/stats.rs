//! What a gateway counted: `/v1/stats`, as far as a measurement needs it. Of a gateway of another version,
//! too, which may tell less.

use crate::system::Sample;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    workers: Vec<Worker>,
    #[serde(default)]
    drops: Vec<Drops>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    sessions: Sessions,
    #[serde(default)]
    cycles: Option<Cycles>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Sessions {
    live: u64,
    created: u64,
    expired: u64,
    cut: u64,
    flushed: u64,
    /// 0 of a gateway that does not tell.
    table_bytes: u64,
}

/// Where `workers.cycle_counters` is on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cycles {
    busy: u64,
    packets: u64,
    turns: u64,
    stages: BTreeMap<String, u64>,
    turn_histogram: Vec<(u64, u64)>,
}

#[derive(Debug, Deserialize)]
struct Drops {
    side: String,
    reason: String,
    packets: u64,
}

impl Stats {
    pub(super) fn sessions(&self) -> u64 {
        self.workers.iter().map(|worker| worker.sessions.live).sum()
    }

    /// All workers together.
    pub(super) fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        self.workers.iter().for_each(|worker| sample.add(&worker.sample()));
        for Drops { side, reason, packets } in &self.drops {
            *sample.drops.entry(format!("{side} {reason}")).or_default() += packets;
        }
        sample
    }
}

impl Worker {
    fn sample(&self) -> Sample {
        let Worker { sessions, cycles } = self;
        let mut sample = Sample {
            sessions: sessions.live,
            session_bytes: sessions.table_bytes,
            sessions_created: sessions.created,
            sessions_ended: sessions.expired + sessions.cut + sessions.flushed,
            ..Sample::default()
        };
        if let Some(cycles) = cycles {
            (sample.busy_cycles, sample.packets) = (cycles.busy, cycles.packets);
            sample.turns = cycles.turns;
            sample.stages.clone_from(&cycles.stages);
            sample.turn_cycles.clone_from(&cycles.turn_histogram);
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let stats: Stats = serde_json::from_str(
            r#"{"gateway": "g", "workers": [
                {"worker": 0, "sessions": {"live": 3, "created": 10, "expired": 4, "cut": 2, "flushed": 1,
                              "tableBytes": 4096},
                 "cycles": {"busy": 1000, "packets": 20, "turns": 5,
                            "stages": {"rx": 300, "parse": 700}, "turnHistogram": [[256, 3], [512, 2]]}},
                {"worker": 1, "sessions": {"live": 1, "created": 1, "tableBytes": 1024},
                 "cycles": {"busy": 50, "packets": 2, "turns": 1,
                            "stages": {"rx": 50}, "turnHistogram": [[128, 1], [512, 1]]}}],
               "drops": [{"side": "tunnel", "worker": 0, "reason": "no_policy", "packets": 7, "help": ""},
                         {"side": "tunnel", "worker": 1, "reason": "no_policy", "packets": 1, "help": ""}]}"#,
        )
        .unwrap();
        assert_eq!(stats.sessions(), 4);
        let expected = Sample {
            busy_cycles: 1050,
            packets: 22,
            turns: 6,
            stages: [("parse".to_owned(), 700), ("rx".to_owned(), 350)].into(),
            turn_cycles: vec![(128, 1), (256, 3), (512, 3)],
            sessions: 4,
            sessions_created: 11,
            sessions_ended: 7,
            session_bytes: 5120,
            drops: [("tunnel no_policy".to_owned(), 8)].into(),
        };
        assert_eq!(stats.sample(), expected);
    }

    #[test]
    fn a_gateway_that_counts_no_cycles_is_understood() {
        let text = r#"{"workers": [{"sessions": {"live": 2}, "cycles": null}], "drops": []}"#;
        let stats: Stats = serde_json::from_str(text).unwrap();
        assert_eq!(stats.sample(), Sample { sessions: 2, ..Sample::default() });
    }
}
