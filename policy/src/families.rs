//! Address families that do not meet: packets of one, and only addresses of the other to send them with.

use crate::cover::Cover;
use crate::document::{Egress, EgressGateway, EgressPolicy, PolicySet};
use crate::error::Warning;

fn family(is_v6: bool) -> &'static str {
    if is_v6 { "IPv6" } else { "IPv4" }
}

/// Destinations of a family in which a gateway of the policy has nothing to send from.
pub(crate) fn missing_egress_ips(policy: &EgressPolicy, warnings: &mut Vec<Warning>) {
    let spec = &policy.spec;
    let excluded = Cover::new(&spec.excluded_cidrs);
    for is_v6 in [false, true] {
        let selects = spec.destination_cidrs.iter().any(|destination| {
            destination.addr().is_ipv6() == is_v6 && excluded.containing(*destination).is_none()
        });
        if !selects {
            continue;
        }
        let family = family(is_v6);
        for (index, Egress { gateway, egress_ips, .. }) in spec.egress.iter().enumerate() {
            // A gateway that only drains takes no new flows of either family, as is meant.
            if egress_ips.is_empty() || egress_ips.iter().any(|ip| ip.is_ipv6() == is_v6) {
                continue;
            }
            warnings.push(Warning {
                file: None,
                document: policy.reference(),
                path: format!(".spec.egress[{index}].egressIPs"),
                reason: format!(
                    "the policy selects {family} destinations, but gateway {gateway} has no \
                     {family} egress IP in it: these packets are dropped"
                ),
                hint: "add one, or remove the destinations of that family".to_owned(),
            });
        }
    }
}

/// Nodes that some gateways cannot be reached from: an outer packet has both tunnel addresses.
pub(crate) fn tunnel_ends(set: &PolicySet, warnings: &mut Vec<Warning>) {
    const SHOWN: usize = 3;
    for node in &set.nodes {
        let address = node.spec.tunnel_address;
        let others = set
            .gateways
            .iter()
            .filter(|gateway| gateway.spec.tunnel_address.is_ipv6() != address.is_ipv6());
        let mut names: Vec<&str> = others.map(EgressGateway::name).collect();
        if names.is_empty() {
            continue;
        }
        if names.len() > SHOWN {
            names.truncate(SHOWN);
            names.push("others");
        }
        warnings.push(Warning {
            file: None,
            document: node.reference(),
            path: ".spec.tunnelAddress".to_owned(),
            reason: format!(
                "{address} is {}, and the tunnel address of {} is {}: no packet gets from one to \
                 the other",
                family(address.is_ipv6()),
                names.join(", "),
                family(address.is_ipv4()),
            ),
            hint: "write addresses of one family in both".to_owned(),
        });
    }
}
