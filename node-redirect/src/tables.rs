//! What the maps are to hold, as plain values: compiled from the policy documents, or read back from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, bail};
use ipnet::IpNet;
use policy::{Action, FailureMode, NodePolicies, NodePolicy, PolicyMap, PolicySet};

use crate::abi;
use crate::config::Config;
use crate::host::Host;
use crate::maps::Maps;

/// Destination prefix → policy id, or [`abi::ACTION_EXCLUDE`].
pub type Set = BTreeMap<IpNet, u32>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Pod → set id.
    pub endpoints: BTreeMap<IpAddr, u32>,
    pub sets: BTreeMap<u32, Set>,
    pub policies: BTreeMap<u32, abi::Policy>,
    pub exempt: BTreeSet<IpNet>,
    /// Address → [`abi::VTEP_GATEWAY`] or [`abi::VTEP_NODE`].
    pub vteps: BTreeMap<IpAddr, u32>,
}

/// Exempt on every node. RFC 6890, RFC 1112 and RFC 4291; 169.254.0.0/16 also has node-local DNS and the cloud's metadata.
const ALWAYS_EXEMPT: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

impl Tables {
    /// `slots`: of the gateways whose outer source ports are chosen, by tunnel address.
    pub fn compile(
        set: &PolicySet,
        config: &Config,
        host: &Host,
        slots: &BTreeMap<IpAddr, u8>,
    ) -> Result<Self> {
        let compiled = policy::compile_node(set, &config.node_name);
        check_gateway_counts(&compiled)?;
        let policies =
            compiled.policies.iter().map(|(id, p)| (id.get(), policy(p, config.vtep, slots)));
        let mut tables = Self {
            endpoints: compiled.endpoints.iter().map(|(pod, set)| (*pod, set.0)).collect(),
            sets: compiled.sets.iter().map(|(id, map)| (id.0, destinations(map))).collect(),
            policies: policies.collect(),
            ..Self::default()
        };
        tables.exempt = exempt(&compiled, config, host);
        tables.vteps = vteps(&compiled, set, host);
        // A set without a destination selects nothing.
        tables.sets.retain(|_, set| !set.is_empty());
        let sets = &tables.sets;
        tables.endpoints.retain(|_, id| sets.contains_key(id));
        Ok(tables)
    }

    pub fn read(maps: &Maps) -> Result<Self> {
        let mut tables = Self::default();
        for (pod, endpoint) in maps.endpoints.entries()? {
            tables.endpoints.insert(abi::ip(pod), endpoint.set_id);
        }
        for (set_id, prefix, action) in maps.destinations.entries()? {
            tables.sets.entry(set_id).or_default().insert(prefix, action);
        }
        tables.policies.extend(maps.policies.entries()?);
        tables.exempt.extend(maps.exempt.entries()?.iter().map(|((), prefix, _)| *prefix));
        for (address, role) in maps.vteps.entries()? {
            tables.vteps.insert(abi::ip(address), role);
        }
        Ok(tables)
    }

    /// Which policies may take a pod's packets.
    pub fn policies_of(&self, pod: IpAddr) -> BTreeSet<u32> {
        let set = self.endpoints.get(&pod).and_then(|id| self.sets.get(id));
        let actions = set.into_iter().flat_map(BTreeMap::values).copied();
        actions.filter(|&action| action != abi::ACTION_EXCLUDE).collect()
    }
}

fn check_gateway_counts(compiled: &NodePolicies) -> Result<()> {
    let too_many =
        compiled.policies.values().filter(|policy| policy.gateways.len() > abi::MAX_GATEWAYS);
    let errors: Vec<String> = too_many
        .map(|policy| {
            format!(
                "EgressPolicy/{}: .spec.egress: {} gateways; a node takes {} at most",
                policy.name,
                policy.gateways.len(),
                abi::MAX_GATEWAYS
            )
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("\n")) }
}

