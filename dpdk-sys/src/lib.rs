//! Raw bindings to the DPDK that is installed (≥ 22.11), made at build time by bindgen.
//!
//! Nothing here is safe to call as it is; `gateway::dpdk` is the only user and holds the reasons.
//! Static inline functions of the headers (`rte_eth_rx_burst`, `rte_pktmbuf_alloc`, …) go through
//! a generated C file, so each costs one direct call: call them per burst, not per packet.

#![allow(unsafe_code)]
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(missing_debug_implementations, unreachable_pub, unnecessary_transmutes)]
#![allow(clippy::multiple_unsafe_ops_per_block, clippy::ptr_as_ptr)]
#![allow(unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// Layout that the safe wrapper relies on; a DPDK where one does not hold must not compile.
mod layout {
    use super::*;

    const _: () = assert!(size_of::<rte_mbuf>() == 128, "an mbuf is two cache lines");
    const _: () = assert!(align_of::<rte_mbuf>() == 64, "an mbuf starts on a cache line");
    const _: () = assert!(MBUF_BUF_ADDR == 0);
    // The fields that are touched per packet are on the mbuf's first line.
    const _: () = assert!(MBUF_DATA_OFF < 64 && MBUF_NB_SEGS < 64 && MBUF_OL_FLAGS < 64);
    const _: () = assert!(MBUF_PKT_LEN < 64 && MBUF_DATA_LEN < 64 && MBUF_BUF_LEN < 64);
    const _: () = assert!(MBUF_VLAN_TCI < 64);
}
