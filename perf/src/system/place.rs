//! Which CPU is whose, and where memory comes from.

use crate::machine;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Where a system runs.
///
/// | CPU | what runs there |
/// |---|---|
/// | `cores` | the system's workers; what the kernel does for frames that come to it by veth |
/// | `generator_core` | the generator; what the kernel does for frames on their way back to it by veth |
/// | all but `generator_core` | the rest of the system's threads, which mostly sleep |
///
/// What a sender's system call does is on the sender's CPU. One thing cannot be placed: the kernel runs
/// the XDP program of a veth on the CPU of who sends, so that with af_xdp the generator's CPU does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// One for each worker; systems that have one worker take the first.
    pub cores: Vec<usize>,
    pub generator_core: usize,
    /// Whether DPDK may have hugepages: see [`super::hugepages`].
    pub hugepages: bool,
    /// Of the time stamp counter, to tell the kernel's CPU time in cycles; 0 where it is not known.
    pub tsc_hz: u64,
}

impl Place {
    /// The CPU of the first worker.
    pub(super) fn core(&self) -> Result<usize> {
        self.cores.first().copied().context("no CPU for the system")
    }

    /// CPUs that are not the generator's, of those that this process may use.
    pub(super) fn others(&self) -> Result<Vec<usize>> {
        let allowed = machine::cpus().context("sched_getaffinity")?;
        if let Some(core) = self.cores.iter().find(|core| !allowed.contains(core)) {
            anyhow::bail!("CPU {core} is not one that this process may use");
        }
        ensure!(
            !self.cores.contains(&self.generator_core),
            "CPU {} is the generator's: a system needs another",
            self.generator_core
        );
        Ok(allowed.into_iter().filter(|core| *core != self.generator_core).collect())
    }

    /// Begins a command on all CPUs but the generator's; its words are still to come.
    pub(super) fn command(&self) -> Result<Command> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &list(&self.others()?)]);
        Ok(command)
    }

    /// DPDK's words for one lcore on the first CPU, and everything else beside the generator's.
    pub(super) fn eal_arguments(&self, memory_mib: u32) -> Result<Vec<String>> {
        let lcores = format!("0@({}),1@{}", list(&self.others()?), self.core()?);
        let mut words: Vec<String> = vec!["--lcores".to_owned(), lcores];
        words.extend(["--no-pci", "--no-telemetry"].map(str::to_owned));
        if self.hugepages {
            words.push("--in-memory".to_owned());
        } else {
            words.extend(["--no-huge", "--no-shconf", "-m"].map(str::to_owned));
            words.push(memory_mib.to_string());
        }
        Ok(words)
    }
}

/// `1,2,3`
pub(super) fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// CPUs as the kernel writes their sets: groups of 32 in hexadecimal, the highest first.
pub(super) fn mask(cores: &[usize]) -> String {
    let highest = cores.iter().max().map_or(0, |core| core / 32);
    let group = |number: usize| {
        let bits = cores.iter().filter(|core| **core / 32 == number);
        format!("{:08x}", bits.fold(0u32, |mask, core| mask | 1 << (core % 32)))
    };
    (0..=highest).rev().map(group).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(cores: &[usize], generator_core: usize) -> Place {
        Place { cores: cores.to_vec(), generator_core, hugepages: true, tsc_hz: 0 }
    }

    #[test]
    fn masks_are_as_the_kernel_writes_them() {
        assert_eq!(mask(&[0]), "00000001");
        assert_eq!(mask(&[1, 3, 31]), "8000000a");
        assert_eq!(mask(&[0, 33, 64]), "00000001,00000002,00000001");
    }

    #[test]
    fn a_system_is_kept_off_the_generators_cpu() {
        let first = machine::cpus().unwrap()[0];
        let error = place(&[first], first).others().unwrap_err().to_string();
        assert!(error.contains("the generator's"), "{error}");
        let error = place(&[1023], first).command().unwrap_err().to_string();
        assert!(error.contains("CPU 1023"), "{error}");
        let others = place(&[], first).others().unwrap();
        assert!(!others.contains(&first), "{others:?}");
    }
}
