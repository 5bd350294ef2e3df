//! `node-redirect list` and `/v1/map`: what is redirected where, read from the maps that the programs use.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use crate::abi;
use crate::maps::Maps;
use crate::state::Names;
use crate::table::Table;
use crate::tables::Tables;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub source_ip: IpAddr,
    #[serde(rename = "destinationCIDR")]
    pub destination_cidr: IpNet,
    pub action: Action,
    /// The gateway's pool; which of them the pod has is the gateway's choice.
    #[serde(rename = "egressIPs")]
    pub egress_ips: Vec<IpAddr>,
    /// Where the pod's new flows go.
    pub gateway: Option<String>,
    pub gateway_address: Option<IpAddr>,
    pub policy: Option<String>,
    #[serde(rename = "policyID")]
    pub policy_id: Option<u32>,
    /// Of the pod's address under the policy, all its destinations together.
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Redirect,
    Exclude,
    /// The policy has no gateway that takes new flows.
    Drop,
    /// As `drop`, and the policy says `failureMode: Open`.
    Pass,
}

pub fn rows(maps: &Maps, names: &Names) -> Result<Vec<Row>> {
    let tables = Tables::read(maps)?;
    let traffic = maps.traffic()?;
    let mut rows = Vec::new();
    for (&pod, id) in &tables.endpoints {
        let Some(set) = tables.sets.get(id) else { continue };
        for (&prefix, &action) in set.iter().filter(|(prefix, _)| is_of_family(prefix, pod)) {
            let mut row = row(&tables, names, pod, prefix, action);
            let key = abi::TrafficKey { pod: abi::address(pod), policy_id: action };
            let sum = traffic.get(&key).copied().unwrap_or_default();
            (row.packets, row.bytes) = (sum.packets, sum.bytes);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A pod's IPv6 address has nothing to do with its policies' IPv4 prefixes, though both are in one set.
fn is_of_family(prefix: &IpNet, pod: IpAddr) -> bool {
    prefix.addr().is_ipv4() == pod.is_ipv4()
}

fn row(tables: &Tables, names: &Names, pod: IpAddr, prefix: IpNet, id: u32) -> Row {
    let mut row = Row {
        source_ip: pod,
        destination_cidr: prefix,
        action: Action::Exclude,
        egress_ips: Vec::new(),
        gateway: None,
        gateway_address: None,
        policy: None,
        policy_id: None,
        packets: 0,
        bytes: 0,
    };
    if id == abi::ACTION_EXCLUDE {
        return row;
    }
    let policy = tables.policies.get(&id);
    let named = names.get(&id);
    row.policy_id = Some(id);
    row.policy = named.map(|policy| policy.name.clone());
    row.gateway_address = policy.and_then(|policy| policy.choose_gateway(pod));
    row.action = match (row.gateway_address, policy) {
        (Some(_), _) => Action::Redirect,
        (None, Some(policy)) if policy.failure_mode == abi::FAILURE_OPEN => Action::Pass,
        (None, _) => Action::Drop,
    };
    let gateway = named.and_then(|policy| {
        policy.gateways.iter().find(|gateway| Some(gateway.tunnel_address) == row.gateway_address)
    });
    if let Some(gateway) = gateway {
        row.gateway = Some(gateway.name.clone());
        row.egress_ips =
            gateway.egress_ips.iter().copied().filter(|ip| ip.is_ipv4() == pod.is_ipv4()).collect();
    }
    row
}

pub fn as_text(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "SOURCE IP",
        "DESTINATION CIDR",
        "EGRESS IP",
        "GATEWAY",
        "POLICY",
        "PACKETS",
        "BYTES",
    ]);
    for row in rows {
        let egress_ips: Vec<String> = row.egress_ips.iter().map(ToString::to_string).collect();
        table.row([
            row.source_ip.to_string(),
            row.destination_cidr.to_string(),
            if egress_ips.is_empty() { "-".to_owned() } else { egress_ips.join(",") },
            gateway_text(row),
            policy_text(row),
            row.packets.to_string(),
            row.bytes.to_string(),
        ]);
    }
    table.to_string()
}

fn gateway_text(row: &Row) -> String {
    match (row.action, &row.gateway, row.gateway_address) {
        (Action::Exclude, ..) => "Excluded CIDR".to_owned(),
        (Action::Drop, ..) => "none (dropped)".to_owned(),
        (Action::Pass, ..) => "none (by the node)".to_owned(),
        (Action::Redirect, Some(name), Some(address)) => format!("{name} ({address})"),
        (Action::Redirect, _, address) => address.map(|a| a.to_string()).unwrap_or_default(),
    }
}

fn policy_text(row: &Row) -> String {
    match (&row.policy, row.policy_id) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => format!("policy id {id}"),
        (None, None) => "-".to_owned(),
    }
}
