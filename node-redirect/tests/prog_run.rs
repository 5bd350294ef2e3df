//! The programs under BPF_PROG_TEST_RUN, as tables: description, packet in, verdict and counter. A frame goes out as it came in, always.
//!
//! from_tunnel reads the tunnel's own metadata, which a test run cannot give it: its cases are in `netns.rs`, with packets from a real tunnel.

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use common::frame::*;
use common::{in_private_namespaces, sh};
use libbpf_rs::ProgramInput;
use node_redirect::abi::{self, Flow, FlowKey};
use node_redirect::config::Flows;
use node_redirect::counters::Reason;
use node_redirect::flows;
use node_redirect::maps::Maps;
use node_redirect::program::{Programs, Role};
use node_redirect::sync;
use node_redirect::tables::{Set, Tables};

const POD: &str = "10.244.1.10";
const UNSELECTED: &str = "10.244.1.11";
const NARROW: &str = "10.244.1.12";
const WORLD: &str = "198.51.100.10";
const EXCLUDED: &str = "8.8.8.8";
const CLOSED: &str = "9.9.9.9";
const OPEN: &str = "11.11.11.11";
const SERVICE: &str = "10.96.0.10";
const GATEWAY: &str = "192.0.2.10";
const NODE: &str = "192.0.2.1";

const POLICY: u32 = 4711;
const POLICY_CLOSED: u32 = 4712;
const POLICY_OPEN: u32 = 4713;
const VXLAN_PORT: u16 = 4790;
const TUNNEL_MTU: usize = 1450;
const PINS: &str = "/sys/fs/bpf/test";
/// Newer kernels run no test with less than a whole IPv4 header; those truncations are in `netns.rs`, from a real interface.
const LEAST_FRAME: usize = ETHERNET + 20;
const MARK_FROM_TUNNEL: u32 = 0x6567_7701;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
    Redirect,
}
use Verdict::{Drop, Pass, Redirect};

impl Verdict {
    fn from_return_value(value: u32) -> Self {
        match value {
            u32::MAX => Pass,
            2 => Drop,
            7 => Redirect,
            other => panic!("TC_ACT {other}"),
        }
    }
}

struct Bench {
    programs: Programs,
    maps: Maps,
    tables: Tables,
}

