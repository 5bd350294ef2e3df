//! `stats`, where workers count their cycles: what a packet costs, stage by stage.

use super::table::Table;
use gateway::{
    control::http::stats::{Cycles, Worker},
    datapath::laps::Stage,
};

/// In the order of [`Stage::ALL`] from the fourth on.
const HEADING: [&str; 10] = [
    ">WORKER",
    ">BURST",
    ">CYCLES/PACKET",
    ">RECEIVE",
    ">CLASSIFY",
    ">LOCATE",
    ">TRANSLATE",
    ">HANDOFF",
    ">TRANSMIT",
    ">UPKEEP",
];

/// Of what workers counted since `before`; `None` where none counts, or nothing came.
pub(super) fn table(workers: &[Worker], before: Option<&[Worker]>) -> Option<String> {
    let mut table = Table::new(&HEADING);
    let mut is_empty = true;
    for (number, worker) in workers.iter().enumerate() {
        let Some(cycles) = &worker.cycles else { continue };
        let before = before.and_then(|workers| workers.get(number)?.cycles.as_ref());
        let since = |count: fn(&Cycles) -> u64| {
            count(cycles).saturating_sub(before.map_or(0, count)) as f64
        };
        let packets = since(|cycles| cycles.packets);
        if packets == 0.0 {
            continue;
        }
        is_empty = false;
        let turns = since(|cycles| cycles.turns);
        let mut row = vec![
            worker.worker.to_string(),
            format!("{:.1}", packets / turns.max(1.0)),
            format!("{:.0}", since(|cycles| cycles.busy) / packets),
        ];
        row.extend(Stage::ALL.iter().map(|stage| {
            let spent = |cycles: &Cycles| cycles.stages.get(stage.label()).copied().unwrap_or(0);
            let spent = spent(cycles).saturating_sub(before.map_or(0, spent));
            format!("{:.1}", spent as f64 / packets)
        }));
        table.row(row);
    }
    (!is_empty).then(|| table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn worker(cycles: Value) -> Worker {
        let counts = json!({"packets": 0, "bytes": 0});
        serde_json::from_value(json!({
            "worker": 0, "core": 1, "generation": 1, "polls": 0, "emptyPolls": 0,
            "in2out": counts, "out2in": counts, "ports": [],
            "sessions": {"live": 0, "created": 0, "expired": 0, "cut": 0, "flushed": 0, "tableBytes": 0},
            "icmpErrorsSent": 0, "icmpErrorsLimited": 0, "addressConflicts": 0, "neighbours": 0,
            "cycles": cycles,
        }))
        .expect("a worker's statistics")
    }

    #[test]
    fn every_stage_has_its_column() {
        let columns = Stage::ALL.map(|stage| format!(">{}", stage.label().to_uppercase()));
        assert_eq!(HEADING[3..], columns);
    }

    #[test]
    fn shows_what_was_counted_since_before() {
        let counted = |busy, packets, turns, classify| {
            let stages = json!({"classify": classify});
            worker(json!({"busy": busy, "packets": packets, "turns": turns, "stages": stages,
                "turnHistogram": []}))
        };
        let (then, now) = (counted(1000, 10, 1, 500), counted(5000, 50, 3, 2500));
        let text = table(std::slice::from_ref(&now), Some(&[then])).unwrap();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["0", "20.0", "100", "0.0", "50.0", "0.0", "0.0", "0.0", "0.0", "0.0"]);
        assert_eq!(table(std::slice::from_ref(&now), Some(std::slice::from_ref(&now))), None);
        assert_eq!(table(&[worker(Value::Null)], None), None);
    }
}
