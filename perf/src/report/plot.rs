//! Plots as SVG: lines over a logarithmic axis, and bars. Coordinates are pixels, y downwards.

use super::text::{escaped, short};
use std::fmt::Write;

/// Okabe and Ito's colours, which colour-blind people can tell apart.
pub(super) const COLOURS: [&str; 9] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a900",
    "#8b0000",
];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const HEIGHT: f64 = 260.0;

/// Median, smallest, largest of a measurement at a place of the x axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Of [`COLOURS`], so that a system has the same in every plot.
    pub(super) colour: usize,
    pub(super) points: Vec<Point>,
}

/// A bar with its parts, each of a kind; one part where it is not divided.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<(String, f64)>,
    /// Behind the bar.
    pub(super) note: String,
}

/// From a range of values to one of pixels.
#[derive(Clone, Copy, Debug)]
struct Scale {
    values: [f64; 2],
    pixels: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let [from, to] = self.values;
        let share = if to > from { (value - from) / (to - from) } else { 0.5 };
        self.pixels[0] + share.clamp(0.0, 1.0) * (self.pixels[1] - self.pixels[0])
    }
}

/// 1, 2 and 5 times powers of ten, from just below `least` to just above `most`.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let power = least.log10().floor() as i32;
    let steps = (power..).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
    let mut ticks: Vec<f64> = Vec::new();
    for step in steps {
        if step <= least {
            ticks.clear();
        }
        ticks.push(step);
        // Both ends have to be there, and what lies on one of them needs no further.
        if step >= most && ticks.len() > 1 {
            break;
        }
    }
    ticks
}

/// Points that can be drawn: on logarithmic axes nothing is at 0.
fn drawable(point: &Point) -> bool {
    // No measurement comes near these bounds, and no tick is wanted beyond them.
    let fits = |value: f64| (1e-9..1e18).contains(&value);
    fits(point.x) && fits(point.y)
}

