//! One metric with its samples, in the form that the encoder takes.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Collects the samples of one metric.
pub(super) struct Family {
    family: MetricFamily,
    metrics: Vec<Metric>,
}

impl Family {
    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(format!("egress_gateway_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Family { family, metrics: Vec::new() }
    }

    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let label = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(label).collect());
        if self.family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value as f64);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    pub(super) fn done(mut self) -> MetricFamily {
        self.family.set_metric(self.metrics);
        self.family
    }
}
