//! Hugepages for DPDK and session tables. The pool belongs to the whole machine, so only an allowance is
//! lent: surplus pages, which the kernel makes when they are mapped and takes back when their process
//! ends. Nothing that others have reserved is touched.

use super::keeper::Keeper;
use anyhow::{Context, Result, bail};
use std::fs;

const SURPLUS: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const PAGE_KIB: u64 = 2048;
/// What systems and generator need with small tables, in pages.
const LEAST: u64 = 1024;

/// Lent as long as it is held, and no longer than this process lives.
#[derive(Debug)]
pub struct Hugepages {
    _keeper: Keeper,
}

impl Hugepages {
    /// Allows pages of 2 MiB up to three quarters of the memory that is free. An upper bound: nothing is
    /// reserved by it.
    ///
    /// # Errors
    /// Where that cannot be: the message says what to do. Then [`super::Place::hugepages`] is to be false.
    pub fn allow() -> Result<Self> {
        let mut keeper = Keeper::start()?;
        let added = available_kib()? * 3 / 4 / PAGE_KIB;
        if added + number(FREE)? < LEAST {
            bail!("there is not enough free memory for {LEAST} hugepages of 2 MiB: end something");
        }
        let before = number(SURPLUS)?;
        // Others may have changed it meanwhile.
        keeper.finally(&format!(
            "left=$(($(cat {SURPLUS}) - {added})); [ $left -ge 0 ] || left=0; echo $left > {SURPLUS}"
        ))?;
        fs::write(SURPLUS, (before + added).to_string()).with_context(|| {
            format!("{SURPLUS} cannot be written: be root, or go without hugepages")
        })?;
        Ok(Hugepages { _keeper: keeper })
    }
}

fn number(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("{path}: this kernel has no hugepages of 2 MiB"))?;
    text.trim().parse().with_context(|| format!("{path} holds {text:?}"))
}

fn available_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let line = line.context("/proc/meminfo without MemAvailable")?;
    line.trim().trim_end_matches(" kB").parse().context("MemAvailable")
}
