//! The middle of a few repeats, and how far they lie apart.

use crate::result::Spread;

/// The middle one; between the two middle ones where their number is even. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper)),
    }
}

pub fn spread(of: &str, values: &[f64]) -> Option<Spread> {
    Some(Spread {
        of: of.to_owned(),
        min: values.iter().copied().reduce(f64::min)?,
        median: median(values)?,
        max: values.iter().copied().reduce(f64::max)?,
    })
}

/// Of those repeats that have the value, where all have.
pub(super) fn medians<T>(repeats: &[T], of: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    median(&repeats.iter().map(of).collect::<Option<Vec<f64>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some((3.0, 3.0, 3.0))),
            (vec![9.0, 1.0], Some((1.0, 5.0, 9.0))),
            (vec![2.0, 100.0, 1.0], Some((1.0, 2.0, 100.0))),
            (vec![4.0, 2.0, 3.0, 1.0], Some((1.0, 2.5, 4.0))),
        ] {
            let spread = spread("mpps", &values);
            assert_eq!(spread.map(|s| (s.min, s.median, s.max)), expected, "{values:?}");
        }
    }

    #[test]
    fn what_one_repeat_does_not_tell_has_no_median() {
        let some = |value: &Option<f64>| *value;
        assert_eq!(medians(&[Some(1.0), None, Some(3.0)], some), None);
        assert_eq!(medians(&[Some(1.0), Some(2.0), Some(3.0)], some), Some(2.0));
    }
}
