//! How long a set takes from text to tables, and back to text: 10,000 policies with 100 CIDRs each.
//!
//! ```text
//! cargo bench -p policy                  ten runs of each step: the shortest, and the median
//! cargo bench -p policy -- 1000 100      1,000 policies with 100 CIDRs
//! ```

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "its figures are its output")]

use std::fmt::Write;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use policy::{Format, GatewayLimits, compile_gateway, compile_node, parse};

const RUNS: usize = 10;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (policies, cidrs) = match numbers.as_slice() {
        [policies, cidrs, ..] => (*policies, *cidrs),
        _ => (10_000, 100),
    };
    let yaml = documents(policies, cidrs, |policy| format!("app: team-{policy}"));
    let set = parse(&yaml, Format::Yaml).unwrap().0;
    let json = serde_json::to_string(&set).unwrap();
    let limits = GatewayLimits {
        egress_prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        ..GatewayLimits::default()
    };

    println!("{policies} policies with {cidrs} CIDRs, {:.1} MB of YAML", yaml.len() as f64 / 1e6);
    measure("parse YAML", || parse(&yaml, Format::Yaml).unwrap());
    measure("parse JSON", || parse(&json, Format::Json).unwrap());
    measure("compile for a gateway", || compile_gateway(&set, "gw-a", &limits).unwrap());
    measure("compile for a node", || compile_node(&set, "node1"));
    measure("write YAML", || set.to_yaml());
    let yaml = documents(policies, cidrs, |_| "tier: back".to_owned());
    measure("parse YAML, same pods", || parse(&yaml, Format::Yaml).unwrap());
}

fn measure<T>(step: &str, run: impl Fn() -> T) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            let result = black_box(run());
            let time = started.elapsed();
            drop(result);
            time
        })
        .collect();
    times.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{step:<22} {:>8.1} ms at best, {:>8.1} ms in the middle",
        milliseconds(times[0]),
        milliseconds(times[RUNS / 2]),
    );
}

/// One gateway, one node with a pod for every hundredth policy, and the policies, each with the label
/// that its pods bear.
fn documents(policies: u32, cidrs: u32, label: impl Fn(u32) -> String) -> String {
    let mut text = String::from(
        "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressGateway\n\
         metadata: {name: gw-a}\nspec: {tunnelAddress: 192.0.2.10}\n---\n\
         apiVersion: egress-gateway.io/v1alpha1\nkind: EgressNode\nmetadata: {name: node1}\n\
         spec: {tunnelAddress: 192.0.2.1, podCIDRs: [10.244.0.0/16]}\n",
    );
    for policy in 0..policies {
        let network = |index: u32| Ipv4Addr::from((20 << 24) + ((policy * cidrs + index) << 6));
        let destinations: Vec<String> =
            (0..cidrs).map(|index| format!("{}/26", network(index))).collect();
        write!(
            text,
            "---\napiVersion: egress-gateway.io/v1alpha1\nkind: EgressPolicy\n\
             metadata: {{name: team-{policy}}}\nspec:\n  policyID: {}\n\
             \x20 selectors: [{{podSelector: {{matchLabels: {{{}}}}}}}]\n\
             \x20 destinationCIDRs: [{}]\n\
             \x20 egress: [{{gateway: gw-a, egressIPs: [203.0.113.{}]}}]\n",
            policy + 1,
            label(policy),
            destinations.join(", "),
            16 + policy % 16,
        )
        .unwrap();
        if policy % 100 == 0 {
            let pod = policy / 100;
            write!(
                text,
                "---\napiVersion: egress-gateway.io/v1alpha1\nkind: EgressEndpoint\n\
                 metadata: {{name: pod-{pod}, labels: {{{}}}}}\n\
                 spec: {{ips: [10.244.{}.{}], node: node1}}\n",
                label(policy),
                pod >> 8,
                pod & 255,
            )
            .unwrap();
        }
    }
    text
}
