//! The two ports of a worker as DPDK queues.

use super::{
    mbuf::Mbuf,
    mempool::Mempool,
    queue::{RxQueue, TxQueue},
};
use crate::{
    datapath::{Burst, PacketIo},
    verdict::Side,
};

/// One worker's queue pair on each side, and the pool for what the gateway says itself.
#[derive(Debug)]
pub struct DpdkIo {
    queues: [(RxQueue, TxQueue); 2],
    pool: Mempool,
}

impl DpdkIo {
    pub fn new(tunnel: (RxQueue, TxQueue), external: (RxQueue, TxQueue), pool: Mempool) -> Self {
        DpdkIo { queues: [tunnel, external], pool }
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