fn destinations(map: &PolicyMap) -> Set {
    let entries = map.entries.iter().map(|(prefix, action)| {
        let action = match action {
            Action::Redirect(id) => id.get(),
            Action::Exclude => abi::ACTION_EXCLUDE,
        };
        (prefix.trunc(), action)
    });
    entries.collect()
}

/// A tunnel has one address family: that of the node's VTEP, which is where a gateway sends answers.
pub(crate) fn is_on_underlay(gateway: IpAddr, vtep: IpAddr) -> bool {
    gateway.is_ipv4() == vtep.is_ipv4()
}

/// A gateway without an egress IP of a family is draining for that family: flows that are on it stay, new ones go elsewhere.
fn policy(policy: &NodePolicy, vtep: IpAddr, slots: &BTreeMap<IpAddr, u8>) -> abi::Policy {
    let mut value = abi::Policy {
        failure_mode: match policy.failure_mode {
            FailureMode::Closed => abi::FAILURE_CLOSED,
            FailureMode::Open => abi::FAILURE_OPEN,
        },
        ..abi::Policy::default()
    };
    let gateways = policy.gateways.iter().filter(|g| is_on_underlay(g.tunnel_address, vtep));
    for (i, gateway) in gateways.enumerate() {
        value.gateways[i] = abi::address(gateway.tunnel_address);
        value.usable |= 1 << i;
        value.steering[i] = slots.get(&gateway.tunnel_address).copied().unwrap_or_default();
        for &egress_ip in &gateway.egress_ips {
            value.accepting[abi::family(egress_ip)] |= 1 << i;
        }
        value.gateway_count += 1;
    }
    value
}

/// What is valid, and on this node perhaps not what was meant.
pub fn warnings(set: &PolicySet, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let (name, vtep) = (&config.node_name, config.vtep);
    match set.nodes.iter().find(|node| node.name() == name) {
        Some(node) if node.spec.tunnel_address != vtep => warnings.push(format!(
            "EgressNode/{name}: its tunnelAddress is {}, and node.vtep of this node is {vtep}: the gateways refuse what comes from there",
            node.spec.tunnel_address
        )),
        Some(_) => {}
        None => warnings.push(format!(
            "node.name {name:?}: there is no EgressNode of this name, so the gateways refuse what this node sends. There is {}",
            names_in(set)
        )),
    }
    for gateway in &set.gateways {
        let address = gateway.spec.tunnel_address;
        if !is_on_underlay(address, vtep) {
            warnings.push(format!(
                "EgressGateway/{}: its tunnelAddress {address} and node.vtep {vtep} are of two address families; this node cannot \
                 send there and counts it as not healthy",
                gateway.name()
            ));
        }
    }
    warnings
}

fn names_in(set: &PolicySet) -> String {
    /// Enough to see a slip of the pen.
    const MOST: usize = 10;
    let names: Vec<&str> = set.nodes.iter().map(|node| node.name()).collect();
    match names.len() {
        0 => "none at all".to_owned(),
        count if count > MOST => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
        _ => names.join(", "),
    }
}

fn exempt(compiled: &NodePolicies, config: &Config, host: &Host) -> BTreeSet<IpNet> {
    let documents = compiled.exempt.iter().map(IpNet::trunc);
    let always = ALWAYS_EXEMPT.iter().filter_map(|prefix| prefix.parse().ok());
    documents
        .chain(always)
        .chain(host.own_addresses().map(IpNet::from))
        .chain(config.never_redirect.iter().copied())
        .chain([IpNet::from(config.vtep)])
        .collect()
}

/// This node's own addresses count as a node's: the VXLAN socket answers on all of them.
fn vteps(compiled: &NodePolicies, set: &PolicySet, host: &Host) -> BTreeMap<IpAddr, u32> {
    let nodes = set.nodes.iter().map(|node| node.spec.tunnel_address);
    let mut vteps: BTreeMap<_, _> =
        nodes.chain(host.own_addresses()).map(|address| (address, abi::VTEP_NODE)).collect();
    vteps.extend(compiled.gateways.iter().map(|(_, address)| (*address, abi::VTEP_GATEWAY)));
    vteps
}
