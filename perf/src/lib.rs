//! `egress-perf`: measures the gateway as testpmd measures a PMD, beside others, in one run.
//!
//! Three kinds of processes take part:
//!
//! ```text
//! suite (this program) ──job, steps──▶ generator (this program, `generate`)
//!   │                  ◀─events─────      │ tunnel and external devices: memif, veth, ring
//!   └──start, sample, pause──▶ system under test: gateway, testpmd, kernel, a peer's program
//! ```
//!
//! - [`plan`]: addresses and flows, which the generator sends and systems are configured for
//! - [`job`]: what suite and generator say to each other
//! - [`generator`]: makes packets, counts what comes back; the only part in which DPDK runs
//! - [`system`]: what is measured, and how it is started, sampled, paused
//! - [`suite`]: which measurements there are, in which order, and what is made of them
//! - [`child`]: a generator from the suite's side; [`progress`]: how far a run is; [`machine`]: where;
//!   [`distance`]: of its two CPUs
//! - [`result`]: the file that comes of it; [`report`]: the same for the eye; [`compare`]: two of them
//!
//! [`cli`] is the command line.
//!
//! All tuning is by one rule: systems alternate within one run, so that what the machine does beside
//! it hits all of them.

pub mod child;
pub mod cli;
pub mod compare;
pub mod distance;
pub mod generator;
pub mod job;
pub mod machine;
pub mod plan;
pub mod progress;
pub mod report;
pub mod result;
pub mod suite;
pub mod system;