fn net(text: &str) -> ipnet::Ipv4Net {
    text.parse().unwrap()
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn policy(gateways: &[&str], failure_mode: u8) -> abi::Policy {
    let mut policy = abi::Policy { failure_mode, ..abi::Policy::default() };
    for (i, gateway) in gateways.iter().enumerate() {
        policy.gateways[i] = address(gateway).octets();
        policy.usable |= 1 << i;
        policy.accepting |= 1 << i;
        policy.gateway_count += 1;
    }
    policy
}

fn tables() -> Tables {
    let wide = Set::from([
        (net("0.0.0.0/0"), POLICY),
        (net("8.8.0.0/16"), abi::ACTION_EXCLUDE),
        (net("9.0.0.0/8"), POLICY_CLOSED),
        (net("11.0.0.0/8"), POLICY_OPEN),
    ]);
    let narrow = Set::from([(net("198.51.100.0/24"), POLICY)]);
    Tables {
        endpoints: BTreeMap::from([(address(POD), 1), (address(NARROW), 2)]),
        sets: BTreeMap::from([(1, wide), (2, narrow)]),
        policies: BTreeMap::from([
            (POLICY, policy(&[GATEWAY], abi::FAILURE_CLOSED)),
            (POLICY_CLOSED, policy(&[], abi::FAILURE_CLOSED)),
            (POLICY_OPEN, policy(&[], abi::FAILURE_OPEN)),
        ]),
        exempt: ["10.244.0.0/16", "10.96.0.0/12", "169.254.0.0/16", "224.0.0.0/4", "192.0.2.0/24"]
            .map(net)
            .into(),
        vteps: BTreeMap::from([
            (address(GATEWAY), abi::VTEP_GATEWAY),
            (address(NODE), abi::VTEP_NODE),
        ]),
    }
}

impl Bench {
    fn new() -> Self {
        Self::with_flow_table(4096)
    }

    fn with_flow_table(max_flows: u32) -> Self {
        sh(&format!("ip link add egw mtu {TUNNEL_MTU} type vxlan external dstport {VXLAN_PORT}"));
        sh("ip link set egw up");
        std::fs::create_dir(PINS).unwrap();
        let programs = Programs::load_at(Path::new(PINS), VXLAN_PORT, max_flows).unwrap();
        let maps = Maps::open(Path::new(PINS)).unwrap();
        let ifindex = sh("cat /sys/class/net/egw/ifindex").trim().parse().unwrap();
        let settings = abi::Settings { tunnel_ifindex: ifindex, ..abi::Settings::default() };
        maps.settings.set(&0, &settings).unwrap();
        let mut bench = Self { programs, maps, tables: Tables::default() };
        bench.apply(&tables());
        bench
    }

    fn apply(&mut self, wanted: &Tables) {
        let (plan, next) = sync::plan(&self.tables, wanted);
        plan.apply(&self.maps, &self.tables).unwrap();
        assert_eq!(Tables::read(&self.maps).unwrap(), next, "the maps hold what was wanted");
        self.tables = next;
    }

    /// The verdict, and the one reason that was raised, if any.
    fn run(&self, role: Role, frame: &[u8], mark: u32) -> (Verdict, Option<Reason>) {
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

    fn from_pod(&self, packet: &Packet) -> (Verdict, Option<Reason>) {
        self.run(Role::FromPod, &packet.frame(), 0)
    }

    /// What the pod receives: from the node, or from the tunnel.
    fn to_pod(&self, packet: &Packet, mark: u32) {
        let outcome = self.run(Role::ToPod, &packet.frame(), mark);
        assert_eq!(outcome, (Pass, None), "to_pod judges nothing");
    }

    fn reasons(&self) -> Vec<u64> {
        Reason::ALL.iter().map(|&reason| self.maps.reason(reason).unwrap()).collect()
    }

    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.maps.flows.get(key).unwrap()
    }

    fn flow_count(&self) -> usize {
        self.maps.flows.snapshot().unwrap().len()
    }

    fn forget_flows(&self) {
        for (key, _) in self.maps.flows.snapshot().unwrap() {
            self.maps.flows.remove(&key).unwrap();
        }
    }

    fn check(&self, cases: &[(&str, Vec<u8>, Verdict, Reason)]) {
        for (description, frame, verdict, reason) in cases {
            let outcome = self.run(Role::FromPod, frame, 0);
            assert_eq!(outcome, (*verdict, Some(*reason)), "{description}");
            self.forget_flows();
        }
    }
}

/// struct __sk_buff as the run's context. Only some fields may be set.
fn skb(mark: u32) -> Vec<u8> {
    const SIZE: usize = 192;
    const MARK: usize = 8;
    let mut context = vec![0; SIZE];
    context[MARK..MARK + 4].copy_from_slice(&mark.to_ne_bytes());
    context
}

fn raised(before: &[u64], after: &[u64]) -> Option<Reason> {
    let raised: Vec<usize> = (0..before.len()).filter(|&i| after[i] != before[i]).collect();
    assert!(raised.len() <= 1, "one packet raises one reason");
    let &index = raised.first()?;
    assert_eq!(after[index], before[index] + 1, "by one");
    Some(Reason::ALL[index])
}

fn key(pod: &str, remote: &str, protocol: u8, pod_port: u16, remote_port: u16) -> FlowKey {
    FlowKey {
        pod: address(pod).octets(),
        remote: address(remote).octets(),
        pod_port: pod_port.to_be_bytes(),
        remote_port: remote_port.to_be_bytes(),
        protocol,
        pad: [0; 3],
    }
}

#[test]
fn every_verdict_of_from_pod() {
    in_private_namespaces(|| {
        let too_big = TUNNEL_MTU - 20 - 12;
        #[rustfmt::skip]
        let cases = [
            ("TCP under policy", tcp(POD, WORLD, 4000, 80, SYN).frame(), Redirect, Reason::Redirected),
            ("UDP under policy", udp(POD, WORLD, 4000, 53).frame(), Redirect, Reason::Redirected),
            ("ping under policy", icmp(POD, WORLD, 8, 7).frame(), Redirect, Reason::Redirected),
            ("SCTP under policy", sctp(POD, WORLD, 4000, 80).frame(), Redirect, Reason::Redirected),
            ("GRE under policy: the gateway drops what it cannot translate", packet(POD, WORLD, 47, vec![0; 8]).frame(), Redirect, Reason::Redirected),
            ("no L4 at all, under policy", packet(POD, WORLD, 253, vec![]).frame(), Redirect, Reason::Redirected),
            ("ICMP of unknown type, under policy", icmp(POD, WORLD, 42, 0).frame(), Redirect, Reason::Redirected),
            ("IPv4 options, under policy", tcp(POD, WORLD, 4000, 80, SYN).options(40).frame(), Redirect, Reason::Redirected),
            ("TCP in mid-flow that no table knows, under policy", tcp(POD, WORLD, 4000, 80, ACK).frame(), Redirect, Reason::Redirected),
            ("Ethernet padding behind the packet", [udp(POD, WORLD, 1, 2).frame(), vec![0; 14]].concat(), Redirect, Reason::Redirected),
            ("excluded destination", tcp(POD, EXCLUDED, 4000, 80, SYN).frame(), Pass, Reason::Excluded),
            ("no gateway, Closed", tcp(POD, CLOSED, 4000, 80, SYN).frame(), Drop, Reason::NoGateway),
            ("no gateway, Open", tcp(POD, OPEN, 4000, 80, SYN).frame(), Pass, Reason::FailedOpen),
            ("destination outside the policy", tcp(NARROW, "203.0.113.99", 4000, 80, SYN).frame(), Pass, Reason::OutsidePolicy),
            ("pod without policy", tcp(UNSELECTED, WORLD, 4000, 80, SYN).frame(), Pass, Reason::NotSelected),
            ("another pod", tcp(POD, "10.244.2.10", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("service", udp(POD, SERVICE, 4000, 53).frame(), Pass, Reason::Exempt),
            ("link-local", tcp(POD, "169.254.169.254", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("multicast", udp(POD, "224.0.0.251", 5353, 5353).frame(), Pass, Reason::Exempt),
            ("gateway itself, no VXLAN", tcp(POD, GATEWAY, 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("gateway itself, ping", icmp(POD, GATEWAY, 8, 7).frame(), Pass, Reason::Exempt),
            ("ARP", ethernet(0x0806, &[0; 28]), Pass, Reason::NotIpv4),
            ("IPv6", ethernet(0x86dd, &[0x60; 40]), Pass, Reason::NotIpv4),
            ("forged tunnel to a gateway", udp(POD, GATEWAY, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel from a pod without policy", udp(UNSELECTED, GATEWAY, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel to a node", udp(POD, NODE, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a first fragment", udp(POD, GATEWAY, 1, 2).fragment(9, MORE_FRAGMENTS).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a later fragment", udp(POD, GATEWAY, 1, 2).fragment(9, 1).frame(), Drop, Reason::ForgedTunnel),
            ("VXLAN to somebody who is no gateway", udp(POD, WORLD, 4000, VXLAN_PORT).frame(), Redirect, Reason::Redirected),
            ("TCP to the tunnel's port is no tunnel", tcp(POD, GATEWAY, 4000, VXLAN_PORT, SYN).frame(), Pass, Reason::Exempt),
            ("as large as the tunnel carries", udp(POD, WORLD, 1, 2).payload(too_big).frame(), Redirect, Reason::Redirected),
            ("a byte larger than the tunnel carries", udp(POD, WORLD, 1, 2).payload(too_big + 1).frame(), Drop, Reason::TooBig),
            ("too large, but excluded", udp(POD, EXCLUDED, 1, 2).payload(too_big + 1).frame(), Pass, Reason::Excluded),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn every_truncation_of_every_header() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        for (name, packet, least) in [
            ("TCP", tcp(POD, WORLD, 4000, 80, SYN), 20),
            ("UDP", udp(POD, WORLD, 4000, 53), 8),
            ("ICMP", icmp(POD, WORLD, 8, 7), 8),
            ("SCTP", sctp(POD, WORLD, 4000, 80), 12),
        ] {
            for options in [0, 40] {
                let whole = packet.clone().options(options);
                let frame = whole.frame();
                let wire_cuts = LEAST_FRAME..frame.len();
                for length in wire_cuts {
                    let outcome = bench.run(Role::FromPod, &frame[..length], 0);
                    let malformed = (Drop, Some(Reason::Malformed));
                    assert_eq!(outcome, malformed, "{name} cut at {length} of {}", frame.len());
                }
                for length in 0..least {
                    let mut short = whole.clone();
                    short.l4.truncate(length);
                    for fragment in [0, MORE_FRAGMENTS] {
                        let short = short.clone().fragment(7, fragment);
                        let malformed = (Drop, Some(Reason::Malformed));
                        assert_eq!(bench.from_pod(&short), malformed, "{name} with {length} bytes");
                    }
                    short.src = address(UNSELECTED);
                    let left_alone = (Pass, Some(Reason::NotSelected));
                    assert_eq!(bench.from_pod(&short), left_alone, "{name}, pod without policy");
                    (short.src, short.dst) = (address(POD), address(EXCLUDED));
                    let excluded = (Pass, Some(Reason::Excluded));
                    assert_eq!(bench.from_pod(&short), excluded, "{name}, excluded destination");
                }
            }
        }
        assert_eq!(bench.flow_count(), 0, "no entry of a malformed packet");
    });
}

#[test]
fn headers_that_contradict_themselves() {
    in_private_namespaces(|| {
        let with = |offset: usize, bytes: &[u8]| {
            let mut frame = tcp(POD, WORLD, 4000, 80, SYN).frame();
            frame[ETHERNET + offset..][..bytes.len()].copy_from_slice(bytes);
            frame
        };
        #[rustfmt::skip]
        let cases = [
            ("IP version 6 behind the IPv4 ethertype", with(0, &[0x65]), Drop, Reason::Malformed),
            ("IP header shorter than 20 bytes", with(0, &[0x44]), Drop, Reason::Malformed),
            ("IP header longer than the packet", with(0, &[0x4f]), Drop, Reason::Malformed),
            ("total length 0 without segmentation", with(2, &[0, 0]), Drop, Reason::Malformed),
            ("total length shorter than the header", with(2, &[0, 19]), Drop, Reason::Malformed),
            ("total length longer than the frame", with(2, &[0, 41]), Drop, Reason::Malformed),
            ("TCP header shorter than 20 bytes", with(20 + 12, &[4 << 4]), Drop, Reason::Malformed),
            ("TCP header longer than the packet", with(20 + 12, &[6 << 4]), Drop, Reason::Malformed),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn no_tunnel_device_drops() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let settings = bench.maps.settings().unwrap();
        for ifindex in [0, 999_999] {
            let settings = abi::Settings { tunnel_ifindex: ifindex, ..settings };
            bench.maps.settings.set(&0, &settings).unwrap();
            let outcome = bench.from_pod(&udp(POD, WORLD, 1, 2));
            assert_eq!(outcome, (Drop, Some(Reason::NoTunnel)), "ifindex {ifindex}");
        }
    });
}

#[test]
fn nothing_that_is_not_from_a_tunnel_passes_from_tunnel() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let frame = udp(WORLD, POD, 53, 4000).frame();
        for length in LEAST_FRAME..=frame.len() {
            let outcome = bench.run(Role::FromTunnel, &frame[..length], 0);
            assert_eq!(outcome, (Drop, Some(Reason::UnknownGateway)), "{length} bytes");
        }
    });
}

#[test]
fn answers_of_flows_that_the_world_opened_are_not_redirected() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let inbound = (Pass, Some(Reason::InboundFlow));
        let answers = [
            (tcp(WORLD, POD, 4000, 80, SYN), tcp(POD, WORLD, 80, 4000, SYN | ACK)),
            (udp(WORLD, POD, 4000, 53), udp(POD, WORLD, 53, 4000)),
            (sctp(WORLD, POD, 4000, 80), sctp(POD, WORLD, 80, 4000)),
            (icmp(WORLD, POD, 8, 7), icmp(POD, WORLD, 0, 7)),
            (packet(WORLD, POD, 47, vec![0; 8]), packet(POD, WORLD, 47, vec![0; 8])),
        ];
        for (question, answer) in &answers {
            let redirected = (Redirect, Some(Reason::Redirected));
            assert_eq!(bench.from_pod(answer), redirected, "{answer:?} that nobody asked for");
            bench.forget_flows();
            bench.to_pod(question, 0);
            assert_eq!(bench.from_pod(answer), inbound, "{answer:?}");
        }
        for (question, _) in &answers {
            bench.to_pod(question, 0);
        }
        bench.apply(&Tables { exempt: [net("192.0.2.0/24")].into(), ..tables() });
        for (_, answer) in &answers {
            assert_eq!(bench.from_pod(answer), inbound, "after a change of policy: {answer:?}");
        }
        let ping = icmp(POD, WORLD, 8, 7);
        let redirected = (Redirect, Some(Reason::Redirected));
        assert_eq!(
            bench.from_pod(&ping),
            redirected,
            "the pod's own ping with the world's identifier"
        );
    });
}

#[test]
fn what_opens_no_inbound_flow() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        for (description, packet, mark) in [
            ("a SYN-ACK", tcp(WORLD, POD, 80, 4000, SYN | ACK), 0),
            ("TCP in mid-flow", tcp(WORLD, POD, 80, 4000, ACK), 0),
            ("an echo reply", icmp(WORLD, POD, 0, 7), 0),
            ("an ICMP error", icmp_error(WORLD, POD, 3, &udp(POD, WORLD, 1, 2)), 0),
            ("a later fragment", udp(WORLD, POD, 53, 4000).fragment(5, 100), 0),
            ("UDP from a service", udp(SERVICE, POD, 53, 4000), 0),
            ("UDP through our tunnel", udp(WORLD, POD, 53, 4000), MARK_FROM_TUNNEL),
            ("a SYN through our tunnel", tcp(WORLD, POD, 80, 4000, SYN), MARK_FROM_TUNNEL),
        ] {
            bench.to_pod(&packet, mark);
            assert_eq!(bench.flow_count(), 0, "{description}");
        }
        let question = udp(POD, WORLD, 4000, 53);
        assert_eq!(bench.from_pod(&question).0, Redirect);
        bench.to_pod(&udp(WORLD, POD, 53, 4000), MARK_FROM_TUNNEL);
        let flow = bench.flow(&key(POD, WORLD, UDP, 4000, 53)).unwrap();
        assert_eq!((flow.kind, flow.flags), (abi::FLOW_REDIRECTED, abi::FLOW_REPLIED));
    });
}

#[test]
fn answers_to_what_the_pod_sent_past_the_policies_open_nothing() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        for (pod, remote, reason) in [
            (POD, EXCLUDED, Reason::Excluded),
            (UNSELECTED, WORLD, Reason::NotSelected),
            (NARROW, "203.0.113.99", Reason::OutsidePolicy),
            (POD, OPEN, Reason::FailedOpen),
        ] {
            let question = udp(pod, remote, 4000, 53);
            assert_eq!(bench.from_pod(&question), (Pass, Some(reason)));
            bench.to_pod(&udp(remote, pod, 53, 4000), 0);
            let flow = bench.flow(&key(pod, remote, UDP, 4000, 53)).unwrap();
            assert_eq!(
                (flow.kind, flow.flags),
                (abi::FLOW_PASSED, abi::FLOW_REPLIED),
                "{reason:?}"
            );
            assert_eq!(bench.from_pod(&question), (Pass, Some(reason)), "by the flow table");
        }
        let mut all = tables();
        all.sets.insert(1, Set::from([(net("0.0.0.0/0"), POLICY)]));
        bench.apply(&all);
        let now_under_policy = udp(POD, EXCLUDED, 4000, 53);
        assert_eq!(bench.from_pod(&now_under_policy), (Redirect, Some(Reason::Redirected)));

        let before = bench.flow_count();
        bench.from_pod(&udp(UNSELECTED, SERVICE, 4000, 53));
        bench.from_pod(&tcp(UNSELECTED, WORLD, 4000, 80, SYN));
        assert_eq!(bench.flow_count(), before, "no entries where no answer could open a flow");
    });
}

