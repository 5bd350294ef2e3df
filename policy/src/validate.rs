//! What the documents of one load must agree on.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::net::IpAddr;
use std::rc::Rc;

use crate::document::{PolicySpec, Spec};
use crate::error::{Errors, PolicyError, Warning};
use crate::id::PolicyId;
use crate::path::Path;
use crate::reader::Report;
use crate::values::is_name;

/// Which document something is said in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: Option<String>,
    /// What messages call it: its kind and name, or its number.
    pub(crate) name: String,
    /// Counted from 1 in its text.
    pub(crate) number: usize,
}

/// Something a document says that concerns others, and where it says so.
#[derive(Debug)]
pub(crate) struct Claim<T> {
    pub(crate) value: T,
    pub(crate) origin: Rc<Origin>,
    pub(crate) path: String,
}

/// All that the documents say that concerns others, in document order.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// What the set calls documents, and the first that is called so.
    documents: BTreeMap<String, Rc<Origin>>,
    /// Policies that are written as Cilium's: for each entry of `spec.egress`, where it is from.
    pub(crate) converted: BTreeMap<String, Vec<String>>,
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

impl Origin {
    /// Its name, and its file where a reader of the other's errors would look for it in vain.
    fn seen_from(&self, other: &Origin) -> String {
        match &self.file {
            Some(file) if self.file != other.file => format!("{} of {file}", self.name),
            Some(_) | None => self.name.clone(),
        }
    }
}

impl<T> Claim<T> {
    fn error(&self, reason: impl Into<String>, hint: impl Into<String>) -> PolicyError {
        PolicyError {
            file: self.origin.file.clone(),
            document: self.origin.name.clone(),
            path: self.path.clone(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

impl Claims {
    /// Notes the document that the report is about, by the name that the set has for it. False, with
    /// an error, when an earlier one has the same.
    pub(crate) fn document(&mut self, reference: String, report: &mut Report<'_>) -> bool {
        match self.documents.entry(reference) {
            Entry::Vacant(entry) => {
                entry.insert(Rc::clone(&report.origin));
                true
            }
            Entry::Occupied(first) => {
                let reason = same_name(first.get(), &report.origin);
                report.error(NAME, reason, "rename one, or remove it");
                false
            }
        }
    }

    /// As [`Claims::locate`], of an error.
    pub(crate) fn locate_error(&self, error: PolicyError) -> PolicyError {
        let PolicyError { file, document, path, reason, hint } = error;
        let located = self.locate(Warning { file, document, path, reason, hint });
        let Warning { file, document, path, reason, hint } = located;
        PolicyError { file, document, path, reason, hint }
    }

    /// A warning about a document of the set, told of the document that was written.
    pub(crate) fn locate(&self, mut warning: Warning) -> Warning {
        let Some(origin) = self.documents.get(&warning.document) else { return warning };
        let policy = warning.document.strip_prefix(PolicySpec::KIND).map(|name| &name[1..]);
        if let Some(sources) = policy.and_then(|policy| self.converted.get(policy)) {
            let entry = warning.path.strip_prefix(".spec.egress[");
            let index = entry.and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
            if let Some(source) = index.and_then(|index| sources.get(index)) {
                warning.path.clone_from(source);
            }
        }
        warning.document.clone_from(&origin.name);
        warning.file.clone_from(&origin.file);
        warning
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
        let tunnels: BTreeMap<IpAddr, &Origin> =
            self.tunnel_addresses.iter().map(|claim| (claim.value, &*claim.origin)).collect();
        let mut first_uses: BTreeMap<IpAddr, &Claim<(IpAddr, String)>> = BTreeMap::new();
        for claim in &self.egress_ips {
            let (address, gateway) = &claim.value;
            if let Some(owner) = tunnels.get(address) {
                let reason = format!(
                    "{address} is the tunnel address of {}",
                    owner.seen_from(&claim.origin)
                );
                errors.push(claim.error(reason, "choose another address"));
            }
            let first = *first_uses.entry(*address).or_insert(claim);
            if first.value.1 != *gateway {
                let reason = format!(
                    "{address} is on gateway {gateway} here and on gateway {} in {}{}",
                    first.value.1,
                    first.origin.seen_from(&claim.origin),
                    first.path
                );
                errors.push(claim.error(reason, "an egress IP belongs to one gateway"));
            }
        }
    }

    fn check_policy_ids(&self, errors: &mut Errors) {
        let taken: BTreeSet<PolicyId> = self.policy_ids.iter().map(|claim| claim.value).collect();
        let ids = (1..=PolicyId::MAX).filter_map(PolicyId::new);
        let mut free = ids.filter(|id| !taken.contains(id));
        let mut first_uses: BTreeMap<PolicyId, &Origin> = BTreeMap::new();
        for claim in &self.policy_ids {
            let id = claim.value;
            match first_uses.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(&claim.origin);
                }
                Entry::Occupied(first) => {
                    let other = first.get().seen_from(&claim.origin);
                    let reason = format!("policy id {id} is also that of {other}");
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

const NAME: Path<'static> = Path::Key(&Path::Key(&Path::Root, "metadata"), "name");

fn same_name(first: &Origin, second: &Origin) -> String {
    let (one, two) = (first.number, second.number);
    let places = match (&first.file, &second.file) {
        (Some(file), Some(other)) if file != other => {
            format!("document {one} of {file} and document {two} of {other}")
        }
        (Some(file), _) => format!("documents {one} and {two} of {file}"),
        (None, _) => format!("documents {one} and {two}"),
    };
    if first.name == second.name {
        return format!("{places} have this name");
    }
    format!("{places} make one policy of this name: {} and {}", first.name, second.name)
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
    let mut first_uses: BTreeMap<IpAddr, &Origin> = BTreeMap::new();
    for claim in claims {
        match first_uses.entry(claim.value) {
            Entry::Vacant(entry) => {
                entry.insert(&claim.origin);
            }
            Entry::Occupied(first) => {
                let other = first.get().seen_from(&claim.origin);
                let reason = format!("{} is also that of {other}", claim.value);
                errors.push(claim.error(reason, hint));
            }
        }
    }
}
