//! How the demo looks: numbered steps, the commands as typed, their output indented. Nothing that it lays out itself is wider than 100 columns.

use crate::traffic::Judged;

#[derive(Debug, Default)]
pub(super) struct Screen {
    steps: u32,
    after_table: bool,
}

impl Screen {
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        self.after_table = false;
        println!("\n{}. {title}\n", self.steps);
    }

    pub(super) fn command(&mut self, host: &str, command: &str) {
        if std::mem::take(&mut self.after_table) {
            println!();
        }
        println!("{host}$ {command}");
    }

    pub(super) fn output(&self, text: &str) {
        for line in text.lines() {
            println!("  {line}");
        }
    }

    /// What is a table already, of up to the full width.
    pub(super) fn table(&mut self, text: &str) {
        println!("{}", text.trim_end());
        self.after_table = true;
    }

    pub(super) fn flows(&self, judged: &[Judged]) {
        let header = ["flow", "pod", "protocol", "destination", "must be", "the world saw"];
        self.row(header.map(str::to_owned));
        for Judged { flow, sources, answered } in judged {
            let seen: Vec<String> = sources.iter().map(ToString::to_string).collect();
            let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(" ") };
            let note = if *answered { "" } else { ", but the pod got no answer, or a wrong one" };
            self.row([
                flow.id.to_string(),
                flow.pod.name.to_owned(),
                flow.protocol.name().to_owned(),
                flow.to.to_string(),
                flow.source().to_string(),
                seen + note,
            ]);
        }
    }

    fn row(&self, [flow, pod, protocol, destination, expected, seen]: [String; 6]) {
        println!("  {flow:>4}  {pod:<6}  {protocol:<8}  {destination:<16}  {expected:<16}  {seen}");
    }
}

/// A command as one would type it into a shell; the last word of a long one goes to a line of its own.
pub(super) fn typed(words: &[&str]) -> String {
    const ROOM: usize = 90;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    let quoted = words.iter().map(|word| {
        if word.chars().all(plain) {
            (*word).to_owned()
        } else {
            format!("'{}'", word.replace('\n', "\\n"))
        }
    });
    let words: Vec<String> = quoted.collect();
    let line = words.join(" ");
    match words.split_last() {
        Some((last, first)) if line.len() > ROOM => format!("{} \\\n    {last}", first.join(" ")),
        _ => line,
    }
}
