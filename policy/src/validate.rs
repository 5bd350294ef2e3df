//! What the documents of one load must agree on.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::net::IpAddr;

use crate::error::{Errors, PolicyError};
use crate::id::PolicyId;
use crate::reader::Report;
use crate::values::is_name;

/// Something a document says that concerns others, and where it says so.
#[derive(Debug)]
pub(crate) struct Claim<T> {
    pub(crate) value: T,
    pub(crate) document: String,
    pub(crate) path: String,
}

/// All that the documents say that concerns others, in document order.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// What documents are called, and the number of the first that is called so.
    documents: BTreeMap<String, usize>,
    pub(crate) gateways: BTreeSet<String>,
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) gateway_references: Vec<Claim<String>>,
    pub(crate) node_references: Vec<Claim<String>>,
    pub(crate) tunnel_addresses: Vec<Claim<IpAddr>>,
    /// With the name of the gateway that they are on.
    pub(crate) egress_ips: Vec<Claim<(IpAddr, String)>>,
    pub(crate) endpoint_ips: Vec<Claim<IpAddr>>,
    pub(crate) policy_ids: Vec<Claim<PolicyId>>,
}

impl<T> Claim<T> {
    fn error(&self, reason: impl Into<String>, hint: impl Into<String>) -> PolicyError {
        PolicyError {
            document: self.document.clone(),
            path: self.path.clone(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

impl Claims {
    /// Notes the document that the report is about. False, with an error, when an earlier one has
    /// the same kind and name.
    pub(crate) fn document(&mut self, number: usize, report: &mut Report<'_>) -> bool {
        match self.documents.entry(report.document.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(number);
                true
            }
            Entry::Occupied(first) => {
                let reason = format!("documents {} and {number} have this name", first.get());
                report.error(".metadata.name", reason, "rename one, or remove it");
                false
            }
        }
    }

    /// Every disagreement.
    pub(crate) fn check(&self, errors: &mut Errors) {
        unknown(&self.gateway_references, &self.gateways, "EgressGateway", errors);
        unknown(&self.node_references, &self.nodes, "EgressNode", errors);
        shared(&self.tunnel_addresses, "two tunnel ends need two addresses", errors);
        shared(&self.endpoint_ips, "a packet's source must name one pod", errors);
        self.check_egress_ips(errors);
        self.check_policy_ids(errors);
    }

    /// The world's answers to an egress IP reach one gateway, so it cannot be on two.
    fn check_egress_ips(&self, errors: &mut Errors) {
        let tunnels: BTreeMap<IpAddr, &str> = self
            .tunnel_addresses
            .iter()
            .map(|claim| (claim.value, claim.document.as_str()))
            .collect();
        let mut first_uses: BTreeMap<IpAddr, &Claim<(IpAddr, String)>> = BTreeMap::new();
        for claim in &self.egress_ips {
            let (address, gateway) = &claim.value;
            if let Some(owner) = tunnels.get(address) {
                let reason = format!("{address} is the tunnel address of {owner}");
                errors.push(claim.error(reason, "choose another address"));
            }
            let first = *first_uses.entry(*address).or_insert(claim);
            if first.value.1 != *gateway {
                let reason = format!(
                    "{address} is on gateway {gateway} here and on gateway {} in {}{}",
                    first.value.1, first.document, first.path
                );
                errors.push(claim.error(reason, "an egress IP belongs to one gateway"));
            }
        }
    }

    fn check_policy_ids(&self, errors: &mut Errors) {
        let taken: BTreeSet<PolicyId> = self.policy_ids.iter().map(|claim| claim.value).collect();
        let ids = (1..=PolicyId::MAX).filter_map(PolicyId::new);
        let mut free = ids.filter(|id| !taken.contains(id));
        let mut first_uses: BTreeMap<PolicyId, &str> = BTreeMap::new();
        for claim in &self.policy_ids {
            let id = claim.value;
            match first_uses.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(&claim.document);
                }
                Entry::Occupied(first) => {
                    let reason = format!("policy id {id} is also that of {}", first.get());
                    let hint = match free.next() {
                        Some(free) => format!("set spec.policyID of one of them, as to {free}"),
                        None => "all policy ids are taken: remove policies".to_owned(),
                    };
                    errors.push(claim.error(reason, hint));
                }
            }
        }
    }
}

fn unknown(
    references: &[Claim<String>],
    known: &BTreeSet<String>,
    kind: &str,
    errors: &mut Errors,
) {
    const SHOWN: usize = 5;
    for claim in references.iter().filter(|claim| !known.contains(&claim.value)) {
        let good = known.iter().map(String::as_str).filter(|name| is_name(name));
        let names: Vec<&str> = good.take(SHOWN).collect();
        let more = if known.len() > SHOWN { ", …" } else { "" };
        let hint = match names.as_slice() {
            [] => format!("add a document of kind {kind}"),
            _ => format!("known: {}{more}", names.join(", ")),
        };
        errors.push(claim.error(format!("no {kind} is named {:?}", claim.value), hint));
    }
}

fn shared(claims: &[Claim<IpAddr>], hint: &str, errors: &mut Errors) {
    let mut first_uses: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for claim in claims {
        match first_uses.entry(claim.value) {
            Entry::Vacant(entry) => {
                entry.insert(&claim.document);
            }
            Entry::Occupied(first) => {
                let reason = format!("{} is also that of {}", claim.value, first.get());
                errors.push(claim.error(reason, hint));
            }
        }
    }
}
