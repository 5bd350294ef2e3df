//! Why a packet is dropped, in the words of its case, and what to do; the reason itself has a general word.

use super::{steps::StepName, words::Teller};
use crate::verdict::{DropReason, Side};
use std::net::IpAddr;

impl Teller<'_> {
    pub(super) fn why(&self, reason: DropReason) -> String {
        match StepName::of(reason) {
            StepName::Source if reason == DropReason::UnknownNode => self.unknown_node(),
            StepName::Source => self.spoofed_source(),
            StepName::Policy => self.unknown_policy(),
            StepName::Destination => self.bad_destination(reason),
            StepName::Session => self.no_session(reason),
            StepName::EgressIp => self.no_egress_ip(),
            StepName::SessionTable => {
                let (taken, of) = self.way.foretold.map_or((0, 0), |foretold| foretold.fate.slots);
                format!("{taken} of {of} slots are taken: raise nat.max_sessions")
            }
            StepName::L4Port => {
                let (remote, policy) = (self.remote(), &self.question.policy);
                format!("all of the egress IP are taken for {remote}: add an egress IP to {policy}")
            }
            StepName::NextHop => self.no_way_out(reason),
            StepName::Packet | StepName::Worker | StepName::Size => reason.help().to_owned(),
        }
    }

    fn unknown_node(&self) -> String {
        let generation = self.way.policies.generation();
        match &self.question.node {
            Some(node) => {
                format!(
                    "no EgressNode of generation {generation} has the name or tunnelAddress {node}"
                )
            }
            None => format!("there is no EgressNode in generation {generation}"),
        }
    }

    fn spoofed_source(&self) -> String {
        let source = self.question.source;
        if self.way.sender.was_chosen {
            return format!(
                "no EgressNode has {source} in its podCIDRs: add its range to its node's"
            );
        }
        let (node, cidrs) = (self.node(), self.cidrs());
        format!("{node} may send {cidrs}; {source} is not in there: look at the node's podCIDRs")
    }

    fn unknown_policy(&self) -> String {
        let (name, here) = (&self.question.policy, &self.gateway.config.name);
        let accepted = self.gateway.policies.accepted();
        match accepted.set.policies.iter().find(|policy| policy.name() == name) {
            Some(policy) => {
                let of = policy.spec.egress.iter().map(|egress| egress.gateway.as_str());
                let of = of.collect::<Vec<_>>().join(", ");
                format!("{name} is not for {here}, it is for {of}: look at its egress")
            }
            None => {
                let generation = self.way.policies.generation();
                format!("there is no EgressPolicy {name} in generation {generation}")
            }
        }
    }

    fn bad_destination(&self, reason: DropReason) -> String {
        let destination = self.question.destination;
        if reason == DropReason::Hairpin {
            format!("{destination} is an egress IP of this gateway")
        } else if self.is_own(destination) {
            format!("{destination} is an address of this gateway")
        } else {
            format!("{destination} is not a unicast address that routers forward to")
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let config = &self.gateway.datapath;
        Side::ALL.iter().any(|side| config.port(*side).own_addresses().any(|own| own == address))
    }

    fn no_session(&self, reason: DropReason) -> String {
        let policy = &self.question.policy;
        match self.found().filter(|_| reason == DropReason::SessionCut) {
            Some(session) => format!(
                "its session is at {}, which {policy} does not have: TCP cannot move, so it is cut",
                session.external
            ),
            None => "there is none, and only a SYN opens one: the connection is older than the gateway's \
                     memory of it, and has to begin anew"
                .to_owned(),
        }
    }

    fn no_egress_ip(&self) -> String {
        let (family, here) = (self.family(), &self.gateway.config.name);
        let draining = match self.pools().map_or(0, |(_, draining)| draining) {
            0 => String::new(),
            count => format!(", only {count} draining"),
        };
        let policy = &self.question.policy;
        format!("{policy} has no {family} egress IP at {here}{draining}: add one to its egressIPs")
    }

    fn no_way_out(&self, reason: DropReason) -> String {
        let next_hop = self.way.foretold.and_then(|foretold| foretold.next_hop);
        match next_hop.filter(|_| reason == DropReason::NeighbourQueueFull) {
            Some(next_hop) => {
                format!("{} does not say its MAC, and too many wait for it", next_hop.address)
            }
            None => {
                let (destination, family) = (self.question.destination, self.family());
                format!(
                    "{destination} is not on-link: give [ports.external] an {family} address in \
                     gateways"
                )
            }
        }
    }
}
