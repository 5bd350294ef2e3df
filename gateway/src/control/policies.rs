//! From documents to running policies: validate all, compile, keep on disk, publish one snapshot, wait
//! until every worker runs it. Before the publication nothing has changed; a set is applied whole or
//! not at all.

use super::{
    WorkerHandle,
    state_dir::{AcceptedSet, StateDir},
    workers::TURN,
};
use crate::{
    datapath::request::Request,
    nat::{
        PolicyTable,
        policy_table::{NodeEntry, PolicyEntry},
    },
};
use arc_swap::ArcSwap;
use policy::{
    Format, GatewayLimits, GatewayPolicies, LoadError, PolicyError, PolicySet, Warning,
    compile_gateway,
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The policies of this gateway.
#[derive(Debug)]
pub struct PolicyStore {
    gateway: String,
    limits: GatewayLimits,
    own_addresses: Vec<IpAddr>,
    state: StateDir,
    published: Arc<ArcSwap<PolicyTable>>,
    /// Locked for the whole of an `apply`: writers come one after the other.
    accepted: Mutex<Accepted>,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub generation: u64,
    pub set: PolicySet,
}

/// What an applied set changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub generation: u64,
    /// Names of policies of this gateway.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub sessions_kept: u64,
    pub sessions_cut: u64,
    pub warnings: Vec<Warning>,
}

/// Why a set was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The set is sound, and this gateway cannot run it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    NotHere(Vec<PolicyError>),
    /// Another set was accepted since the one that the caller has seen.
    #[error("the policies are at generation {current}, not {expected}: read them again")]
    Outdated { current: u64, expected: u64 },
    #[error("the policies could not be kept on disk, so nothing was changed: {0}")]
    Store(#[from] io::Error),
    /// Published, but a worker does not say that it runs it.
    #[error("worker {worker} does not run generation {generation} after {TURN:?}: it may be stuck")]
    Unacknowledged { worker: usize, generation: u64 },
}

/// How a set is to be applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyOptions {
    /// Say what would change, change nothing.
    pub dry_run: bool,
    /// Only while this generation is in force.
    pub expected: Option<u64>,
}

impl PolicyStore {
    /// A store without policies, at generation 0: everything is dropped.
    pub fn new(
        gateway: impl Into<String>,
        limits: GatewayLimits,
        own_addresses: Vec<IpAddr>,
        state: StateDir,
    ) -> Self {
        PolicyStore {
            gateway: gateway.into(),
            limits,
            own_addresses,
            state,
            published: Arc::default(),
            accepted: Mutex::default(),
        }
    }

    /// Where workers load the snapshot from.
    pub fn published(&self) -> Arc<ArcSwap<PolicyTable>> {
        Arc::clone(&self.published)
    }

    /// What is in force.
    pub fn accepted(&self) -> Accepted {
        self.lock().clone()
    }

    /// Before the workers start: the set that was accepted last, or else the text of the policy file
    /// (`None`: there is none, and the gateway waits for a PUT).
    pub fn load_at_start(
        &self,
        file: impl FnOnce() -> io::Result<Option<String>>,
    ) -> Result<Applied, ApplyError> {
        let kept = self.state.load()?;
        let (text, generation, is_new) = match kept {
            Some(kept) => (kept.documents, kept.generation, false),
            None => match file()? {
                Some(text) => (text, 1, true),
                None => return Ok(Applied::default()),
            },
        };
        let (set, warnings, compiled) = self.check(&text, Format::Yaml)?;
        let mut accepted = self.lock();
        if is_new {
            self.state.store(&AcceptedSet::new(generation, set.to_yaml()))?;
        }
        let added = compiled.policies.iter().map(|policy| policy.name.clone()).collect();
        self.published.store(Arc::new(self.table(generation, &compiled)));
        *accepted = Accepted { generation, set };
        Ok(Applied { generation, added, warnings, ..Applied::default() })
    }

