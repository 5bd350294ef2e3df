//! Configurations and policy documents that tests change one thing in.

use crate::harness::{EGRESS, EGRESS_2, Family, POLICY, POLICY_2};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const CONFIG: &str = r#"
[gateway]
name = "gw-a"
[ports.tunnel]
device = "net_null0"
addresses = ["192.0.2.10/24"]
[ports.external]
device = "net_null1"
addresses = ["203.0.113.2/24"]
gateways = ["203.0.113.1"]
egress_prefixes = ["203.0.113.16/28"]
"#;

/// Both families on both ports.
pub const DUAL_CONFIG: &str = r#"
[gateway]
name = "gw-a"
[ports.tunnel]
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:2::10/64"]
[ports.external]
device = "net_null1"
addresses = ["203.0.113.2/24", "2001:db8:113::2/64"]
gateways = ["203.0.113.1", "2001:db8:113::1"]
egress_prefixes = ["203.0.113.16/28", "2001:db8:113::/64"]
"#;

/// `payments` and `reports` at the egress IPs and with the ids of the harness.
pub fn documents() -> String {
    [policy("payments", POLICY, EGRESS), policy("reports", POLICY_2, EGRESS_2), hosts()]
        .join("---\n")
}

pub fn only_payments() -> String {
    [policy("payments", POLICY, EGRESS), hosts()].join("---\n")
}

/// The same with egress IPs of both families; `node1` sends over either underlay, under two names.
pub fn dual_documents() -> String {
    let payments = [EGRESS.into(), Ipv6Addr::EGRESS.into()];
    let reports = [EGRESS_2.into(), Ipv6Addr::EGRESS_2.into()];
    let cidrs = "[10.244.1.0/24, \"fd00:244:1::/64\"]";
    let node = "---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {name: node1-v6}
spec: {tunnelAddress: \"2001:db8:2::1\", podCIDRs: [\"fd00:244:1::/64\"]}
";
    let hosts = hosts().replace("[10.244.1.0/24]", cidrs) + node;
    [policy_of("payments", POLICY, &payments), policy_of("reports", POLICY_2, &reports), hosts]
        .join("---\n")
}

pub fn policy(name: &str, id: u32, egress_ip: Ipv4Addr) -> String {
    policy_of(name, id, &[egress_ip.into()])
}

pub fn policy_of(name: &str, id: u32, egress_ips: &[IpAddr]) -> String {
    let ips: Vec<_> = egress_ips.iter().map(|ip| format!("\"{ip}\"")).collect();
    let is_dual = egress_ips.iter().any(IpAddr::is_ipv6);
    let destinations = if is_dual { "[0.0.0.0/0, \"::/0\"]" } else { "[0.0.0.0/0]" };
    format!(
        "apiVersion: egress-gateway.io/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}}}
spec:
  policyID: {id}
  selectors: [{{podSelector: {{matchLabels: {{app: {name}}}}}}}]
  destinationCIDRs: {destinations}
  egress: [{{gateway: gw-a, egressIPs: [{}]}}]
",
        ips.join(", ")
    )
}

pub fn hosts() -> String {
    "apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-a}
spec: {tunnelAddress: 192.0.2.10}
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {name: node1}
spec: {tunnelAddress: 192.0.2.1, podCIDRs: [10.244.1.0/24]}
"
    .to_owned()
}
