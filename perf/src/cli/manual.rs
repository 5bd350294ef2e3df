//! `completions` and `man`: what the shell and the manual want to know of the command line.

use super::{Cli, Failure, Result, example, print};
use admin::manual::{self, KnownShell};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

const COMPLETIONS: &str = example!(
    "  source <(egress-perf completions bash)
  egress-perf completions zsh > \"${fpath[1]}/_egress-perf\"
  egress-perf completions fish > ~/.config/fish/completions/egress-perf.fish"
);

const MAN: &str = example!(
    "  egress-perf man | man -l -
  egress-perf man /usr/local/share/man/man1"
);

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct CompletionsArgs {
    shell: KnownShell,
}

#[derive(Debug, Args)]
#[command(after_help = MAN)]
pub(super) struct ManArgs {
    /// Write a page for each subcommand into this folder. Without it the main page goes to standard
    /// output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    print(&manual::completions(&Cli::command(), args.shell))
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    match &args.folder {
        None => {
            let page = manual::main_page(Cli::command());
            print(&page.map_err(|error| Failure::Failed(format!("the page: {error}")))?)
        }
        Some(folder) => manual::write_pages(Cli::command(), folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display()))),
    }
}
