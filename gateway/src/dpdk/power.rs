//! Waiting for packets with little power: by the CPU's own instructions where it has them.
//!
//! UMWAIT and TPAUSE come with WAITPKG (Intel from Tremont and Sapphire Rapids on; hypervisors often
//! hide it), and waiting on a queue wants a driver that says which address its NIC will write to. Two
//! queues at once want RTM besides. Tested without: the choice, and that the sleep is taken. Not run on
//! a CPU that has them.

use super::queue::RxQueue;
use crate::datapath::idle::WaitBy;
use dpdk_sys::{rte_cpu_intrinsics, rte_power_monitor_cond};
use std::{mem, thread, time::Duration};

/// Ports of a worker.
const QUEUES: usize = 2;

/// The best that this CPU and the drivers of these queues can do.
pub(super) fn way(queues: [&RxQueue; QUEUES]) -> WaitBy {
    let mut cpu = rte_cpu_intrinsics::default();
    // SAFETY: writes three bits of a structure that is ours.
    unsafe { dpdk_sys::rte_cpu_get_intrinsics_support(&mut cpu) };
    choose(&cpu, conditions(queues).is_some())
}

fn choose(cpu: &rte_cpu_intrinsics, queues_have_addresses: bool) -> WaitBy {
    if queues_have_addresses && cpu.power_monitor_multi() != 0 {
        WaitBy::Monitor
    } else if cpu.power_pause() != 0 {
        WaitBy::Pause
    } else {
        WaitBy::Sleep
    }
}

/// Waits until one of the queues is written to (only [`WaitBy::Monitor`] sees that) or the time is over.
/// The CPU may end its own ways earlier: the kernel limits them (`umwait_control`), 40 µs by default.
pub(super) fn wait(by: WaitBy, queues: [&RxQueue; QUEUES], at_most: Duration) {
    let code = match (by, conditions(queues)) {
        (WaitBy::Monitor, Some(mut conditions)) => {
            let (conditions, count) = (conditions.as_mut_ptr(), QUEUES as u32);
            // SAFETY: as many conditions as said, made by the drivers of queues that are open.
            unsafe { dpdk_sys::rte_power_monitor_multi(conditions, count, tsc_after(at_most)) }
        }
        // SAFETY: takes a number; `way` saw that the CPU has the instruction.
        (WaitBy::Pause, _) => unsafe { dpdk_sys::rte_power_pause(tsc_after(at_most)) },
        (WaitBy::Monitor | WaitBy::Sleep, _) => -libc::ENOTSUP,
    };
    if code != 0 {
        thread::sleep(at_most);
    }
}

/// What to look at for each queue; `None` where a driver does not say.
fn conditions(queues: [&RxQueue; QUEUES]) -> Option<[rte_power_monitor_cond; QUEUES]> {
    // SAFETY: all fields are numbers, pointers or optional functions, for which zero is valid.
    let mut conditions: [rte_power_monitor_cond; QUEUES] = unsafe { mem::zeroed() };
    for (queue, condition) in queues.iter().zip(&mut conditions) {
        let (port, queue) = queue.ids();
        // SAFETY: the port is open and has the queue (`RxQueue`), which only its holder polls; the
        // condition is ours to be written.
        let code = unsafe { dpdk_sys::rte_eth_get_monitor_addr(port, queue, condition) };
        if code != 0 {
            return None;
        }
    }
    Some(conditions)
}

/// The time stamp counter when that time will have passed.
fn tsc_after(duration: Duration) -> u64 {
    // SAFETY: reads a counter.
    let now = unsafe { dpdk_sys::rte_rdtsc() };
    // SAFETY: reads a number that rte_eal_init measured; there are queues, so it has run.
    let hz = unsafe { dpdk_sys::rte_get_tsc_hz() };
    now.wrapping_add(hz / 1_000_000 * duration.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_that_cpu_and_drivers_have_is_taken() {
        for (multi, pause, addresses, way) in [
            (1, 1, true, WaitBy::Monitor),
            (1, 1, false, WaitBy::Pause),
            (0, 1, true, WaitBy::Pause),
            (0, 0, true, WaitBy::Sleep),
            (0, 0, false, WaitBy::Sleep),
        ] {
            let mut cpu = rte_cpu_intrinsics::default();
            cpu.set_power_monitor_multi(multi);
            cpu.set_power_pause(pause);
            assert_eq!(choose(&cpu, addresses), way);
        }
    }
}
