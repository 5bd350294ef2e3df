//! The programs with a policy set, and a packet through one of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use crate::common::frame::ETHERNET;
use crate::common::frame::Packet;
use crate::common::sh;
use libbpf_rs::ProgramInput;
use node_redirect::abi::{self, Flow, FlowKey};
use node_redirect::config::MapSizes;
use node_redirect::counters::Reason;
use node_redirect::maps::Maps;
use node_redirect::program::{Programs, Role};
use node_redirect::sync::Way;
use node_redirect::tables::{Set, Tables};

pub const POD: &str = "10.244.1.10";
pub const UNSELECTED: &str = "10.244.1.11";
pub const NARROW: &str = "10.244.1.12";
pub const WORLD: &str = "198.51.100.10";
pub const EXCLUDED: &str = "8.8.8.8";
pub const CLOSED: &str = "9.9.9.9";
pub const OPEN: &str = "11.11.11.11";
pub const SERVICE: &str = "10.96.0.10";
pub const GATEWAY: &str = "192.0.2.10";
pub const NODE: &str = "192.0.2.1";

pub const POD6: &str = "fd00:244:1::10";
pub const UNSELECTED6: &str = "fd00:244:1::11";
pub const NARROW6: &str = "fd00:244:1::12";
pub const WORLD6: &str = "2001:db8:100::10";
pub const EXCLUDED6: &str = "2001:db8:8::8";
pub const CLOSED6: &str = "2001:db8:9::9";
pub const OPEN6: &str = "2001:db8:11::11";
pub const SERVICE6: &str = "fd00:96::10";
pub const GATEWAY6: &str = "2001:db8:1::10";
pub const NODE6: &str = "2001:db8:1::1";

pub const POLICY: u32 = 4711;
pub const POLICY_CLOSED: u32 = 4712;
pub const POLICY_OPEN: u32 = 4713;
pub const VXLAN_PORT: u16 = 4790;
pub const TUNNEL_MTU: usize = 1450;
pub const PINS: &str = "/sys/fs/bpf/test";
/// Newer kernels run no test with less than a whole IPv4 header; those truncations are in `netns.rs`, from a real interface.
pub const LEAST_FRAME: usize = ETHERNET + 20;
pub const MARK_FROM_TUNNEL: u32 = 0x6567_7701;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    Redirect,
}
pub use Verdict::{Drop, Pass, Redirect};

impl Verdict {
    pub fn from_return_value(value: u32) -> Self {
        match value {
            u32::MAX => Pass,
            2 => Drop,
            7 => Redirect,
            other => panic!("TC_ACT {other}"),
        }
    }
}

pub struct Bench {
    programs: Programs,
    pub maps: Maps,
    pub tables: Tables,
}

pub fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn policy(gateways: &[&str], failure_mode: u8) -> abi::Policy {
    let mut policy = abi::Policy { failure_mode, ..abi::Policy::default() };
    for (i, gateway) in gateways.iter().enumerate() {
        policy.gateways[i] = abi::address(address(gateway));
        policy.usable |= 1 << i;
        policy.accepting = policy.accepting.map(|bits| bits | 1 << i);
        policy.gateway_count += 1;
    }
    policy
}

pub fn tables() -> Tables {
    let wide = Set::from([
        (net("0.0.0.0/0"), POLICY),
        (net("8.8.0.0/16"), abi::ACTION_EXCLUDE),
        (net("9.0.0.0/8"), POLICY_CLOSED),
        (net("11.0.0.0/8"), POLICY_OPEN),
        (net("::/0"), POLICY),
        (net("2001:db8:8::/48"), abi::ACTION_EXCLUDE),
        (net("2001:db8:9::/48"), POLICY_CLOSED),
        (net("2001:db8:11::/48"), POLICY_OPEN),
    ]);
    let narrow = Set::from([(net("198.51.100.0/24"), POLICY), (net("2001:db8:100::/48"), POLICY)]);
    Tables {
        endpoints: [(POD, 1), (NARROW, 2), (POD6, 1), (NARROW6, 2)]
            .map(|(pod, set)| (address(pod), set))
            .into(),
        sets: BTreeMap::from([(1, wide), (2, narrow)]),
        policies: BTreeMap::from([
            (POLICY, policy(&[GATEWAY], abi::FAILURE_CLOSED)),
            (POLICY_CLOSED, policy(&[], abi::FAILURE_CLOSED)),
            (POLICY_OPEN, policy(&[], abi::FAILURE_OPEN)),
        ]),
        exempt: [
            "10.244.0.0/16",
            "10.96.0.0/12",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "192.0.2.0/24",
            "fd00:244::/32",
            "fd00:96::/108",
            "fe80::/10",
            "ff00::/8",
            "2001:db8:1::/64",
        ]
        .map(net)
        .into(),
        vteps: [GATEWAY, GATEWAY6]
            .map(|gateway| (address(gateway), abi::VTEP_GATEWAY))
            .into_iter()
            .chain([NODE, NODE6].map(|node| (address(node), abi::VTEP_NODE)))
            .collect(),
    }
}

/// The maps are made by the first and shared by all.
pub fn load(max_flows: u32, sizes: &MapSizes) -> Programs {
    Programs::load_at(Path::new(PINS), VXLAN_PORT, max_flows, sizes).unwrap()
}

