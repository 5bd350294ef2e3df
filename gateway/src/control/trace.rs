//! What would become of a pod's packet, and why: the packet is made, read by the data path's own parser,
//! given to the owner of its flow, and judged there by the data path's own functions. It is sent nowhere,
//! and nothing changes by it.

mod packet;
mod steps;
mod why;
mod words;

pub use steps::{Outcome, Step, StepName};

use super::{Gateway, workers::Silent};
use crate::{
    datapath::{
        request::{Foretold, Request},
        steering::{ShardSeed, Steering},
    },
    nat::{
        FlowKey, PolicyTable, Protocol, SessionRecord, Vtep, flow::Address, in2out::In2outs, trace,
    },
    verdict::DropReason,
    wire::Any,
};
use policy::PolicyId;
use std::{net::IpAddr, sync::Arc};

/// The packet that is asked about. Both addresses are of one family.
#[derive(Clone, Debug)]
pub struct Question {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Of ICMP the query id.
    pub sport: u16,
    /// Of ICMP nothing.
    pub dport: u16,
    /// TCP: a segment of a connection that is open. Else it is the SYN that opens one.
    pub mid_stream: bool,
    /// A policy's name, or its id.
    pub policy: String,
    /// A node's name or tunnel address; `None`: one that may send for the source.
    pub node: Option<String>,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None`: it leaves.
    pub dropped: Option<DropReason>,
    pub steps: Vec<Step>,
    /// Of the policies that judged it.
    pub generation: u64,
    pub policy_id: u32,
    /// The node's name, or as it was asked for where there is none; `None`: no node may send it.
    pub node: Option<String>,
    /// Who owns the flow; `None` where the packet does not come so far.
    pub worker: Option<usize>,
    /// The source that the world sees.
    pub egress_ip: Option<IpAddr>,
    /// The session of the packet's flow, which need not survive it.
    pub session: Option<SessionRecord>,
    /// Whether that session ends by the packet.
    pub is_cut: bool,
    /// Names for what a session holds as a number.
    pub policies: Arc<PolicyTable>,
}

/// Who is said to send the packet.
#[derive(Clone, Debug)]
struct Sender {
    name: Option<String>,
    /// `None`: a node with an IPv6 tunnel address that is nobody's. It is refused before all else.
    vtep: Option<Vtep>,
    was_chosen: bool,
}

/// What is known of the packet's way so far.
#[derive(Clone, Debug)]
struct Way {
    policies: Arc<PolicyTable>,
    sender: Sender,
    policy_id: u32,
    worker: Option<usize>,
    foretold: Option<Foretold>,
    /// Another worker that would lend an l4_port.
    lender: Option<usize>,
    dropped: Option<DropReason>,
}

/// Blocks: up to every worker is asked.
pub fn trace(gateway: &Gateway, question: &Question) -> Result<Answer, Silent> {
    let policies = gateway.policies.published().load_full();
    let sender = sender(&policies, question);
    let policy_id = policy_id(gateway, &policies, &question.policy);
    let mut way = Way {
        policies,
        policy_id,
        worker: None,
        foretold: None,
        lender: None,
        dropped: sender.vtep.is_none().then_some(DropReason::UnknownNode),
        sender,
    };
    if let Some(vtep) = way.sender.vtep {
        match packet::new(question, policy_id, vtep) {
            Ok(packet) => way.follow(gateway, packet)?,
            Err(reason) => way.dropped = Some(reason),
        }
    }
    let fate = way.foretold.map(|foretold| foretold.fate);
    Ok(Answer {
        dropped: way.dropped,
        steps: steps::steps(gateway, question, &way),
        generation: fate.map_or(way.policies.generation(), |fate| fate.generation),
        policy_id,
        node: way.sender.name,
        worker: way.worker,
        egress_ip: fate.and_then(|fate| fate.egress_ip()).filter(|_| way.dropped.is_none()),
        session: fate.and_then(|fate| fate.session),
        is_cut: fate.is_some_and(|fate| fate.judgement.ends().is_some()),
        policies: way.policies,
    })
}

impl Way {
    /// From the owner of the packet's flow to the external port.
    fn follow(&mut self, gateway: &Gateway, packet: Any<In2outs>) -> Result<(), Silent> {
        let owner = match &packet {
            Any::V4(packet) => owner(gateway, &packet.key),
            Any::V6(packet) => owner(gateway, &packet.key),
        };
        let foretold = ask(gateway, owner, packet, false)?;
        self.worker = Some(owner);
        self.foretold = Some(foretold);
        self.dropped = match foretold.fate.dropped() {
            Some(DropReason::L4PortsExhausted) => self.borrow(gateway, owner, packet)?,
            dropped => dropped,
        };
        if self.dropped.is_none() {
            self.dropped = match foretold.next_hop {
                None => Some(DropReason::NoNextHop),
                Some(next_hop) if next_hop.mac().is_none() && !next_hop.may_wait => {
                    Some(DropReason::NeighbourQueueFull)
                }
                Some(_) => None,
            };
        }
        Ok(())
    }

    /// The other workers are asked for an l4_port in the order in which the packet would go round.
    fn borrow(
        &mut self,
        gateway: &Gateway,
        owner: usize,
        packet: Any<In2outs>,
    ) -> Result<Option<DropReason>, Silent> {
        let workers = gateway.workers.len();
        for step in 1..workers {
            let worker = (owner + step) % workers;
            match ask(gateway, worker, packet, true)?.fate.dropped() {
                None => {
                    self.lender = Some(worker);
                    return Ok(None);
                }
                // Full is that worker, not the next.
                Some(DropReason::L4PortsExhausted | DropReason::SessionsFull) => {}
                refused => return Ok(refused),
            }
        }
        Ok(Some(DropReason::L4PortsExhausted))
    }
}

fn ask(
    gateway: &Gateway,
    worker: usize,
    packet: Any<In2outs>,
    to_lend: bool,
) -> Result<Foretold, Silent> {
    let handle = gateway.workers.get(worker).ok_or(Silent(worker))?;
    let question = trace::Question { packet, to_lend };
    handle.ask(|reply| Request::Trace { question, reply })?.wait()
}

/// The worker that owns the flow, by what is published of the steering.
fn owner<A: Address>(gateway: &Gateway, key: &FlowKey<A>) -> usize {
    let seed = gateway.steering.shard.seed.parse::<ShardSeed>();
    let steering = seed.ok().and_then(|seed| Steering::new(seed, gateway.workers.len()).ok());
    steering.map_or(0, |steering| steering.of_in2out(key))
}

/// The id that the policy's packets bear; of a policy that is not here, the one that it would have.
fn policy_id(gateway: &Gateway, policies: &PolicyTable, name: &str) -> u32 {
    if let Some((id, _)) = policies.policies().find(|(_, policy)| policy.name == name) {
        return id;
    }
    let accepted = gateway.policies.accepted();
    match accepted.set.policies.iter().find(|policy| policy.name() == name) {
        Some(elsewhere) => elsewhere.policy_id().get(),
        None => {
            let number = name.parse().ok().and_then(PolicyId::new);
            number.unwrap_or_else(|| PolicyId::from_name(name)).get()
        }
    }
}

fn sender(policies: &PolicyTable, question: &Question) -> Sender {
    let mut nodes: Vec<_> = policies.nodes().collect();
    nodes.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let Some(wanted) = &question.node else {
        let may_send = |cidrs: &[ipnet::IpNet]| cidrs.iter().any(|c| c.contains(&question.source));
        // Where none may, any node is as good as another to be refused as.
        let chosen = nodes.iter().find(|(_, node)| may_send(&node.source_cidrs));
        let vtep = chosen.or(nodes.first()).map_or(Vtep::NONE, |(vtep, _)| *vtep);
        let name = chosen.map(|(_, node)| node.name.clone());
        return Sender { name, vtep: Some(vtep), was_chosen: true };
    };
    let of = |name: &str, vtep| Sender { name: Some(name.to_owned()), vtep, was_chosen: false };
    if let Some((vtep, node)) = nodes.iter().find(|(_, node)| node.name == *wanted) {
        return of(&node.name, Some(*vtep));
    }
    // As the data path makes a VTEP of an outer source.
    let vtep = match wanted.parse() {
        Ok(IpAddr::V4(address)) => Some(Vtep::from(address)),
        Ok(IpAddr::V6(address)) => policies.vtep_v6(address),
        Err(_) => Some(Vtep::NONE),
    };
    let known = nodes.iter().find(|(known, _)| Some(*known) == vtep);
    of(known.map_or(wanted, |(_, node)| &node.name), vtep)
}
