//! Running a worker on its core.

use super::{eal::Eal, error::DpdkError};
use std::{ffi::c_void, marker::PhantomData};

/// A function that runs on an lcore.
#[derive(Debug)]
pub struct LcoreHandle<'eal> {
    lcore: u32,
    eal: PhantomData<&'eal Eal>,
}

type Work = Box<dyn FnOnce() + Send>;

impl Eal {
    /// Runs `work` on a worker lcore that is free. A panic in it ends the process: a gateway that
    /// lost a worker must not look alive.
    pub fn launch(
        &self,
        lcore: u32,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<LcoreHandle<'_>, DpdkError> {
        if !self.worker_lcores().contains(&lcore) {
            let what = format!("worker on lcore {lcore}, which was not given to workers");
            return Err(DpdkError::returned("rte_eal_remote_launch", libc::EINVAL, what));
        }
        let work: Box<Work> = Box::new(Box::new(work));
        let argument = Box::into_raw(work).cast::<c_void>();
        // SAFETY: `run` takes the argument back as what it is, once: the call hands it to exactly
        // one lcore.
        let code = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), argument, lcore) };
        if code != 0 {
            // SAFETY: the call failed, so the argument was not taken and is still ours.
            drop(unsafe { Box::from_raw(argument.cast::<Work>()) });
            let what = format!("worker on lcore {lcore}");
            return Err(DpdkError::returned("rte_eal_remote_launch", code, what));
        }
        Ok(LcoreHandle { lcore, eal: PhantomData })
    }
}

impl Eal {
    /// Runs `work` on a worker lcore that is free, and waits for what it returns. Memory that it is the
    /// first to touch comes from that lcore's NUMA node.
    pub fn run_on<T: Send + 'static>(
        &self,
        lcore: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DpdkError> {
        let (tell, told) = std::sync::mpsc::channel();
        let work = move || {
            let _ = tell.send(work());
        };
        self.launch(lcore, work)?.join();
        told.recv().map_err(|_| {
            DpdkError::returned("rte_eal_wait_lcore", libc::EIO, format!("work on lcore {lcore}"))
        })
    }
}

impl LcoreHandle<'_> {
    /// Waits until the function has returned.
    pub fn join(self) {
        // SAFETY: the lcore exists; waiting for it, on the thread that launched it, is what the call
        // is for.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
    }
}

/// What an lcore calls. A panic cannot leave an `extern "C"` function: it aborts the process.
unsafe extern "C" fn run(argument: *mut c_void) -> i32 {
    // SAFETY: `launch` made the argument of a `Box<Work>` and gave it to this one call.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    wake_in_time();
    work();
    0
}

/// By default the kernel adds up to 50 µs to every sleep, to wake for several timers at once; a worker's
/// first sleeps are shorter than that.
fn wake_in_time() {
    const NANOSECOND: libc::c_ulong = 1;
    // SAFETY: changes a number of the calling thread; the unused arguments are zero, as prctl(2) wants.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, NANOSECOND, 0, 0, 0) };
}