#[test]
fn the_first_packet_fixes_the_direction() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let (out, back) =
            (|flags| tcp(POD, WORLD, 80, 4000, flags), |flags| tcp(WORLD, POD, 4000, 80, flags));
        let kind = || bench.flow(&key(POD, WORLD, TCP, 80, 4000)).unwrap().kind;

        bench.to_pod(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_INBOUND);
        assert_eq!(bench.from_pod(&out(SYN)).0, Redirect, "the pod opens a connection of its own");
        assert_eq!(kind(), abi::FLOW_REDIRECTED);
        bench.to_pod(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_REDIRECTED, "the world does not take over a live connection");
        bench.from_pod(&out(FIN | ACK));
        bench.to_pod(&back(SYN), 0);
        assert_eq!(kind(), abi::FLOW_INBOUND, "closed: the world may open it again");
    });
}

#[test]
fn a_forged_reset_does_not_shorten_a_live_connection() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let flags = || bench.flow(&key(POD, WORLD, TCP, 80, 4000)).unwrap().flags;
        bench.to_pod(&tcp(WORLD, POD, 4000, 80, SYN), 0);
        bench.from_pod(&tcp(POD, WORLD, 80, 4000, SYN | ACK));
        assert_eq!(flags(), abi::FLOW_REPLIED);
        bench.to_pod(&tcp(WORLD, POD, 4000, 80, RST), 0);
        assert_eq!(flags(), abi::FLOW_REPLIED | abi::FLOW_CLOSING);
        bench.from_pod(&tcp(POD, WORLD, 80, 4000, ACK));
        assert_eq!(
            flags(),
            abi::FLOW_REPLIED | abi::FLOW_CLOSING,
            "a bare ACK also ends a real close"
        );
        bench.from_pod(&tcp(POD, WORLD, 80, 4000, ACK).payload(10));
        assert_eq!(flags(), abi::FLOW_REPLIED, "data proves it alive");
    });
}

