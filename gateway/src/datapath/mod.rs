//! The loop: the one place where packets, time and ports meet.
//!
//! [`worker`] takes a burst from each side in turn, and `stages` leads it through; [`classify`] says
//! what a frame is; [`steering`] whose it is, and [`handoff`] bears it there; [`tunnel`] takes VXLAN off and puts it on; [`next_hop`] finds the MAC, asks the
//! [`guard`] and sends. What the gateway says for itself is in [`arp`], [`nd`] and [`icmp`]. Packets come and
//! go through the trait in [`io`], so the same worker runs on DPDK ports and, in tests, on
//! [`memory_io`].

pub mod announcer;
pub mod arp;
pub mod classify;
pub mod config;
pub mod counters;
mod exchange;
pub mod guard;
pub mod handoff;
pub mod icmp;
pub mod idle;
pub mod io;
pub mod laps;
pub mod memory_io;
pub mod nd;
pub mod neighbour;
pub mod neighbour_list;
pub mod next_hop;
pub mod one_arm;
pub mod request;
mod stages;
pub mod steering;
pub mod tunnel;
pub mod usual;
pub mod worker;

pub use config::{DatapathConfig, PortConfig};
pub use counters::WorkerCounters;
pub use io::{BURST, Burst, PacketBuf, PacketIo};
pub use worker::Worker;
