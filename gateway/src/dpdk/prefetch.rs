//! The CPU hint that hides a cache miss behind other packets' work.

#![allow(unsafe_code)]

/// Asks for the cache line of `value` to be loaded for reading and writing soon.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetch is a hint that never faults and changes no memory, whatever the address;
    // this one comes from a reference, and every x86-64 CPU has SSE.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
