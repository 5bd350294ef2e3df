//! The files of a gateway that forwards what [`crate::plan`] says.

use super::{Idle, Options};
use crate::{
    plan,
    system::{cable::Cable, place::Place},
};
use std::path::Path;

pub(super) const CONFIG: &str = "gateway.toml";
pub(super) const POLICY: &str = "policy.yaml";
pub(super) const SOCKET: &str = "api.sock";

/// `gateway.toml`.
pub(super) fn gateway(options: &Options, place: &Place, cable: &Cable, folder: &Path) -> String {
    let [tunnel_device, external_device] = cable.system();
    let (cores, hugepages) = (&place.cores, place.hugepages);
    let idle = match options.idle {
        Idle::Spin => "spin",
        Idle::Adaptive => "adaptive",
    };
    let (tunnel, external, router) = (plan::TUNNEL, plan::EXTERNAL, plan::ROUTER);
    let (vxlan_port, first) = (plan::VXLAN_PORT, plan::EGRESS_IPS[0]);
    let [policy, state, socket] = [POLICY, "state", SOCKET].map(|name| folder.join(name));
    let Options { sessions_per_worker, udp_timeout, udp_unreplied_timeout, .. } = options;
    let cycle_counters = options.cycle_counters;
    format!(
        r#"[gateway]
name = "egress-perf"
[workers]
cores = {cores:?}
idle = "{idle}"
cycle_counters = {cycle_counters}
[eal]
hugepages = {hugepages}
extra_args = {extra_args:?}
[ports.tunnel]
device = "{tunnel_device}"
addresses = ["{tunnel}/24"]
vxlan_port = {vxlan_port}
[ports.external]
device = "{external_device}"
addresses = ["{external}/24"]
gateways = ["{router}"]
egress_prefixes = ["{first}/28"]
[policy]
file = "{policy}"
state_dir = "{state}"
[api]
listen = "unix:{socket}"
[nat]
udp_timeout = {udp_timeout}
udp_unreplied_timeout = {udp_unreplied_timeout}
max_sessions = {sessions_per_worker}
"#,
        extra_args = cable.eal_arguments(),
        policy = policy.display(),
        state = state.display(),
        socket = socket.display(),
    )
}

/// One policy with all egress IPs, and all nodes: any of them may have any pod.
pub(super) fn policies() -> String {
    let [first, last] = plan::EGRESS_IPS.map(u32::from);
    let ips: Vec<String> =
        (first..=last).map(|ip| std::net::Ipv4Addr::from(ip).to_string()).collect();
    let (id, tunnel, (pods, length), ips) =
        (plan::POLICY, plan::TUNNEL, plan::PODS, ips.join(", "));
    let mut text = format!(
        "apiVersion: egress-gateway.io/v1alpha1
kind: EgressPolicy
metadata: {{name: measured}}
spec:
  policyID: {id}
  selectors:
  - podSelector: {{matchLabels: {{app: measured}}}}
  destinationCIDRs: [0.0.0.0/0]
  egress:
  - gateway: egress-perf
    egressIPs: [{ips}]
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {{name: egress-perf}}
spec: {{tunnelAddress: {tunnel}}}
"
    );
    for number in 0..plan::MAX_NODES {
        let vtep = plan::node(number);
        text += &format!(
            "---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {{name: node{number}}}
spec: {{tunnelAddress: {vtep}, sourceCheck: ClusterCIDR, clusterCIDRs: [{pods}/{length}]}}
"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Io, keeper::Keeper};
    use gateway::config::Config;
    use policy::{Format, Source};
    use std::net::IpAddr;

    /// The product reads its files as it would anybody's.
    #[test]
    fn the_product_accepts_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { cores: vec![2, 3], generator_core: 1, hugepages: true, tsc_hz: 0 };
        for io in [Io::Memif, Io::MemifZeroCopy] {
            let mut keeper = Keeper::start().unwrap();
            let cable = Cable::make(io, &place, 2, folder.path(), &mut keeper).unwrap();
            let options = Options { io, ..Options::for_flows(3_000_000, 2) };
            let text = gateway(&options, &place, &cable, folder.path());
            let (config, warnings) = Config::parse(&text).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(config.workers.cores, [2, 3]);
            assert_eq!(config.nat.udp_timeout.as_secs(), 86_400);
            assert_eq!(config.tunnel.port.own_addresses().next(), Some(plan::TUNNEL.into()));
            assert!(config.nat.max_sessions > 1_600_000, "{}", config.nat.max_sessions);

            let yaml = policies();
            let sources = [Source { file: None, text: &yaml, format: Format::Yaml }];
            let limits = config.policy_limits();
            let loaded = policy::load_for_gateway(&sources, &config.name, &limits).unwrap();
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            let [policy] = loaded.compiled.policies.as_slice() else { panic!("one policy") };
            assert_eq!(policy.id.get(), plan::POLICY);
            assert_eq!(policy.egress_ips.len(), 16);
            assert!(policy.egress_ips.contains(&IpAddr::V4(plan::EGRESS_IPS[1])));
            assert_eq!(loaded.compiled.nodes.len(), 64);
            for node in &loaded.compiled.nodes {
                let flow = plan::Flow::number(9_999_999);
                assert!(node.source_cidrs.iter().any(|cidr| cidr.contains(&IpAddr::V4(flow.pod))));
            }
        }
    }
}
