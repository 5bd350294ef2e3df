//! The configuration files of the product's programs in the lab.

use anyhow::{Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::family::Dual;
use crate::rack::ARM;
use crate::site::{Arrangement, Site};
use crate::topology::{GATEWAY_EXTERNAL, GATEWAY_TUNNEL, Node, VXLAN_PORT};

pub const GATEWAY_CONFIG: &str = "/run/egress-gateway/gateway.toml";
pub const NODE_CONFIG: &str = "/run/egress-gateway/node-redirect.toml";
pub const POLICY: &str = "/run/egress-gateway/policy.yaml";
pub const STATE: &str = "/run/egress-gateway/state";

pub const GATEWAY_API: &str = "http://127.0.0.1:9480";
pub const NODE_API: &str = "http://127.0.0.1:9481";

/// 8192 frames instead of 512: on a machine whose few cores everything shares, the worker may not run for a whole time slice.
const RING: &str = "framecnt=8192,blocksz=16384";

pub fn gateway(site: Site, hugepages: bool) -> Result<String> {
    let cores = last_cores(site.workers)?;
    let [tunnel_device, external_device] = devices(site);
    let [tunnel_vlan, external_vlan] = site.arrangement.vlans();
    let Dual { v4: tunnel, v6: tunnel_v6 } = GATEWAY_TUNNEL;
    let Dual { v4: external, v6: external_v6 } = GATEWAY_EXTERNAL;
    Ok(format!(
        r#"[gateway]
name = "gw-a"
[workers]
cores = {cores:?}
idle = "adaptive"
[eal]
hugepages = {hugepages}
[ports.tunnel]
device = "{tunnel_device}"
addresses = ["{tunnel}/24", "{tunnel_v6}/64"]
mtu = 1500
vlan = {tunnel_vlan}
vxlan_port = {VXLAN_PORT}
[ports.external]
device = "{external_device}"
addresses = ["{external}/24", "{external_v6}/64"]
gateways = ["203.0.113.1", "2001:db8:113::1"]
mtu = 1500
vlan = {external_vlan}
egress_prefixes = ["203.0.113.16/28", "2001:db8:113::10/124"]
[policy]
file = "{POLICY}"
state_dir = "{STATE}"
[api]
listen = "127.0.0.1:9480"
[nat]
max_sessions = 65536
"#
    ))
}

/// Of the tunnel side and the external one: one device for both has the same string in both.
fn devices(site: Site) -> [String; 2] {
    let device = |number: usize, interface: &str| {
        format!("net_af_packet{number},iface={interface},qpairs={},{RING}", site.workers)
    };
    match site.arrangement {
        Arrangement::TwoPorts => [device(0, "tun0"), device(1, "ext0")],
        Arrangement::OneArmedByVlan { .. } | Arrangement::OneArmedByAddress => {
            [device(0, ARM), device(0, ARM)]
        }
    }
}

#[must_use]
pub fn node_redirect(site: Site, node: &Node, hook: &str) -> String {
    format!(
        r#"[node]
name = "{}"
vtep = "{}"
[attach]
interfaces = ["veth*"]
hook = "{hook}"
path = "fast"
[vxlan]
device = "egw"
port = {VXLAN_PORT}
[policy]
files = ["{POLICY}"]
never_redirect = ["10.96.0.0/12", "fd00:96::/108"]
[api]
listen = "127.0.0.1:9481"
"#,
        node.name,
        node.address.of(site.underlay)
    )
}

/// Those that the rest of the machine uses least.
fn last_cores(workers: usize) -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores: Vec<usize> = (0..CpuSet::count())
        .rev()
        .filter(|core| allowed.is_set(*core).unwrap_or(false))
        .take(workers)
        .collect();
    ensure!(
        cores.len() == workers,
        "{workers} workers need as many CPUs: {} are there",
        cores.len()
    );
    cores.reverse();
    Ok(cores)
}
