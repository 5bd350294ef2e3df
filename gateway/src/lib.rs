//! The egress gateway: VXLAN from the nodes in, one SNAT table per core, the world out.
//!
//! Read the modules in the order a packet meets them:
//!
//! ```text
//! datapath::worker   rx burst, stages over the whole burst, tx burst
//!  → wire::parse     bytes → checked facts (offsets, addresses, l4_ports)
//!  → datapath::usual, else datapath::classify   what is this frame: in2out, out2in, ARP, to us, or a drop
//!  → nat::in2out | nat::out2in   look-up → hit, or miss → session
//!  → nat::rewrite    addresses, l4_ports, checksum deltas
//!  → datapath::next_hop   L2 header, the guard, output port
//! ```
//!
//! `wire` and `nat` are pure: no DPDK, no clock (`now` is an argument), no thread. `datapath` is the
//! loop. `dpdk` is the only folder with `unsafe`. `control` may block and allocate; nothing in the
//! other folders may.

pub mod config;
pub mod control;
pub mod datapath;
#[cfg(feature = "dpdk")]
pub mod dpdk;
// Four small files need `unsafe` and so live with the other unsafe code; but they know nothing of
// DPDK, so that `nat` and the benches can use them in a build without libdpdk.
#[path = "dpdk/memory.rs"]
pub mod memory;
pub mod nat;
#[path = "dpdk/prefetch.rs"]
mod prefetch;
#[cfg(feature = "dpdk")]
pub mod run;
#[path = "dpdk/simd.rs"]
mod simd;
#[path = "dpdk/tsc.rs"]
pub mod tsc;
pub mod verdict;
pub mod wire;
