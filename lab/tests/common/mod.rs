//! What the end-to-end tests share: the two policies, and ways to talk to the world.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::echo::ECHO_PORT;
use lab::echo::seen::Protocol;
use lab::marker::Marker;
use lab::probe;
use lab::stack::{CRAWLER, Lab, PAYMENTS, SITE, documents, egress_ips};
use lab::topology::{NODES, Pod, WORLD};
use lab::traffic::{Expected, Traffic};

pub(crate) const PAYMENTS_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 16);
pub(crate) const CRAWLER_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 17);
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

/// Short: for answers that must not come.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn both_policies() -> String {
    documents(&[SITE, PAYMENTS, CRAWLER])
}

pub(crate) fn only_crawler() -> String {
    documents(&[SITE, CRAWLER])
}

/// pod-a and pod-d.
pub(crate) fn payments() -> Expected {
    egress(PAYMENTS_IP)
}

/// pod-c.
pub(crate) fn crawler() -> Expected {
    egress(CRAWLER_IP)
}

fn egress(address: Ipv4Addr) -> Expected {
    let all = egress_ips(&both_policies()).expect("the policies are good");
    let (_, policy, _) = all.iter().find(|(ip, ..)| *ip == address).expect("it is in a policy");
    Expected::Egress { address, policy: *policy }
}

/// A lab in which gateway and both redirectors run and have these policies.
pub(crate) fn product(policies: &str) -> Result<Lab> {
    product_with_hook("auto", policies)
}

pub(crate) fn product_with_hook(hook: &str, policies: &str) -> Result<Lab> {
    let mut lab = Lab::start()?;
    lab.print_logs_at_end();
    lab.start_gateway(policies)?;
    for node in &NODES {
        lab.start_redirector(node, hook, policies)?;
        lab.wait_until_redirected(node, policies)?;
    }
    Ok(lab)
}

/// TCP, UDP and ICMP echo from `pod` to `to`, all of which must be answered.
pub(crate) fn open_all(
    lab: &Lab,
    traffic: &mut Traffic,
    pod: Pod,
    to: Ipv4Addr,
    expected: Expected,
) -> Result<()> {
    for protocol in PROTOCOLS {
        let flow = traffic.plan(pod, protocol, to, expected);
        traffic.open(lab, &flow)?;
    }
    Ok(())
}

/// The world saw every flow with the source that it must have, and nothing else left anywhere.
pub(crate) fn require_right(lab: &Lab, traffic: &Traffic) -> Result<()> {
    for judged in traffic.judge(lab)? {
        ensure!(judged.is_right(), "{judged:#?}");
    }
    lab.report()?.require_clean()
}

/// One UDP flow of a pod, for as long as this lives.
pub(crate) struct Conversation {
    socket: UdpSocket,
    marker: Marker,
}

impl Conversation {
    pub(crate) fn open(lab: &Lab, pod: Pod, policy: u32) -> Result<Self> {
        // the socket stays in the pod's network, wherever the thread is that uses it
        let socket = lab.host(pod.name)?.within(|| {
            let socket = UdpSocket::bind((pod.address, 0))?;
            socket.connect((WORLD, ECHO_PORT))?;
            Ok(socket)
        })?;
        let marker = Marker { pod: pod.address, policy, generation: 1, sequence: 1_000_000 };
        Ok(Self { socket, marker })
    }

    /// Says something that names the flow's own policy, and waits for the answer to just that: the source that the world saw.
    pub(crate) fn say(&mut self, timeout: Duration) -> Result<SocketAddr> {
        self.marker.sequence += 1;
        probe::udp_over(&self.socket, self.marker, timeout)
    }

    /// From here on it must leave as the node, if at all.
    pub(crate) fn without_policy(&mut self) {
        self.marker.policy = 0;
    }
}

pub(crate) fn policy_id(expected: Expected) -> u32 {
    match expected {
        Expected::Egress { policy, .. } => policy,
        Expected::Node => 0,
    }
}
