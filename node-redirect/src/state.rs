//! What the agent knows and the API serves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use policy::{NodePolicy, PolicySet};
use serde::{Deserialize, Serialize};

use crate::flows::FlowCounts;
use crate::maps::Maps;
use crate::outer_port::follow::GatewaySteering;
use crate::policy_traffic::PolicyTraffic;

/// Policy id → what the documents call it and its gateways. The maps have numbers only.
pub type Names = BTreeMap<u32, NodePolicy>;

pub fn names(set: &PolicySet, node: &str) -> Names {
    let policies = policy::compile_node(set, node).policies;
    policies.into_iter().map(|(id, policy)| (id.get(), policy)).collect()
}

#[derive(Debug)]
pub struct Shared {
    pub maps: Maps,
    names: Mutex<Names>,
    status: Mutex<Status>,
    traffic: Mutex<PolicyTraffic>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub ready: bool,
    pub node: String,
    pub vtep: Option<IpAddr>,
    pub hook: String,
    pub interfaces: Vec<String>,
    /// Why the policy files' content is not what the maps hold; the set before is in force.
    pub policy_error: Option<String>,
    pub policy_reloads: u64,
    pub policy_reload_failures: u64,
    /// When files last came into force, in seconds since 1970; 0: not in this run.
    #[serde(default)]
    pub policy_reloaded_at: u64,
    /// What could not be set up on the node; tried again with the next change.
    pub node_error: Option<String>,
    /// Of each gateway in the documents, and of each source without one.
    #[serde(default)]
    pub steering: Vec<GatewaySteering>,
    /// Attachments that somebody else had taken away.
    pub reattached: u64,
    #[serde(skip)]
    pub flows: FlowCounts,
}

impl Status {
    /// Files came into force now.
    pub fn policy_in_force(&mut self) {
        self.policy_reloaded_at = unix_seconds();
    }
}

/// 0 of a clock before 1970, which is no time to tell.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Shared {
    pub fn new(maps: Maps, status: Status) -> Self {
        let traffic = Mutex::new(PolicyTraffic::new(&maps));
        Self { maps, names: Mutex::default(), status: Mutex::new(status), traffic }
    }

    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What policies carried since the agent began, as metrics tell it.
    pub fn traffic(&self) -> MutexGuard<'_, PolicyTraffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
