//! Columns of text that fit a terminal of 100 columns.

use std::fmt;

/// What a terminal and a bug report have room for.
const WIDTH: usize = 100;
const GAP: usize = 2;
/// The last column is not wrapped to less.
const NARROWEST: usize = 24;

/// A table whose last column is wrapped when the rest leaves too little room for it.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    head: &'static str,
    is_number: bool,
}

impl Table {
    /// A head that begins with `>` is of a column of numbers, which are set flush right.
    pub(super) fn new(heads: &[&'static str]) -> Self {
        let column = |head: &&'static str| match head.strip_prefix('>') {
            Some(head) => Column { head, is_number: true },
            None => Column { head, is_number: false },
        };
        Table { columns: heads.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| length(cell));
            cells.chain([length(column.head)]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        if let Some((last, others)) = widths.split_last_mut() {
            let taken: usize = others.iter().map(|width| width + GAP).sum();
            *last = (*last).min(WIDTH.saturating_sub(taken).max(NARROWEST));
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let heads = self.columns.iter().map(|column| column.head.to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let last = row.len().saturating_sub(1);
            let mut line = String::new();
            let mut rest = Vec::new();
            for (index, ((cell, column), &width)) in
                row.iter().zip(&self.columns).zip(&widths).enumerate()
            {
                let mut parts = match index == last {
                    true => wrap(cell, width).into_iter(),
                    false => vec![cell.clone()].into_iter(),
                };
                let cell = parts.next().unwrap_or_default();
                line += &match column.is_number {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:width$}"),
                };
                line += &" ".repeat(GAP);
                rest.extend(parts);
            }
            writeln!(f, "{}", line.trim_end())?;
            let indent: usize = widths.iter().rev().skip(1).map(|width| width + GAP).sum();
            for part in rest {
                writeln!(f, "{}{part}", " ".repeat(indent))?;
            }
        }
        Ok(())
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `width` columns, broken between words; a longer word stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1,234,567`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three digits and a decimal prefix: `999`, `1.23k`, `45.6M`.
pub(super) fn short(number: u64) -> String {
    const PREFIXES: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    if number < 1000 {
        return number.to_string();
    }
    let mut value = number as f64 / 1000.0;
    let mut prefix = 0;
    // What is rounded up to 1000 takes the next prefix.
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let decimals = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", PREFIXES[prefix])
}

/// `12s`, `3m04s`, `2h05m`, `4d07h`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(short(number), text);
        }
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        for (seconds, text) in [(0, "0s"), (64, "1m04s"), (7260, "2h01m"), (90_000, "1d01h")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_table_fits_and_wraps_its_last_column() {
        let mut table = Table::new(&["NAME", ">N", "WHAT"]);
        table.row(["a".into(), "1".into(), "word ".repeat(30)]);
        table.row(["long-name".into(), "1000".into(), String::new()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| length(line) <= WIDTH), "{text}");
        assert_eq!(lines[0], "NAME          N  WHAT");
        assert!(lines[1].starts_with("a             1  word word"), "{text}");
        assert!(lines[2].starts_with("                 word"), "{text}");
        assert_eq!(*lines.last().unwrap(), "long-name  1000");
    }
}