#[test]
fn icmp_errors_go_the_way_of_the_packet_they_quote() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let question = udp(WORLD, POD, 4000, 53);
        let unreachable = icmp_error(POD, WORLD, 3, &question);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        assert_eq!(bench.from_pod(&unreachable), redirected, "about a flow that nobody knows");
        bench.to_pod(&question, 0);
        assert_eq!(bench.from_pod(&unreachable), inbound);
        let quoted_options = icmp_error(POD, WORLD, 3, &udp(WORLD, POD, 4000, 53).options(8));
        assert_eq!(bench.from_pod(&quoted_options), inbound);
        let elsewhere = icmp_error(POD, "198.51.100.99", 3, &question);
        assert_eq!(bench.from_pod(&elsewhere), redirected, "sent to somebody else than it quotes");
        for cut in 8..unreachable.l4.len() {
            let mut short = unreachable.clone();
            short.l4.truncate(cut);
            assert_eq!(bench.from_pod(&short), redirected, "quote cut at {cut}");
        }
        assert_eq!(bench.flow_count(), 1, "errors make no entries");
    });
}

#[test]
fn fragments_follow_their_first() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        bench.to_pod(&udp(WORLD, POD, 4000, 53), 0);
        let answer = udp(POD, WORLD, 53, 4000);
        let later = packet(POD, WORLD, UDP, vec![0; 64]).fragment(77, 185);
        let redirected = (Redirect, Some(Reason::Redirected));
        let inbound = (Pass, Some(Reason::InboundFlow));
        assert_eq!(bench.from_pod(&later), redirected, "its first was not seen: the policy speaks");
        assert_eq!(bench.from_pod(&answer.clone().fragment(77, MORE_FRAGMENTS)), inbound);
        assert_eq!(bench.from_pod(&later), inbound);
        let other = packet(POD, WORLD, UDP, vec![0; 64]).fragment(78, 185);
        assert_eq!(bench.from_pod(&other), redirected, "of another datagram");
        assert_eq!(bench.flow_count(), 1, "a fragment without l4_ports makes no entry");
    });
}

