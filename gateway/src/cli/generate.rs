//! `completions` and `man`: what the shell and the manual want to know of the command line.

use super::{Cli, Failure, Result, example, print};
use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use std::{
    fs, io,
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
    let script = |shell, name: &str| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    print(&match args.shell {
        KnownShell::Bash => {
            // clap_complete 4.6 names the states of its script in two ways where the command has a hyphen
            // in its name, and then completes nothing. So it is made for a name without, and put right
            // where the shell is told of the command.
            let (bare, lines) = (NAME.replace('-', ""), |name: &str| format!(" {name}\n"));
            script(Shell::Bash, &bare).replace(&lines(&bare), &lines(NAME))
        }
        KnownShell::Zsh => script(Shell::Zsh, NAME),
        KnownShell::Fish => script(Shell::Fish, NAME),
    })
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    match &args.folder {
        None => {
            let mut page = Vec::new();
            let rendered = page_of(documented()).render(&mut page);
            rendered.map_err(|error| Failure::Failed(format!("the page: {error}")))?;
            print(&with_notes(&String::from_utf8_lossy(&page)))
        }
        Some(folder) => write_pages(folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display()))),
    }
}

/// The pages name one another; `help` has nothing to say that they do not.
fn documented() -> Command {
    Cli::command().disable_help_subcommand(true)
}

fn page_of(command: Command) -> Man {
    Man::new(command).source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")))
}

fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = documented();
    // Gives each subcommand its page's name.
    command.build();
    write_page(folder, &command)
}

fn write_page(folder: &Path, command: &Command) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_page(folder, subcommand)?;
    }
    let man = page_of(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    fs::write(folder.join(man.get_filename()), with_notes(&String::from_utf8_lossy(&page)))
}

/// What stands below the options has no name in clap, and is set like prose; here it is a section whose lines
/// stay as they are.
fn with_notes(page: &str) -> String {
    let Some((before, notes)) = page.split_once("\n.SH EXTRA\n") else { return page.to_owned() };
    let (notes, after) = match notes.split_once("\n.SH ") {
        Some((notes, after)) => (notes, format!("\n.SH {after}")),
        None => (notes, "\n".to_owned()),
    };
    format!("{before}\n.SH NOTES\n.nf\n{}\n.fi{after}", notes.trim_end())
}
