//! The ports of a worker as DPDK queues: two of them, or one device for both sides.

use super::{
    mbuf::Mbuf,
    mempool::Mempool,
    power,
    queue::{RxQueue, TxQueue},
};
use crate::{
    datapath::{
        Burst, PacketIo,
        idle::{Wait, WaitBy},
        one_arm::Wire,
    },
    verdict::Side,
};
use std::time::Duration;

/// One worker's queue pair on each side, and the pool for what the gateway says itself.
#[derive(Debug)]
pub struct DpdkIo {
    queues: [(RxQueue, TxQueue); 2],
    pool: Mempool,
    wait_by: WaitBy,
}

impl DpdkIo {
    pub fn new(tunnel: (RxQueue, TxQueue), external: (RxQueue, TxQueue), pool: Mempool) -> Self {
        let wait_by = power::way([&tunnel.0, &external.0]);
        DpdkIo { queues: [tunnel, external], pool, wait_by }
    }

    /// With what it waits for packets: the best that the CPU and both drivers can do.
    pub fn wait_by(&self) -> WaitBy {
        self.wait_by
    }
}

impl PacketIo for DpdkIo {
    type Buf = Mbuf;

    #[inline]
    fn rx(&mut self, side: Side, burst: &mut Burst<Mbuf>) {
        let known = burst.len();
        self.queues[side.index()].0.rx(burst);
        for packet in &mut burst[known..] {
            packet.restore_vlan();
        }
    }

    #[inline]
    fn tx(&mut self, side: Side, burst: &mut Burst<Mbuf>) {
        self.queues[side.index()].1.tx(burst);
    }

    fn alloc(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }
}

impl Wait for DpdkIo {
    fn wait(&mut self, at_most: Duration) {
        power::wait(self.wait_by, [&self.queues[0].0, &self.queues[1].0], at_most);
    }
}

/// One worker's queue pair of the only device of a one-armed gateway, and the pool.
#[derive(Debug)]
pub struct DpdkWire {
    queue: (RxQueue, TxQueue),
    pool: Mempool,
    wait_by: WaitBy,
}

impl DpdkWire {
    pub fn new(queue: (RxQueue, TxQueue), pool: Mempool) -> Self {
        let wait_by = power::way([&queue.0, &queue.0]);
        DpdkWire { queue, pool, wait_by }
    }

    /// As [`DpdkIo::wait_by`].
    pub fn wait_by(&self) -> WaitBy {
        self.wait_by
    }
}

impl Wire for DpdkWire {
    type Buf = Mbuf;

    #[inline]
    fn rx(&mut self, burst: &mut Burst<Mbuf>) {
        let known = burst.len();
        self.queue.0.rx(burst);
        for packet in &mut burst[known..] {
            packet.restore_vlan();
        }
    }

    #[inline]
    fn tx(&mut self, burst: &mut Burst<Mbuf>) {
        self.queue.1.tx(burst);
    }

    fn alloc(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }
}

impl Wait for DpdkWire {
    fn wait(&mut self, at_most: Duration) {
        power::wait(self.wait_by, [&self.queue.0, &self.queue.0], at_most);
    }
}
