//! `node-redirect trace`: what would happen to a packet, step by step in the order of `from_pod`, from the maps as they are. It changes nothing
//! and counts nothing.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use crate::abi::{self, FlowKey};
use crate::counters::{Reason, Verdict};
use crate::fold;
use crate::maps::Maps;
use crate::state::Names;
use crate::tables::Tables;

#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub steps: Vec<Step>,
    pub verdict: Verdict,
    pub reason: &'static str,
    pub meaning: &'static str,
    #[serde(rename = "policyID")]
    pub policy_id: Option<u32>,
    pub gateway: Option<IpAddr>,
}

#[derive(Debug, Serialize)]
pub struct Step {
    pub question: &'static str,
    pub answer: String,
}

struct Tracer<'a> {
    maps: &'a Maps,
    names: &'a Names,
    packet: Packet,
    vxlan_port: u16,
    steps: Vec<Step>,
    policy_id: Option<u32>,
    gateway: Option<IpAddr>,
}

pub fn trace(maps: &Maps, names: &Names, packet: Packet, vxlan_port: u16) -> Result<Trace> {
    let steps = Vec::new();
    let mut tracer =
        Tracer { maps, names, packet, vxlan_port, steps, policy_id: None, gateway: None };
    let reason = tracer.follow()?;
    let counter = reason.counter();
    Ok(Trace {
        steps: tracer.steps,
        verdict: counter.verdict,
        reason: counter.name,
        meaning: counter.help,
        policy_id: tracer.policy_id,
        gateway: tracer.gateway,
    })
}

