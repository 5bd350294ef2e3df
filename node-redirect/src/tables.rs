//! What the maps are to hold, as plain values: compiled from the policy documents, or read back from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use policy::{Action, FailureMode, NodePolicies, NodePolicy, PolicyMap, PolicySet};

use crate::abi;
use crate::config::Config;
use crate::host::Host;
use crate::maps::Maps;

/// Destination prefix → policy id, or [`abi::ACTION_EXCLUDE`].
pub type Set = BTreeMap<Ipv4Net, u32>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Pod → set id.
    pub endpoints: BTreeMap<Ipv4Addr, u32>,
    pub sets: BTreeMap<u32, Set>,
    pub policies: BTreeMap<u32, abi::Policy>,
    pub exempt: BTreeSet<Ipv4Net>,
    /// Address → [`abi::VTEP_GATEWAY`] or [`abi::VTEP_NODE`].
    pub vteps: BTreeMap<Ipv4Addr, u32>,
}

/// Exempt on every node. RFC 6890 and RFC 1112; 169.254.0.0/16 also has node-local DNS and the cloud's metadata.
const ALWAYS_EXEMPT: [&str; 5] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"];

impl Tables {
    /// IPv6 parts of the documents are left out: IPv6 passes as without policy.
    pub fn compile(set: &PolicySet, config: &Config, host: &Host) -> Result<Self> {
        let compiled = policy::compile_node(set, &config.node_name);
        check_gateway_counts(&compiled)?;
        let endpoints = compiled.endpoints.iter().filter_map(|(pod, set)| match pod {
            IpAddr::V4(pod) => Some((*pod, set.0)),
            IpAddr::V6(_) => None,
        });
        let mut tables = Self {
            endpoints: endpoints.collect(),
            sets: compiled.sets.iter().map(|(id, map)| (id.0, destinations(map))).collect(),
            policies: compiled.policies.iter().map(|(id, p)| (id.get(), policy(p))).collect(),
            ..Self::default()
        };
        tables.exempt = exempt(&compiled, config, host);
        tables.vteps = vteps(&compiled, set, host);
        // A set without an IPv4 destination selects nothing here.
        tables.sets.retain(|_, set| !set.is_empty());
        let sets = &tables.sets;
        tables.endpoints.retain(|_, id| sets.contains_key(id));
        Ok(tables)
    }

    pub fn read(maps: &Maps) -> Result<Self> {
        let mut tables = Self::default();
        for (pod, endpoint) in maps.endpoints.entries()? {
            tables.endpoints.insert(pod.into(), endpoint.set_id);
        }
        for (key, action) in maps.destinations.entries()? {
            tables.sets.entry(key.set_id).or_default().insert(key.prefix(), action);
        }
        tables.policies.extend(maps.policies.entries()?);
        tables.exempt.extend(maps.exempt.entries()?.iter().map(|(key, _)| key.prefix()));
        for (address, role) in maps.vteps.entries()? {
            tables.vteps.insert(address.into(), role);
        }
        Ok(tables)
    }

    /// Which policies may take a pod's packets.
    pub fn policies_of(&self, pod: Ipv4Addr) -> BTreeSet<u32> {
        let set = self.endpoints.get(&pod).and_then(|id| self.sets.get(id));
        let actions = set.into_iter().flat_map(BTreeMap::values).copied();
        actions.filter(|&action| action != abi::ACTION_EXCLUDE).collect()
    }
}

fn check_gateway_counts(compiled: &NodePolicies) -> Result<()> {
    for policy in compiled.policies.values() {
        let count = policy.gateways.len();
        ensure!(
            count <= abi::MAX_GATEWAYS,
            "policy {} names {count} gateways; a node takes {} at most",
            policy.name,
            abi::MAX_GATEWAYS
        );
    }
    Ok(())
}

fn destinations(map: &PolicyMap) -> Set {
    let entries = map.entries.iter().filter_map(|(prefix, action)| {
        let IpNet::V4(prefix) = prefix else { return None };
        let action = match action {
            Action::Redirect(id) => id.get(),
            Action::Exclude => abi::ACTION_EXCLUDE,
        };
        Some((prefix.trunc(), action))
    });
    entries.collect()
}

/// A gateway without an IPv4 egress IP is draining for IPv4: flows that are on it stay, new ones go elsewhere.
fn policy(policy: &NodePolicy) -> abi::Policy {
    let mut value = abi::Policy {
        failure_mode: match policy.failure_mode {
            FailureMode::Closed => abi::FAILURE_CLOSED,
            FailureMode::Open => abi::FAILURE_OPEN,
        },
        ..abi::Policy::default()
    };
    let gateways = policy.gateways.iter().filter_map(|gateway| match gateway.tunnel_address {
        IpAddr::V4(address) => Some((address, gateway.egress_ips.iter().any(IpAddr::is_ipv4))),
        IpAddr::V6(_) => None,
    });
    for (i, (address, accepts)) in gateways.enumerate() {
        value.gateways[i] = address.octets();
        value.usable |= 1 << i;
        value.accepting |= u16::from(accepts) << i;
        value.gateway_count += 1;
    }
    value
}

fn exempt(compiled: &NodePolicies, config: &Config, host: &Host) -> BTreeSet<Ipv4Net> {
    let documents = compiled.exempt.iter().filter_map(|prefix| match prefix {
        IpNet::V4(prefix) => Some(prefix.trunc()),
        IpNet::V6(_) => None,
    });
    let always = ALWAYS_EXEMPT.iter().filter_map(|prefix| prefix.parse().ok());
    let local = host.addresses.iter().flat_map(|own| [Some(own.address), own.broadcast]).flatten();
    documents
        .chain(always)
        .chain(local.map(Ipv4Net::from))
        .chain(config.never_redirect.iter().copied())
        .chain([Ipv4Net::from(config.vtep)])
        .collect()
}

/// This node's own addresses count as a node's: the VXLAN socket answers on all of them.
fn vteps(compiled: &NodePolicies, set: &PolicySet, host: &Host) -> BTreeMap<Ipv4Addr, u32> {
    let nodes = set.nodes.iter().filter_map(|node| v4(node.spec.tunnel_address));
    let local = host.addresses.iter().map(|own| own.address);
    let mut vteps: BTreeMap<_, _> = nodes.chain(local).map(|a| (a, abi::VTEP_NODE)).collect();
    let gateways = compiled.gateways.iter().filter_map(|(_, address)| v4(*address));
    vteps.extend(gateways.map(|address| (address, abi::VTEP_GATEWAY)));
    vteps
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
