//! Columns of text that fit a terminal of 100 columns.
//!
//! A table that is wider is folded: its columns are laid on several lines, and the heads and each row go on
//! indented below their first line. Nothing is cut.

use std::fmt;

/// What a terminal and a bug report have room for.
const WIDTH: usize = 100;
const GAP: usize = 2;
/// Of the lines that go on with a row.
const INDENT: usize = 4;
/// The last column is not wrapped to less where a line of its own has more.
const NARROWEST: usize = 24;

/// A table whose last column is wrapped between words when the rest leaves too little room for it.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    head: &'static str,
    is_number: bool,
}

/// Where a column stands.
#[derive(Debug)]
struct Place {
    /// The line of its row, from 0.
    line: usize,
    /// Of its first character in that line.
    start: usize,
    width: usize,
}

impl Table {
    /// A head that begins with `>` is of a column of numbers, which are set flush right.
    pub fn new(heads: &[&'static str]) -> Self {
        let column = |head: &&'static str| match head.strip_prefix('>') {
            Some(head) => Column { head, is_number: true },
            None => Column { head, is_number: false },
        };
        Table { columns: heads.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Cells that are missing are empty; those beyond the heads are not shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn cells(&self, index: usize) -> impl Iterator<Item = &str> {
        let cells = self.rows.iter().filter_map(move |row| row.get(index)).map(String::as_str);
        cells.chain([self.columns[index].head])
    }

    /// Each column on the line of the one before it where that has room for it, else on the next.
    fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        let last = self.columns.len().saturating_sub(1);
        for index in 0..self.columns.len() {
            let widest = self.cells(index).map(length).max().unwrap_or(0);
            // What it cannot do with less than.
            let least = if index == last {
                let words = self.cells(index).flat_map(str::split_whitespace);
                words.map(length).max().unwrap_or(0).max(widest.min(NARROWEST))
            } else {
                widest
            };
            let place = match places.last() {
                None => Place { line: 0, start: 0, width: widest.min(WIDTH) },
                Some(before) => {
                    let start = before.start + before.width + GAP;
                    if start + least <= WIDTH {
                        Place { line: before.line, start, width: widest.min(WIDTH - start) }
                    } else {
                        let start = INDENT.min(WIDTH.saturating_sub(least));
                        Place { line: before.line + 1, start, width: widest.min(WIDTH - start) }
                    }
                }
            };
            places.push(place);
        }
        places
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places();
        let heads = self.columns.iter().map(|column| column.head.to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            self.write_row(f, row, &places)?;
        }
        Ok(())
    }
}

impl Table {
    fn write_row(
        &self,
        f: &mut fmt::Formatter<'_>,
        row: &[String],
        places: &[Place],
    ) -> fmt::Result {
        let mut lines: Vec<String> = vec![String::new()];
        let last = places.len().saturating_sub(1);
        for (index, ((cell, column), place)) in
            row.iter().zip(&self.columns).zip(places).enumerate()
        {
            lines.resize(lines.len().max(place.line + 1), String::new());
            let width = place.width;
            let mut parts = match index == last {
                true => wrap(cell, width),
                false => vec![cell.clone()],
            }
            .into_iter();
            let line = &mut lines[place.line];
            pad(line, place.start);
            let part = parts.next().unwrap_or_default();
            *line += &match column.is_number {
                true => format!("{part:>width$}"),
                false => part,
            };
            lines.extend(parts.map(|part| " ".repeat(place.start) + &part));
        }
        for (index, line) in lines.iter().enumerate() {
            let line = line.trim_end();
            // Where a row has nothing to go on with, it does not.
            if index == 0 || !line.is_empty() {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

fn pad(line: &mut String, to: usize) {
    *line += &" ".repeat(to.saturating_sub(length(line)));
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

#[cfg(test)]
mod tests;
