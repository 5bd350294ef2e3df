//! The shape of `node-redirect.toml`, and what must be true of each value.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use admin::listen::{Listen, ListenError};
use ipnet::IpNet;
use serde::Deserialize;

use crate::config::{Config, Flows, HookChoice, MapSizes, Sources};
use crate::outer_port::slots::MAX_STEERED;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    node: Node,
    attach: Attach,
    #[serde(default)]
    vxlan: Vxlan,
    policy: Policy,
    #[serde(default)]
    steering: Steering,
    #[serde(default)]
    flows: Flows,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    bpf: Bpf,
    #[serde(default)]
    api: Api,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    name: String,
    vtep: IpAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    interfaces: Vec<String>,
    #[serde(default)]
    hook: HookChoice,
    #[serde(default)]
    path: PathChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum PathChoice {
    #[default]
    Auto,
    Fast,
    Kernel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vxlan {
    pub(crate) device: String,
    pub(crate) port: u16,
    mtu: u32,
}

impl Default for Vxlan {
    fn default() -> Self {
        Self { device: "egw".to_owned(), port: 4790, mtu: 0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    files: Vec<PathBuf>,
    #[serde(default)]
    never_redirect: Vec<IpNet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Steering {
    sources: BTreeMap<String, String>,
    pub(crate) interval: u32,
}

impl Default for Steering {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), interval: 10 }
    }
}

/// Gateways are not probed by this version: each one that the documents name counts as healthy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Health {
    interval_ms: u32,
    failures: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval_ms: 100, failures: 3 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bpf {
    pub(crate) pin_path: PathBuf,
    max_destinations: u32,
    max_policies: u32,
    max_pods: u32,
    max_exempt: u32,
    max_tunnel_addresses: u32,
}

impl Default for Bpf {
    fn default() -> Self {
        let sizes = MapSizes::default();
        Self {
            pin_path: PathBuf::from("/sys/fs/bpf/node-redirect"),
            max_destinations: sizes.max_destinations,
            max_policies: sizes.max_policies,
            max_pods: sizes.max_pods,
            max_exempt: sizes.max_exempt,
            max_tunnel_addresses: sizes.max_tunnel_addresses,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    pub(crate) listen: String,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9481".to_owned() }
    }
}

impl Api {
    fn check(&self, problems: &mut Vec<String>) -> Listen {
        self.listen.parse().unwrap_or_else(|error: ListenError| {
            problems.push(format!(
                "api.listen: {error} (write 127.0.0.1:9481 or unix:/run/node-redirect.sock)"
            ));
            Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        })
    }
}

impl File {
    pub(crate) fn check(self) -> Result<Config, Vec<String>> {
        let mut problems = Vec::new();
        if self.node.name.is_empty() {
            problems.push("node.name is empty: the name of this node's EgressNode".to_owned());
        }
        let vtep = self.node.check_vtep(&mut problems);
        let interfaces = self.attach.check(&mut problems);
        let vxlan_mtu = self.vxlan.check(&mut problems);
        let never_redirect = self.policy.check(&mut problems);
        let steering = self.steering.check(&mut problems);
        self.flows.check(&mut problems);
        self.health.check(&mut problems);
        let map_sizes = self.bpf.check(&mut problems);
        let api_listen = self.api.check(&mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Config {
            node_name: self.node.name,
            vtep,
            interfaces,
            hook: self.attach.hook,
            vxlan_device: self.vxlan.device,
            vxlan_port: self.vxlan.port,
            vxlan_mtu,
            policy_files: self.policy.files,
            never_redirect,
            steering,
            flows: self.flows,
            pin_path: self.bpf.pin_path,
            map_sizes,
            api_listen,
        })
    }
}

impl Node {
    fn check_vtep(&self, problems: &mut Vec<String>) -> IpAddr {
        let vtep = self.vtep;
        let is_of_no_use = match vtep {
            IpAddr::V4(_) => false,
            IpAddr::V6(vtep) => vtep.is_unicast_link_local() || vtep.to_ipv4_mapped().is_some(),
        };
        if vtep.is_unspecified() || vtep.is_multicast() || vtep.is_loopback() || is_of_no_use {
            problems.push(format!(
                "node.vtep {vtep}: the IPv4 or IPv6 address that this node tunnels from is wanted"
            ));
        }
        vtep
    }
}

impl Attach {
    fn check(&self, problems: &mut Vec<String>) -> Vec<glob::Pattern> {
        if self.interfaces.is_empty() {
            problems.push(
                "attach.interfaces is empty: names or patterns of the pods' host-side interfaces are wanted, as \"veth*\""
                    .to_owned(),
            );
        }
        if self.path == PathChoice::Kernel {
            problems.push(
                "attach.path \"kernel\" is not supported by this version: use \"auto\" or \"fast\""
                    .to_owned(),
            );
        }
        let mut patterns = Vec::new();
        for text in &self.interfaces {
            match glob::Pattern::new(text) {
                Ok(pattern) if !text.is_empty() => patterns.push(pattern),
                Ok(_) => problems.push("attach.interfaces has an empty pattern".to_owned()),
                Err(error) => problems.push(format!("attach.interfaces {text:?}: {error}")),
            }
        }
        patterns
    }
}

/// IFNAMSIZ with its final zero.
const LONGEST_INTERFACE_NAME: usize = 15;
const LEAST_MTU: u32 = 576;

impl Vxlan {
    fn check(&self, problems: &mut Vec<String>) -> Option<u32> {
        let name = &self.device;
        if name.is_empty()
            || name.len() > LONGEST_INTERFACE_NAME
            || name.contains(|c: char| c == '/' || c.is_whitespace())
        {
            problems.push(format!(
                "vxlan.device {name:?}: an interface name of 1 to {LONGEST_INTERFACE_NAME} characters is wanted"
            ));
        }
        if self.port == 0 {
            problems
                .push("vxlan.port 0: a UDP port is wanted, the gateways' vxlan_port".to_owned());
        }
        if self.mtu != 0 && !(LEAST_MTU..=65_485).contains(&self.mtu) {
            problems.push(format!(
                "vxlan.mtu {}: {LEAST_MTU} to 65485, or 0 for what the underlay carries",
                self.mtu
            ));
        }
        (self.mtu != 0).then_some(self.mtu)
    }
}

impl Policy {
    fn check(&self, problems: &mut Vec<String>) -> Vec<IpNet> {
        if self.files.is_empty() {
            problems.push("policy.files is empty: name the policy documents' file(s)".to_owned());
        }
        self.never_redirect.iter().map(IpNet::trunc).collect()
    }
}

impl Steering {
    fn check(&self, problems: &mut Vec<String>) -> Sources {
        let count = self.sources.len();
        if count > MAX_STEERED {
            problems.push(format!(
                "steering.sources: {count} gateways; a node takes {MAX_STEERED} at most"
            ));
        }
        if !(1..=86_400).contains(&self.interval) {
            problems.push(format!("steering.interval {}: 1 to 86400 seconds", self.interval));
        }
        let mut of_gateways = BTreeMap::new();
        for (gateway, text) in &self.sources {
            match text.parse() {
                Ok(source) => drop(of_gateways.insert(gateway.clone(), source)),
                Err(hint) => {
                    problems.push(format!("steering.sources {gateway:?} = {text:?}: {hint}"));
                }
            }
        }
        Sources { of_gateways, interval: Duration::from_secs(self.interval.into()) }
    }
}

impl Flows {
    fn check(&self, problems: &mut Vec<String>) {
        if !(1024..=16_777_216).contains(&self.max_entries) {
            problems.push(format!("flows.max_entries {}: 1024 to 16777216", self.max_entries));
        }
        for (name, seconds) in [
            ("tcp_timeout", self.tcp_timeout),
            ("tcp_closing_timeout", self.tcp_closing_timeout),
            ("udp_timeout", self.udp_timeout),
            ("udp_unreplied_timeout", self.udp_unreplied_timeout),
            ("icmp_timeout", self.icmp_timeout),
            ("other_timeout", self.other_timeout),
        ] {
            if !(2..=864_000).contains(&seconds) {
                problems.push(format!("flows.{name} {seconds}: 2 to 864000 seconds"));
            }
        }
    }
}

impl Bpf {
    fn check(&self, problems: &mut Vec<String>) -> MapSizes {
        if !self.pin_path.is_absolute() {
            problems.push(format!(
                "bpf.pin_path {}: an absolute path on a bpf file system is wanted",
                self.pin_path.display()
            ));
        }
        let sizes = MapSizes {
            max_destinations: self.max_destinations,
            max_policies: self.max_policies,
            max_pods: self.max_pods,
            max_exempt: self.max_exempt,
            max_tunnel_addresses: self.max_tunnel_addresses,
        };
        for (name, entries) in sizes.named() {
            if !(1..=16_777_216).contains(&entries) {
                problems.push(format!("bpf.{name} {entries}: 1 to 16777216"));
            }
        }
        sizes
    }
}

impl Health {
    fn check(&self, problems: &mut Vec<String>) {
        if self.interval_ms == 0 {
            problems.push("health.interval_ms 0: at least 1".to_owned());
        }
        if self.failures == 0 {
            problems.push("health.failures 0: at least 1".to_owned());
        }
    }
}
