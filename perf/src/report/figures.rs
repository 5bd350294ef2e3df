//! All figures of a result in one table.

use super::text::{direction, flows, frames, number, optional, order, short, system, table};
use crate::result::{Results, Run};

/// With ratios to an earlier result.
pub(super) fn figures(runs: &[Run], earlier: Option<&Results>) -> String {
    let heading = [
        "system",
        "scenario",
        "direction",
        "frames",
        "flows",
        "order",
        "workers",
        "Mpps",
        "Gbit/s",
        "cycles",
        "loss",
        "spread of",
        "min",
        "median",
        "max",
        "repeats",
        "disturbed",
        "apart",
        "remarks",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    if earlier.is_some() {
        rows[0].push("Mpps against earlier".to_owned());
    }
    for run in runs {
        let mut row = vec![
            system(run),
            run.scenario.clone(),
            direction(run.direction).to_owned(),
            frames(run.frames).to_owned(),
            flows(run.flows),
            order(run.order).to_owned(),
            run.workers.to_string(),
            number(run.mpps, 3),
            number(run.gbps, 2),
            optional(run.cycles_per_packet, 0),
            if run.loss.is_finite() { format!("{:.0e}", run.loss) } else { "–".to_owned() },
            run.spread.of.clone(),
            short(run.spread.min),
            short(run.spread.median),
            short(run.spread.max),
            run.repeats.to_string(),
            run.disturbed.to_string(),
            run.apart.to_string(),
            run.remarks.join("; "),
        ];
        if let Some(earlier) = earlier {
            let same = earlier.runs.iter().find(|other| key(other) == key(run));
            row.push(optional(same.map(|same| run.mpps / same.mpps), 2));
        }
        rows.push(row);
    }
    let note = "<p>Repeats are disturbed where generator or system were off their CPUs for over 1 % of the time, \
                and apart where the two CPUs were farther from each other than at best.</p>";
    note.to_owned() + &table(&rows)
}

/// What makes two runs the same measurement.
fn key(run: &Run) -> impl PartialEq + use<'_> {
    let Run { system, scenario, io, direction, frames, flows, order, workers, .. } = run;
    (system, scenario, io, direction, frames, flows, order, workers)
}
