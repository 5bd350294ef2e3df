//! The policies in force, as the data path asks for them. Built by the control side, read-only here.
//!
//! A packet of a known session needs one comparison (its epoch); these tables are asked when a
//! session begins or the policies changed.

use super::{AddressSet, SessionView, egress_ip};
use crate::verdict::DropReason;
use ipnet::Ipv4Net;
use std::{collections::HashMap, net::Ipv4Addr};

#[derive(Clone, Debug, Default)]
pub struct PolicyTable {
    generation: u64,
    policies: HashMap<u32, PolicyEntry>,
    nodes: HashMap<Ipv4Addr, NodeEntry>,
    egress_ips: AddressSet,
    own_addresses: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    pub name: String,
    /// Where new sessions may begin.
    pub egress_ips: Vec<Ipv4Addr>,
    /// Keep their sessions, take no new ones.
    pub draining_ips: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug)]
pub struct NodeEntry {
    pub name: String,
    /// Which inner sources the node may send.
    pub source_cidrs: Vec<Ipv4Net>,
}

impl PolicyTable {
    /// `policies` by id, `nodes` by tunnel address; `own_addresses`: those of both ports.
    pub fn new(
        generation: u64,
        policies: HashMap<u32, PolicyEntry>,
        nodes: HashMap<Ipv4Addr, NodeEntry>,
        own_addresses: Vec<Ipv4Addr>,
    ) -> Self {
        let egress_ips =
            policies.values().flat_map(|p| p.egress_ips.iter().chain(&p.draining_ips)).copied();
        PolicyTable { generation, egress_ips: egress_ips.collect(), policies, nodes, own_addresses }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What sessions note of the generation. It wraps; the sweep after each change sees to it that no
    /// session is 65,536 generations old.
    #[inline]
    pub fn epoch(&self) -> u16 {
        self.generation as u16
    }

    /// Every egress IP of every policy here, draining ones included.
    #[inline]
    pub fn egress_ips(&self) -> &AddressSet {
        &self.egress_ips
    }

    pub fn policy(&self, id: u32) -> Option<&PolicyEntry> {
        self.policies.get(&id)
    }

    pub fn policies(&self) -> impl Iterator<Item = (u32, &PolicyEntry)> {
        self.policies.iter().map(|(id, policy)| (*id, policy))
    }

    pub fn node(&self, vtep: Ipv4Addr) -> Option<&NodeEntry> {
        self.nodes.get(&vtep)
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether `vtep` is a node that may send packets of `pod`.
    pub(super) fn check_source(&self, vtep: Ipv4Addr, pod: Ipv4Addr) -> Result<(), DropReason> {
        let node = self.nodes.get(&vtep).ok_or(DropReason::UnknownNode)?;
        if node.source_cidrs.iter().any(|cidr| cidr.contains(&pod)) {
            Ok(())
        } else {
            Err(DropReason::SpoofedSource)
        }
    }

    /// Whether a packet may be sent to `destination` through a router, away from this gateway.
    pub(super) fn check_destination(&self, destination: Ipv4Addr) -> Result<(), DropReason> {
        if self.egress_ips.contains(destination) {
            return Err(DropReason::Hairpin);
        }
        // RFC 6890: not forwardable. 224.0.0.0/3 is multicast, class E and the limited broadcast.
        let cannot_be_routed = matches!(destination.octets(), [0 | 127, ..] | [169, 254, ..])
            || destination.octets()[0] >= 224;
        if cannot_be_routed || self.own_addresses.contains(&destination) {
            return Err(DropReason::DestinationInvalid);
        }
        Ok(())
    }

    /// The egress IP of a new session of `pod` under policy `id`.
    pub(super) fn egress_ip(&self, id: u32, pod: Ipv4Addr) -> Result<Ipv4Addr, DropReason> {
        let policy = self.policies.get(&id).ok_or(DropReason::UnknownPolicy)?;
        egress_ip::choose(pod, &policy.egress_ips).ok_or(DropReason::NoEgressIp)
    }

    /// Whether policy `id` is here and has `egress_ip`, draining or not.
    pub(super) fn has_egress_ip(&self, id: u32, egress_ip: Ipv4Addr) -> bool {
        self.policies.get(&id).is_some_and(|policy| {
            policy.egress_ips.contains(&egress_ip) || policy.draining_ips.contains(&egress_ip)
        })
    }

    /// Whether a session that began under older policies may go on.
    pub fn allows(&self, session: &SessionView<'_>) -> bool {
        self.has_egress_ip(session.policy(), session.external().address)
            && self.check_source(session.vtep(), session.internal().address).is_ok()
            && self.check_destination(session.remote().address).is_ok()
    }
}
