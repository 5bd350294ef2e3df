//! From documents to running policies: validate all, compile, keep on disk, publish one snapshot, wait
//! until every worker runs it. Before the publication nothing has changed; a set is applied whole or
//! not at all.

use super::{
    WorkerHandle,
    state_dir::{KeptSets, Opened, SetRecord, StateDir, read_set},
    workers::{Question, Silent, TURN},
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
    EgressPolicy, ForGateway, Format, GatewayLimits, GatewayPolicies, LoadError, PolicySet, Source,
    Warning,
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The policies of this gateway.
#[derive(Debug)]
pub struct PolicyStore {
    gateway: String,
    limits: GatewayLimits,
    own_addresses: Vec<IpAddr>,
    state: StateDir,
    published: Arc<ArcSwap<PolicyTable>>,
    accepted: ArcSwap<Accepted>,
    /// Locked for the whole of an `apply`: writers come one after the other, readers do not wait.
    writer: Mutex<Writer>,
    /// Why the state of the last life was not obeyed.
    refused: OnceLock<String>,
}

#[derive(Debug)]
struct Writer {
    kept: KeptSets,
    /// Snapshots that a worker may still hold. Freeing one takes long, so workers never do.
    retired: Vec<Arc<PolicyTable>>,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// 0 before the first.
    pub generation: u64,
    pub set: PolicySet,
    /// This set and those before it that are kept, newest first.
    pub history: Arc<[SetRecord]>,
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
        let kept = KeptSets::new(state.clone());
        PolicyStore {
            gateway: gateway.into(),
            limits,
            own_addresses,
            state,
            published: Arc::default(),
            accepted: ArcSwap::default(),
            writer: Mutex::new(Writer { kept, retired: Vec::new() }),
            refused: OnceLock::new(),
        }
    }

    /// Where workers load the snapshot from.
    pub fn published(&self) -> Arc<ArcSwap<PolicyTable>> {
        Arc::clone(&self.published)
    }

    /// What is in force.
    pub fn accepted(&self) -> Arc<Accepted> {
        self.accepted.load_full()
    }

    /// A set of [`Accepted::history`], read from the disk. It was valid when it was accepted.
    pub fn read(&self, record: &SetRecord) -> Result<PolicySet, ApplyError> {
        let text = read_set(self.state.path(), record)?;
        Ok(policy::parse(&text, record.format.into())?.0)
    }

    /// Before the workers start: the set that was accepted last, or else the text of the policy file
    /// (`None`: there is none, and the gateway waits for a PUT).
    ///
    /// State that cannot be trusted is moved aside and told, and the policy file is what is left. No
    /// older set is taken instead: it may allow what was forbidden since.
    pub fn load_at_start(
        &self,
        file: impl FnOnce() -> io::Result<Option<String>>,
    ) -> Result<Applied, ApplyError> {
        let mut writer = self.lock();
        match writer.kept.open()? {
            Opened::Empty => {}
            Opened::Set { generation, text, format } => {
                let ForGateway { set, warnings, compiled } = self.check(&text, format)?;
                let new = Arc::new(self.table(generation, &compiled));
                let (added, ..) = difference(&self.gateway, &PolicySet::default(), &set);
                self.publish(&mut writer, generation, set, new);
                return Ok(Applied { generation, added, warnings, ..Applied::default() });
            }
            Opened::Refused(aside) => {
                let _ = self.refused.set(aside.to_string());
            }
        }
        drop(writer);
        match file()? {
            Some(text) => self.apply(&text, Format::Yaml, ApplyOptions::default(), &[]),
            None => Ok(Applied::default()),
        }
    }

    /// Why the state that this start found was not obeyed; `None` when all was well.
    pub fn refused_state(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Replaces the whole set. Blocks until every worker runs it.
    pub fn apply(
        &self,
        text: &str,
        format: Format,
        options: ApplyOptions,
        workers: &[WorkerHandle],
    ) -> Result<Applied, ApplyError> {
        let ForGateway { set, mut warnings, compiled } = self.check(text, format)?;
        let mut writer = self.lock();
        let accepted = self.accepted();
        if let Some(expected) = options.expected
            && expected != accepted.generation
        {
            return Err(ApplyError::Outdated { current: accepted.generation, expected });
        }
        let generation = writer.kept.next_generation();
        let new = Arc::new(self.table(generation, &compiled));
        let (added, changed, removed) = difference(&self.gateway, &accepted.set, &set);
        let (sessions_kept, sessions_cut, silent) = assess(&new, workers);
        warnings.extend(silent.into_iter().map(|worker| self.uncounted(worker)));
        let mut applied =
            Applied { generation, added, changed, removed, sessions_kept, sessions_cut, warnings };
        if options.dry_run {
            applied.generation = accepted.generation;
            return Ok(applied);
        }
        writer.kept.store(record(&applied, &set, format), text)?;
        self.publish(&mut writer, generation, set, new);
        wait_for(generation, workers)?;
        Ok(applied)
    }

    /// From here on workers take it, and readers are told of it.
    fn publish(
        &self,
        writer: &mut Writer,
        generation: u64,
        set: PolicySet,
        table: Arc<PolicyTable>,
    ) {
        writer.retired.retain(|table| Arc::strong_count(table) > 1);
        writer.retired.push(self.published.swap(table));
        let history = writer.kept.records();
        self.accepted.store(Arc::new(Accepted { generation, set, history }));
    }

    /// Text → a set that this gateway can run.
    fn check(&self, text: &str, format: Format) -> Result<ForGateway, LoadError> {
        let source = Source { file: None, text, format };
        policy::load_for_gateway(&[source], &self.gateway, &self.limits)
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

    fn uncounted(&self, worker: usize) -> Warning {
        Warning {
            file: None,
            document: format!("EgressGateway/{}", self.gateway),
            path: String::new(),
            reason: format!("worker {worker} does not answer: its sessions are not counted"),
            hint: "see /readyz".to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A panic in the midst of a change leaves both of its parts as they were, or replaced.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(applied: &Applied, set: &PolicySet, format: Format) -> SetRecord {
    let Applied { generation, added, changed, removed, .. } = applied.clone();
    SetRecord {
        generation,
        accepted_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        policies: set.policies.len(),
        added,
        changed,
        removed,
        format: format.into(),
        sha256: String::new(),
    }
}

/// Names of the policies of this gateway that were added, changed, removed, each sorted. A policy is
/// changed when any of its document is, also what only nodes obey.
fn difference(
    gateway: &str,
    old: &PolicySet,
    new: &PolicySet,
) -> (Vec<String>, Vec<String>, Vec<String>) {
    fn here<'s>(gateway: &str, set: &'s PolicySet) -> BTreeMap<&'s str, &'s EgressPolicy> {
        let is_here = |policy: &&EgressPolicy| {
            policy.spec.egress.iter().any(|egress| egress.gateway == gateway)
        };
        set.policies.iter().filter(is_here).map(|policy| (policy.name(), policy)).collect()
    }
    let (old, new) = (here(gateway, old), here(gateway, new));
    let names = |from: &BTreeMap<&str, _>, keep: &dyn Fn(&str) -> bool| {
        from.keys().filter(|name| keep(name)).map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let added = names(&new, &|name| !old.contains_key(name));
    let changed = names(&new, &|name| old.get(name).is_some_and(|was| *was != new[name]));
    let removed = names(&old, &|name| !new.contains_key(name));
    (added, changed, removed)
}

/// How many sessions `table` would keep and cut, and which workers did not answer: theirs are not
/// among them. The numbers are told to the operator, nothing depends on them.
fn assess(table: &Arc<PolicyTable>, workers: &[WorkerHandle]) -> (u64, u64, Vec<usize>) {
    let ask = |worker| {
        WorkerHandle::ask(worker, |reply| Request::Assess { policies: Arc::clone(table), reply })
    };
    let questions: Vec<_> = workers.iter().map(ask).collect();
    let (mut kept, mut cut, mut silent) = (0, 0, Vec::new());
    for answer in questions.into_iter().map(|question| question.and_then(Question::wait)) {
        match answer {
            Ok((more_kept, more_cut)) => {
                kept += more_kept;
                cut += more_cut;
            }
            Err(Silent(worker)) => silent.push(worker),
        }
    }
    (kept, cut, silent)
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
