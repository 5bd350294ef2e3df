//! The gateways of an egress policy and the addresses that it has there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::document::Egress;
use crate::path::Path;
use crate::reader::{Report, Value};
use crate::validate::Claims;
use crate::values::{distinct, host_address};

pub(super) fn list(
    list: Option<Value<'_>>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Vec<Egress> {
    let Some(list) = list else { return Vec::new() };
    let mut first_uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut entries = Vec::new();
    for (index, item) in list.items(report).enumerate() {
        let Some(entry) = egress(&item, claims, report) else { continue };
        if let Some(first) = first_uses.get(&entry.gateway) {
            let first = Path::Index(&list.path, *first);
            let reason = format!("{first} is for gateway {} as well", entry.gateway);
            report.error(item.path, reason, "put all of its egress IPs in one entry");
        }
        first_uses.entry(entry.gateway.clone()).or_insert(index);
        entries.push(entry);
    }
    entries
}

fn egress(value: &Value<'_>, claims: &mut Claims, report: &mut Report<'_>) -> Option<Egress> {
    let fields = value.fields(&["gateway", "egressIPs", "drainingIPs"], report)?;
    let gateway = fields.required("gateway", report);
    let gateway = gateway.and_then(|name| Some((name.text(report)?, name.path)));
    if let Some((name, path)) = gateway {
        claims.gateway_references.push(report.claim(name.to_owned(), path));
    }

    let active = fields.optional("egressIPs");
    let draining = fields.optional("drainingIPs");
    if [&active, &draining].iter().all(|list| list.as_ref().is_none_or(Value::is_empty_list)) {
        let hint = "an entry without egressIPs is for draining: it needs drainingIPs";
        report.error(fields.path_of("egressIPs"), "needs at least one address", hint);
    }
    let active = addresses(active.as_ref(), report);
    let draining = addresses(draining.as_ref(), report);
    for (address, path) in &draining {
        if active.iter().any(|(other, _)| other == address) {
            let reason = format!("{address} is in egressIPs as well");
            report.error(*path, reason, "an address takes new sessions or drains: remove one");
        }
    }

    let (gateway, _) = gateway?;
    for (address, path) in active.iter().chain(&draining) {
        claims.egress_ips.push(report.claim((*address, gateway.to_owned()), *path));
    }
    Some(Egress {
        gateway: gateway.to_owned(),
        egress_ips: active.into_iter().map(|(address, _)| address).collect(),
        draining_ips: draining.into_iter().map(|(address, _)| address).collect(),
    })
}

fn addresses<'v>(list: Option<&'v Value<'v>>, report: &mut Report<'_>) -> Vec<(IpAddr, Path<'v>)> {
    let Some(list) = list else { return Vec::new() };
    let addresses = distinct(list, host_address, report).into_iter();
    addresses.map(|(address, index)| (address, Path::Index(&list.path, index))).collect()
}
