//! The table and the JSON file.

use crate::suite::Row;
use serde_json::{Value, json};

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22} {:>9} {:>11} {:>5} {:>8} {:>8} {:>8} {:>8} {:>13}\n",
        "bench", "flows", "order", "cold", "min", "median", "max", "p99", "bytes/session"
    );
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1}"));
        text += &format!(
            "{:<22} {:>9} {:>11} {:>5} {:>8.1} {:>8.1} {:>8.1} {:>8} {:>13}\n",
            row.case.bench,
            row.case.flows,
            order(row),
            if row.case.cold { "yes" } else { "no" },
            row.min,
            row.median,
            row.max,
            number(row.p99),
            number(row.case.bytes_per_session),
        );
    }
    text
}

pub(crate) fn json(rows: &[Row]) -> Vec<Value> {
    let row = |row: &Row| {
        json!({
            "bench": row.case.bench,
            "flows": row.case.flows,
            "order": order(row),
            "cold": row.case.cold,
            "cycles_per_packet": {
                "min": row.min, "median": row.median, "max": row.max, "p99": row.p99,
            },
            "bytes_per_session": row.case.bytes_per_session,
        })
    };
    rows.iter().map(row).collect()
}

fn order(row: &Row) -> &'static str {
    if row.case.random { "random" } else { "sequential" }
}
