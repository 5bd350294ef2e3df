//! Numbers and names as text that may stand in a page.

use crate::{
    job::{Direction, Frames, Order},
    result::Run,
};
use std::fmt::Write;

/// Text of others: nothing in it is markup.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write them.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// `–` where it is no number.
pub(super) fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

pub(super) fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| number(value, digits))
}

/// With three digits that count: `0.00821`, `1.25`, `412`.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return number(value, 0);
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    number(value, digits)
}

/// `gateway, memif`
pub(super) fn system(run: &Run) -> String {
    format!("{}, {}", run.system, run.io)
}

pub(super) fn flows(flows: u32) -> String {
    match flows {
        1_000_000.. if flows.is_multiple_of(1_000_000) => format!("{} M", flows / 1_000_000),
        1000.. if flows.is_multiple_of(1000) => format!("{} k", flows / 1000),
        _ => flows.to_string(),
    }
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In2out => "in2out",
        Direction::Out2in => "out2in",
        Direction::Both => "both",
    }
}

pub(super) fn frames(frames: Frames) -> &'static str {
    match frames {
        Frames::Smallest => "64 B",
        Frames::Imix => "IMIX",
        Frames::Largest => "1,468 B",
    }
}

pub(super) fn order(order: Order) -> &'static str {
    match order {
        Order::Random => "random",
        Order::Sequential => "sequential",
    }
}

/// A table; the first row is its heading. Cells that begin with a digit stand to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let mut out = String::from("<div class=\"wide\"><table>");
    for (place, row) in rows.iter().enumerate() {
        out.push_str("<tr>");
        for cell in row {
            let tag = if place == 0 { "th" } else { "td" };
            let is_number = place > 0 && cell.starts_with(|c: char| c.is_ascii_digit());
            let class = if is_number { " class=\"n\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        out.push_str("</tr>");
    }
    out + "</table></div>"
}
