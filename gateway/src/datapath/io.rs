//! How packets come and go: DPDK ports in the product, memory in tests.

use crate::{prefetch::prefetch_to_write, verdict::Side};
use arrayvec::ArrayVec;
use std::ops::Range;

/// Packets that go through the stages together. 32 misses in flight is about what a core sustains.
pub const BURST: usize = 32;
pub type Burst<B> = ArrayVec<B, BURST>;

/// One packet's buffer: owned, contiguous bytes with room in front.
pub trait PacketBuf {
    fn data(&self) -> &[u8];

    fn data_mut(&mut self) -> &mut [u8];

    /// Starts loading what is kept of the buffer beside its data. A driver has just written it; another
    /// worker has it in another core's cache.
    fn prefetch_buffer(&self);

    /// Starts loading what a packet received at `side` will soon need of its buffer.
    fn prefetch(&self, side: Side);

    /// Starts loading the line before the packet's first, where tunnel headers will be.
    fn prefetch_room(&self);

    /// False when more of the packet is in further buffers; `data` is the first of them.
    fn is_contiguous(&self) -> bool;

    /// Adds `len` bytes in front, of any content; false, and no change, where there is no room.
    #[must_use]
    fn prepend(&mut self, len: usize) -> bool;

    /// Keeps these bytes of the packet, as far as they are there.
    fn keep(&mut self, range: Range<usize>);

    /// Makes the packet `bytes`; false, and no change, where it has no room for them.
    #[must_use]
    fn fill(&mut self, bytes: &[u8]) -> bool;
}

const LINE: usize = 64;

/// Starts loading the cache lines that are read of a packet whose data begins at `start`: from the tunnel
/// those of the outer and the inner headers; from the world one. All will be written, for a translation
/// changes them.
#[inline(always)]
pub fn prefetch_headers(start: *const u8, side: Side) {
    prefetch_to_write(start);
    if side == Side::Tunnel {
        prefetch_to_write(start.wrapping_add(LINE));
    }
}

/// [`PacketBuf::prefetch_room`] for data that begins at `start`.
#[inline(always)]
pub fn prefetch_room(start: *const u8) {
    prefetch_to_write(start.wrapping_sub(LINE));
}

/// The two ports as one worker sees them.
pub trait PacketIo {
    type Buf: PacketBuf;

    /// Adds received packets to `burst`, up to its capacity.
    fn rx(&mut self, side: Side, burst: &mut Burst<Self::Buf>);

    /// Takes packets from the front of `burst`; what the port had no room for stays in it.
    fn tx(&mut self, side: Side, burst: &mut Burst<Self::Buf>);

    /// An empty packet; `None` when the pool is.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// A port as the control side sees it: readable from any thread, beside the polling workers.
pub trait PortWatch: Send + Sync + std::fmt::Debug {
    fn stats(&self) -> PortStats;

    /// Whether the link is up, as the driver knows it.
    fn link_is_up(&self) -> bool;
}

/// The device's own counters since start, all queues together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Dropped by the device because no worker fetched them in time.
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Receive buffers that the pool did not have.
    pub rx_no_buffer: u64,
}
