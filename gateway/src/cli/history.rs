//! `policy history`

use super::{Output, Result, client::ApiArgs, note, print, table::Table};
use hyper::{Method, body::Bytes};
use serde::Deserialize;

const HISTORY: &str = "/v1/policies/history";

/// The sets that are kept.
#[derive(Debug, Deserialize)]
struct History {
    sets: Vec<KeptSet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptSet {
    generation: u64,
    /// RFC 3339, UTC.
    accepted_at: String,
    policies: u64,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

pub(super) fn run(api: &ApiArgs, output: Output) -> Result<()> {
    let answer = api.api.send(Method::GET, HISTORY, &[], Bytes::new())?.succeeded()?;
    if output == Output::Json {
        return print(&answer.text());
    }
    let History { sets } = answer.json()?;
    if sets.is_empty() {
        note("no sets: no policies were accepted yet");
        return Ok(());
    }
    let mut table = Table::new(&[">GENERATION", "ACCEPTED", ">POLICIES", "DIFFERENCE"]);
    for set in sets {
        let KeptSet { generation, accepted_at, policies, added, changed, removed } = set;
        let parts: Vec<String> = [("+", added), ("~", changed), ("-", removed)]
            .into_iter()
            .flat_map(|(mark, names)| some(mark, &names))
            .collect();
        let difference = if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
        table.row([generation.to_string(), accepted_at, policies.to_string(), difference]);
    }
    print(&table.to_string())
}

/// A few names, each with its mark, and how many more there are.
fn some(mark: &str, names: &[String]) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut some: Vec<_> = names.iter().take(SHOWN).map(|name| format!("{mark}{name}")).collect();
    if names.len() > SHOWN {
        some.push(format!("{mark}({} more)", names.len() - SHOWN));
    }
    some
}
