//! What a run was measured on.

use crate::result::Machine;
use gateway::tsc::cycles;
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// CPUs that this process may use.
pub fn cpus() -> nix::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// How long the time stamp counter is compared with the clock.
const COMPARED: Duration = Duration::from_millis(100);

/// Cycles of the time stamp counter per second, against the monotonic clock; 0 where there is no counter.
pub fn tsc_hz() -> u64 {
    let (began, before) = (Instant::now(), cycles());
    thread::sleep(COMPARED);
    let (took, after) = (began.elapsed(), cycles());
    (after.wrapping_sub(before) as f64 / took.as_secs_f64()) as u64
}

/// This machine, where the program was called with these arguments.
pub fn this(arguments: impl Iterator<Item = String>, tsc_hz: u64) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let release = read("/proc/sys/kernel/osrelease");
    Machine {
        cpu: cpu(&cpuinfo).unwrap_or("unknown").to_owned(),
        cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        tsc_hz,
        cpu_distance_cycles: None,
        memory_gib: memory_gib(&read("/proc/meminfo")),
        kernel: format!("Linux {}", release.trim()),
        hypervisor: hypervisor(&cpuinfo, &read("/sys/class/dmi/id/sys_vendor")),
        dpdk: gateway::dpdk::version(),
        egress_perf: env!("CARGO_PKG_VERSION").to_owned(),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        command: std::iter::once("egress-perf".to_owned()).chain(arguments).collect(),
    }
}

/// Of the first CPU: `model name : …`.
fn cpu(cpuinfo: &str) -> Option<&str> {
    field(cpuinfo, "model name")
}

/// Rounded: the kernel keeps some for itself.
fn memory_gib(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal").and_then(|value| value.strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    (kib + (1 << 19)) >> 20
}

/// The CPU says whether there is one, the firmware often which.
fn hypervisor(cpuinfo: &str, vendor: &str) -> Option<String> {
    let flags = field(cpuinfo, "flags")?;
    let is_virtual = flags.split_whitespace().any(|flag| flag == "hypervisor");
    is_virtual.then(|| match vendor.trim() {
        "" => "unknown".to_owned(),
        vendor => vendor.to_owned(),
    })
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str =
        "processor\t: 0\nmodel name\t: A CPU @ 2.3GHz\nflags\t\t: fpu hypervisor\n";

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(cpu(CPUINFO), Some("A CPU @ 2.3GHz"));
        assert_eq!(memory_gib("MemTotal:       24605508 kB\n"), 23);
        assert_eq!(memory_gib(""), 0);
        for (cpuinfo, vendor, expected) in [
            (CPUINFO, "QEMU\n", Some("QEMU")),
            (CPUINFO, "", Some("unknown")),
            ("flags : fpu sse\n", "Some Vendor\n", None),
        ] {
            assert_eq!(hypervisor(cpuinfo, vendor).as_deref(), expected, "{cpuinfo} {vendor}");
        }
    }

    #[test]
    fn this_machine_has_what_a_reader_asks_first() {
        let machine = this(["list".to_owned()].into_iter(), tsc_hz());
        assert!(machine.cpus > 0 && machine.memory_gib > 0, "{machine:?}");
        // No CPU that runs DPDK is slower or faster than this.
        assert!((100_000_000..10_000_000_000).contains(&machine.tsc_hz), "{machine:?}");
        assert!(machine.dpdk.starts_with("DPDK"), "{machine:?}");
        assert!(humantime::parse_rfc3339(&machine.date).is_ok(), "{machine:?}");
    }
}
