//! The environment abstraction layer: started once per process, never stopped.

use super::error::DpdkError;
use std::{
    ffi::{CStr, CString},
    fmt::Write as _,
    fs,
    marker::PhantomData,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// Proof that the EAL runs. Not `Send`: ports and pools are made on the thread that started it.
#[derive(Debug)]
pub struct Eal {
    worker_lcores: Vec<u32>,
    not_send: PhantomData<*const ()>,
}

/// How the EAL is to be started.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// One lcore is pinned to each; ids are 1, 2, … in this order. A core that is named twice is shared:
    /// for tests, which may want more workers than there are CPUs.
    pub worker_cores: Vec<usize>,
    /// Where everything else runs: lcore 0, and threads that it starts. Empty: wherever the process
    /// may run.
    pub control_cores: Vec<usize>,
    pub hugepages: bool,
    /// MiB, taken at start where there are no hugepages; with hugepages memory grows on demand.
    pub memory_mib: u32,
    /// PCI devices that this process may touch; all others are left alone.
    pub pci_devices: Vec<String>,
    pub extra_args: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> Self {
        EalOptions {
            worker_cores: Vec::new(),
            control_cores: Vec::new(),
            hugepages: true,
            memory_mib: 512,
            pci_devices: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts the EAL. A second call in one process is an error, whatever became of the first: DPDK
    /// cannot be started anew.
    pub fn start(options: &EalOptions) -> Result<Self, DpdkError> {
        if options.hugepages {
            hugepages_are_there()?;
        }
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(DpdkError::returned("rte_eal_init", libc::EALREADY, "EAL"));
        }
        let args = options.arguments();
        let words: Vec<CString> = args
            .iter()
            .map(|word| CString::new(word.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_| {
                DpdkError::returned("rte_eal_init", libc::EINVAL, "EAL arguments with a NUL byte")
            })?;
        // DPDK permutes the array and keeps pointers into it, so it lives as long as the process.
        let argv: &'static mut [*mut libc::c_char] =
            Box::leak(words.into_iter().map(CString::into_raw).collect());
        // SAFETY: argv holds argv.len() NUL-terminated strings which are never freed; no other
        // thread of this process is inside DPDK, because nothing of it can be reached before.
        let code = unsafe { dpdk_sys::rte_eal_init(argv.len() as i32, argv.as_mut_ptr()) };
        if code < 0 {
            return Err(DpdkError::last("rte_eal_init", format!("EAL ({})", args[1..].join(" "))));
        }
        let worker_lcores = (1..=options.worker_cores.len() as u32).collect();
        Ok(Eal { worker_lcores, not_send: PhantomData })
    }

    /// The lcores of [`EalOptions::worker_cores`], in their order.
    pub fn worker_lcores(&self) -> &[u32] {
        &self.worker_lcores
    }
}

impl EalOptions {
    fn arguments(&self) -> Vec<String> {
        let mut args = vec!["egress-gateway".to_owned()];
        args.extend(["--lcores".to_owned(), self.lcores()]);
        // No files in /dev/hugepages and /run/dpdk: nothing is left behind, however the process ends.
        // DPDK refuses --in-memory beside --no-huge, whose only file would be the shared config.
        if self.hugepages {
            args.push("--in-memory".to_owned());
        } else {
            args.extend(["--no-huge", "--no-shconf", "-m"].map(str::to_owned));
            args.push(self.memory_mib.to_string());
        }
        if self.pci_devices.is_empty() {
            args.push("--no-pci".to_owned());
        }
        for device in &self.pci_devices {
            args.extend(["-a".to_owned(), device.clone()]);
        }
        args.push("--no-telemetry".to_owned());
        args.extend(self.extra_args.iter().cloned());
        args
    }

    /// `0@(0,1),1@2,2@3`: lcore 0 on the control cores, lcore n on the n-th worker core.
    fn lcores(&self) -> String {
        let mut map = match self.control_cores.as_slice() {
            [] => "0".to_owned(),
            cores => {
                let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
                format!("0@({})", cores.join(","))
            }
        };
        for (i, core) in self.worker_cores.iter().enumerate() {
            let _ = write!(map, ",{}@{core}", i + 1);
        }
        map
    }
}

/// DPDK's own message for missing hugepages is a page of log; this one says what to do.
fn hugepages_are_there() -> Result<(), DpdkError> {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let free = sizes.map(|size| free_pages(&size.path())).sum::<u64>();
    if free > 0 {
        return Ok(());
    }
    let what = "no free hugepages (reserve some: echo 512 > \
                /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages, or set \
                [eal] hugepages = false, which is slower)";
    Err(DpdkError::returned("rte_eal_init", libc::ENOMEM, what))
}

/// Free pages of one size, and those that the kernel would add on demand.
fn free_pages(size: &Path) -> u64 {
    let read = |file: &str| -> u64 {
        fs::read_to_string(size.join(file)).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
    };
    let on_demand = read("nr_overcommit_hugepages").saturating_sub(read("surplus_hugepages"));
    read("free_hugepages") + on_demand
}

/// The DPDK that runs, e.g. `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: needs no EAL.
    let text = unsafe { dpdk_sys::rte_version() };
    // SAFETY: a static NUL-terminated string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Ticks of the time stamp counter per second.
pub fn tsc_hz(_eal: &Eal) -> u64 {
    // SAFETY: reads a number that rte_eal_init measured; `_eal` proves that it has.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lcores_are_mapped_and_devices_kept_to_those_named() {
        let options = EalOptions {
            worker_cores: vec![2, 5],
            control_cores: vec![0, 1],
            hugepages: false,
            pci_devices: vec!["0000:01:00.0".to_owned()],
            extra_args: vec!["--log-level=8".to_owned()],
            ..EalOptions::default()
        };
        let line = options.arguments().join(" ");
        assert_eq!(
            line,
            "egress-gateway --lcores 0@(0,1),1@2,2@5 --no-huge --no-shconf -m 512 \
             -a 0000:01:00.0 --no-telemetry --log-level=8"
        );
    }
}
