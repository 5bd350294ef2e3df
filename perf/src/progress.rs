//! How far a run is, on standard error: a bar where that is a terminal, lines where it is not.

use crate::job::Second;
use admin::number;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{fmt::Write as _, io::IsTerminal as _, io::Write as _};

/// The bar moves in tenths of an estimated second.
const PER_SECOND: f64 = 10.0;

#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    is_verbose: bool,
    /// Bar and clock agree once the estimates are right; until then the bar follows what is done.
    measuring: String,
}

impl Progress {
    /// Of a run that is estimated to take so many seconds. `is_verbose`: port statistics as lines too.
    pub fn new(seconds: f64, is_verbose: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some((seconds * PER_SECOND) as u64),
            match is_terminal {
                true => ProgressDrawTarget::stderr(),
                false => ProgressDrawTarget::hidden(),
            },
        );
        let template = "{elapsed_precise} [{bar:30}] {percent:>3} %  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, is_terminal, is_verbose, measuring: String::new() }
    }

    /// Nothing is shown.
    pub fn hidden() -> Self {
        let bar = ProgressBar::hidden();
        Progress { bar, is_terminal: true, is_verbose: false, measuring: String::new() }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match self.is_terminal {
            true => self.bar.println(text),
            false => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// What is done at the moment.
    pub fn measuring(&mut self, what: String) {
        if !self.is_terminal && self.is_verbose {
            self.line(&what);
        }
        self.bar.set_message(what.clone());
        self.measuring = what;
    }

    /// What the generator's ports counted in the last second: beside the bar, and as a line where asked.
    pub fn second(&self, second: &Second) {
        let text = statistics(second);
        if self.is_verbose {
            self.line(&format!("  {text}"));
        }
        self.bar.set_message(format!("{} | {text}", self.measuring));
    }

    /// So many estimated seconds are done.
    pub fn advance(&self, seconds: f64) {
        self.bar.inc((seconds * PER_SECOND) as u64);
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// `tunnel tx 5.02M pps 3.37G bps rx … · external …`
pub fn statistics(second: &Second) -> String {
    let mut text = String::new();
    for (port, name) in ["tunnel", "external"].into_iter().enumerate() {
        let gap = if port == 0 { "" } else { " · " };
        let bits = |bytes: u64| number::short(bytes.saturating_mul(8));
        let _ = write!(
            text,
            "{gap}{name} tx {} pps {} bps rx {} pps {} bps",
            number::short(second.tx_packets[port]),
            bits(second.tx_bytes[port]),
            number::short(second.rx_packets[port]),
            bits(second.rx_bytes[port]),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_reads_as_testpmd_shows_it() {
        let second = Second {
            tx_packets: [5_020_000, 0],
            tx_bytes: [421_000_000, 0],
            rx_packets: [0, 4_990_000],
            rx_bytes: [0, 319_360_000],
        };
        assert_eq!(
            statistics(&second),
            "tunnel tx 5.02M pps 3.37G bps rx 0 pps 0 bps · \
             external tx 0 pps 0 bps rx 4.99M pps 2.55G bps"
        );
    }
}
