//! What may block and allocate: policies, HTTP, metrics. It talks to the workers through published
//! snapshots, bounded channels and counters, and never waits inside them.
//!
//! - [`policies`]: documents → validated → published → acknowledged by every worker; [`state_dir`]
//!   keeps the accepted set over a restart
//! - [`sessions`], [`neighbours`], [`trace`]: ask the workers for sessions, for neighbours, and for what would
//!   become of a packet
//! - [`steering`]: which worker a packet comes to; [`self_test`]: whether all that fits together
//! - [`watchdog`]: finds workers that stand still
//! - [`http`], [`metrics`]: the API

pub mod http;
pub mod metrics;
pub mod neighbours;
pub mod policies;
pub mod self_test;
pub mod sessions;
pub mod state_dir;
pub mod steering;
pub mod trace;
pub mod watchdog;
pub mod workers;

pub use admin::listener;
pub use policies::{Applied, ApplyError, PolicyStore};
pub use self_test::SelfTest;
pub use steering::SteeringReport;
pub use watchdog::Watchdog;
pub use workers::{PortHandle, TableRoom, WorkerHandle};

use crate::{config::Config, datapath::DatapathConfig};
use std::{sync::Arc, time::Instant};

/// The running gateway, as the control side sees it.
#[derive(Debug)]
pub struct Gateway {
    pub config: Config,
    pub datapath: Arc<DatapathConfig>,
    pub workers: Vec<WorkerHandle>,
    pub watchdog: Watchdog,
    pub steering: SteeringReport,
    pub self_test: SelfTest,
    /// Tunnel and external, in the order of [`crate::verdict::Side`].
    pub ports: [PortHandle; 2],
    pub policies: PolicyStore,
    /// What carries the packets, with its version.
    pub packet_io: String,
    /// Zero of [`crate::nat::Tick`].
    pub started: Instant,
}
