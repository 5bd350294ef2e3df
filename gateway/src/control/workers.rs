//! What the control side holds of a worker and of a port.

use crate::{
    datapath::{WorkerCounters, io::PortWatch, request::Request},
    nat::PolicySessions,
    verdict::Side,
    wire::MacAddress,
};
use crossbeam_channel::Sender;
use std::sync::Arc;

/// A running worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// 0, 1, …; the metric label.
    pub id: usize,
    /// The CPU that it is pinned to.
    pub core: usize,
    pub counters: Arc<WorkerCounters>,
    pub policy_sessions: Arc<PolicySessions>,
    pub requests: Sender<Request>,
}

/// A started port.
#[derive(Debug)]
pub struct PortHandle {
    pub side: Side,
    /// The DPDK device string of the config.
    pub device: String,
    pub mac: MacAddress,
    pub watch: Box<dyn PortWatch>,
}
