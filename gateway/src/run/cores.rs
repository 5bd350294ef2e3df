//! CPUs: which ones workers have, and which are left for everything else.

use super::{devices::is_pci, ports};
use crate::{config::Config, dpdk::EalOptions};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeSet, fs};

/// Which CPUs workers have, and which are left for everything else.
pub(super) struct Cores {
    workers: Vec<usize>,
    control: Vec<usize>,
}

impl Cores {
    pub(super) fn of(config: &Config) -> Result<Self> {
        let allowed = allowed_cpus().context("cannot read which CPUs this process may use")?;
        let workers: Vec<usize> = config.workers.cores.iter().copied().map(usize::from).collect();
        if let Some(missing) = workers.iter().find(|core| !allowed.contains(core)) {
            bail!("workers.cores: CPU {missing} is not one this process may use ({allowed:?})");
        }
        // On a machine with no CPU to spare the control side shares the workers' ones.
        let control = allowed.iter().copied().filter(|core| !workers.contains(core)).collect();
        Ok(Cores { workers, control })
    }

    /// The CPU of each worker.
    pub(super) fn workers(&self) -> &[usize] {
        &self.workers
    }

    pub(super) fn eal_options(&self, config: &Config) -> EalOptions {
        let devices = [&config.tunnel.port.device, &config.external.port.device];
        let pci = devices.into_iter().filter(|device| is_pci(device)).cloned().collect();
        EalOptions {
            worker_cores: self.workers.clone(),
            control_cores: self.control.clone(),
            hugepages: config.eal.hugepages,
            memory_mib: ports::memory_mib(config),
            pci_devices: pci,
            extra_args: config.eal.extra_args.clone(),
        }
    }
}

/// From `Cpus_allowed_list: 0-3,8` of this thread's status.
fn allowed_cpus() -> Result<BTreeSet<usize>> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .context("no Cpus_allowed_list in /proc/thread-self/status")?;
    let mut cpus = BTreeSet::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}
