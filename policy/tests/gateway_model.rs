//! What a gateway takes and refuses, against the rule as it is written, for random sets and limits.
//!
//! The rule: a gateway takes the policies that name it, by ascending id, with their addresses there;
//! and refuses the whole set when one of these addresses is its own, a router's, or in none of its
//! egress prefixes. [`naive`] follows that sentence and shares no code with the compiler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::*;
use ipnet::IpNet;
use policy::{GatewayLimits, compile_gateway};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// What a policy has at each gateway: addresses, and whether each drains. They are numbers, as is the
/// gateway.
type Uses = BTreeMap<u8, BTreeMap<u8, bool>>;

/// Each gateway has addresses of its own, every second one IPv6.
fn address(gateway: u8, number: u8) -> IpAddr {
    let text = match number % 2 {
        0 => format!("203.0.{gateway}.{number}"),
        _ => format!("2001:db8:{gateway}::{number:x}"),
    };
    text.parse().unwrap()
}

#[derive(Debug, Clone)]
struct Limits {
    prefixes: Vec<(u8, u8)>,
    own: Vec<u8>,
    next_hops: Vec<u8>,
}

impl Limits {
    /// Gateway 0's. A prefix holds the addresses that have its number's leading bits.
    fn real(&self) -> GatewayLimits {
        let prefix = |&(number, free): &(u8, u8)| {
            let bits = if number % 2 == 0 { 32 } else { 128 };
            IpNet::new(address(0, number), bits - free).unwrap().trunc()
        };
        let addresses = |numbers: &[u8]| numbers.iter().map(|&n| address(0, n)).collect();
        GatewayLimits {
            egress_prefixes: self.prefixes.iter().map(prefix).collect(),
            own_addresses: addresses(&self.own),
            next_hops: addresses(&self.next_hops),
        }
    }

    fn allow(&self, number: u8) -> bool {
        let same = |&(other, free): &(u8, u8)| {
            number % 2 == other % 2 && u32::from(number) >> free == u32::from(other) >> free
        };
        self.prefixes.iter().any(same)
            && !self.own.contains(&number)
            && !self.next_hops.contains(&number)
    }
}

/// Id, addresses and draining addresses of each policy at gateway 0; or the refused addresses.
type Compiled = Result<Vec<(u32, Vec<IpAddr>, Vec<IpAddr>)>, BTreeSet<(String, IpAddr)>>;

fn naive(policies: &[Uses], limits: &Limits) -> Compiled {
    let mut taken = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for (index, uses) in policies.iter().enumerate() {
        let Some(here) = uses.get(&0) else { continue };
        let side = |wanted: bool| {
            let of_side = here.iter().filter(|(_, drains)| **drains == wanted);
            of_side.map(|(number, _)| address(0, *number)).collect::<Vec<_>>()
        };
        taken.insert(id(index), (side(false), side(true)));
        for number in here.keys().filter(|number| !limits.allow(**number)) {
            refused.insert((format!("EgressPolicy/p{index}"), address(0, *number)));
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(taken.into_iter().map(|(id, (active, draining))| (id, active, draining)).collect())
}

/// Ids in an order of their own.
fn id(index: usize) -> u32 {
    100 - index as u32
}

fn policy_text(index: usize, uses: &Uses) -> String {
    let entry = |(gateway, addresses): (&u8, &BTreeMap<u8, bool>)| {
        let side = |wanted: bool| {
            let of_side = addresses.iter().filter(|(_, drains)| **drains == wanted);
            let texts = of_side.map(|(number, _)| format!("\"{}\"", address(*gateway, *number)));
            texts.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{{gateway: gw-{gateway}, egressIPs: [{}], drainingIPs: [{}]}}",
            side(false),
            side(true)
        )
    };
    let entries: Vec<String> = uses.iter().map(entry).collect();
    let line = format!("egress: [{}]\npolicyID: {}", entries.join(", "), id(index));
    policy_with(&format!("p{index}"), &spec_with(&line))
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = || vec(1u8..32, 0..2);
    (vec((1u8..32, 0u8..6), 0..4), some(), some()).prop_map(|(prefixes, own, next_hops)| Limits {
        prefixes,
        own,
        next_hops,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_gateway_takes_and_refuses_by_the_rule(
        policies in vec(btree_map(0u8..3, btree_map(1u8..32, any::<bool>(), 1..4), 1..3), 0..6),
        limits in limits(),
    ) {
        let gateway = |index: u8| {
            GATEWAY.replace("gw-a", &format!("gw-{index}")).replace("2.10", &format!("2.{index}"))
        };
        let policy = |(index, uses): (usize, &Uses)| policy_text(index, uses);
        let texts: Vec<String> = policies.iter().enumerate().map(policy).collect();
        let texts: Vec<String> = (0..3).map(gateway).chain(texts).collect();
        let documents: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (set, _) = load_good(&documents);
        // The tunnel address must be among the gateway's own, when these are known.
        let mut real = limits.real();
        real.own_addresses.push("192.0.2.0".parse().unwrap());
        let compiled: Compiled = match compile_gateway(&set, "gw-0", &real) {
            Ok(compiled) => Ok(compiled
                .policies
                .into_iter()
                .map(|policy| (policy.id.get(), policy.egress_ips, policy.draining_ips))
                .collect()),
            Err(errors) => Err(errors
                .into_iter()
                .map(|error| {
                    let address = error.reason.split(' ').next().unwrap().parse().unwrap();
                    (error.document, address)
                })
                .collect()),
        };
        prop_assert_eq!(compiled, naive(&policies, &limits));
    }
}
