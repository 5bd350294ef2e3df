//! What the kernel tells of its work: time of a CPU, frames of two devices, sessions.

use crate::system::namespace::{EXTERNAL, Namespace, TUNNEL};
use anyhow::{Context, Result};
use std::fs;

/// Of `/proc/stat`: the kernel's USER_HZ, which is 100 on every architecture that DPDK knows.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Debug)]
pub(super) struct Sampler {
    core: usize,
    tsc_hz: u64,
    /// At the beginning.
    ticks: u64,
    packets: u64,
}

/// Since the beginning, but for the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) busy_cycles: u64,
    pub(super) packets: u64,
    pub(super) sessions: u64,
}

impl Sampler {
    pub(super) fn new(core: usize, tsc_hz: u64) -> Self {
        Sampler { core, tsc_hz, ticks: 0, packets: 0 }
    }

    pub(super) fn begin(&mut self, namespace: &Namespace) -> Result<()> {
        self.ticks = self.busy_ticks()?;
        self.packets = counters(namespace)?.0;
        Ok(())
    }

    pub(super) fn counted(&self, namespace: &Namespace) -> Result<Counted> {
        let ticks = self.busy_ticks()?.saturating_sub(self.ticks);
        let (packets, sessions) = counters(namespace)?;
        Ok(Counted {
            busy_cycles: ticks * (self.tsc_hz / TICKS_PER_SECOND),
            packets: packets.saturating_sub(self.packets),
            sessions,
        })
    }

    fn busy_ticks(&self) -> Result<u64> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        busy(&text, self.core).with_context(|| format!("CPU {} in /proc/stat", self.core))
    }
}

/// Frames that came in from both sides, and sessions.
fn counters(namespace: &Namespace) -> Result<(u64, u64)> {
    let text = namespace.run(&format!(
        "cat /sys/class/net/{TUNNEL}/statistics/rx_packets
cat /sys/class/net/{EXTERNAL}/statistics/rx_packets
cat /proc/sys/net/netfilter/nf_conntrack_count"
    ))?;
    let numbers: Vec<u64> =
        text.lines().map(str::parse).collect::<Result<_, _>>().with_context(|| text.clone())?;
    match numbers.as_slice() {
        [tunnel, external, sessions] => Ok((tunnel + external, *sessions)),
        _ => anyhow::bail!("three numbers expected: {text:?}"),
    }
}

/// Ticks in which the CPU was neither idle nor waiting for a disk. Guests' time is in `user` already.
fn busy(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(name.as_str()))?;
    let ticks: Vec<u64> =
        line.split(' ').skip(1).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    // user nice system idle iowait irq softirq steal
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks.as_slice() else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 20 30 40 50 60 70 80 0 0\n\
                        cpu1 1 2 3 1000 500 6 7 8 0 0\n\
                        cpu10 100 0 0 5 0 0 0 0 0 0\n\
                        cpu11 1 2\n\
                        intr 1 2 3\n";

    #[test]
    fn idle_time_is_not_work() {
        assert_eq!(busy(STAT, 1), Some(19));
        assert_eq!(busy(STAT, 10), Some(100));
        assert_eq!(busy(STAT, 11), None, "too short");
        assert_eq!(busy(STAT, 0), None, "the sum of all is not CPU 0");
    }
}
