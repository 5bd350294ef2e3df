//! The policies in force, as the data path asks for them. Built by the control side, read-only here.
//!
//! A packet of a known session needs one comparison (its epoch); these tables are asked when a
//! session begins or the policies changed.

use super::{
    AddressSet, SessionView, egress_ip,
    vtep::{KnownVteps, Vtep, VtepNumbers},
};
use crate::{
    verdict::DropReason,
    wire::{Address, Both, PerFamily},
};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

#[derive(Clone, Debug, Default)]
pub struct PolicyTable {
    generation: u64,
    policies: HashMap<u32, PolicyEntry>,
    nodes: HashMap<Vtep, NodeEntry>,
    vtep_numbers: VtepNumbers,
    known_vteps: KnownVteps,
    egress_ips: Both<Sets>,
    own_addresses: Vec<IpAddr>,
}

/// An [`AddressSet`] of each family.
#[derive(Debug)]
pub enum Sets {}

impl PerFamily for Sets {
    type Of<A: Address> = AddressSet<A>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    pub name: String,
    pub pools: Both<Pools>,
}

/// A [`Pool`] of each family.
#[derive(Debug)]
pub enum Pools {}

impl PerFamily for Pools {
    type Of<A: Address> = Pool<A>;
}

/// A policy's egress IPs of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool<A> {
    /// Where new sessions may begin.
    pub egress_ips: Vec<A>,
    /// Keep their sessions, take no new ones.
    pub draining_ips: Vec<A>,
}

impl<A: Address> Pool<A> {
    fn new(egress_ips: &[IpAddr], draining_ips: &[IpAddr]) -> Self {
        let of_family = |ips: &[IpAddr]| ips.iter().copied().filter_map(A::of_family).collect();
        Pool { egress_ips: of_family(egress_ips), draining_ips: of_family(draining_ips) }
    }

    pub fn all(&self) -> impl Iterator<Item = A> {
        self.egress_ips.iter().chain(&self.draining_ips).copied()
    }
}

impl PolicyEntry {
    /// With egress IPs of both families.
    pub fn new(
        name: impl Into<String>,
        egress_ips: &[IpAddr],
        draining_ips: &[IpAddr],
    ) -> PolicyEntry {
        let pools = Both {
            v4: Pool::new(egress_ips, draining_ips),
            v6: Pool::new(egress_ips, draining_ips),
        };
        PolicyEntry { name: name.into(), pools }
    }

    /// The egress IP of a new session of `pod`.
    pub(super) fn egress_ip<A: Address>(&self, pod: A) -> Result<A, DropReason> {
        let pool = self.pools.of::<A>();
        egress_ip::choose(pod, &pool.egress_ips).ok_or(DropReason::NoEgressIp)
    }
}

#[derive(Clone, Debug)]
pub struct NodeEntry {
    pub name: String,
    /// Which inner sources the node may send.
    pub source_cidrs: Vec<IpNet>,
}

impl PolicyTable {
    /// `policies` by id, `nodes` by tunnel address; `own_addresses`: those of both ports. `vtep_numbers`
    /// are those of the table that this one replaces.
    pub fn new(
        generation: u64,
        policies: HashMap<u32, PolicyEntry>,
        nodes: HashMap<IpAddr, NodeEntry>,
        own_addresses: Vec<IpAddr>,
        mut vtep_numbers: VtepNumbers,
    ) -> Self {
        let nodes: HashMap<Vtep, NodeEntry> =
            nodes.into_iter().map(|(vtep, node)| (vtep_numbers.number(vtep), node)).collect();
        let egress_ips = Both {
            v4: policies.values().flat_map(|policy| policy.pools.v4.all()).collect(),
            v6: policies.values().flat_map(|policy| policy.pools.v6.all()).collect(),
        };
        PolicyTable {
            generation,
            known_vteps: KnownVteps::new(nodes.keys().copied(), &vtep_numbers),
            vtep_numbers,
            egress_ips,
            policies,
            nodes,
            own_addresses,
        }
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
    #[inline(always)]
    pub fn egress_ips<A: Address>(&self) -> &AddressSet<A> {
        self.egress_ips.of()
    }

    pub fn policy(&self, id: u32) -> Option<&PolicyEntry> {
        self.policies.get(&id)
    }

    pub fn policies(&self) -> impl Iterator<Item = (u32, &PolicyEntry)> {
        self.policies.iter().map(|(id, policy)| (*id, policy))
    }

    /// The node with this tunnel address.
    pub fn node_at(&self, tunnel_address: IpAddr) -> Option<&NodeEntry> {
        self.nodes
            .iter()
            .find_map(|(vtep, node)| (self.vtep_address(*vtep) == tunnel_address).then_some(node))
    }

    /// All nodes, each with its tunnel address.
    pub fn nodes(&self) -> impl Iterator<Item = (Vtep, &NodeEntry)> {
        self.nodes.iter().map(|(vtep, node)| (*vtep, node))
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The VTEP of a node with this IPv6 tunnel address.
    #[inline]
    pub fn vtep_v6(&self, address: Ipv6Addr) -> Option<Vtep> {
        self.known_vteps.find(address)
    }

    #[inline]
    pub fn vtep_address(&self, vtep: Vtep) -> IpAddr {
        self.vtep_numbers.address(vtep)
    }

    pub fn vtep_numbers(&self) -> &VtepNumbers {
        &self.vtep_numbers
    }

    /// Whether `vtep` is a node that may send packets of `pod`.
    pub(super) fn check_source<A: Address>(&self, vtep: Vtep, pod: A) -> Result<(), DropReason> {
        let node = self.nodes.get(&vtep).ok_or(DropReason::UnknownNode)?;
        let pod: IpAddr = pod.into();
        if node.source_cidrs.iter().any(|cidr| cidr.contains(&pod)) {
            Ok(())
        } else {
            Err(DropReason::SpoofedSource)
        }
    }

    /// Whether a packet may be sent to `destination` through a router, away from this gateway.
    pub(super) fn check_destination<A: Address>(&self, destination: A) -> Result<(), DropReason> {
        if self.egress_ips.of::<A>().contains(destination) {
            return Err(DropReason::Hairpin);
        }
        if !destination.is_routable() || self.own_addresses.contains(&destination.into()) {
            return Err(DropReason::DestinationInvalid);
        }
        Ok(())
    }

    /// Whether policy `id` is here and has `egress_ip`, draining or not.
    pub(super) fn has_egress_ip<A: Address>(&self, id: u32, egress_ip: A) -> bool {
        let policy = self.policies.get(&id);
        policy.is_some_and(|policy| policy.pools.of::<A>().all().any(|ip| ip == egress_ip))
    }

    /// Whether a session that began under older policies may go on.
    pub fn allows<A: Address>(&self, session: &SessionView<'_, A>) -> bool {
        self.has_egress_ip(session.policy(), session.external().address)
            && self.check_source(session.vtep(), session.internal().address).is_ok()
            && self.check_destination(session.remote().address).is_ok()
    }
}
