//! What there is to say of a step that the packet passes.

use super::{
    Question, Way,
    steps::{Outcome, StepName},
};
use crate::{
    control::Gateway,
    datapath::neighbour::NeighbourState,
    nat::{Judgement, Protocol, SessionRecord, policy_table::Pool, trace::Fate},
    verdict::Side,
    wire::{Address, Both},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Says what is known of a packet's way.
pub(super) struct Teller<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) question: &'a Question,
    pub(super) way: &'a Way,
}

impl Teller<'_> {
    /// Of a step that the packet passes; `None`: there is nothing to say.
    pub(super) fn passed(&self, step: StepName) -> Option<(Outcome, String)> {
        let ok = |detail: String| Some((Outcome::Ok, detail));
        match step {
            StepName::Packet => None,
            StepName::Source => ok(self.source()),
            StepName::Policy => ok(self.policy()),
            StepName::Destination => {
                let destination = self.question.destination;
                ok(format!("{destination} is not ours, and routers forward to it"))
            }
            StepName::Worker => {
                let (worker, of) = (self.way.worker?, self.gateway.workers.len());
                let others =
                    if of == 1 { "the only one".to_owned() } else { format!("one of {of}") };
                ok(format!("worker {worker}, {others}, owns the flow"))
            }
            StepName::Session => self.session(),
            StepName::EgressIp => self.egress_ip().map(|detail| (Outcome::Ok, detail)),
            StepName::SessionTable => {
                let (taken, of) = self.opening()?.slots;
                ok(format!("{taken} of {of} slots are taken"))
            }
            StepName::L4Port => self.l4_port(),
            StepName::NextHop => self.next_hop(),
            StepName::Size => self.way.worker.map(|_| (Outcome::Note, self.size())),
        }
    }

    pub(super) fn node(&self) -> &str {
        self.way.sender.name.as_deref().unwrap_or("no node")
    }

    fn source(&self) -> String {
        let how = if self.way.sender.was_chosen { " (no node was given)" } else { "" };
        format!("{} may send {}{how}", self.node(), self.cidrs())
    }

    /// Of the sender: a few, the one with the source first.
    pub(super) fn cidrs(&self) -> String {
        const SHOWN: usize = 2;
        let nodes = self.way.policies.nodes();
        let node = { nodes }.find(|(vtep, _)| Some(*vtep) == self.way.sender.vtep);
        let mut cidrs = node.map_or_else(Vec::new, |(_, node)| node.source_cidrs.clone());
        cidrs.sort_by_key(|cidr| !cidr.contains(&self.question.source));
        let shown: Vec<_> = cidrs.iter().take(SHOWN).map(ToString::to_string).collect();
        match (shown.is_empty(), cidrs.len().saturating_sub(SHOWN)) {
            (true, _) => "nothing".to_owned(),
            (false, 0) => shown.join(", "),
            (false, more) => format!("{} and {more} more", shown.join(", ")),
        }
    }

    fn policy(&self) -> String {
        let policy = self.way.policies.policy(self.way.policy_id);
        let name = policy.map_or(&self.question.policy, |policy| &policy.name);
        let (id, generation) = (self.way.policy_id, self.way.policies.generation());
        format!("{name} (VNI {id}) is here, in generation {generation}")
    }

    fn session(&self) -> Option<(Outcome, String)> {
        let judgement = self.way.foretold?.fate.judgement;
        let session = self.found();
        let external = session.map(|session| session.external.to_string()).unwrap_or_default();
        Some(match (judgement, session) {
            (Judgement::Continues(_), Some(session)) => {
                let SessionRecord { state, idle_seconds, .. } = session;
                let state = state.label();
                (Outcome::Ok, format!("{state} at {external}, idle for {idle_seconds} s"))
            }
            (Judgement::Rebinds(_), Some(_)) => {
                let policy = &self.question.policy;
                (Outcome::Note, format!("at {external}; it goes on under {policy}, from this node"))
            }
            (Judgement::Opens { .. } | Judgement::Dropped { .. }, Some(_)) => {
                let policy = &self.question.policy;
                (Outcome::Note, format!("at {external}, which is not {policy}'s: it is cut"))
            }
            _ => (Outcome::Ok, format!("none yet: the {} opens one", self.kind())),
        })
    }

    fn egress_ip(&self) -> Option<String> {
        let egress_ip = self.opening()?.egress_ip()?;
        let (usable, _) = self.pools()?;
        let by = match usable {
            1 => "the only one".to_owned(),
            count => format!("of {count}, by the pod's address"),
        };
        Some(format!("{egress_ip}, {by} of {}", self.family()))
    }

    fn l4_port(&self) -> Option<(Outcome, String)> {
        let (taken, of) = self.opening()?.l4_ports;
        let remote = self.remote();
        Some(match self.way.lender {
            None => {
                (Outcome::Ok, format!("drawn at random: {taken} of {of} are taken for {remote}"))
            }
            Some(lender) => {
                let detail = format!(
                    "all {of} of the owner are taken for {remote}: worker {lender} lends one"
                );
                (Outcome::Note, detail)
            }
        })
    }

    fn next_hop(&self) -> Option<(Outcome, String)> {
        let next_hop = self.way.foretold?.next_hop?;
        let (address, mac) = (next_hop.address, next_hop.mac());
        let seconds = next_hop.neighbour.map_or(0, |neighbour| neighbour.age_millis / 1000);
        Some(match (next_hop.neighbour.map(|neighbour| neighbour.state), mac) {
            (Some(NeighbourState::Reachable), Some(mac)) => {
                (Outcome::Ok, format!("{address} is at {mac}, by its answer of {seconds} s ago"))
            }
            (Some(_), Some(mac)) => {
                let detail = format!(
                    "{address} was at {mac} {seconds} s ago: that is used, and it is asked"
                );
                (Outcome::Ok, detail)
            }
            (Some(_), None) => {
                let detail = format!(
                    "{address} was asked for its MAC {seconds} s ago: the packet waits for the answer"
                );
                (Outcome::Note, detail)
            }
            (None, _) => {
                let detail =
                    format!("{address} is asked for its MAC: the packet waits for the answer");
                (Outcome::Note, detail)
            }
        })
    }

    fn size(&self) -> String {
        let config = &self.gateway.datapath;
        let vtep = self.way.sender.vtep.map(|vtep| self.way.policies.vtep_address(vtep));
        let inwards = vtep.map_or(0, |vtep| config.max_inner(vtep));
        let Both { v4, v6 } = config.mss_limits();
        let mss = if self.question.source.is_ipv4() { v4 } else { v6 };
        let clamped = match self.question.protocol {
            Protocol::Tcp => format!("; MSS of a SYN at most {mss}"),
            Protocol::Udp | Protocol::Icmp => String::new(),
        };
        let outwards = config.port(Side::External).mtu;
        format!("IP packets of up to {outwards} bytes out, {inwards} back{clamped}")
    }

    /// The fate of a packet that opens a session.
    pub(super) fn opening(&self) -> Option<&Fate> {
        let fate = &self.way.foretold.as_ref()?.fate;
        matches!(fate.judgement, Judgement::Opens { .. }).then_some(fate)
    }

    pub(super) fn found(&self) -> Option<SessionRecord> {
        self.way.foretold?.fate.session
    }

    /// How many egress IPs of the packet's family the policy has here: for new sessions, and draining.
    pub(super) fn pools(&self) -> Option<(usize, usize)> {
        let pools = &self.way.policies.policy(self.way.policy_id)?.pools;
        fn of<A: Address>(pool: &Pool<A>) -> (usize, usize) {
            (pool.egress_ips.len(), pool.draining_ips.len())
        }
        Some(match self.question.source {
            IpAddr::V4(_) => of::<Ipv4Addr>(&pools.v4),
            IpAddr::V6(_) => of::<Ipv6Addr>(&pools.v6),
        })
    }

    pub(super) fn family(&self) -> &'static str {
        if self.question.source.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn kind(&self) -> &'static str {
        match self.question.protocol {
            Protocol::Tcp => "SYN",
            Protocol::Udp => "packet",
            Protocol::Icmp => "echo request",
        }
    }

    pub(super) fn remote(&self) -> String {
        let Question { destination, dport, protocol, .. } = self.question;
        match protocol {
            Protocol::Icmp => format!("ICMP to {destination}"),
            Protocol::Tcp | Protocol::Udp => {
                format!("{} {}", protocol.label(), SocketAddr::new(*destination, *dport))
            }
        }
    }
}
