//! `node-redirect run`: set up once, then follow the node and the policy files. Whatever the agent does is in the kernel and stays there when
//! it ends, by whatever signal; the next one takes it over.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use policy::PolicySet;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::abi;
use crate::api;
use crate::attach::{self, Attacher, Hook};
use crate::check::BadInput;
use crate::cleanup;
use crate::config::Config;
use crate::flows;
use crate::host::{Address, Host, Interface, Netlink};
use crate::maps::Maps;
use crate::outer_port::follow::OuterPorts;
use crate::outer_port::{SourcePorts, slots};
use crate::policy_files;
use crate::preflight;
use crate::program::{Programs, Role};
use crate::state::{Shared, Status, names};
use crate::sync::{self, Way};
use crate::tables::{self, Tables};
use crate::vxlan;
use crate::watch::Watch;

/// Ageing of flows, and a look whether everything is still attached.
const UPKEEP: Duration = Duration::from_secs(5);

pub async fn run(config: Config) -> Result<()> {
    preflight::check(&config.pin_path)?;
    let listener = api::bind(&config.api_listen)?;
    let lock = preflight::take(&config.pin_path)?;
    let is_first = !has_policy_set(&config.pin_path);
    let netlink = Netlink::connect()?;
    let handle = netlink.handle.clone();

    let started = Agent::start(config.clone(), netlink, is_first).await;
    let agent = match started {
        Ok(agent) => agent,
        Err(error) if is_first => {
            // Nothing of ours was here before, so nothing of ours is to stay.
            drop(lock);
            if let Err(leftover) = cleanup::remove_all(&config, &handle).await {
                warn!("not all could be taken back: {leftover:#}");
            }
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    tokio::spawn(api::serve(listener, agent.shared.clone()));
    agent.follow().await
}

/// An agent before this one got as far as filling the maps. Maps that cannot be read are for the start to judge.
fn has_policy_set(pin_path: &Path) -> bool {
    let settings = || Maps::open(pin_path)?.settings();
    Maps::exist(pin_path) && settings().map_or(true, |settings| settings.generation > 0)
}

/// The node's addresses, and what its VXLAN device takes outer source ports from.
type OfNode = (Vec<Address>, Option<SourcePorts>);

struct Agent {
    config: Config,
    netlink: Netlink,
    watch: Watch,
    attacher: Attacher,
    shared: Arc<Shared>,
    /// The set in force; none after a start with files that are not valid, when the maps have one.
    policies: Option<PolicySet>,
    /// What the maps hold.
    tables: Tables,
    outer_ports: OuterPorts,
    /// What they were compiled with beside the documents; none: what is there by now is not in them.
    compiled_with: Option<OfNode>,
    /// The maps refused to be written, though the files are valid.
    must_retry: bool,
    tunnel: Option<u32>,
    attached: BTreeSet<u32>,
}

impl Agent {
    /// Maps are filled before anything is attached: no packet meets programs without policies.
    async fn start(config: Config, netlink: Netlink, is_first: bool) -> Result<Self> {
        let watch = Watch::start(&config.policy_files)?;
        let (policies, policy_error) = match policy_files::read(&config.policy_files) {
            Ok(set) => {
                warn_of(&set, &config);
                (Some(set), None)
            }
            Err(error) if is_first => return Err(BadInput(format!("{error:#}")).into()),
            Err(error) => {
                error!("{error:#}; the set that the maps hold stays in force");
                (None, Some(format!("{error:#}")))
            }
        };
        let programs = Programs::load(&config)?;
        let maps = Maps::open(&config.pin_path)?;
        let settings = abi::Settings { abi_version: abi::VERSION, ..maps.settings()? };
        maps.settings.set(&0, &settings)?;
        let hook = Hook::choose(config.hook, &programs)?;
        let attacher = Attacher::new(hook, programs, config.link_pins())?;
        let status = Status {
            node: config.node_name.clone(),
            vtep: Some(config.vtep),
            hook: hook.name().to_owned(),
            policy_error,
            ..Status::default()
        };
        let tables = Tables::read(&maps)?;
        let mut agent = Self {
            outer_ports: OuterPorts::start(&config.steering, slots::held(&maps, &tables)?),
            tables,
            shared: Arc::new(Shared::new(maps, status)),
            compiled_with: None,
            must_retry: false,
            tunnel: None,
            attached: BTreeSet::new(),
            config,
            netlink,
            watch,
            attacher,
            policies,
        };
        let host = Host::read(&agent.netlink.handle).await?;
        agent.sync_tables(&host)?;
        if agent.policies.is_some() {
            agent.shared.status().policy_in_force();
        }
        // An agent that was killed between two steps may have left flows that no later plan would touch.
        sync::raise_generation(&agent.shared.maps)?;
        agent.ensure_tunnel(&host).await?;
        agent.detach_unwanted(&host)?;
        agent.attach_interfaces(&host);
        agent.warn_if_nothing_matches();
        agent.shared.status().ready = true;
        info!(hook = hook.name(), interfaces = agent.attached.len(), "ready");
        Ok(agent)
    }

    async fn follow(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                changed = self.netlink.changed() => { changed?; self.follow_node().await }
                changed = self.watch.changed() => { changed?; self.reload().await }
                () = self.outer_ports.changed() => {
                    self.compiled_with = None;
                    self.follow_node().await;
                }
                _ = hangup.recv() => self.reload().await,
                _ = upkeep.tick() => self.upkeep().await,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        info!("ends; traffic goes on, `node-redirect cleanup` takes everything away");
        Ok(())
    }

    async fn reload(&mut self) {
        let outcome = self.try_reload().await;
        let mut status = self.shared.status();
        match outcome {
            Ok(false) => status.policy_error = None,
            Ok(true) => {
                status.policy_error = None;
                status.policy_reloads += 1;
                status.policy_in_force();
            }
            Err(error) => {
                let text = format!("{error:#}");
                error!("{text}; the set before stays in force");
                status.policy_error = Some(text);
                status.policy_reload_failures += 1;
            }
        }
    }

    /// False when the files say what is in force already.
    async fn try_reload(&mut self) -> Result<bool> {
        if let Err(error) = self.watch.renew(&self.config.policy_files) {
            warn!("{error:#}; SIGHUP makes the files be read");
        }
        let set = policy_files::read(&self.config.policy_files)?;
        if self.policies.as_ref() == Some(&set) && !self.must_retry {
            return Ok(false);
        }
        warn_of(&set, &self.config);
        let host = Host::read(&self.netlink.handle).await?;
        let before = self.policies.replace(set);
        if let Err(error) = self.sync_tables(&host) {
            self.policies = before;
            return Err(error);
        }
        Ok(true)
    }

    async fn follow_node(&mut self) {
        let outcome = self.try_follow_node().await;
        let problem = outcome.err().map(|error| format!("{error:#}"));
        if let Some(problem) = &problem {
            error!("{problem}");
        }
        self.shared.status().node_error = problem;
    }

    async fn try_follow_node(&mut self) -> Result<()> {
        let host = Host::read(&self.netlink.handle).await?;
        // Interfaces first: a pod that has just come may send at once.
        self.attach_interfaces(&host);
        self.ensure_tunnel(&host).await?;
        if self.compiled_with.as_ref() != Some(&self.of_node(&host)) {
            self.sync_tables(&host)?;
        }
        Ok(())
    }

    async fn upkeep(&mut self) {
        if let Err(error) = self.try_upkeep().await {
            warn!("upkeep: {error:#}");
        }
    }

    async fn try_upkeep(&mut self) -> Result<()> {
        self.shared.status().steering = self.outer_ports.states();
        self.shared.status().flows = flows::age(&self.shared.maps, &self.config.flows)?;
        sync::forget_stale_traffic(&self.shared.maps, &self.tables)?;
        let lost: Vec<u32> = self.attached.iter().copied().filter(|&i| !self.is_whole(i)).collect();
        for ifindex in &lost {
            self.attached.remove(ifindex);
        }
        if self.tunnel.is_some_and(|index| !self.attacher.is_attached(index, Role::FromTunnel)) {
            self.tunnel = None;
        }
        self.shared.status().reattached += lost.len() as u64;
        if self.must_retry {
            self.reload().await;
        }
        self.follow_node().await;
        Ok(())
    }

    fn is_whole(&self, ifindex: u32) -> bool {
        Role::OF_POD_INTERFACE.iter().all(|&role| self.attacher.is_attached(ifindex, role))
    }

    fn of_node(&self, host: &Host) -> OfNode {
        (host.addresses.clone(), vxlan::source_ports(host, &self.config).ok())
    }

    fn sync_tables(&mut self, host: &Host) -> Result<()> {
        let Some(set) = &self.policies else { return Ok(()) };
        let slots =
            self.outer_ports.choose(&self.shared.maps, &self.tables, set, &self.config, host);
        self.shared.status().steering = self.outer_ports.states();
        let wanted = Tables::compile(set, &self.config, host, &slots)?;
        let way = Way::find(&self.shared.maps, &self.tables, &wanted)?;
        match way.go(&self.shared.maps) {
            Ok(reached) => self.tables = reached,
            Err(error) => {
                self.must_retry = true;
                return match self.take_back() {
                    Ok(()) => Err(error),
                    Err(second) => Err(error.context(format!("and not taken back: {second:#}"))),
                };
            }
        }
        self.must_retry = false;
        self.compiled_with = Some(self.of_node(host));
        *self.shared.names() = names(set, &self.config.node_name);
        Ok(())
    }

    /// Makes the maps hold the set before again, after a write to them has failed half-way.
    fn take_back(&mut self) -> Result<()> {
        let maps = &self.shared.maps;
        let held = Tables::read(maps)?;
        let before = std::mem::replace(&mut self.tables, held);
        self.tables = Way::find(maps, &self.tables, &before)?.go(maps)?;
        Ok(())
    }

    async fn ensure_tunnel(&mut self, host: &Host) -> Result<()> {
        let index = vxlan::ensure_exists(&self.netlink.handle, host, &self.config).await?;
        let is_up = host.interfaces.get(&index).is_some_and(|device| device.is_up);
        if self.tunnel == Some(index) && is_up {
            return Ok(());
        }
        self.attacher.attach(index, Role::FromTunnel).with_context(|| {
            format!("cannot attach to the VXLAN device {}", self.config.vxlan_device)
        })?;
        vxlan::set_up(&self.netlink.handle, &self.config, index).await?;
        let maps = &self.shared.maps;
        maps.settings.set(&0, &abi::Settings { tunnel_ifindex: index, ..maps.settings()? })?;
        self.tunnel = Some(index);
        Ok(())
    }

    fn is_wanted(&self, host: &Host, interface: &Interface) -> bool {
        let is_underlay =
            host.owner_of(self.config.vtep).is_some_and(|own| own.index == interface.index);
        self.config.interfaces.iter().any(|pattern| pattern.matches(&interface.name))
            && interface.is_ethernet
            && interface.name != self.config.vxlan_device
            && !is_underlay
    }

    fn attach_interfaces(&mut self, host: &Host) {
        let wanted: Vec<&Interface> =
            host.interfaces.values().filter(|interface| self.is_wanted(host, interface)).collect();
        let wanted_indexes: BTreeSet<u32> =
            wanted.iter().map(|interface| interface.index).collect();
        let gone: Vec<u32> = self.attached.difference(&wanted_indexes).copied().collect();
        for ifindex in gone {
            self.detach(ifindex);
        }
        for interface in &wanted {
            if self.attached.contains(&interface.index) {
                continue;
            }
            match self.attach_pod_interface(interface.index) {
                Ok(()) => {
                    info!(interface = interface.name, "attached");
                    self.attached.insert(interface.index);
                }
                // It may have gone since the host was read; if not, upkeep tries again.
                Err(error) => warn!(interface = interface.name, "not attached: {error:#}"),
            }
        }
        let names = wanted.iter().filter(|wanted| self.attached.contains(&wanted.index));
        self.shared.status().interfaces = names.map(|wanted| wanted.name.clone()).collect();
    }

    /// First the one that learns, then the one that redirects.
    fn attach_pod_interface(&self, ifindex: u32) -> Result<()> {
        self.attacher.attach(ifindex, Role::ToPod)?;
        self.attacher.attach(ifindex, Role::FromPod)
    }

    fn detach(&mut self, ifindex: u32) {
        self.attached.remove(&ifindex);
        for role in Role::OF_POD_INTERFACE {
            // An interface that is gone took its filters along; only the pin is left to remove.
            if let Err(error) = self.attacher.detach(ifindex, role) {
                warn!(ifindex, "detach: {error:#}");
            }
        }
    }

    /// What an agent with another configuration left attached.
    fn detach_unwanted(&mut self, host: &Host) -> Result<()> {
        self.attacher.remove_dead_pins()?;
        let pins = self.config.link_pins();
        for interface in host.interfaces.values() {
            let is_tunnel = self.tunnel == Some(interface.index);
            if is_tunnel || self.is_wanted(host, interface) {
                continue;
            }
            for role in Role::OF_POD_INTERFACE {
                if attach::attached(&pins, interface.index, role).is_some() {
                    self.attacher.detach(interface.index, role)?;
                }
            }
        }
        Ok(())
    }

    fn warn_if_nothing_matches(&self) {
        if self.attached.is_empty() {
            let patterns: Vec<&str> = self.config.interfaces.iter().map(|p| p.as_str()).collect();
            warn!(?patterns, "no interface matches attach.interfaces; waiting for one to come");
        }
    }
}

fn warn_of(set: &PolicySet, config: &Config) {
    for warning in tables::warnings(set, config) {
        warn!("{warning}");
    }
}
