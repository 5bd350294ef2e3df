//! What the command line says of itself: help, completions, manual pages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use running::program::{Files, program, run};
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

/// Every subcommand, as its words.
fn subcommands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        let path: Vec<String> = all[at].clone();
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = run(&arguments).ok();
        let names = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        let names = names.split("\n\n").next().unwrap().lines();
        for name in names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
            if !name.is_empty() && name != "help" {
                all.push([&path[..], &[name.to_owned()]].concat());
            }
        }
        at += 1;
    }
    all
}

#[test]
fn every_subcommand_explains_itself_in_100_columns() {
    let all = subcommands();
    let names: BTreeSet<String> = all.iter().map(|path| path.join(" ")).collect();
    for wanted in [
        "run",
        "check",
        "policy get",
        "policy apply",
        "policy diff",
        "policy history",
        "sessions",
        "sessions flush",
        "trace",
        "stats",
        "neighbors",
        "completions",
        "man",
    ] {
        assert!(names.contains(wanted), "{wanted}: {names:?}");
    }
    for path in all {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        for flag in ["--help", "-h"] {
            // As in a terminal that is wider than what fits a bug report.
            let mut program = program(&[&words[..], &[flag]].concat());
            let output = program.env("COLUMNS", "200").output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0));
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{words:?}: {line}");
            }
            // No option without a word on it.
            let options = help.split_once("\nOptions:\n").unwrap().1.lines();
            for line in options.filter(|line| line.trim_start().starts_with('-')) {
                let (option, said) =
                    line.trim_start().split_at(line.trim_start().find("  ").unwrap_or(0));
                let is_long = flag == "--help" && option.is_empty();
                let said = said.trim();
                assert!(is_long || !said.is_empty() && !said.starts_with('['), "{words:?}: {line}");
            }
        }
    }
}

#[test]
fn examples_and_exit_statuses_are_told() {
    for words in [&["policy"][..], &["sessions"], &["trace"], &["stats"], &["neighbors"]] {
        let help = run(&[words, &["--help"]].concat()).ok();
        let examples = help.split_once("\nExamples:\n").unwrap().1;
        let lines: Vec<_> = examples.lines().take_while(|line| !line.is_empty()).collect();
        assert!(lines.len() > 1 || words == ["neighbors"], "{help}");
        assert!(lines[0].trim_start().starts_with("egress-gateway "), "{help}");
        assert!(
            help.contains("\nExit status: 0 done, 1 failed, 2 bad use or bad input."),
            "{help}"
        );
    }
    let help = run(&["--help"]).ok();
    for status in ["\n  0  ", "\n  1  ", "\n  2  "] {
        assert!(help.contains(status), "{help}");
    }
}

/// Whatever the examples say is understood: an option that was renamed would be found here.
#[test]
fn examples_are_understood() {
    for path in subcommands() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = run(&[&words[..], &["--help"]].concat()).ok();
        let Some((_, examples)) = help.split_once("\nExamples:\n") else { continue };
        let examples = examples.split("\n\n").next().unwrap().replace("\\\n", " ");
        for line in examples.lines() {
            for command in
                line.split(" | ").filter_map(|part| part.trim().strip_prefix("egress-gateway "))
            {
                let stops = |word: &&str| ["||", ">", "what"].contains(word);
                let words = command.split_whitespace().take_while(|word| !stops(word));
                // What needs a gateway, or a file, fails with 1, or 2 for the file: never as bad use.
                let words: Vec<&str> = words.filter(|word| *word != "--watch").collect();
                let words: Vec<&str> = match words[0] {
                    "man" => continue,
                    "completions" => words,
                    _ => [&words[..], &["--api", "unix:/nobody/is/here"]].concat(),
                };
                let done = run(&words);
                assert!(!done.err.contains("Usage:"), "{command}: {done:?}");
            }
        }
    }
}

#[test]
fn bash_knows_the_completions() {
    let binary = env!("CARGO_BIN_EXE_egress-gateway");
    let script = format!(
        "source <({binary} completions bash) && complete -p egress-gateway && \
         [[ $(complete -p egress-gateway) =~ -F\\ ([^ ]+) ]] && \
         COMP_WORDS=(egress-gateway policy d) COMP_CWORD=2 && \
         ${{BASH_REMATCH[1]}} egress-gateway d policy && printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let mut lines = text.lines();
    assert!(lines.next().unwrap().ends_with(" egress-gateway"), "{text}");
    assert_eq!(lines.collect::<Vec<_>>(), ["diff"], "{text}");
    for (shell, says) in
        [("zsh", "#compdef egress-gateway"), ("fish", "complete -c egress-gateway")]
    {
        assert!(run(&["completions", shell]).ok().contains(says), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn every_subcommand_has_a_manual_page() {
    let files = Files::new();
    let folder = files.path("man1");
    run(&["man", &folder.display().to_string()]).ok();
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for path in subcommands() {
        let name = [&["egress-gateway".to_owned()], &path[..]].concat().join("-");
        let page = format!("{name}.1");
        assert!(pages.contains(&page), "{page}: {pages:?}");
        let text = fs::read_to_string(folder.join(&page)).unwrap();
        assert!(text.starts_with(".ie") && text.contains("\n.SH NAME\n"), "{page}: {text}");
    }
    for page in &pages {
        typeset(&folder.join(page));
    }
    let main = run(&["man"]).ok();
    assert_eq!(main, fs::read_to_string(folder.join("egress-gateway.1")).unwrap());
    assert!(
        main.contains("2  bad use or bad input") || main.contains("bad use or bad input"),
        "{main}"
    );
    let file = files.write("file", "");
    assert!(run(&["man", &file]).failed(1).contains(&file));
}

/// Without a warning, where there is something that typesets.
fn typeset(page: &std::path::Path) {
    let output = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(page)
        .stdin(Stdio::null())
        .output();
    if let Ok(output) = output {
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
    }
}
