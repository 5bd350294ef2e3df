//! What the end-to-end tests share: the two policies, and ways to talk to the world.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::echo::ECHO_PORT;
use lab::echo::http::blob_sha256;
use lab::echo::seen::Protocol;
use lab::family::{Dual, Family};
use lab::marker::Marker;
use lab::probe;
use lab::site::{CRAWLER, PAYMENTS, Site};
use lab::stack::Lab;
use lab::topology::{NODES, Pod, WORLD};
use lab::traffic::{Expected, Traffic, url};

pub(crate) const PAYMENTS_IP: Dual =
    Dual::new([203, 0, 113, 16], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
pub(crate) const CRAWLER_IP: Dual =
    Dual::new([203, 0, 113, 17], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x11]);
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

pub(crate) const BOTH: [&str; 2] = [PAYMENTS, CRAWLER];

/// Short: for answers that must not come.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// At the ordinary site.
pub(crate) fn both_policies() -> String {
    Site::default().documents(&BOTH)
}

pub(crate) fn only_crawler() -> String {
    Site::default().documents(&[CRAWLER])
}

/// pod-a and pod-d.
pub(crate) fn payments() -> Expected {
    egress(PAYMENTS, PAYMENTS_IP)
}

/// pod-c.
pub(crate) fn crawler() -> Expected {
    egress(CRAWLER, CRAWLER_IP)
}

fn egress(document: &str, address: Dual) -> Expected {
    let expected = Expected::by(document).expect("the policy is good");
    let Expected::Egress { policy, .. } = expected else { unreachable!("it is a policy") };
    assert_eq!(expected, Expected::Egress { address, policy });
    expected
}

/// A lab in which gateway and both redirectors run and have these policies, at the ordinary site.
pub(crate) fn product(policies: &str) -> Result<Lab> {
    product_at(Site::default(), "auto", policies)
}

pub(crate) fn product_at(site: Site, hook: &str, policies: &str) -> Result<Lab> {
    let mut lab = Lab::start(site)?;
    lab.print_logs_at_end();
    lab.start_gateway(policies)?;
    for node in &NODES {
        lab.start_redirector(node, hook, policies)?;
        lab.wait_until_redirected(node, policies)?;
    }
    Ok(lab)
}

/// The nodes' half of a change of policies.
pub(crate) fn apply_at_nodes(lab: &Lab, policies: &str) -> Result<()> {
    for node in &NODES {
        lab.apply_at_node(node, policies)?;
        lab.wait_until_redirected(node, policies)?;
    }
    Ok(())
}

/// TCP, UDP and ICMP echo from `pod` to `to` in each family, all of which must be answered.
pub(crate) fn open_all(
    lab: &Lab,
    traffic: &mut Traffic,
    pod: Pod,
    to: Dual,
    expected: Expected,
) -> Result<()> {
    for family in Family::BOTH {
        for protocol in PROTOCOLS {
            let flow = traffic.plan(pod, protocol, to.of(family), expected);
            traffic.open(lab, &flow)?;
        }
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

/// Over HTTP in both directions, in each family.
pub(crate) fn transfer(lab: &Lab, pod: Pod, bytes: u64) -> Result<()> {
    let (pod, expected) = (lab.host(pod.name)?, blob_sha256(bytes));
    for family in Family::BOTH {
        let url = format!("{}/blob", url(WORLD.of(family)));
        let get = format!("{url}?bytes={bytes}");
        pod.run(&["curl", "-sSf", "-m", "60", "-o", "/run/blob", &get])?;
        let received = pod.run(&["sha256sum", "/run/blob"])?;
        ensure!(received.starts_with(&expected), "{family}: {received}");
        let answer = pod.run(&["curl", "-sSf", "-m", "60", "-T", "/run/blob", &url])?;
        ensure!(answer.contains(&expected), "{family}: {answer}");
    }
    Ok(())
}

/// One UDP flow of a pod to one address of the world, for as long as this lives.
pub(crate) struct Conversation {
    socket: UdpSocket,
    marker: Marker,
    /// The source that the world must see.
    source: IpAddr,
}

impl Conversation {
    /// In one family, that of `world`.
    pub(crate) fn open(lab: &Lab, pod: Pod, world: IpAddr, expected: Expected) -> Result<Self> {
        let flow = Traffic::default().plan(pod, Protocol::Udp, world, expected);
        let own = pod.address.of(flow.family());
        // the socket stays in the pod's network, wherever the thread is that uses it
        let socket = lab.host(pod.name)?.within(|| {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect((world, ECHO_PORT))?;
            Ok(socket)
        })?;
        let marker = Marker { sequence: 1_000_000, ..flow.marker() };
        Ok(Self { socket, marker, source: flow.source() })
    }

    /// One in each family.
    pub(crate) fn open_each(lab: &Lab, pod: Pod, expected: Expected) -> Result<Vec<Self>> {
        Family::BOTH
            .into_iter()
            .map(|family| Self::open(lab, pod, WORLD.of(family), expected))
            .collect()
    }

    /// Says something that names the flow's own policy, and waits for the answer to just that: the source that the world saw.
    pub(crate) fn ask(&mut self, timeout: Duration) -> Result<SocketAddr> {
        self.marker.sequence += 1;
        probe::udp_over(&self.socket, self.marker, timeout)
    }

    /// The same, and the world must see the right source.
    pub(crate) fn say(&mut self, timeout: Duration) -> Result<SocketAddr> {
        let source = self.ask(timeout)?;
        ensure!(source.ip() == self.source, "the world saw {source}, not {}", self.source);
        Ok(source)
    }

    /// From here on it must leave as the node, if at all.
    pub(crate) fn without_policy(&mut self) {
        self.marker.policy = 0;
    }
}

/// All of them still leave as they did when they said something last.
pub(crate) fn say_all(flows: &mut [Conversation]) -> Result<Vec<SocketAddr>> {
    flows.iter_mut().map(|flow| flow.say(probe::TIMEOUT)).collect()
}

pub(crate) fn require_silence(flows: &mut [Conversation], why: &str) -> Result<()> {
    for flow in flows {
        if let Ok(source) = flow.ask(SHORT) {
            bail!("{why}, but the world answered {source}");
        }
    }
    Ok(())
}

/// Every worker owns some of the sessions.
pub(crate) fn require_all_workers(lab: &Lab) -> Result<()> {
    let listing = lab.gateway_cli(&["sessions", "--limit", "1000", "-o", "json"])?;
    let listing: serde_json::Value = serde_json::from_str(&listing)?;
    let sessions = listing["sessions"].as_array().context("a list of sessions")?;
    let workers = sessions.iter().filter_map(|session| session["worker"].as_u64());
    let workers: BTreeSet<u64> = workers.collect();
    assert_eq!(workers, (0..lab.site().workers as u64).collect(), "who has sessions: {listing}");
    Ok(())
}
