//! The programs under BPF_PROG_TEST_RUN, as tables: description, packet in, verdict and counter. A frame goes out as it came in, always.
//!
//! from_tunnel reads the tunnel's own metadata, which a test run cannot give it: its cases are in `netns`, with packets from a real tunnel.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod cost;
mod flow_table;
mod hammer;
mod ipv6;
mod policies;
mod verdicts;
