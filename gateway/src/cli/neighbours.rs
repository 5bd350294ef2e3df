//! `neighbors`: who is where on the links of both ports.

use super::{
    Output, Result,
    client::ApiArgs,
    example, json, note, print,
    table::{Table, duration},
};
use clap::Args;
use gateway::control::http::neighbours::{Neighbour, Neighbours};

const EXAMPLES: &str = example!(
    "  egress-gateway neighbors
  egress-gateway neighbors -o json | jq '.neighbors[] | select(.state != \"reachable\")'"
);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct NeighboursArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) fn run(args: &NeighboursArgs) -> Result<()> {
    let answer: Neighbours = args.api.api.get("/v1/neighbors")?;
    match args.output {
        Output::Json => print(&json(&answer)?),
        Output::Text if answer.neighbors.is_empty() => {
            note("no neighbors: nothing was sent yet, and no next hop is configured");
            Ok(())
        }
        Output::Text => print(&table(&answer.neighbors).to_string()),
    }
}

fn table(neighbours: &[Neighbour]) -> Table {
    let mut table = Table::new(&["PORT", "ADDRESS", "MAC", "STATE", ">AGE", ">QUEUED", ">WORKER"]);
    for Neighbour { port, address, mac, state, age_seconds, queued, worker } in neighbours {
        table.row([
            port.clone(),
            address.to_string(),
            mac.clone().unwrap_or_else(|| "-".to_owned()),
            state.clone(),
            duration(*age_seconds),
            queued.to_string(),
            worker.to_string(),
        ]);
    }
    table
}
