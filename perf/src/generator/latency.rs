//! How long packets take: a histogram of cycles, three digits exact.

use crate::job::Latency;
use hdrhistogram::Histogram;

#[derive(Debug)]
pub(super) struct Latencies {
    cycles: Histogram<u64>,
}

/// Longer times count as this: a minute of a counter of 4.5 GHz.
const MOST: u64 = 1 << 38;

impl Latencies {
    pub(super) fn new() -> Option<Self> {
        Histogram::new_with_bounds(1, MOST, 3).ok().map(|cycles| Latencies { cycles })
    }

    #[inline(always)]
    pub(super) fn record(&mut self, cycles: u64) {
        self.cycles.saturating_record(cycles);
    }

    pub(super) fn summary(&self, hz: u64) -> Latency {
        let micros = |cycles: u64| cycles as f64 / hz as f64 * 1e6;
        let quantile = |q: f64| micros(self.cycles.value_at_quantile(q));
        Latency {
            samples: self.cycles.len(),
            min: micros(self.cycles.min()),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: micros(self.cycles.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_microseconds() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1000).for_each(|i| latencies.record(i * 2000));
        latencies.record(u64::MAX);
        let latency = latencies.summary(2_000_000_000);
        assert_eq!(latency.samples, 1001);
        for (value, expected) in
            [(latency.min, 1.0), (latency.p50, 501.0), (latency.p90, 901.0), (latency.p99, 991.0)]
        {
            assert!((value / expected - 1.0).abs() < 0.01, "{value} {expected}");
        }
        assert!(latency.max > 1e8);
    }
}
