//! The agent's part: it follows the sources, and knows of each gateway whether ports are chosen and why not. Whatever goes wrong here is told and
//! costs the gateway some handing over; it is no reason not to redirect.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use admin::client::Api;
use policy::PolicySet;
use serde::{Deserialize, Serialize};
use steering::report::SteeringReport;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use super::choice::{self, NoPorts, Tunnel};
use super::slots::{self, Slots};
use super::source::{self, Source, SourceError};
use super::told::{Judged, Read, Told};
use crate::abi;
use crate::config::{Config, Sources};
use crate::host::Host;
use crate::maps::Maps;
use crate::state::unix_seconds;
use crate::tables::Tables;
use crate::vxlan;
use crate::watch::Watch;

/// Whether a gateway's outer source ports are chosen, and why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySteering {
    pub gateway: String,
    /// Where its steering is read; none: nothing is configured.
    pub source: Option<String>,
    /// False where the source cannot be read, or is not what a gateway tells: its last good answer stays in use.
    pub source_valid: bool,
    /// What is wrong with the source.
    #[serde(default)]
    pub problem: Option<String>,
    /// When its last good answer was read, in seconds since 1970; none: not since the agent began. A file's is as old as the last change.
    #[serde(default)]
    pub last_answer_at: Option<u64>,
    pub ports_chosen: bool,
    /// Why they are not.
    pub reason: Option<String>,
}

#[derive(Debug)]
pub struct OuterPorts {
    sources: BTreeMap<String, Source>,
    watch: Option<Watch>,
    answers: UnboundedReceiver<(String, Read)>,
    /// Of each source.
    told: BTreeMap<String, Told>,
    slots: Slots,
    /// But for `last_answer_at`.
    states: Vec<GatewaySteering>,
}

impl OuterPorts {
    /// Files are read at once. APIs answer when they do, and until then `held`, what the maps have, stays.
    pub fn start(config: &Sources, held: Slots) -> Self {
        let (sender, answers) = unbounded_channel();
        let sources = config.of_gateways.clone();
        for (gateway, source) in &sources {
            if let Source::Api(api) = source {
                let (gateway, api, sender) = (gateway.clone(), api.clone(), sender.clone());
                tokio::spawn(ask_again_and_again(gateway, api, config.interval, sender));
            }
        }
        let told = sources.keys().map(|gateway| (gateway.clone(), Told::default())).collect();
        let states = Vec::new();
        let mut ports = Self { sources, watch: None, answers, told, slots: held, states };
        ports.read_files();
        ports
    }

    /// Returns when a source tells something else. Nothing is lost when it is dropped before.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                Some((gateway, read)) = self.answers.recv() => {
                    if self.take(&gateway, read) {
                        return;
                    }
                }
                () = of_files(&mut self.watch) => return self.read_files(),
            }
        }
    }

    fn take(&mut self, gateway: &str, read: Read) -> bool {
        self.told.get_mut(gateway).is_some_and(|told| told.take(read, unix_seconds()))
    }

    /// Watched from before they are read, so that no change goes unnoticed.
    fn read_files(&mut self) {
        let files: Vec<PathBuf> = self.sources.values().filter_map(file).cloned().collect();
        if files.is_empty() {
            return;
        }
        self.watch = match Watch::start_anyway(&files) {
            Ok(watch) => Some(watch),
            Err(error) => {
                warn!(
                    "steering.sources: {error:#}; a change of a file takes effect at the next start"
                );
                None
            }
        };
        let files = self.sources.iter().filter_map(|(name, source)| Some((name, file(source)?)));
        let read: Vec<_> =
            files.map(|(gateway, path)| (gateway.clone(), source::read_file(path))).collect();
        for (gateway, read) in read {
            self.take(&gateway, read);
        }
    }

    /// The slot of each gateway whose ports are chosen, written but not in force: that it is when policies name it.
    pub fn choose(
        &mut self,
        maps: &Maps,
        tables: &Tables,
        set: &PolicySet,
        config: &Config,
        host: &Host,
    ) -> BTreeMap<IpAddr, u8> {
        let (mut states, mut wanted) = (Vec::new(), BTreeMap::new());
        for gateway in &set.gateways {
            let address = gateway.spec.tunnel_address;
            let Some(told) = self.told.get_mut(gateway.name()) else {
                let reason = Some("steering.sources does not name it".to_owned());
                states.push(self.state(gateway.name(), None, reason));
                continue;
            };
            let held = self.slots.get(&address).map(|(_, steering)| *steering);
            let Judged { steering, problem } =
                told.judge(address, held, |report| ports_of(report, address, config, host));
            let reason = match steering {
                Ok(steering) => {
                    wanted.insert(address, steering);
                    None
                }
                Err(reason) => Some(reason),
            };
            states.push(self.state(gateway.name(), problem, reason));
        }
        for (gateway, told) in &self.told {
            if !is_there(set, gateway) {
                let problem = told.error().map(ToString::to_string);
                states.push(self.state(gateway, problem, Some(NO_SUCH_GATEWAY.to_owned())));
            }
        }
        match slots::write(maps, tables, &self.slots, wanted) {
            Ok(slots) => self.slots = slots,
            Err(error) => {
                self.slots.clear();
                for state in states.iter_mut().filter(|state| state.ports_chosen) {
                    (state.ports_chosen, state.reason) = (false, Some(format!("{error:#}")));
                }
            }
        }
        self.tell_changes(&states);
        self.states = states;
        self.slots.iter().map(|(gateway, (slot, _))| (*gateway, *slot)).collect()
    }

    pub fn states(&self) -> Vec<GatewaySteering> {
        let dated = |state: &GatewaySteering| {
            let last_answer_at = self.told.get(&state.gateway).and_then(Told::good_at);
            GatewaySteering { last_answer_at, ..state.clone() }
        };
        self.states.iter().map(dated).collect()
    }

    fn state(
        &self,
        gateway: &str,
        problem: Option<String>,
        reason: Option<String>,
    ) -> GatewaySteering {
        let source = self.sources.get(gateway).map(ToString::to_string);
        GatewaySteering {
            gateway: gateway.to_owned(),
            source_valid: source.is_some() && problem.is_none(),
            source,
            problem,
            last_answer_at: None,
            ports_chosen: reason.is_none(),
            reason,
        }
    }

    fn tell_changes(&self, states: &[GatewaySteering]) {
        for state in states.iter().filter(|state| state.source.is_some()) {
            let before = self.states.iter().find(|before| before.gateway == state.gateway);
            if before == Some(state) {
                continue;
            }
            let gateway = &state.gateway;
            match (before.and_then(|before| before.problem.as_ref()), &state.problem) {
                (Some(_), None) => info!(gateway, "steering source is good again"),
                (_, Some(problem)) if state.reason.as_ref() != Some(problem) => {
                    warn!(
                        gateway,
                        "steering source is stale, its last good answer stays: {problem}"
                    );
                }
                _ => {}
            }
            match &state.reason {
                None => info!(gateway, "outer source ports are chosen by the gateway's steering"),
                Some(reason) if state.source_valid => {
                    info!(gateway, "outer source ports are spread: {reason}");
                }
                Some(reason) => warn!(gateway, "outer source ports are spread: {reason}"),
            }
        }
    }
}

