//! `CiliumEgressGatewayPolicy` of `cilium.io/v2`, read as a policy of ours.
//!
//! Selectors and CIDRs are the same words. What differs is who names the gateway: Cilium selects
//! nodes by their labels, and the first one by name is the gateway; here the same selectors choose
//! from the labels of the [`EgressGateway`](crate::EgressGateway) documents. `docs/cilium.md` lists
//! every difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice;

use ipnet::IpNet;

use crate::decode::selectors;
use crate::document::{Egress, FailureMode, PolicySpec};
use crate::id::PolicyId;
use crate::path::Path;
use crate::reader::{Fields, Report, Value};
use crate::selector::LabelSelector;
use crate::validate::Claims;
use crate::values::{cidrs, host_address};

pub(super) const KIND: &str = "CiliumEgressGatewayPolicy";
pub(super) const API_VERSION: &str = "cilium.io/v2";

/// Names of gateways, and their labels.
type Gateways<'t> = BTreeMap<&'t str, BTreeMap<&'t str, &'t str>>;

const KNOWN: [&str; 5] =
    ["selectors", "destinationCIDRs", "excludedCIDRs", "egressGateway", "egressGateways"];

/// As Cilium's schema has it.
const MAX_GATEWAYS: usize = 64;

/// How many exclusions those of one set may become: a destination can take 128.
const MAX_CARVED: usize = 100_000;

/// The label that every Kubernetes node bears with its own name.
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) fn read(
    value: &Value<'_>,
    name: Option<&str>,
    gateways: &Gateways<'_>,
    carved: &mut usize,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Option<PolicySpec> {
    let fields = value.fields(&KNOWN, report)?;
    let selectors = selectors::list(&fields, report);
    let destination_cidrs = cidrs(fields.required_list("destinationCIDRs", report), report);
    let excluded = cidrs(fields.optional("excludedCIDRs"), report);
    let excluded_cidrs = carve(&excluded, &destination_cidrs, carved).unwrap_or_else(|| {
        let reason = format!(
            "contain destinationCIDRs, which Cilium redirects all the same: to say so takes more \
             than {MAX_CARVED} CIDRs in this set"
        );
        let hint = "write exclusions that lie inside of the destinations";
        report.error(fields.path_of("excludedCIDRs"), reason, hint);
        Vec::new()
    });
    let egress = egress(&fields, name, gateways, claims, report);
    if let Some(name) = name {
        claims.policy_ids.push(report.claim(PolicyId::from_name(name), METADATA_NAME));
    }
    Some(PolicySpec {
        selectors,
        destination_cidrs,
        excluded_cidrs,
        priority: 0,
        egress,
        failure_mode: FailureMode::Closed,
        policy_id: None,
    })
}

/// In Cilium the longest match decides, so a destination inside of an exclusion is not excluded; here
/// an exclusion takes out all that it contains. This is what is left of the exclusions without the
/// destinations in them. `None` when that is too much.
fn carve(excluded: &[IpNet], destinations: &[IpNet], carved: &mut usize) -> Option<Vec<IpNet>> {
    let mut holes = destinations.to_vec();
    holes.sort_unstable();
    let mut left = Vec::new();
    for whole in excluded {
        // Where both are the same network the exclusion holds.
        let inside = within(&holes, *whole);
        let inside = inside.strip_prefix(slice::from_ref(whole)).unwrap_or(inside);
        if inside.is_empty() {
            left.push(*whole);
        } else {
            carve_one(*whole, inside, carved, &mut left)?;
        }
    }
    let mut seen = BTreeSet::new();
    left.retain(|network| seen.insert(*network));
    Some(left)
}

/// Halves the network until the halves are holes or have none.
fn carve_one(
    network: IpNet,
    holes: &[IpNet],
    carved: &mut usize,
    left: &mut Vec<IpNet>,
) -> Option<()> {
    match holes.first() {
        None if *carved == MAX_CARVED => None,
        None => {
            *carved += 1;
            left.push(network);
            Some(())
        }
        Some(hole) if *hole == network => Some(()),
        Some(_) => {
            let mut halves = network.subnets(network.prefix_len() + 1).ok()?;
            halves.try_for_each(|half| carve_one(half, within(holes, half), carved, left))
        }
    }
}

/// The networks that this one contains, of sorted ones: they follow each other.
fn within(sorted: &[IpNet], network: IpNet) -> &[IpNet] {
    let start = sorted.partition_point(|other| *other < network);
    let length = sorted[start..].partition_point(|other| network.contains(other));
    &sorted[start..start + length]
}

/// Where the id comes from, as there is no field for it.
const METADATA_NAME: Path<'static> = Path::Key(&Path::Key(&Path::Root, "metadata"), "name");

/// `egressGateway` and `egressGateways`, which Cilium reads as one list.
fn egress(
    fields: &Fields<'_>,
    name: Option<&str>,
    gateways: &Gateways<'_>,
    claims: &mut Claims,
    report: &mut Report<'_>,
) -> Vec<Egress> {
    let single = fields.optional("egressGateway");
    let several = fields.optional("egressGateways");
    let mut items: Vec<Value<'_>> = single.into_iter().collect();
    if let Some(several) = &several {
        let list: Vec<Value<'_>> = several.items(report).collect();
        if list.len() > MAX_GATEWAYS {
            let reason = format!("{} gateways are more than {MAX_GATEWAYS}", list.len());
            report.error(several.path, reason, "write several policies");
        }
        items.extend(list);
    }
    if items.is_empty() && several.is_none_or(|several| several.is_empty_list()) {
        report.error(fields.path_of("egressGateway"), "is required", "");
    }

    let mut entries: Vec<Egress> = Vec::new();
    let mut sources: Vec<String> = Vec::new();
    let mut first_uses: BTreeMap<IpAddr, String> = BTreeMap::new();
    for item in &items {
        let Some((gateway, address)) = gateway(item, gateways, report) else { continue };
        let path = Path::Key(&item.path, "egressIP");
        if let Some(first) = first_uses.get(&address) {
            let reason = format!("{address} is already in {first}");
            report.error(path, reason, "each gateway needs an egress IP of its own: remove one");
            continue;
        }
        first_uses.insert(address, path.to_string());
        claims.egress_ips.push(report.claim((address, gateway.to_owned()), path));
        match entries.iter_mut().find(|entry| entry.gateway == gateway) {
            Some(entry) => entry.egress_ips.push(address),
            None => {
                entries.push(Egress {
                    gateway: gateway.to_owned(),
                    egress_ips: vec![address],
                    draining_ips: Vec::new(),
                });
                sources.push(path.to_string());
            }
        }
    }
    claims.converted.extend(name.map(|name| (name.to_owned(), sources)));
    entries
}

/// The gateway that an item selects, and the address of the policy's pods there.
fn gateway<'g>(
    item: &Value<'_>,
    gateways: &Gateways<'g>,
    report: &mut Report<'_>,
) -> Option<(&'g str, IpAddr)> {
    let fields = item.fields(&["nodeSelector", "interface", "egressIP"], report)?;
    let address = egress_ip(&fields, report);
    let selector = fields.required("nodeSelector", report)?;
    let wanted = selectors::label_selector(&selector, report)?;
    // The names are sorted, so this is the one that Cilium takes, too.
    let found = gateways.iter().find(|(name, labels)| selects(&wanted, name, labels));
    if found.is_none() {
        report.error(selector.path, "no EgressGateway has these labels", known(gateways));
    }
    Some((found?.0, address?))
}