#[test]
fn a_full_flow_table_stops_nothing_but_learning() {
    in_private_namespaces(|| {
        let bench = Bench::with_flow_table(8);
        let full = || bench.maps.event(0).unwrap();
        for port in 1..=8 {
            bench.to_pod(&tcp(WORLD, POD, port, 80, SYN), 0);
        }
        assert_eq!(full(), 0);
        bench.to_pod(&tcp(WORLD, POD, 9, 80, SYN), 0);
        assert_eq!((full(), bench.flow_count()), (1, 8), "no new inbound entry");
        let redirected = (Redirect, Some(Reason::Redirected));
        assert_eq!(bench.from_pod(&udp(POD, WORLD, 1, 2)), redirected, "by look-up");
        assert_eq!(bench.from_pod(&udp(POD, WORLD, 1, 2)), redirected, "every time");
        assert_eq!((full(), bench.flow_count()), (3, 8));
        let answer = tcp(POD, WORLD, 80, 1, ACK);
        assert_eq!(bench.from_pod(&answer), (Pass, Some(Reason::InboundFlow)), "live ones stay");
    });
}

#[test]
fn a_flow_stays_on_its_gateway_and_each_pod_has_its_own() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let gateways = ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13"];
        let with = |gateways: &[&str]| {
            let mut tables = tables();
            tables.policies.insert(POLICY, policy(gateways, abi::FAILURE_CLOSED));
            for last in 20..120 {
                tables.endpoints.insert(Ipv4Addr::new(10, 244, 1, last), 1);
            }
            tables
        };
        bench.apply(&with(&gateways));
        let send = |bench: &Bench, pod: &str| {
            bench.from_pod(&udp(pod, WORLD, 4000, 53));
            Ipv4Addr::from(bench.flow(&key(pod, WORLD, UDP, 4000, 53)).unwrap().gateway)
        };
        let pods: Vec<String> = (20..120).map(|last| format!("10.244.1.{last}")).collect();
        let mut chosen = BTreeMap::new();
        for pod in &pods {
            let gateway = send(&bench, pod);
            let twin = bench.tables.policies[&POLICY].choose_gateway(address(pod));
            assert_eq!(Some(gateway), twin, "{pod}: program and agent choose alike");
            *chosen.entry(gateway).or_insert(0) += 1;
            assert_eq!(send(&bench, pod), gateway);
        }
        assert_eq!(chosen.len(), 4, "all gateways are in use: {chosen:?}");

        let before: Vec<Ipv4Addr> = pods.iter().map(|pod| send(&bench, pod)).collect();
        let more = [&gateways[..], &["192.0.2.14", "192.0.2.15"]].concat();
        bench.apply(&with(&more));
        let after: Vec<Ipv4Addr> = pods.iter().map(|pod| send(&bench, pod)).collect();
        assert_eq!(before, after, "more gateways move no live flow");

        bench.apply(&with(&gateways[1..]));
        let lost = address(gateways[0]);
        for (pod, gateway) in pods.iter().zip(before) {
            let moved = send(&bench, pod);
            assert_ne!(moved, lost, "{pod}");
            assert!(
                gateway == lost || moved == gateway,
                "{pod}: only the lost gateway's flows move"
            );
        }
    });
}

