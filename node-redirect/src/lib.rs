//! The node's side of the egress gateway: tc eBPF programs that send selected pod traffic to a gateway, and the agent that keeps them.
//!
//! ```text
//! pod ──veth──▶ from_pod ─────▶ VXLAN device ──▶ gateway        bpf/redirect.bpf.c
//! pod ◀──veth── to_pod ◀── from_tunnel ◀── VXLAN device ◀── gateway
//!                  ▲
//!                  │ pinned maps (bpf/maps.h, twins in abi.rs)
//!                  │
//! policy files ─▶ policy_files ─▶ tables ─▶ sync ─▶ maps        the agent
//! interfaces ───▶ host ─────────▶ attach (tcx | clsact) · vxlan
//! ```
//!
//! In reading order: `bpf/redirect.bpf.c` is the datapath and reads like the policy; [`abi`], [`maps`] and [`prefixes`] are what it shares with the agent;
//! [`outer_port`] brings packets to the gateways' workers; [`tables`] is what the maps shall hold and [`sync`] how they get there without a gap, also where [`room`] is scarce; [`program`], [`attach`], [`tcx`] and [`clsact`]
//! put programs on interfaces; [`agent`] is the loop around all this; [`list`], [`trace`], [`status`] and [`metrics`] show it.
//!
//! The kernel has the state. The agent may be killed at any time: programs stay attached (a tcx link by its pin, a clsact filter by itself),
//! maps stay pinned, traffic goes on under the last policy set. The next agent replaces each program in one step.

pub mod abi;
pub mod agent;
pub mod api;
pub mod attach;
mod between;
pub mod check;
pub mod cleanup;
pub mod cli;
pub mod clsact;
pub mod config;
mod config_file;
pub mod counters;
pub mod flows;
mod fold;
pub mod host;
pub mod list;
pub mod maps;
pub mod metrics;
pub mod outer_port;
pub mod policy_files;
pub mod policy_traffic;
pub mod prefixes;
pub mod preflight;
pub mod program;
pub mod room;
mod stages;
pub mod state;
pub mod status;
pub mod sync;
pub mod table;
pub mod tables;
pub mod tcx;
pub mod trace;
pub mod vxlan;
pub mod watch;
