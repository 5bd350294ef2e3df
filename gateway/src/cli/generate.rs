//! `completions` and `man`: what the shell and the manual want to know of the command line.

use super::{Cli, Failure, Result, example, print};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use std::{
    fs,
    path::{Path, PathBuf},
};

const NAME: &str = "egress-gateway";

const COMPLETIONS: &str = example!(
    "  source <(egress-gateway completions bash)
  egress-gateway completions zsh > \"${fpath[1]}/_egress-gateway\"
  egress-gateway completions fish > ~/.config/fish/completions/egress-gateway.fish"
);

const MAN: &str = example!(
    "  egress-gateway man | man -l -
  egress-gateway man /usr/local/share/man/man1"
);

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct CompletionsArgs {
    shell: KnownShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
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
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    match &args.folder {
        None => {
            let mut page = Vec::new();
            let rendered = Man::new(Cli::command()).render(&mut page);
            rendered.map_err(|error| Failure::Failed(format!("the page: {error}")))?;
            print(&String::from_utf8_lossy(&page))
        }
        Some(folder) => write_pages(folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display()))),
    }
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
