//! The time stamp counter: what cycles are counted with.

#![allow(unsafe_code)]

/// Cycles of the time stamp counter since some moment. It runs at one rate whatever the core's
/// frequency; see `constant_tsc` in `/proc/cpuinfo`. 0 on CPUs other than x86-64.
#[inline(always)]
pub fn cycles() -> u64 {
    fence();
    unfenced_cycles()
}

/// [`cycles`] without waiting for what the core still has in work: for time that is to be divided, not
/// measured.
#[inline(always)]
pub fn unfenced_cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 CPU has the counter.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[inline(always)]
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE2's fence.
    unsafe {
        std::arch::x86_64::_mm_lfence()
    };
}
