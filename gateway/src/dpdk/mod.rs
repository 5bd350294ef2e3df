//! DPDK, wrapped so that the rest of the crate cannot misuse it. The only folder with `unsafe`.
//!
//! 1. An [`Eal`] is proof that the EAL runs; nothing can be made without it, and it is never shut
//!    down: with `--in-memory` there is nothing to clean up that the end of the process does not.
//! 2. An [`Mbuf`] owns its buffer: not `Clone`, freed on drop, given to C only by consuming it.
//! 3. A burst is an array that is filled in place; nothing is allocated after start.
//! 4. Queues are handed out once, take `&mut self`, and keep their port alive.
//! 5. What a queue did not take stays in the caller's burst: the caller decides.
//! 6. Fields of an mbuf are touched in `mbuf.rs` only.
//! 7. Functions of `dpdk-sys` that stand for static inlines are called per burst, not per packet.
//! 8. Mempools live as long as the process, so no mbuf can outlive its pool.
//! 9. An error says which DPDK call failed and why: [`DpdkError`].

#![allow(unsafe_code)]

mod bulk;
mod eal;
mod error;
mod flow_rules;
mod io;
mod lcore;
mod mbuf;
mod mempool;
mod port;
mod power;
mod queue;
mod rss;
pub mod rte_hash;
mod soft_rss;

pub use eal::{Eal, EalOptions, tsc_hz, version};
pub use error::DpdkError;
pub use flow_rules::FlowRules;
pub use io::{DpdkIo, DpdkWire};
pub use lcore::LcoreHandle;
pub use mbuf::Mbuf;
pub use mempool::Mempool;
pub use port::{DpdkPortWatch, Port, PortSettings, StartedPort};
pub use queue::{RxQueue, TxQueue};
pub use rss::{NoRss, Rss};
pub use soft_rss::SoftRss;