    /// Replaces the whole set. Blocks until every worker runs it.
    pub fn apply(
        &self,
        text: &str,
        format: Format,
        options: ApplyOptions,
        workers: &[WorkerHandle],
    ) -> Result<Applied, ApplyError> {
        let (set, warnings, compiled) = self.check(text, format)?;
        let mut accepted = self.lock();
        if let Some(expected) = options.expected
            && expected != accepted.generation
        {
            return Err(ApplyError::Outdated { current: accepted.generation, expected });
        }
        let generation = accepted.generation + 1;
        let old = self.published.load_full();
        let new = Arc::new(self.table(generation, &compiled));
        let (added, changed, removed) = difference(&old, &new);
        let (sessions_kept, sessions_cut) = assess(&new, workers);
        let applied = Applied {
            generation: if options.dry_run { accepted.generation } else { generation },
            added,
            changed,
            removed,
            sessions_kept,
            sessions_cut,
            warnings,
        };
        if options.dry_run {
            return Ok(applied);
        }
        self.state.store(&AcceptedSet::new(generation, set.to_yaml()))?;
        self.published.store(new);
        *accepted = Accepted { generation, set };
        let acknowledged = wait_for(generation, workers);
        // The last reference is dropped here, on the control side: a worker never frees a snapshot.
        drop(old);
        acknowledged.map(|()| applied)
    }

    /// Text → a set that this gateway can run.
    fn check(
        &self,
        text: &str,
        format: Format,
    ) -> Result<(PolicySet, Vec<Warning>, GatewayPolicies), ApplyError> {
        let (set, warnings) = policy::parse(text, format)?;
        let compiled =
            compile_gateway(&set, &self.gateway, &self.limits).map_err(ApplyError::NotHere)?;
        Ok((set, warnings, compiled))
    }

    /// The form that the data path asks.
    fn table(&self, generation: u64, compiled: &GatewayPolicies) -> PolicyTable {
        let policies = compiled.policies.iter().map(|policy| {
            let (egress_ips, draining_ips) = (&policy.egress_ips, &policy.draining_ips);
            (policy.id.get(), PolicyEntry::new(&policy.name, egress_ips, draining_ips))
        });
        let nodes = compiled.nodes.iter().map(|node| {
            let (name, source_cidrs) = (node.name.clone(), node.source_cidrs.clone());
            (node.tunnel_address, NodeEntry { name, source_cidrs })
        });
        let own = self.own_addresses.clone();
        let vtep_numbers = self.published.load().vtep_numbers().clone();
        PolicyTable::new(generation, policies.collect(), nodes.collect(), own, vtep_numbers)
    }

    fn lock(&self) -> MutexGuard<'_, Accepted> {
        // What it guards is replaced whole, so a panic elsewhere cannot have left it half written.
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of the policies that were added, changed, removed, each sorted.
fn difference(old: &PolicyTable, new: &PolicyTable) -> (Vec<String>, Vec<String>, Vec<String>) {
    let by_name = |table: &PolicyTable| -> BTreeMap<String, (u32, PolicyEntry)> {
        table.policies().map(|(id, policy)| (policy.name.clone(), (id, policy.clone()))).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names = |from: &BTreeMap<String, _>, keep: &dyn Fn(&String) -> bool| {
        from.keys().filter(|name| keep(name)).cloned().collect::<Vec<_>>()
    };
    let added = names(&new, &|name| !old.contains_key(name));
    let changed = names(&new, &|name| old.get(name).is_some_and(|was| *was != new[name]));
    let removed = names(&old, &|name| !new.contains_key(name));
    (added, changed, removed)
}

/// How many sessions `table` would keep and cut. A worker that does not answer is left out: the
/// numbers are told to the operator, nothing depends on them.
fn assess(table: &Arc<PolicyTable>, workers: &[WorkerHandle]) -> (u64, u64) {
    let ask = |worker| {
        WorkerHandle::ask(worker, |reply| Request::Assess { policies: Arc::clone(table), reply })
    };
    let questions: Vec<_> = workers.iter().filter_map(|worker| ask(worker).ok()).collect();
    let answers = questions.into_iter().filter_map(|question| question.wait().ok());
    answers.fold((0, 0), |total, (kept, cut)| (total.0 + kept, total.1 + cut))
}

/// Until every worker runs `generation`.
fn wait_for(generation: u64, workers: &[WorkerHandle]) -> Result<(), ApplyError> {
    let deadline = Instant::now() + TURN;
    for worker in workers {
        while worker.counters.generation.get() < generation {
            if Instant::now() > deadline {
                return Err(ApplyError::Unacknowledged { worker: worker.id, generation });
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}

/// Ids and names of the policies in force: what metrics and the session list show.
pub fn names(table: &PolicyTable) -> HashMap<u32, String> {
    table.policies().map(|(id, policy)| (id, policy.name.clone())).collect()
}