/// Lines on two logarithmic axes; each point with its range, and its figures when the mouse rests on it.
pub(super) fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|point| drawable(point));
    if points().next().is_none() {
        return String::new();
    }
    let ends = |p: &Point| [p.y, p.min, p.max].into_iter().filter(|y| (1e-9..1e18).contains(y));
    let ys = || points().flat_map(ends);
    let y_ticks = ticks(ys().fold(f64::MAX, f64::min), ys().fold(0.0, f64::max));
    let low = points().map(|p| p.x.log10()).fold(f64::MAX, f64::min).floor();
    let high = points().map(|p| p.x.log10()).fold(f64::MIN, f64::max).ceil().max(low + 1.0);
    let bottom = TOP + HEIGHT;
    let x = Scale { values: [low, high], pixels: [LEFT + 12.0, WIDTH - RIGHT - 12.0] };
    let y = Scale {
        values: [y_ticks.first(), y_ticks.last()].map(|tick| tick.copied().unwrap_or(1.0).log10()),
        pixels: [bottom, TOP],
    };
    let mut out = svg(title, bottom + 44.0);
    for tick in &y_ticks {
        let at = y.at(tick.log10());
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(*tick),
        );
    }
    for power in low as i32..=high as i32 {
        let at = x.at(f64::from(power));
        let label = match power {
            0..=2 => 10i64.pow(power as u32).to_string(),
            3..=5 => format!("{} k", 10i64.pow(power as u32 - 3)),
            6..=8 => format!("{} M", 10i64.pow(power as u32 - 6)),
            _ => format!("1e{power}"),
        };
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0,
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        bottom + 36.0,
        escaped(x_name),
        TOP + HEIGHT / 2.0,
        escaped(y_name),
    );
    for line in lines {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let mut points: Vec<&Point> = line.points.iter().filter(|p| drawable(p)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let place = |p: &Point| (x.at(p.x.log10()), y.at(p.y.log10()));
        let path: Vec<String> =
            points.iter().map(|p| place(p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for point in points {
            let (at, middle) = place(point);
            if point.min > 0.0 && point.max.is_finite() {
                let _ = write!(
                    out,
                    "<line stroke=\"{colour}\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>",
                    y.at(point.min.log10()),
                    y.at(point.max.log10()),
                );
            }
            let _ = write!(
                out,
                "<circle fill=\"{colour}\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"4\">\
                 <title>{}: {} ({}–{})</title></circle>",
                escaped(&line.name),
                short(point.y),
                short(point.min),
                short(point.max),
            );
        }
    }
    out + "</svg>" + &legend(lines.iter().map(|line| (line.colour, line.name.as_str())))
}

/// Horizontal bars, one below the other.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    const NAMES: f64 = 330.0;
    const NOTES: f64 = 130.0;
    const EACH: f64 = 26.0;
    let usable = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
    let sum = |bar: &Bar| bar.parts.iter().map(|(_, value)| usable(*value)).sum::<f64>();
    let most = bars.iter().map(sum).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let x = Scale { values: [0.0, most], pixels: [0.0, WIDTH - NAMES - NOTES] };
    let mut kinds: Vec<&str> = Vec::new();
    let mut out = svg(title, EACH * bars.len() as f64 + 8.0);
    for (row, bar) in bars.iter().enumerate() {
        let top = 4.0 + row as f64 * EACH;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            NAMES - 8.0,
            top + 15.0,
            escaped(&bar.name)
        );
        let mut done = 0.0;
        for (kind, value) in &bar.parts {
            let number = kinds.iter().position(|known| known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            let (from, to) = (x.at(done), x.at(done + usable(*value)));
            done += usable(*value);
            let _ = write!(
                out,
                "<rect fill=\"{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"20\">\
                 <title>{}: {}</title></rect>",
                COLOURS[number % COLOURS.len()],
                NAMES + from,
                to - from,
                escaped(kind),
                short(*value),
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES + x.at(done) + 6.0,
            top + 15.0,
            escaped(&bar.note)
        );
    }
    let legend =
        if kinds.len() > 1 { legend(kinds.into_iter().enumerate()) } else { String::new() };
    out + "</svg>" + &legend
}

fn svg(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\
         <title>{}</title>",
        escaped(title)
    )
}

fn legend<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> String {
    let entry = |(number, name): (usize, &str)| {
        let colour = COLOURS[number % COLOURS.len()];
        format!("<span><i style=\"background:{colour}\"></i>{}</span>", escaped(name))
    };
    format!("<p class=\"legend\">{}</p>", names.map(entry).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all() {
        for (least, most, expected) in [
            (210.0, 14_000.0, vec![200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0]),
            (0.05, 9.0, vec![0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
            (100.0, 100.0, vec![100.0, 200.0]),
        ] {
            let found = ticks(least, most);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().zip(&expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9));
        }
    }

    #[test]
    fn a_point_lies_where_its_values_are() {
        let point = |x, y| Point { x, y, min: y, max: y };
        let line = Line {
            name: "a".to_owned(),
            colour: 0,
            points: vec![point(1.0, 100.0), point(1e6, 1000.0)],
        };
        let out = lines("t", "x", "y", &[line]);
        // The corners of the plot: left and bottom, right and top.
        let right = WIDTH - RIGHT - 12.0;
        let corners = [
            format!("cx=\"{:.1}\" cy=\"{:.1}\"", LEFT + 12.0, TOP + HEIGHT),
            format!("cx=\"{right:.1}\" cy=\"{TOP:.1}\""),
        ];
        for corner in corners {
            assert!(out.contains(&corner), "{corner}: {out}");
        }
        let none = [Line {
            name: "b".to_owned(),
            colour: 1,
            points: vec![point(0.0, 1.0), point(1.0, f64::NAN)],
        }];
        assert_eq!(lines("t", "x", "y", &none), "");
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value| Bar {
            name: "n".to_owned(),
            parts: vec![("k".to_owned(), value)],
            note: String::new(),
        };
        let out = bars("t", &[bar(100.0), bar(50.0), bar(f64::INFINITY)]);
        for width in ["300.0", "150.0", "0.0"] {
            assert!(out.contains(&format!("width=\"{width}\" height=\"20\"")), "{width}: {out}");
        }
        assert_eq!(bars("t", &[bar(0.0)]), "");
    }
}
