//! Pools of packet buffers.

use super::{eal::Eal, error::DpdkError, mbuf::Mbuf};
use dpdk_sys::rte_mempool;
use std::{
    ffi::CString,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

/// A pool of mbufs. It lives as long as the process, so the handle can be copied freely.
#[derive(Clone, Copy, Debug)]
pub struct Mempool(NonNull<rte_mempool>);

// SAFETY: rte_mempool is made for use by several threads at once (multi-producer, multi-consumer, with
// a cache per lcore), and the handle only leads to such calls.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// Buffers that each lcore keeps for itself.
const CACHE: u32 = 256;
static NEXT_NAME: AtomicU32 = AtomicU32::new(0);

impl Mempool {
    /// A pool of `buffers` buffers, each with room for `data_room` bytes behind the usual headroom
    /// (128 bytes), on the NUMA node `socket` (-1: any). A power of two minus one wastes no memory.
    pub fn new(_eal: &Eal, buffers: u32, data_room: u16, socket: i32) -> Result<Self, DpdkError> {
        let name = format!("egress{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed));
        let what = format!("pool of {buffers} packet buffers of {data_room} bytes");
        let Ok(c_name) = CString::new(name) else {
            return Err(DpdkError::returned("rte_pktmbuf_pool_create", libc::EINVAL, what));
        };
        let room = data_room.saturating_add(dpdk_sys::RTE_PKTMBUF_HEADROOM as u16);
        // SAFETY: the EAL runs (`_eal`), the name is NUL-terminated and copied by the call; a size
        // that cannot be had is answered with NULL.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), buffers, CACHE, 0, room, socket)
        };
        NonNull::new(pool)
            .map(Mempool)
            .ok_or_else(|| DpdkError::last("rte_pktmbuf_pool_create", what))
    }

    /// An empty packet; `None` when the pool is.
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is valid for the whole process.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_alloc(self.0.as_ptr()) };
        // SAFETY: NULL, or an mbuf that is ours alone, with one segment of length 0.
        unsafe { Mbuf::from_raw(raw) }
    }

    /// Buffers that are not in use; exact while no packet moves.
    pub fn available(&self) -> u32 {
        // SAFETY: reads the counts of a pool that is valid for the whole process.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.0.as_ptr()) }
    }

    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.0.as_ptr()
    }
}