impl Bench {
    pub fn new() -> Self {
        Self::with_flow_table(4096)
    }

    pub fn with_flow_table(max_flows: u32) -> Self {
        Self::with_sizes(max_flows, &MapSizes::default())
    }

    pub fn with_sizes(max_flows: u32, sizes: &MapSizes) -> Self {
        sh(&format!("ip link add egw mtu {TUNNEL_MTU} type vxlan external dstport {VXLAN_PORT}"));
        sh("ip link set egw up");
        std::fs::create_dir(PINS).unwrap();
        let programs = load(max_flows, sizes);
        let maps = Maps::open(Path::new(PINS)).unwrap();
        let ifindex = sh("cat /sys/class/net/egw/ifindex").trim().parse().unwrap();
        let settings = abi::Settings { tunnel_ifindex: ifindex, ..abi::Settings::default() };
        maps.settings.set(&0, &settings).unwrap();
        let mut bench = Self { programs, maps, tables: Tables::default() };
        bench.apply(&tables());
        bench
    }

    pub fn apply(&mut self, wanted: &Tables) {
        let next = Way::find(&self.maps, &self.tables, wanted).unwrap().go(&self.maps).unwrap();
        assert_eq!(Tables::read(&self.maps).unwrap(), next, "the maps hold what was wanted");
        self.tables = next;
    }

    /// The verdict, and the one reason that was raised, if any.
    pub fn run(&self, role: Role, frame: &[u8], mark: u32) -> (Verdict, Option<Reason>) {
        let before = self.reasons();
        let mut context = skb(mark);
        let mut out = vec![0; frame.len()];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..ProgramInput::default()
        };
        let mut programs = self.programs.object().progs_mut();
        let program = programs.find(|program| program.name() == role.name()).unwrap();
        let result = program.test_run(input).unwrap();
        let verdict = Verdict::from_return_value(result.return_value);
        assert_eq!(result.data.as_deref(), Some(frame), "the frame goes out as it came in");
        (verdict, raised(&before, &self.reasons()))
    }

    /// Of one run, the best of several averages: whatever else the machine does only ever adds.
    pub fn nanoseconds(&self, role: Role, frame: &[u8]) -> u128 {
        let mut programs = self.programs.object().progs_mut();
        let program = programs.find(|program| program.name() == role.name()).unwrap();
        let average = || {
            let mut context = skb(0);
            let input = ProgramInput {
                context_in: Some(&mut context),
                data_in: Some(frame),
                repeat: 200_000,
                ..ProgramInput::default()
            };
            program.test_run(input).unwrap().duration.as_nanos()
        };
        (0..15).map(|_| average()).min().unwrap()
    }

    pub fn pod_sends(&self, packet: &Packet) -> (Verdict, Option<Reason>) {
        self.run(Role::FromPod, &packet.frame(), 0)
    }

    /// What the pod receives: from the node, or from the tunnel.
    pub fn pod_receives(&self, packet: &Packet, mark: u32) {
        let outcome = self.run(Role::ToPod, &packet.frame(), mark);
        assert_eq!(outcome, (Pass, None), "to_pod judges nothing");
    }

    pub fn reasons(&self) -> Vec<u64> {
        Reason::ALL.iter().map(|&reason| self.maps.reason(reason).unwrap()).collect()
    }

    pub fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.maps.flows.get(key).unwrap()
    }

    pub fn flow_count(&self) -> usize {
        self.maps.flows.snapshot().unwrap().len()
    }

    pub fn forget_flows(&self) {
        for (key, _) in self.maps.flows.snapshot().unwrap() {
            self.maps.flows.remove(&key).unwrap();
        }
    }

    pub fn check(&self, cases: &[(&str, Vec<u8>, Verdict, Reason)]) {
        for (description, frame, verdict, reason) in cases {
            let outcome = self.run(Role::FromPod, frame, 0);
            assert_eq!(outcome, (*verdict, Some(*reason)), "{description}");
            self.forget_flows();
        }
    }
}

/// struct __sk_buff as the run's context. Only some fields may be set.
pub fn skb(mark: u32) -> Vec<u8> {
    const SIZE: usize = 192;
    const MARK: usize = 8;
    let mut context = vec![0; SIZE];
    context[MARK..MARK + 4].copy_from_slice(&mark.to_ne_bytes());
    context
}

pub fn raised(before: &[u64], after: &[u64]) -> Option<Reason> {
    let raised: Vec<usize> = (0..before.len()).filter(|&i| after[i] != before[i]).collect();
    assert!(raised.len() <= 1, "one packet raises one reason");
    let &index = raised.first()?;
    assert_eq!(after[index], before[index] + 1, "by one");
    Some(Reason::ALL[index])
}

pub fn key(pod: &str, remote: &str, protocol: u8, pod_port: u16, remote_port: u16) -> FlowKey {
    FlowKey {
        pod: abi::address(address(pod)),
        remote: abi::address(address(remote)),
        pod_port: pod_port.to_be_bytes(),
        remote_port: remote_port.to_be_bytes(),
        protocol,
        pad: [0; 3],
    }
}
