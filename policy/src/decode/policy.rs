//! The spec of an egress policy.

use crate::decode::{egress, selectors};
use crate::document::{FailureMode, PolicySpec};
use crate::id::PolicyId;
use crate::reader::{Fields, Report, Value};
use crate::validate::Claims;
use crate::values::cidrs;

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

    let selectors = selectors::list(&fields, report);
    let destination_cidrs = cidrs(fields.required_list("destinationCIDRs", report), report);
    let excluded_cidrs = cidrs(fields.optional("excludedCIDRs"), report);
    let priority = fields.optional("priority");
    let priority = priority.and_then(|value| value.integer(i32::MIN..=i32::MAX, report));
    let egress = egress::list(fields.required_list("egress", report), claims, report);
    let modes = [("Closed", FailureMode::Closed), ("Open", FailureMode::Open)];
    let mode = fields.optional("failureMode").and_then(|value| value.choice(&modes, report));
    Some(PolicySpec {
        selectors,
        destination_cidrs,
        excluded_cidrs,
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
