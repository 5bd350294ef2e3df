//! Shell completions and manual pages of a program's command line, made from clap's description of it.

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use std::{fs, io, path::Path};

/// The shells that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// The script that a shell sources.
pub fn completions(command: &Command, shell: KnownShell) -> String {
    let name = command.get_name();
    let script = |shell, name: &str| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    match shell {
        KnownShell::Bash => {
            // clap_complete 4.6 names the states of its script in two ways where the command has a hyphen
            // in its name, and then completes nothing. So it is made for a name without, and put right
            // where the shell is told of the command.
            let (bare, told) = (name.replace('-', ""), |name: &str| format!(" {name}\n"));
            script(Shell::Bash, &bare).replace(&told(&bare), &told(name))
        }
        KnownShell::Zsh => script(Shell::Zsh, name),
        KnownShell::Fish => script(Shell::Fish, name),
    }
}

/// The page of the whole program, in roff.
pub fn main_page(command: Command) -> io::Result<String> {
    let source = source(&command);
    page(&Man::new(documented(command)).source(source))
}

/// A page for the program and for each subcommand, in files of this folder, which is made where it is
/// missing.
pub fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let source = source(&command);
    let mut command = documented(command);
    // Gives each subcommand its page's name.
    command.build();
    write_page(&command, &source, folder)
}

fn write_page(command: &Command, source: &str, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_page(subcommand, source, folder)?;
    }
    let man = Man::new(command.clone()).source(source);
    fs::write(folder.join(man.get_filename()), page(&man)?)
}

/// The pages name one another; `help` has nothing to say that they do not.
fn documented(command: Command) -> Command {
    command.disable_help_subcommand(true)
}

/// The program with its version.
fn source(command: &Command) -> String {
    format!("{} {}", command.get_name(), command.get_version().unwrap_or_default())
}

fn page(man: &Man) -> io::Result<String> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(with_notes(&String::from_utf8_lossy(&page)))
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
