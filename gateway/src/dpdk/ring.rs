//! A bounded ring between two lcores: one sends, one receives, nobody waits.

use super::{eal::Eal, error::DpdkError, mbuf::Mbuf};
use arrayvec::ArrayVec;
use dpdk_sys::{RING_F_SC_DEQ, RING_F_SP_ENQ, rte_ring};
use std::{
    ffi::{CString, c_void},
    mem,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// The sending end; there is one.
#[derive(Debug)]
pub struct RingSender(Arc<Ring>);

/// The receiving end; there is one.
#[derive(Debug)]
pub struct RingReceiver(Arc<Ring>);

#[derive(Debug)]
struct Ring(NonNull<rte_ring>);

// SAFETY: a ring is made for one producer and one consumer on different threads, and there is one
// handle of each kind.
unsafe impl Send for Ring {}
// SAFETY: as above; the handles' `&mut self` methods touch one side of the ring each.
unsafe impl Sync for Ring {}

static NEXT_NAME: AtomicU32 = AtomicU32::new(0);

/// A ring with room for `size - 1` packets; `size` is a power of two.
pub fn ring(_eal: &Eal, size: u32, socket: i32) -> Result<(RingSender, RingReceiver), DpdkError> {
    let name = format!("egress{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed));
    let what = format!("ring of {size} packets");
    let Ok(c_name) = CString::new(name) else {
        return Err(DpdkError::returned("rte_ring_create", libc::EINVAL, what));
    };
    // SAFETY: the EAL runs (`_eal`) and the name is NUL-terminated; a wrong size gives NULL.
    let raw = unsafe {
        dpdk_sys::rte_ring_create(c_name.as_ptr(), size, socket, RING_F_SP_ENQ | RING_F_SC_DEQ)
    };
    let raw = NonNull::new(raw).ok_or_else(|| DpdkError::last("rte_ring_create", what))?;
    let ring = Arc::new(Ring(raw));
    Ok((RingSender(Arc::clone(&ring)), RingReceiver(ring)))
}

impl RingSender {
    /// Sends packets from the front of `burst`; what the ring had no room for stays in it.
    pub fn send<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        // SAFETY: the ring lives while `self` does, and `&mut` of the only sender makes this the only
        // producer. An `Mbuf` is a transparent wrapper of a pointer.
        let sent = unsafe {
            let packets = burst.as_mut_ptr().cast::<*mut c_void>();
            let (ring, n) = (self.0.0.as_ptr(), burst.len() as u32);
            dpdk_sys::rte_ring_enqueue_burst(ring, packets, n, ptr::null_mut())
        };
        // The ring owns these until they are received.
        burst.drain(..sent as usize).for_each(mem::forget);
        sent as usize
    }
}

impl RingReceiver {
    /// Adds packets to `burst`, up to its capacity. Returns how many.
    pub fn receive<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let (len, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: room slots are free behind the first len ones.
        let free = unsafe { burst.as_mut_ptr().add(len) };
        // SAFETY: as in `send`, for the only consumer; the call writes at most `room` pointers.
        let received = unsafe {
            let ring = self.0.0.as_ptr();
            dpdk_sys::rte_ring_dequeue_burst(ring, free.cast(), room as u32, ptr::null_mut())
        };
        // SAFETY: that many slots hold mbufs that were sent by `RingSender::send`, and are ours now.
        unsafe { burst.set_len(len + received as usize) };
        received as usize
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Packets that nobody will receive go back to their pool.
        loop {
            let mut packet: *mut c_void = ptr::null_mut();
            // SAFETY: both handles are gone, so this is the only user; room for one pointer.
            let received = unsafe {
                dpdk_sys::rte_ring_dequeue_burst(self.0.as_ptr(), &mut packet, 1, ptr::null_mut())
            };
            if received == 0 {
                break;
            }
            // SAFETY: the ring holds only mbufs that `send` gave up.
            drop(unsafe { Mbuf::from_raw(packet.cast()) });
        }
        // SAFETY: nobody else knows the ring.
        unsafe { dpdk_sys::rte_ring_free(self.0.as_ptr()) };
    }
}
