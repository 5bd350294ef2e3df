//! Receive and transmit queues: bursts in and out.

use super::{mbuf::Mbuf, port::OpenPort};
use dpdk_sys::rte_mbuf;
use std::{mem, sync::Arc};

/// One receive queue. There is one handle per queue, and only its holder polls.
#[derive(Debug)]
pub struct RxQueue {
    port: Arc<OpenPort>,
    queue: u16,
}

/// One transmit queue.
#[derive(Debug)]
pub struct TxQueue {
    port: Arc<OpenPort>,
    queue: u16,
}

impl RxQueue {
    pub(super) fn new(port: Arc<OpenPort>, queue: u16) -> Self {
        RxQueue { port, queue }
    }

    /// Of the port and of the queue.
    pub(super) fn ids(&self) -> (u16, u16) {
        (self.port.id(), self.queue)
    }

    /// Adds received packets to `burst`, up to its capacity. Returns how many.
    #[inline]
    pub fn rx<const N: usize>(&mut self, burst: &mut arrayvec::ArrayVec<Mbuf, N>) -> usize {
        let (len, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: room slots are free behind the first len ones.
        let free = unsafe { burst.as_mut_ptr().add(len) };
        // SAFETY: the port is started (`OpenPort`) and this is the only handle of its queue. The call
        // writes at most `room` pointers; `Mbuf` is a transparent wrapper of such a pointer.
        let received = unsafe {
            let packets = free.cast::<*mut rte_mbuf>();
            dpdk_sys::rte_eth_rx_burst(self.port.id(), self.queue, packets, room as u16)
        };
        // SAFETY: the driver filled that many slots with mbufs that are ours.
        unsafe { burst.set_len(len + usize::from(received)) };
        usize::from(received)
    }
}

impl TxQueue {
    pub(super) fn new(port: Arc<OpenPort>, queue: u16) -> Self {
        TxQueue { port, queue }
    }

    /// Sends packets from the front of `burst`; what the queue had no room for stays in it.
    #[inline]
    pub fn tx<const N: usize>(&mut self, burst: &mut arrayvec::ArrayVec<Mbuf, N>) -> usize {
        // SAFETY: as in `rx`; the slice holds len mbufs that are ours.
        let sent = unsafe {
            let packets = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
            dpdk_sys::rte_eth_tx_burst(self.port.id(), self.queue, packets, burst.len() as u16)
        };
        // The driver owns these now and frees them when they are on the wire.
        burst.drain(..usize::from(sent)).for_each(mem::forget);
        usize::from(sent)
    }
}
