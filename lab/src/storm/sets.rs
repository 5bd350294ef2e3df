//! The policy sets of a storm. Those of a run differ from one to the next in all that a set can differ in, and yet all allow the flows that must
//! not notice.

use std::fmt::{Display, Write};
use std::net::IpAddr;

use crate::family::Dual;
use crate::site::{CRAWLER, Site};
use crate::stack::egress_ips;
use anyhow::{Context, Result};

/// What differs between two sets besides their step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether the policy that comes and goes is there.
    pub web: bool,
    /// Whether the payments' egress IPs are others than those that their flows have: what no set of a storm may do to flows that must not
    /// notice.
    pub replaced: bool,
}

pub(super) const PAYMENTS_IP: Dual = egress_ip(0);
pub(super) const CRAWLER_IP: Dual = egress_ip(1);
/// Of pod-b, in the sets that have it.
pub(super) const WEB_IP: Dual = egress_ip(2);
/// Comes to the payments' pool and goes.
pub(super) const PAYMENTS_OTHER_IP: Dual = egress_ip(3);
const FIRST_OF_OTHERS: u8 = 4;
const LAST: u8 = 15;

/// Of policies of nobody's flows.
pub(super) fn others() -> impl Iterator<Item = Dual> {
    (FIRST_OF_OTHERS..=LAST).map(egress_ip)
}

const fn egress_ip(number: u8) -> Dual {
    let v6 = [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10 + number as u16];
    Dual::new([203, 0, 113, 16 + number], v6)
}

/// Policies of nobody's flows.
const OTHERS: u32 = 8;

/// The whole set of a step.
pub(super) fn documents(site: Site, step: u32, shape: Shape) -> Result<String> {
    let mut policies = vec![payments(step, shape)?, CRAWLER.to_owned()];
    if shape.web {
        policies.push(policy("shop-web", "web", step, &["0.0.0.0/0", "::/0"], &[WEB_IP], &[])?);
    }
    for other in 0..OTHERS {
        policies.extend(another(other, mix(step, other))?);
    }
    // the order of documents decides between policies that are equal otherwise
    let first = mix(step, OTHERS) as usize % policies.len();
    policies.rotate_left(first);
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    Ok(site.documents(&policies))
}

/// Their egress IP is always in the pool, alone or not, or drains.
fn payments(step: u32, shape: Shape) -> Result<String> {
    let (active, draining): (&[Dual], &[Dual]) = match step % 4 {
        _ if shape.replaced => (&[PAYMENTS_OTHER_IP], &[]),
        0 => (&[PAYMENTS_IP], &[]),
        1 => (&[PAYMENTS_IP, PAYMENTS_OTHER_IP], &[]),
        2 => (&[PAYMENTS_OTHER_IP], &[PAYMENTS_IP]),
        _ => (&[PAYMENTS_OTHER_IP, PAYMENTS_IP], &[]),
    };
    policy("shop-payments", "payments", step, &["0.0.0.0/0", "::/0"], active, draining)
}

/// A policy that selects pods with flows, for destinations that these have none to. `None`: it is absent this time.
fn another(number: u32, random: u64) -> Result<Option<String>> {
    if random & 3 == 0 {
        return Ok(None);
    }
    let size = 1 + (random >> 8) as u8 % 4;
    let first = FIRST_OF_OTHERS + (random >> 16) as u8 % (LAST + 1 - FIRST_OF_OTHERS - size);
    let pool: Vec<Dual> = (first..first + size).map(egress_ip).collect();
    let net = (random >> 24) as u8;
    let cidrs = [format!("198.18.{net}.0/24"), format!("2001:db8:18:{net:x}::/64")];
    let cidrs = cidrs.each_ref().map(String::as_str);
    let app = ["payments", "crawler", "web"][(random >> 32) as usize % 3];
    policy(&format!("other-{number}"), app, (random >> 40) as u32, &cidrs, &pool, &[]).map(Some)
}

fn policy(
    name: &str,
    app: &str,
    step: u32,
    cidrs: &[&str],
    active: &[Dual],
    draining: &[Dual],
) -> Result<String> {
    let mut text = format!(
        "apiVersion: egress-gateway.io/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}}}
spec:
  selectors:
  - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: shop}}}}
    podSelector: {{matchLabels: {{app: {app}}}}}
  destinationCIDRs: {}
  priority: {}
  egress:
  - gateway: gw-a
    egressIPs: {}
",
        list(cidrs),
        step % 5,
        list(&addresses(active)),
    );
    if !draining.is_empty() {
        writeln!(text, "    drainingIPs: {}", list(&addresses(draining)))?;
    }
    Ok(text)
}

fn addresses(pool: &[Dual]) -> Vec<IpAddr> {
    pool.iter().flat_map(|ip| ip.both()).collect()
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

/// SplitMix64 of both: a storm is the same in every run.
fn mix(step: u32, number: u32) -> u64 {
    let mut x = (u64::from(step) << 32 | u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The id of the policy that has this egress IP in these documents.
pub(super) fn policy_of(documents: &str, egress_ip: IpAddr) -> Result<(u32, String)> {
    let all = egress_ips(documents)?;
    let found = all.into_iter().find(|(address, ..)| *address == egress_ip);
    let (_, id, name) = found.with_context(|| format!("no policy has {egress_ip}"))?;
    Ok((id, name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use policy::{Format, GatewayLimits, compile_gateway};

    use super::*;

    #[test]
    fn every_set_is_sound_and_differs_from_the_one_before() {
        let web = Shape { web: true, replaced: false };
        let mut sets = BTreeSet::new();
        for step in 0..100 {
            let text = documents(Site::default(), step, web).unwrap();
            let (set, _) = policy::parse(&text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"));
            let prefixes = ["203.0.113.16/28", "2001:db8:113::10/124"];
            let limits = GatewayLimits {
                egress_prefixes: prefixes.map(|prefix| prefix.parse().unwrap()).to_vec(),
                ..GatewayLimits::default()
            };
            compile_gateway(&set, "gw-a", &limits).unwrap();
            for address in PAYMENTS_IP.both() {
                assert_eq!(policy_of(&text, address).unwrap().1, "shop-payments");
            }
            assert!(sets.insert(text));
        }
    }
}