const NO_SUCH_GATEWAY: &str = "there is no EgressGateway of this name";

fn is_there(set: &PolicySet, gateway: &str) -> bool {
    set.gateways.iter().any(|each| each.name() == gateway)
}

fn file(source: &Source) -> Option<&PathBuf> {
    match source {
        Source::File(path) => Some(path),
        Source::Api(_) => None,
    }
}

async fn of_files(watch: &mut Option<Watch>) {
    let changed = match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    };
    if let Err(error) = changed {
        warn!("steering.sources: {error:#}");
        *watch = None;
    }
}

async fn ask_again_and_again(
    gateway: String,
    api: Api,
    interval: Duration,
    told: UnboundedSender<(String, Read)>,
) {
    loop {
        if told.send((gateway.clone(), source::ask(&api).await)).is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

fn ports_of(
    report: &SteeringReport,
    gateway: IpAddr,
    config: &Config,
    host: &Host,
) -> Result<abi::Steering, NoPorts> {
    let source_ports =
        vxlan::source_ports(host, config).map_err(|error| NoPorts::Plain(format!("{error:#}")))?;
    let tunnel = Tunnel { node: config.vtep, gateway, vxlan_port: config.vxlan_port, source_ports };
    choice::choose(report, &tunnel)
}

/// What `check` says of the sources.
#[derive(Debug, Default)]
pub struct Judgement {
    pub mistakes: Vec<String>,
    pub warnings: Vec<String>,
}

/// Reads each source once. One that does not answer is a warning: it may do so later.
pub async fn check(set: &PolicySet, config: &Config, host: &Host) -> Judgement {
    let mut judgement = Judgement::default();
    for (name, source) in &config.steering.of_gateways {
        let place = format!("steering.sources {name:?}");
        let read = source.read().await;
        let gateway = set.gateways.iter().find(|gateway| gateway.name() == name);
        if gateway.is_none() {
            judgement.warnings.push(format!("{place}: {NO_SUCH_GATEWAY}"));
        }
        let spread = match (&read, gateway) {
            (Err(SourceError::Unreachable(reason)), _) => reason.clone(),
            (Err(SourceError::Wrong(reason)), _) => {
                judgement.mistakes.push(format!("{place}: {reason}"));
                continue;
            }
            (Ok(_), None) => continue,
            (Ok(report), Some(gateway)) => {
                match ports_of(report, gateway.spec.tunnel_address, config, host) {
                    Ok(_) => continue,
                    Err(NoPorts::Plain(reason)) => reason,
                    Err(NoPorts::Wrong(reason)) => {
                        judgement.mistakes.push(format!("{place}: {source}: {reason}"));
                        continue;
                    }
                }
            }
        };
        judgement.warnings.push(format!("{place}: outer source ports are spread: {spread}"));
    }
    judgement
}
