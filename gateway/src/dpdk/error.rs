//! Errors of DPDK calls.

use std::{ffi::CStr, fmt};

/// A DPDK call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkError {
    /// The C function.
    pub call: &'static str,
    /// Positive errno; 0 where the call gave none.
    pub errno: i32,
    /// What it was called for: a device, a pool, a core.
    pub what: String,
}

impl DpdkError {
    /// From a return value: DPDK returns `-errno`.
    pub(super) fn returned(call: &'static str, code: i32, what: impl Into<String>) -> Self {
        DpdkError { call, errno: code.saturating_abs(), what: what.into() }
    }

    /// From a call that says only that it failed; the reason is in `rte_errno`.
    pub(super) fn last(call: &'static str, what: impl Into<String>) -> Self {
        // SAFETY: reads this thread's rte_errno, a plain thread-local integer.
        let errno = unsafe { dpdk_sys::last_errno() };
        Self::returned(call, errno, what)
    }

    /// `Ok` for a return value that is not negative.
    pub(super) fn check(
        call: &'static str,
        code: i32,
        what: impl Into<String>,
    ) -> Result<(), Self> {
        if code < 0 { Err(Self::returned(call, code, what)) } else { Ok(()) }
    }
}

impl fmt::Display for DpdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed", self.what, self.call)?;
        if self.errno == 0 {
            return Ok(());
        }
        // SAFETY: takes any number.
        let text = unsafe { dpdk_sys::rte_strerror(self.errno) };
        // SAFETY: a NUL-terminated string, static or of this thread, copied before the next call.
        let text = unsafe { CStr::from_ptr(text) };
        write!(f, ": {} (errno {})", text.to_string_lossy(), self.errno)
    }
}

impl std::error::Error for DpdkError {}
