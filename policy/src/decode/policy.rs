//! The spec of an egress policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::document::{Egress, FailureMode, PolicySpec};
use crate::id::PolicyId;
use crate::reader::{Fields, Report, Value};
use crate::selector::{LabelSelector, Operator, Requirement, Selector};
use crate::validate::Claims;
use crate::values::{self, cidr, distinct, host_address};

const KNOWN: [&str; 7] = [
    "selectors",
    "destinationCIDRs",
    "excludedCIDRs",
    "priority",
    "egress",
    "failureMode",
    "policyID",
];

/// Fields that have a meaning to come. Accepting them would promise what does not happen.
const RESERVED: [&str; 3] = ["rateLimit", "destinationSets", "natMode"];

pub(super) fn read(
    value: &Value<'_>,
    name: Option<&str>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<PolicySpec> {
    let fields = value.map(report)?;
    fields.refuse_unknown(&[&KNOWN[..], &RESERVED].concat(), report);
    for reserved in RESERVED.iter().filter_map(|key| fields.optional(key)) {
        let reason = "is reserved for a later version, and this one would not obey it";
        report.error(reserved.path, reason, "remove it");
    }

    let selectors = fields.required_list("selectors", report);
    let selectors = selectors.map(|list| list.items(report)).unwrap_or_default();
    let selectors = selectors.iter().filter_map(|item| selector(item, report)).collect();
    let destinations = distinct(fields.required_list("destinationCIDRs", report), cidr, report);
    let excluded = distinct(fields.optional("excludedCIDRs"), cidr, report);
    let priority = fields.optional("priority");
    let priority = priority.and_then(|value| value.integer(i32::MIN..=i32::MAX, report));
    let egress = egress_list(fields.required_list("egress", report), claims, report);
    let modes = [("Closed", FailureMode::Closed), ("Open", FailureMode::Open)];
    let mode = fields.optional("failureMode").and_then(|value| value.choice(&modes, report));
    Some(PolicySpec {
        selectors,
        destination_cidrs: destinations.into_iter().map(|(cidr, _)| cidr).collect(),
        excluded_cidrs: excluded.into_iter().map(|(cidr, _)| cidr).collect(),
        priority: priority.unwrap_or(0),
        egress,
        failure_mode: mode.unwrap_or_default(),
        policy_id: policy_id(&fields, name, claims, report),
    })
}

/// The id as written. The one that the policy has, written or not, must be its own.
fn policy_id(
    fields: &Fields<'_>,
    name: Option<&str>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<PolicyId> {
    let written = fields.optional("policyID");
    let id = match &written {
        Some(value) => PolicyId::new(value.integer(1..=PolicyId::MAX, report)?),
        None => name.map(PolicyId::from_name),
    }?;
    claims.policy_ids.push(report.claim(id, fields.path_of("policyID")));
    written.map(|_| id)
}

fn egress_list(
    list: Option<Value<'_>>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Vec<Egress> {
    let mut first_uses: BTreeMap<String, String> = BTreeMap::new();
    let mut entries = Vec::new();
    for item in list.map(|list| list.items(report)).unwrap_or_default() {
        let Some(entry) = egress(&item, claims, report) else { continue };
        if let Some(first) = first_uses.get(&entry.gateway) {
            let reason = format!("{first} is for gateway {} as well", entry.gateway);
            report.error(&item.path, reason, "put all of its egress IPs in one entry");
        }
        first_uses.entry(entry.gateway.clone()).or_insert(item.path);
        entries.push(entry);
    }
    entries
}

fn egress(value: &Value<'_>, claims: &mut Claims, report: &mut Report<'_>) -> Option<Egress> {
    let fields = value.fields(&["gateway", "egressIPs", "drainingIPs"], report)?;
    let gateway = fields.required("gateway", report);
    let gateway = gateway.and_then(|name| Some((name.text(report)?, name.path)));
    if let Some((name, path)) = &gateway {
        claims.gateway_references.push(report.claim((*name).to_owned(), path));
    }

    let active = fields.optional("egressIPs");
    let draining = fields.optional("drainingIPs");
    if [&active, &draining].iter().all(|list| list.as_ref().is_none_or(Value::is_empty_list)) {
        let hint = "an entry without egressIPs is for draining: it needs drainingIPs";
        report.error(fields.path_of("egressIPs"), "needs at least one address", hint);
    }
    let active = distinct(active, host_address, report);
    let draining = distinct(draining, host_address, report);
    for (address, path) in &draining {
        if active.iter().any(|(other, _)| other == address) {
            let reason = format!("{address} is in egressIPs as well");
            report.error(path, reason, "an address takes new sessions or drains: remove one");
        }
    }

    let (gateway, _) = gateway?;
    for (address, path) in active.iter().chain(&draining) {
        claims.egress_ips.push(report.claim((*address, gateway.to_owned()), path));
    }
    let addresses = |list: Vec<(IpAddr, String)>| list.into_iter().map(|(ip, _)| ip).collect();
    Some(Egress {
        gateway: gateway.to_owned(),
        egress_ips: addresses(active),
        draining_ips: addresses(draining),
    })
}

fn selector(value: &Value<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let fields = value.fields(&["namespaceSelector", "podSelector"], report)?;
    let namespaces = fields.optional("namespaceSelector");
    let pods = fields.optional("podSelector");
    if namespaces.is_none() && pods.is_none() {
        let hint = "to select every pod write podSelector: {}";
        report.error(&value.path, "needs a podSelector or a namespaceSelector", hint);
    }
    Some(Selector {
        namespace_selector: namespaces.and_then(|part| label_selector(&part, report)),
        pod_selector: pods.and_then(|part| label_selector(&part, report)),
    })
}

fn label_selector(value: &Value<'_>, report: &mut Report<'_>) -> Option<LabelSelector> {
    let fields = value.fields(&["matchLabels", "matchExpressions"], report)?;
    let match_labels = values::labels(fields.optional("matchLabels"), report);
    let expressions = fields.optional("matchExpressions");
    let expressions = expressions.map(|list| list.items(report)).unwrap_or_default();
    let match_expressions =
        expressions.iter().filter_map(|item| requirement(item, report)).collect();
    Some(LabelSelector { match_labels, match_expressions })
}

fn requirement(value: &Value<'_>, report: &mut Report<'_>) -> Option<Requirement> {
    let fields = value.fields(&["key", "operator", "values"], report)?;
    let key = fields.required("key", report).and_then(|key| {
        let text = key.text(report)?;
        values::check_label_key(text, &key.path, report);
        Some(text.to_owned())
    });
    let operators = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let operator = fields.required("operator", report);
    let operator = operator.and_then(|operator| operator.choice(&operators, report));

    let list = fields.optional("values");
    let is_empty = list.as_ref().is_none_or(Value::is_empty_list);
    match operator {
        Some(Operator::In | Operator::NotIn) if is_empty => {
            report.error(fields.path_of("values"), "In and NotIn need at least one value", "");
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !is_empty => {
            let hint = "remove them, or write In or NotIn";
            report.error(fields.path_of("values"), "Exists and DoesNotExist take no values", hint);
        }
        _ => {}
    }
    let items = list.map(|list| list.items(report)).unwrap_or_default();
    let values = items.iter().filter_map(|item| values::label_value(item, report)).collect();
    Some(Requirement { key: key?, operator: operator?, values })
}
