//! A packet in two forms: the question what would become of it, and itself.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use crate::{
    harness::{ACK, Family, NODE, SYN, echo, tcp, tunnelled, udp},
    running::Running,
};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

#[derive(Clone, Copy)]
pub enum L4 {
    Udp(u16, u16),
    Syn(u16, u16),
    /// In mid-stream.
    Ack(u16, u16),
    Echo(u16),
}

#[derive(Clone, Copy)]
pub struct Packet<F> {
    pub policy: &'static str,
    pub node: Ipv4Addr,
    pub from: F,
    pub to: F,
    pub l4: L4,
}

/// A packet of the pod to the remote.
pub fn usual<F: Family>(l4: L4) -> Packet<F> {
    Packet { policy: "payments", node: NODE, from: F::POD, to: F::REMOTE, l4 }
}

impl<F: Family> Packet<F> {
    pub fn trace(&self, running: &Running) -> Value {
        let (from, to): (IpAddr, IpAddr) = (self.from.into(), self.to.into());
        let Packet { policy, node, .. } = self;
        let l4 = match self.l4 {
            L4::Udp(sport, dport) => format!("protocol=udp&sport={sport}&dport={dport}"),
            L4::Syn(sport, dport) => format!("protocol=tcp&sport={sport}&dport={dport}"),
            L4::Ack(sport, dport) => {
                format!("protocol=tcp&sport={sport}&dport={dport}&midStream=true")
            }
            L4::Echo(id) => format!("protocol=icmp&sport={id}"),
        };
        let path = format!("/v1/trace?src={from}&dst={to}&policy={policy}&node={node}&{l4}");
        let answer = running.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub fn frame(&self, vni: u32) -> Vec<u8> {
        let (from, to) = (self.from, self.to);
        let inner = match self.l4 {
            L4::Udp(sport, dport) => udp((from, sport), (to, dport), 64, b"hello"),
            L4::Syn(sport, dport) => tcp((from, sport), (to, dport), SYN, None, b""),
            L4::Ack(sport, dport) => tcp((from, sport), (to, dport), ACK, None, b"data"),
            L4::Echo(id) => echo(from, to, true, id, 64),
        };
        tunnelled(self.node, vni, &inner)
    }
}
