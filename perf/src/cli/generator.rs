//! `generate` and `router`: the processes that a run starts beside the systems.

use super::{Result, example};
use crate::generator;
use clap::Args;

const GENERATE: &str = example!(
    "  egress-perf generate <job-and-steps.jsonl

The first line is a job, each further one a step; `egress-perf` ends when its input does. See the
documentation of the module `perf::job` for what they hold."
);

const ROUTER: &str = example!(
    "  egress-perf router --tunnel net_memif0,role=server,socket=/run/t.sock \\
      --external net_memif1,role=server,socket=/run/e.sock --core 1"
);

#[derive(Debug, Args)]
#[command(after_help = GENERATE)]
pub(super) struct GenerateArgs {}

#[derive(Debug, Args)]
#[command(after_help = ROUTER)]
pub(super) struct RouterArgs {
    /// Device of the tunnel side, in DPDK's words
    #[arg(long, value_name = "DEVICE")]
    tunnel: String,
    /// Device of the external side
    #[arg(long, value_name = "DEVICE")]
    external: String,
    /// CPU that forwards
    #[arg(long, value_name = "N")]
    core: usize,
    /// Take ordinary memory instead of hugepages
    #[arg(long)]
    no_huge: bool,
    /// A further word for DPDK's EAL; may be given several times
    #[arg(long = "eal-arg", value_name = "ARG", allow_hyphen_values = true)]
    eal_args: Vec<String>,
}

pub(super) fn generate(_: &GenerateArgs) -> Result<()> {
    Ok(generator::generate()?)
}

pub(super) fn router(args: &RouterArgs) -> Result<()> {
    let RouterArgs { tunnel, external, core, no_huge, eal_args } = args;
    Ok(generator::router(tunnel, external, *core, !no_huge, eal_args)?)
}
