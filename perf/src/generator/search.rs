//! The highest rate without loss (RFC 2544 section 26.1), by bisection: knows rates only, not how a trial
//! is made.

/// Rates are told apart to this part of the highest one.
const RESOLUTION: f64 = 0.01;

/// Which rate to try next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    most: f64,
    /// Passed; 0 where none has.
    passed: f64,
    /// The lowest that failed, `None` before the first trial.
    failed: Option<f64>,
}

impl Search {
    /// Downward from `most` packets per second.
    pub(super) fn from(most: f64) -> Self {
        Search { most, passed: 0.0, failed: None }
    }

    /// `None` when the answer is known.
    pub(super) fn next(&self) -> Option<f64> {
        match self.failed {
            None if self.passed < self.most => Some(self.most),
            None => None,
            Some(failed) if failed - self.passed <= self.most * RESOLUTION => None,
            Some(failed) => Some((self.passed + failed) / 2.0),
        }
    }

    pub(super) fn tried(&mut self, rate: f64, passed: bool) {
        if passed {
            self.passed = rate;
        } else {
            self.failed = Some(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All trials of a system that loses packets above `capacity`.
    fn trials(most: f64, capacity: f64) -> (Vec<f64>, f64) {
        let (mut search, mut tried) = (Search::from(most), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.tried(rate, rate <= capacity);
        }
        (tried, search.passed)
    }

    #[test]
    fn finds_the_rate_to_one_percent_in_a_few_trials() {
        for (most, capacity) in
            [(10e6, 10e6), (10e6, 9.99e6), (10e6, 5e6), (10e6, 3.3e6), (200e3, 2.1e3)]
        {
            let (tried, found) = trials(most, capacity);
            assert!(found <= capacity && capacity - found <= most * 0.01, "{capacity}: {found}");
            assert!(tried.len() <= 8, "{tried:?}");
            assert_eq!(tried[0], most);
        }
        assert_eq!(trials(10e6, 10e6).0.len(), 1, "the highest passes at once");
    }

    #[test]
    fn a_system_that_always_loses_packets_has_no_such_rate() {
        let (tried, found) = trials(10e6, 1.0);
        assert_eq!(found, 0.0);
        assert!(tried.len() <= 8);
    }
}