fn egress_ip(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<IpAddr> {
    let address = fields.optional("egressIP");
    if let Some(interface) = fields.optional("interface") {
        let (reason, hint) = match address {
            Some(_) => ("and egressIP exclude each other, in Cilium as well", "remove it"),
            None => (
                "is not supported: a gateway claims its egress IPs, and takes none from a device",
                "write egressIP with an address of the gateway's egress_prefixes",
            ),
        };
        report.error(interface.path, reason, hint);
    } else if address.is_none() {
        let reason = "is required here: there is no default route's address to take instead";
        let hint = "write an address of the gateway's egress_prefixes";
        report.error(fields.path_of("egressIP"), reason, hint);
    }
    host_address(&address?, report)
}

fn selects(selector: &LabelSelector, name: &str, labels: &BTreeMap<&str, &str>) -> bool {
    selector.matches(|key| match labels.get(key) {
        Some(value) => Some(value),
        None if key == HOSTNAME => Some(name),
        None => None,
    })
}

/// What could have been selected.
fn known(gateways: &Gateways<'_>) -> String {
    const SHOWN: usize = 5;
    if gateways.is_empty() {
        return "add documents of kind EgressGateway, with labels".to_owned();
    }
    let gateway = |(name, labels): (&&str, &BTreeMap<&str, &str>)| {
        let labels: Vec<String> =
            labels.iter().take(SHOWN).map(|(key, value)| format!("{key}={value}")).collect();
        let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
        format!("{name} ({labels})")
    };
    let shown: Vec<String> = gateways.iter().take(SHOWN).map(gateway).collect();
    let more = if gateways.len() > SHOWN { "; …" } else { "" };
    format!("known: {}{more}", shown.join("; "))
}
