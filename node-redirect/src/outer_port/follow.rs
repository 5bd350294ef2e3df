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
use crate::abi;
use crate::config::{Config, Sources};
use crate::host::Host;
use crate::maps::Maps;
use crate::tables::Tables;
use crate::vxlan;
use crate::watch::Watch;

type Read = Result<SteeringReport, SourceError>;

/// Whether a gateway's outer source ports are chosen, and why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySteering {
    pub gateway: String,
    /// Where its steering is read; none: nothing is configured.
    pub source: Option<String>,
    /// False where the source cannot be read, or is not what a gateway tells.
    pub source_valid: bool,
    pub ports_chosen: bool,
    /// Why they are not.
    pub reason: Option<String>,
}

#[derive(Debug)]
pub struct OuterPorts {
    sources: BTreeMap<String, Source>,
    watch: Option<Watch>,
    answers: UnboundedReceiver<(String, Read)>,
    /// The latest of each source; none yet of an API that has not answered.
    read: BTreeMap<String, Read>,
    slots: Slots,
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
        let (read, states) = (BTreeMap::new(), Vec::new());
        let mut ports = Self { sources, watch: None, answers, read, slots: held, states };
        ports.read_files();
        ports
    }

    /// Returns when a source tells something else. Nothing is lost when it is dropped before.
    pub async fn changed(&mut self) {
        tokio::select! {
            Some((gateway, read)) = self.answers.recv() => drop(self.read.insert(gateway, read)),
            () = of_files(&mut self.watch) => self.read_files(),
        }
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
        for (gateway, source) in &self.sources {
            if let Source::File(path) = source {
                self.read.insert(gateway.clone(), source::read_file(path));
            }
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
            let read = self.read.get(gateway.name());
            let chosen = match read {
                None => {
                    self.slots.get(&address).map(|(_, steering)| *steering).ok_or_else(|| {
                        NoPorts::Plain("the gateway has not answered yet".to_owned())
                    })
                }
                Some(read) => ports_of(read.as_ref(), address, config, host),
            };
            let is_configured = self.sources.contains_key(gateway.name());
            let reason = match chosen {
                _ if !is_configured => Some("steering.sources does not name it".to_owned()),
                Ok(steering) => {
                    wanted.insert(address, steering);
                    None
                }
                Err(ref no_ports) => Some(no_ports.to_string()),
            };
            let is_valid = is_configured && !matches!(chosen, Err(NoPorts::Wrong(_)));
            states.push(self.state(gateway.name(), is_valid, reason));
        }
        for (gateway, read) in &self.read {
            if !is_there(set, gateway) {
                let reason = Some(NO_SUCH_GATEWAY.to_owned());
                states.push(self.state(gateway, read.is_ok(), reason));
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

    pub fn states(&self) -> &[GatewaySteering] {
        &self.states
    }

    fn state(&self, gateway: &str, source_valid: bool, reason: Option<String>) -> GatewaySteering {
        GatewaySteering {
            gateway: gateway.to_owned(),
            source: self.sources.get(gateway).map(ToString::to_string),
            source_valid,
            ports_chosen: reason.is_none(),
            reason,
        }
    }

    fn tell_changes(&self, states: &[GatewaySteering]) {
        let news = states.iter().filter(|state| !self.states.contains(state));
        for GatewaySteering { gateway, source_valid, reason, .. } in
            news.filter(|state| state.source.is_some())
        {
            match reason {
                None => info!(gateway, "outer source ports are chosen by the gateway's steering"),
                Some(reason) if *source_valid => {
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

/// Only what differs from the answer before is told.
async fn ask_again_and_again(
    gateway: String,
    api: Api,
    interval: Duration,
    told: UnboundedSender<(String, Read)>,
) {
    let mut before = None;
    loop {
        let read = source::ask(&api).await;
        if before.as_ref() != Some(&read) {
            before = Some(read.clone());
            if told.send((gateway.clone(), read)).is_err() {
                return;
            }
        }
        tokio::time::sleep(interval).await;
    }
}

fn ports_of(
    read: Result<&SteeringReport, &SourceError>,
    gateway: IpAddr,
    config: &Config,
    host: &Host,
) -> Result<abi::Steering, NoPorts> {
    let report = read.map_err(|error| NoPorts::Wrong(error.to_string()))?;
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
                match ports_of(Ok(report), gateway.spec.tunnel_address, config, host) {
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