impl Tracer<'_> {
    fn follow(&mut self) -> Result<Reason> {
        if self.forges_tunnel()? {
            return Ok(Reason::ForgedTunnel);
        }
        let settings = self.maps.settings()?;
        let reason = match self.flow(settings.generation)? {
            Some(reason) => reason,
            None => self.decide()?,
        };
        if reason == Reason::Redirected && settings.tunnel_ifindex == 0 {
            self.say("is there a tunnel", "no VXLAN device".to_owned());
            return Ok(Reason::NoTunnel);
        }
        Ok(reason)
    }

    fn forges_tunnel(&mut self) -> Result<bool> {
        if self.packet.protocol != abi::PROTOCOL_UDP || self.packet.dport != self.vxlan_port {
            return Ok(false);
        }
        let role = self.maps.vteps.get(&abi::address(self.packet.dst))?;
        let answer = match role {
            Some(abi::VTEP_GATEWAY) => "to a gateway's tunnel address",
            Some(_) => "to a node's address",
            None if is_heard_by_any_node(self.packet.dst) => "to an address that every node hears",
            None => "no: the destination is no gateway and no node",
        };
        self.say("VXLAN from a pod", answer.to_owned());
        Ok(role.is_some() || is_heard_by_any_node(self.packet.dst))
    }

    /// A known flow is not looked up again, unless the policy set has changed since.
    fn flow(&mut self, generation: u32) -> Result<Option<Reason>> {
        let Some(flow) = self.maps.flows.get(&self.flow_key())? else {
            self.say("known flow", "no".to_owned());
            return Ok(None);
        };
        if flow.kind == abi::FLOW_INBOUND {
            self.say("known flow", "yes, opened by the world".to_owned());
            return Ok(Some(Reason::InboundFlow));
        }
        if flow.generation != generation {
            self.say("known flow", "yes, from an earlier policy set: decided anew".to_owned());
            return Ok(None);
        }
        if flow.kind != abi::FLOW_REDIRECTED {
            self.say("known flow", "yes, left to the node".to_owned());
            return Ok(Reason::from_index(flow.reason.into()));
        }
        self.policy_id = Some(flow.policy_id);
        self.gateway = Some(abi::ip(flow.gateway));
        let answer = format!(
            "yes, {} by gateway {}",
            self.policy_name(flow.policy_id),
            abi::ip(flow.gateway)
        );
        self.say("known flow", answer);
        Ok(Some(Reason::Redirected))
    }

    fn decide(&mut self) -> Result<Reason> {
        let Some(endpoint) = self.maps.endpoints.get(&abi::address(self.packet.src))? else {
            self.say("policies of the pod", format!("none select {}", self.packet.src));
            return Ok(Reason::NotSelected);
        };
        let tables = Tables::read(self.maps)?;
        let policies: Vec<String> = tables
            .policies_of(self.packet.src)
            .into_iter()
            .map(|id| self.policy_name(id))
            .collect();
        self.say("policies of the pod", policies.join(", "));
        if let Some(prefix) = longest(&mut tables.exempt.iter().copied(), self.packet.dst) {
            self.say("exempt destination", format!("yes, {prefix}"));
            return Ok(Reason::Exempt);
        }
        self.say("exempt destination", "no".to_owned());
        let set = tables.sets.get(&endpoint.set_id).cloned().unwrap_or_default();
        let Some(prefix) = longest(&mut set.keys().copied(), self.packet.dst) else {
            self.say("destination under policy", "no".to_owned());
            return Ok(Reason::OutsidePolicy);
        };
        let action = set.get(&prefix).copied().unwrap_or(abi::ACTION_EXCLUDE);
        if action == abi::ACTION_EXCLUDE {
            self.say("destination under policy", format!("excluded by {prefix}"));
            return Ok(Reason::Excluded);
        }
        let answer = format!("{prefix}: {}", self.policy_name(action));
        self.say("destination under policy", answer);
        self.policy_id = Some(action);
        Ok(self.choose_gateway(tables.policies.get(&action)))
    }

    fn choose_gateway(&mut self, policy: Option<&abi::Policy>) -> Reason {
        self.gateway = policy.and_then(|policy| policy.choose_gateway(self.packet.src));
        if let Some(gateway) = self.gateway {
            let count = policy.map_or(0, |policy| policy.gateway_count);
            self.say("gateway", format!("{gateway}, first in rank of {count} for this pod"));
            return Reason::Redirected;
        }
        let is_open = policy.is_some_and(|policy| policy.failure_mode == abi::FAILURE_OPEN);
        let mode = if is_open { "Open" } else { "Closed" };
        self.say("gateway", format!("none is healthy and takes new flows; failureMode is {mode}"));
        if is_open { Reason::FailedOpen } else { Reason::NoGateway }
    }

    fn flow_key(&self) -> FlowKey {
        let ports = match self.packet.protocol {
            // The program's ICMP_OPENED_BY_POD.
            abi::PROTOCOL_ICMP | abi::PROTOCOL_ICMPV6 => (self.packet.sport, 0),
            _ => (self.packet.sport, self.packet.dport),
        };
        FlowKey {
            pod: abi::address(self.packet.src),
            remote: abi::address(self.packet.dst),
            pod_port: ports.0.to_be_bytes(),
            remote_port: ports.1.to_be_bytes(),
            protocol: self.packet.protocol,
            pad: [0; 3],
        }
    }

    fn policy_name(&self, id: u32) -> String {
        match self.names.get(&id) {
            Some(policy) => format!("policy {} (VNI {id})", policy.name),
            None => format!("policy id {id}"),
        }
    }

    fn say(&mut self, question: &'static str, answer: String) {
        self.steps.push(Step { question, answer });
    }
}

/// Twin of the function in `bpf/address.h`.
fn is_heard_by_any_node(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

fn longest(prefixes: &mut dyn Iterator<Item = IpNet>, address: IpAddr) -> Option<IpNet> {
    prefixes.filter(|prefix| prefix.contains(&address)).max_by_key(IpNet::prefix_len)
}

pub fn as_text(trace: &Trace) -> String {
    let width = trace.steps.iter().map(|step| step.question.len()).max().unwrap_or(0);
    let mut text = String::new();
    for step in &trace.steps {
        text += &fold::beside(&format!("{:width$}   ", step.question), &step.answer);
    }
    let verdict = format!("{} ({})", trace.reason, trace.meaning);
    text + "\n" + &fold::beside(&format!("{}: ", trace.verdict.name()), &verdict)
}
