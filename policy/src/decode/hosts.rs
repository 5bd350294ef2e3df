//! The specs of gateways, nodes and endpoints.

use std::net::IpAddr;

use crate::document::{EndpointSpec, GatewaySpec, NodeSpec, SourceCheck};
use crate::path::Path;
use crate::reader::{Fields, Report, Value};
use crate::validate::Claims;
use crate::values::{cidrs, distinct, host_address};

pub(super) fn gateway(
    value: &Value<'_>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<GatewaySpec> {
    let fields = value.fields(&["tunnelAddress"], report)?;
    Some(GatewaySpec { tunnel_address: tunnel_address(&fields, claims, report)? })
}

pub(super) fn node(
    value: &Value<'_>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<NodeSpec> {
    let known = ["tunnelAddress", "podCIDRs", "sourceCheck", "clusterCIDRs"];
    let fields = value.fields(&known, report)?;
    let tunnel_address = tunnel_address(&fields, claims, report);
    let checks = [("NodeCIDR", SourceCheck::NodeCIDR), ("ClusterCIDR", SourceCheck::ClusterCIDR)];
    let written = fields.optional("sourceCheck");
    let source_check = match &written {
        Some(value) => value.choice(&checks, report),
        None => Some(SourceCheck::default()),
    };

    let mut list = |field: &str, checked_by: SourceCheck| {
        let value = fields.optional(field);
        if value.as_ref().is_none_or(Value::is_empty_list) && source_check == Some(checked_by) {
            let reason = "needs at least one CIDR: without one no packet of the node is accepted";
            report.error(fields.path_of(field), reason, "list the ranges of its pods");
        }
        cidrs(value, report)
    };
    let pod_cidrs = list("podCIDRs", SourceCheck::NodeCIDR);
    let cluster_cidrs = list("clusterCIDRs", SourceCheck::ClusterCIDR);
    Some(NodeSpec {
        tunnel_address: tunnel_address?,
        pod_cidrs,
        source_check: source_check?,
        cluster_cidrs,
    })
}

fn tunnel_address(
    fields: &Fields<'_>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<IpAddr> {
    let value = fields.required("tunnelAddress", report)?;
    let address = host_address(&value, report)?;
    claims.tunnel_addresses.push(report.claim(address, value.path));
    Some(address)
}

pub(super) fn endpoint(
    value: &Value<'_>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<EndpointSpec> {
    let fields = value.fields(&["ips", "node"], report)?;
    let list = fields.required_list("ips", report);
    let ips = list.map(|list| {
        let ips = distinct(&list, host_address, report);
        for (ip, index) in &ips {
            claims.endpoint_ips.push(report.claim(*ip, Path::Index(&list.path, *index)));
        }
        ips.into_iter().map(|(ip, _)| ip).collect()
    });
    let node = fields.optional("node");
    let node = node.and_then(|node| Some((node.text(report)?.to_owned(), node.path)));
    if let Some((name, path)) = &node {
        claims.node_references.push(report.claim(name.clone(), *path));
    }
    Some(EndpointSpec { ips: ips.unwrap_or_default(), node: node.map(|(name, _)| name) })
}
