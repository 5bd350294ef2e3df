//! Flows from pods to the world, with the tools that an operator would use, and the judgement on each by what the world saw.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::echo::HTTP_PORT;
use crate::echo::seen::{Protocol, Sighting};
use crate::family::{Dual, Family};
use crate::marker::Marker;
use crate::namespaces::lab_program;
use crate::site::Site;
use crate::stack::{Lab, egress_ips};
use crate::topology::Pod;
use crate::wait::until;

/// How long the echo server may take to note what it saw, on a busy machine.
const NOTING: Duration = Duration::from_secs(2);

/// One flow that a pod opened.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Carried in the payload or the URL, so that the world can tell which one it saw.
    pub id: u32,
    pub pod: Pod,
    pub protocol: Protocol,
    pub to: IpAddr,
    pub expected: Expected,
}

/// Whose address the world must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The egress IP, of the flow's family, of the policy with this id.
    Egress { address: Dual, policy: u32 },
    /// The address of the pod's node.
    Node,
}

impl Expected {
    /// How traffic leaves by the only policy of this document.
    pub fn by(policy: &str) -> Result<Self> {
        let all = egress_ips(&Site::default().documents(&[policy]))?;
        let (mut v4, mut v6) = (None, None);
        for (address, ..) in &all {
            match address {
                IpAddr::V4(address) => v4 = v4.or(Some(*address)),
                IpAddr::V6(address) => v6 = v6.or(Some(*address)),
            }
        }
        let (_, policy, _) = all.first().context("the policy has no egress IP")?;
        let address = v4.zip(v6).map(|(v4, v6)| Dual { v4, v6 });
        let address = address.context("the policy needs an egress IP of each family")?;
        Ok(Self::Egress { address, policy: *policy })
    }
}

impl Flow {
    /// What the source address at the world must be.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        let address = match self.expected {
            Expected::Egress { address, .. } => address,
            Expected::Node => self.pod.node.address,
        };
        address.of(self.family())
    }

    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.to)
    }

    fn pod_address(&self) -> IpAddr {
        self.pod.address.of(self.family())
    }

    #[must_use]
    pub fn leaves_as_egress_ip(&self) -> bool {
        self.expected != Expected::Node
    }

    #[must_use]
    pub fn marker(&self) -> Marker {
        let policy = match self.expected {
            Expected::Egress { policy, .. } => policy,
            Expected::Node => 0,
        };
        Marker { pod: self.pod_address().into(), policy, generation: 1, sequence: self.id }
    }

    /// The command that a pod opens this flow with, as typed.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let (to, id, marker) = (self.to, self.id, self.marker());
        let text = match self.protocol {
            Protocol::Tcp => format!("curl -sS -m 10 {}/source?flow={id}", url(to)),
            Protocol::Udp => {
                let (pod, policy) = (self.pod_address(), marker.policy);
                format!("lab probe udp {to} --pod {pod} --policy {policy} --sequence {id}")
            }
            Protocol::Icmp => {
                let pattern: String =
                    marker.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                format!("ping -n -c 1 -W 5 -p {pattern} {to}")
            }
        };
        text.split(' ').map(str::to_owned).collect()
    }
}

/// Of the world's HTTP server: an IPv6 address is in brackets, and the port is left out as everybody does.
#[must_use]
pub fn url(server: IpAddr) -> String {
    let address = SocketAddr::new(server, HTTP_PORT).to_string();
    format!("http://{}", address.trim_end_matches(":80"))
}

/// What became of a flow.
#[derive(Clone, Debug)]
pub struct Judged {
    pub flow: Flow,
    /// The sources that the world saw; more than one only if something is very wrong.
    pub sources: Vec<IpAddr>,
    /// The pod got what it asked for.
    pub answered: bool,
}

impl Judged {
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.answered && self.sources == [self.flow.source()]
    }
}

/// All flows of a test or demo.
#[derive(Debug, Default)]
pub struct Traffic {
    flows: Vec<Flow>,
    unanswered: BTreeSet<u32>,
}

impl Traffic {
    /// A flow that is about to be opened.
    pub fn plan(&mut self, pod: Pod, protocol: Protocol, to: IpAddr, expected: Expected) -> Flow {
        let id = self.flows.len() as u32 + 1;
        let flow = Flow { id, pod, protocol, to, expected };
        self.flows.push(flow.clone());
        flow
    }

    /// Opens it and waits for the answer: what the tool printed.
    pub fn open(&mut self, lab: &Lab, flow: &Flow) -> Result<String> {
        let mut words = flow.command();
        if let Some(program) = words.first_mut().filter(|program| *program == "lab") {
            *program = lab_program()?.display().to_string();
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.host(flow.pod.name)?.run(&words).inspect_err(|_| self.unanswered(flow))
    }

    /// Its pod did not get what it asked for.
    pub fn unanswered(&mut self, flow: &Flow) {
        self.unanswered.insert(flow.id);
    }

    /// Every flow so far with what the world saw of it.
    pub fn judge(&self, lab: &Lab) -> Result<Vec<Judged>> {
        let mut judged = Vec::new();
        // the kernel may answer a ping before the echo server has read its copy; what never comes, the judgement tells
        let _ = until("the world has seen what it answered", NOTING, || {
            let seen = lab.seen().context("asking the world")?;
            judged = self.flows.iter().map(|flow| self.judge_one(flow, &seen)).collect();
            let missing = judged.iter().any(|judged| judged.answered && judged.sources.is_empty());
            ensure!(!missing, "it has not");
            Ok(())
        });
        ensure!(judged.len() == self.flows.len(), "the world does not say what it saw");
        Ok(judged)
    }

    fn judge_one(&self, flow: &Flow, seen: &[Sighting]) -> Judged {
        let mut sources: Vec<IpAddr> = seen
            .iter()
            .filter(|sighting| sighting.protocol == flow.protocol && sighting.flow == Some(flow.id))
            .filter(|sighting| sighting.destination == flow.to)
            .map(|sighting| sighting.source.ip())
            .collect();
        sources.sort();
        sources.dedup();
        Judged { flow: flow.clone(), sources, answered: !self.unanswered.contains(&flow.id) }
    }
}
