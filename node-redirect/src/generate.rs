//! `completions` and `man`: the command line as shells and the manual want it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Cli, KnownShell};

const NAME: &str = "node-redirect";

pub fn completions(shell: KnownShell) -> String {
    match shell {
        // clap_complete 4.6 writes the states of a bash script in two ways when the name has a hyphen, and then completes nothing.
        // The script is made for a name without, and gets the real one where bash is told of it.
        KnownShell::Bash => {
            let bare = NAME.replace('-', "");
            let told = |name: &str| format!(" {name}\n");
            script(Shell::Bash, &bare).replace(&told(&bare), &told(NAME))
        }
        KnownShell::Zsh => script(Shell::Zsh, NAME),
        KnownShell::Fish => script(Shell::Fish, NAME),
    }
}

fn script(shell: Shell, name: &str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The main page.
pub fn man_page() -> Result<String> {
    page(Man::new(documented()))
}

/// A page for each subcommand, and the main one.
pub fn write_man_pages(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut command = documented();
    // Gives each subcommand the name of its page.
    command.build();
    for each in std::iter::once(&command).chain(command.get_subcommands()) {
        let man = Man::new(each.clone());
        let file = folder.join(man.get_filename());
        fs::write(&file, page(man)?).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn documented() -> Command {
    Cli::command().disable_help_subcommand(true)
}

fn page(man: Man) -> Result<String> {
    let man = man.source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(with_notes(&String::from_utf8_lossy(&page)))
}

/// What stands below the options has no heading in clap and is set as prose; here its lines stay as they are.
fn with_notes(page: &str) -> String {
    let Some((before, notes)) = page.split_once("\n.SH EXTRA\n") else { return page.to_owned() };
    let (notes, after) = match notes.split_once("\n.SH ") {
        Some((notes, after)) => (notes, format!("\n.SH {after}")),
        None => (notes, "\n".to_owned()),
    };
    format!("{before}\n.SH NOTES\n.nf\n{}\n.fi{after}", notes.trim_end())
}
