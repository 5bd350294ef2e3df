//! What became of the policy sets that were sent, and how long they took.

use crate::control::{Applied, ApplyError};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use std::time::{Duration, SystemTime};

/// A reload waits for the disk and for workers, so the buckets end at its time limits.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0];

#[derive(Debug)]
pub(super) struct Reloads {
    results: IntCounterVec,
    duration: Histogram,
    last_successful: IntGauge,
    last_success: Gauge,
}

impl Reloads {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let results = Opts::new(
            "egress_gateway_policy_reloads_total",
            "Policy sets sent to this gateway, by what became of them. applied: every worker runs \
             it; refused: not valid or outdated; failed: not kept on disk, or not run by every worker.",
        );
        let duration = HistogramOpts::new(
            "egress_gateway_policy_reload_duration_seconds",
            "Time from reading a policy set to the moment when every worker runs it.",
        );
        let reloads = Reloads {
            results: IntCounterVec::new(results, &["result"])?,
            duration: Histogram::with_opts(duration.buckets(SECONDS.to_vec()))?,
            last_successful: IntGauge::new(
                "egress_gateway_policy_last_reload_successful",
                "0 when the policy set that was sent last was refused or failed, else 1. Sets that were \
                 only outdated do not count.",
            )?,
            last_success: Gauge::new(
                "egress_gateway_policy_last_reload_success_timestamp_seconds",
                "When a policy set last came into force, in seconds since 1970; 0 before the first.",
            )?,
        };
        reloads.last_successful.set(1);
        for result in ["applied", "refused", "failed"] {
            reloads.results.with_label_values(&[result]);
        }
        registry.register(Box::new(reloads.results.clone()))?;
        registry.register(Box::new(reloads.duration.clone()))?;
        registry.register(Box::new(reloads.last_successful.clone()))?;
        registry.register(Box::new(reloads.last_success.clone()))?;
        Ok(reloads)
    }

    pub(super) fn reloaded(&self, result: &Result<Applied, ApplyError>, duration: Duration) {
        let label = match result {
            Ok(_) => "applied",
            Err(ApplyError::Load(_) | ApplyError::Outdated { .. }) => "refused",
            Err(ApplyError::Store(_) | ApplyError::Unacknowledged { .. }) => "failed",
        };
        self.results.with_label_values(&[label]).inc();
        match result {
            Ok(_) => {
                self.duration.observe(duration.as_secs_f64());
                self.succeeded();
            }
            // Whoever was overtaken has to read again; what is in force is what somebody wanted.
            Err(ApplyError::Outdated { .. }) => {}
            Err(_) => self.last_successful.set(0),
        }
    }

    /// A set came into force now.
    pub(super) fn succeeded(&self) {
        self.last_successful.set(1);
        // A clock before 1970 is no time to tell.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(since.as_secs_f64());
    }
}
