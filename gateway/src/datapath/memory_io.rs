//! The in-memory double of the two ports: runs the real worker without DPDK, in tests and benches.
//!
//! A packet is laid out as an mbuf is, bookkeeping on one cache line and the data behind it, and
//! comes from a pool that takes it back, so that a worker on this double touches memory as it would on
//! real ports and allocates only what it allocates itself.

use super::io::{Burst, PacketBuf, PacketIo, prefetch_headers, prefetch_room};
use crate::{prefetch::prefetch, verdict::Side};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// As DPDK's usual buffers: 128 bytes in front, 2048 behind.
const HEADROOM: usize = 128;
const SIZE: usize = HEADROOM + 2048;

#[derive(Debug)]
#[repr(C, align(64))]
struct Buffer {
    start: u16,
    contiguous: bool,
    existing: Arc<AtomicUsize>,
    // Not beside `start`: a load of both would wait for two stores.
    end: u16,
    bytes: Bytes,
}

#[repr(align(64))]
struct Bytes([u8; SIZE]);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.existing.fetch_sub(1, Relaxed);
    }
}

/// A packet whose pool counts it, as a mempool does.
#[derive(Debug)]
pub struct MemoryPacket(Box<Buffer>);

impl PacketBuf for MemoryPacket {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        let buffer = &self.0;
        &buffer.bytes.0[usize::from(buffer.start)..usize::from(buffer.end)]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        let buffer = &mut self.0;
        &mut buffer.bytes.0[usize::from(buffer.start)..usize::from(buffer.end)]
    }

    #[inline(always)]
    fn prefetch_buffer(&self) {
        prefetch(&self.0.start);
    }

    #[inline(always)]
    fn prefetch(&self, side: Side) {
        prefetch_headers(&raw const self.0.bytes.0[HEADROOM], side);
    }

    #[inline(always)]
    fn prefetch_room(&self) {
        prefetch_room(&raw const self.0.bytes.0[HEADROOM]);
    }

    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        self.0.contiguous
    }

    #[inline(always)]
    fn prepend(&mut self, len: usize) -> bool {
        let buffer = &mut self.0;
        let room = len <= usize::from(buffer.start);
        if room {
            buffer.start -= len as u16;
        }
        room
    }

    #[inline(always)]
    fn keep(&mut self, range: Range<usize>) {
        let buffer = &mut self.0;
        let len = usize::from(buffer.end - buffer.start);
        let end = range.end.min(len);
        let start = range.start.min(end);
        buffer.end = buffer.start + end as u16;
        buffer.start += start as u16;
    }

    fn fill(&mut self, bytes: &[u8]) -> bool {
        let buffer = &mut self.0;
        let start = usize::from(buffer.start);
        let room = start + bytes.len() <= SIZE;
        if room {
            buffer.bytes.0[start..start + bytes.len()].copy_from_slice(bytes);
            buffer.end = buffer.start + bytes.len() as u16;
        }
        room
    }
}

/// What arrives is put in with [`MemoryIo::receive`]; what the worker sent is taken with
/// [`MemoryIo::sent`].
#[derive(Debug)]
pub struct MemoryIo {
    arriving: [VecDeque<MemoryPacket>; 2],
    sent: [Vec<MemoryPacket>; 2],
    free: Vec<MemoryPacket>,
    /// Buffers that exist, the free ones included.
    existing: Arc<AtomicUsize>,
    /// Packets that the pool can give out in all.
    pub pool: usize,
    /// Packets that each port takes before it says that it is full.
    pub tx_room: usize,
    /// Room in front of what arrives, in bytes.
    pub headroom: usize,
}

impl Default for MemoryIo {
    fn default() -> Self {
        MemoryIo {
            arriving: Default::default(),
            sent: Default::default(),
            free: Vec::new(),
            existing: Arc::default(),
            pool: usize::MAX,
            tx_room: usize::MAX,
            headroom: HEADROOM,
        }
    }
}

impl MemoryIo {
    /// With `buffers` buffers made beforehand: while no more are in use, nothing is allocated.
    pub fn with_buffers(buffers: usize) -> Self {
        let queue = || VecDeque::with_capacity(buffers);
        let mut io = MemoryIo { pool: buffers, arriving: [queue(), queue()], ..Self::default() };
        io.sent = [Vec::with_capacity(buffers), Vec::with_capacity(buffers)];
        let all: Vec<_> = (0..buffers).map(|_| io.packet(&[], true)).collect();
        io.free = all;
        io
    }

    pub fn receive(&mut self, side: Side, frame: &[u8]) {
        let packet = self.packet(frame, true);
        self.arriving[side.index()].push_back(packet);
    }

    /// A frame whose rest is in another buffer.
    pub fn receive_segmented(&mut self, side: Side, frame: &[u8]) {
        let packet = self.packet(frame, false);
        self.arriving[side.index()].push_back(packet);
    }

    pub fn has_arriving(&self) -> bool {
        self.arriving.iter().any(|queue| !queue.is_empty())
    }

    /// The frames sent to `side` since the last call.
    pub fn sent(&mut self, side: Side) -> Vec<Vec<u8>> {
        self.sent[side.index()].drain(..).map(|packet| packet.data().to_vec()).collect()
    }

    /// Shows the frames sent to `side` since the last call to `visit`, and takes the packets back.
    pub fn take_back(&mut self, side: Side, mut visit: impl FnMut(&[u8])) {
        for packet in self.sent[side.index()].drain(..) {
            visit(packet.data());
            self.free.push(packet);
        }
    }

    /// Packets that are somewhere: arriving, sent, or held by the worker.
    pub fn in_use(&self) -> usize {
        self.existing.load(Relaxed) - self.free.len()
    }

    fn packet(&mut self, frame: &[u8], contiguous: bool) -> MemoryPacket {
        let mut packet = self.free.pop().unwrap_or_else(|| {
            self.existing.fetch_add(1, Relaxed);
            let existing = Arc::clone(&self.existing);
            let bytes = Bytes([0; SIZE]);
            MemoryPacket(Box::new(Buffer { start: 0, contiguous, existing, end: 0, bytes }))
        });
        packet.0.contiguous = contiguous;
        packet.0.start = self.headroom as u16;
        assert!(packet.fill(frame), "a frame of {} bytes fits no buffer", frame.len());
        packet
    }
}

impl PacketIo for MemoryIo {
    type Buf = MemoryPacket;

    #[inline]
    fn rx(&mut self, side: Side, burst: &mut Burst<MemoryPacket>) {
        let queue = &mut self.arriving[side.index()];
        let n = queue.len().min(burst.remaining_capacity());
        // A driver has just written the bookkeeping of what it gives out.
        queue.iter().take(n).for_each(MemoryPacket::prefetch_buffer);
        burst.extend(queue.drain(..n));
    }

    #[inline]
    fn tx(&mut self, side: Side, burst: &mut Burst<MemoryPacket>) {
        let n = burst.len().min(self.tx_room);
        self.tx_room -= n;
        self.sent[side.index()].extend(burst.drain(..n));
    }

    fn alloc(&mut self) -> Option<MemoryPacket> {
        (self.in_use() < self.pool).then(|| self.packet(&[], true))
    }
}
