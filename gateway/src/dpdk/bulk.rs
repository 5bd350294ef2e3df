//! Many packet buffers at once, for programs that make and throw away packets: traffic generators.

use super::{mbuf::Mbuf, mempool::Mempool};
use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

impl Mempool {
    /// Adds `count` empty packets to `burst`, as far as it has room; false, and no change, when the pool has
    /// not so many.
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, burst: &mut ArrayVec<Mbuf, N>, count: usize) -> bool {
        let (len, count) = (burst.len(), count.min(burst.remaining_capacity()));
        // SAFETY: count slots are free behind the first len ones.
        let free = unsafe { burst.as_mut_ptr().add(len) }.cast::<*mut rte_mbuf>();
        // SAFETY: the pool is valid for the whole process. The call writes count pointers, or none;
        // `Mbuf` is a transparent wrapper of such a pointer.
        let code = unsafe { dpdk_sys::rte_pktmbuf_alloc_bulk(self.as_ptr(), free, count as u32) };
        if code != 0 {
            return false;
        }
        // SAFETY: that many slots hold mbufs that are ours alone, with one segment of length 0.
        unsafe { burst.set_len(len + count) };
        true
    }
}

impl Mbuf {
    /// Gives all packets of `burst` back to their pool.
    #[inline]
    pub fn free_bulk<const N: usize>(burst: &mut ArrayVec<Mbuf, N>) {
        let (packets, count) = (burst.as_mut_ptr().cast::<*mut rte_mbuf>(), burst.len());
        // SAFETY: nothing is moved by making it shorter; what was in it is freed by the next line only.
        unsafe { burst.set_len(0) };
        // SAFETY: count mbufs that are ours, so in no queue; their pool lives as long as the process.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(packets, count as u32) };
    }
}
