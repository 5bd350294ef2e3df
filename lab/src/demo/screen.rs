//! How the demo looks: numbered steps, the commands as typed, their output indented. Nothing that it lays out itself is wider than 100 columns.

use std::collections::BTreeMap;

use crate::echo::seen::Protocol;
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

    /// One row for all flows of a pod to one destination that fared alike.
    pub(super) fn flows(&self, judged: &[Judged]) {
        row(&["pod", "flows", "destination", "must be", "the world saw"].map(str::to_owned));
        let mut rows: Vec<([String; 4], Vec<Protocol>)> = Vec::new();
        for Judged { flow, sources, answered } in judged {
            let seen: Vec<String> = sources.iter().map(ToString::to_string).collect();
            let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(" ") };
            let note = if *answered { "" } else { ", but the pod got no answer, or a wrong one" };
            let (to, source) = (flow.to.to_string(), flow.source().to_string());
            let fared = [flow.pod.name.to_owned(), to, source, seen + note];
            match rows.iter_mut().find(|(known, _)| *known == fared) {
                Some((_, protocols)) => protocols.push(flow.protocol),
                None => rows.push((fared, vec![flow.protocol])),
            }
        }
        for ([pod, to, source, seen], protocols) in rows {
            row(&[pod, counted(&protocols), to, source, seen]);
        }
    }
}

fn row([pod, flows, destination, expected, seen]: &[String; 5]) {
    println!("  {pod:<5}  {flows:<20}  {destination:<16}  {expected:<16}  {seen}");
}

/// As `3 TCP, 1 UDP`.
fn counted(protocols: &[Protocol]) -> String {
    let mut counts = BTreeMap::new();
    for protocol in protocols {
        *counts.entry(*protocol).or_insert(0) += 1;
    }
    let counts = counts.iter().map(|(protocol, count)| format!("{count} {}", protocol.name()));
    counts.collect::<Vec<_>>().join(", ")
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