#[test]
fn a_draining_gateway_keeps_its_flows_and_takes_no_new_ones() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let open = udp(POD, WORLD, 4000, 53);
        assert_eq!(bench.from_pod(&open).0, Redirect);
        let mut draining = tables();
        draining.policies.get_mut(&POLICY).unwrap().accepting = 0;
        bench.apply(&draining);
        assert_eq!(bench.from_pod(&open), (Redirect, Some(Reason::Redirected)), "the old flow");
        let new = udp(POD, WORLD, 4001, 53);
        assert_eq!(bench.from_pod(&new), (Drop, Some(Reason::NoGateway)), "a new flow");
    });
}

#[test]
fn a_policy_that_ends_lets_its_flows_leave_as_without_policy() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let connection = tcp(POD, WORLD, 4000, 80, ACK);
        assert_eq!(bench.from_pod(&connection).0, Redirect);
        let traffic = bench.maps.traffic().unwrap();
        assert_eq!(traffic.values().map(|sum| sum.packets).sum::<u64>(), 1);
        let mut without = tables();
        without.endpoints.remove(&address(POD));
        bench.apply(&without);
        assert_eq!(bench.from_pod(&connection), (Pass, Some(Reason::NotSelected)));
        assert_eq!(bench.flow_count(), 0, "and its entry is gone");
        sync::forget_stale_traffic(&bench.maps, &bench.tables).unwrap();
        assert!(bench.maps.traffic().unwrap().is_empty());
    });
}

