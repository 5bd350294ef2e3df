//! The in-memory double of the two ports: runs the real worker without DPDK, in tests and benches.

use super::io::{Burst, PacketBuf, PacketIo};
use crate::verdict::Side;
use std::{cell::Cell, collections::VecDeque, rc::Rc};

const HEADROOM: usize = 128;
const SIZE: usize = 2048;

/// A packet whose pool counts it, as a mempool does.
#[derive(Debug)]
pub struct MemoryPacket {
    bytes: Vec<u8>,
    start: usize,
    contiguous: bool,
    in_use: Rc<Cell<usize>>,
}

impl Drop for MemoryPacket {
    fn drop(&mut self) {
        self.in_use.set(self.in_use.get() - 1);
    }
}

impl PacketBuf for MemoryPacket {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    fn prepend(&mut self, len: usize) -> bool {
        let room = len <= self.start;
        if room {
            self.start -= len;
        }
        room
    }

    fn trim_front(&mut self, len: usize) {
        self.start = (self.start + len).min(self.bytes.len());
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    fn fill(&mut self, bytes: &[u8]) -> bool {
        let room = bytes.len() <= SIZE - HEADROOM;
        if room {
            self.bytes.truncate(self.start);
            self.bytes.extend_from_slice(bytes);
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
    in_use: Rc<Cell<usize>>,
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
            in_use: Rc::default(),
            pool: usize::MAX,
            tx_room: usize::MAX,
            headroom: HEADROOM,
        }
    }
}

impl MemoryIo {
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

    /// Packets that are somewhere: arriving, sent, or held by the worker.
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    fn packet(&self, frame: &[u8], contiguous: bool) -> MemoryPacket {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.resize(self.headroom, 0);
        bytes.extend_from_slice(frame);
        self.in_use.set(self.in_use.get() + 1);
        let in_use = Rc::clone(&self.in_use);
        MemoryPacket { bytes, start: self.headroom, contiguous, in_use }
    }
}

impl PacketIo for MemoryIo {
    type Buf = MemoryPacket;

    fn rx(&mut self, side: Side, burst: &mut Burst<MemoryPacket>) {
        let queue = &mut self.arriving[side.index()];
        let n = queue.len().min(burst.remaining_capacity());
        burst.extend(queue.drain(..n));
    }

    fn tx(&mut self, side: Side, burst: &mut Burst<MemoryPacket>) {
        let n = burst.len().min(self.tx_room);
        self.tx_room -= n;
        self.sent[side.index()].extend(burst.drain(..n));
    }

    fn alloc(&mut self) -> Option<MemoryPacket> {
        (self.in_use.get() < self.pool).then(|| self.packet(&[], true))
    }
}