#[test]
fn another_policy_takes_a_flow_over() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let connection = tcp(POD, WORLD, 4000, 80, ACK);
        bench.from_pod(&connection);
        let mut other = tables();
        other.policies.insert(9, policy(&["192.0.2.11"], abi::FAILURE_CLOSED));
        other.sets.insert(1, Set::from([(net("0.0.0.0/0"), 9)]));
        bench.apply(&other);
        assert_eq!(bench.from_pod(&connection).0, Redirect);
        let flow = bench.flow(&key(POD, WORLD, TCP, 4000, 80)).unwrap();
        assert_eq!((flow.policy_id, flow.gateway), (9, [192, 0, 2, 11]));
    });
}

#[test]
fn idle_flows_are_aged_and_live_ones_are_not() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        bench.to_pod(&tcp(WORLD, POD, 4000, 80, SYN), 0);
        bench.from_pod(&udp(POD, WORLD, 4000, 53));
        let idle = key(POD, WORLD, UDP, 4000, 53);
        let config = Flows::default();
        assert_eq!(flows::age(&bench.maps, &config).unwrap().redirected, 1);
        let long_ago = flows::now_seconds().saturating_sub(config.udp_unreplied_timeout + 1);
        let flow = Flow { last_seen: long_ago, ..bench.flow(&idle).unwrap() };
        bench.maps.flows.set(&idle, &flow).unwrap();
        let counts = flows::age(&bench.maps, &config).unwrap();
        assert_eq!((counts.inbound, counts.redirected), (1, 0));
        assert_eq!(bench.flow(&idle), None);
    });
}
