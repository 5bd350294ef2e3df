//! World → pod. Called by the worker for each packet to an egress IP. Only what answers a session
//! goes in: address-and-port-dependent filtering (RFC 4787 section 5).

use super::{
    Nat, Tick,
    flow::{Endpoint, ExternalEndpoint, FlowKey, Protocol, RemoteEndpoint},
    policy_table::PolicyTable,
    rewrite,
    tcp_state::{self, Direction},
};
use crate::{
    verdict::DropReason,
    wire::{
        icmp::ECHO_REPLY,
        parse::{Ipv4Packet, Transport},
    },
};
use std::net::Ipv4Addr;

/// A packet from the world, parsed.
#[derive(Clone, Copy, Debug)]
pub struct Out2in {
    pub packet: Ipv4Packet,
    pub transport: Transport,
    protocol: Protocol,
    external: ExternalEndpoint,
    remote: RemoteEndpoint,
}

/// Where a translated packet goes: into the tunnel to this node, under this policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToNode {
    pub vtep: Ipv4Addr,
    pub policy: u32,
}

impl Out2in {
    /// An error where the direction does not fit the packet: of ICMP only an echo reply.
    pub fn new(packet: Ipv4Packet, transport: Transport) -> Result<Self, DropReason> {
        let (protocol, remote, external) = match transport {
            Transport::Tcp { source, destination, .. } => (Protocol::Tcp, source, destination),
            Transport::Udp { source, destination } => (Protocol::Udp, source, destination),
            Transport::Icmp { icmp_type: ECHO_REPLY, identifier } => {
                (Protocol::Icmp, 0, identifier)
            }
            Transport::Icmp { .. } => return Err(DropReason::IcmpUnsupported),
        };
        let external = ExternalEndpoint(Endpoint::new(packet.destination, external));
        let remote = RemoteEndpoint(Endpoint::new(packet.source, remote));
        Ok(Out2in { packet, transport, protocol, external, remote })
    }

    #[inline]
    pub fn key(&self) -> FlowKey {
        FlowKey::out2in(self.protocol, self.external, self.remote)
    }
}

impl Nat {
    #[inline]
    pub fn prefetch_out2in_bucket(&self, hash: u64) {
        self.table.prefetch_out2in(hash);
    }

    #[inline]
    pub fn prefetch_out2in_session(&self, hash: u64) {
        self.table.prefetch_session_out2in(hash);
    }

    /// Translates the packet in `frame`; `hash` is that of `input.key()`. After an error the frame is
    /// as it was.
    #[inline]
    pub fn out2in(
        &mut self,
        frame: &mut [u8],
        input: &Out2in,
        hash: u64,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<ToNode, DropReason> {
        let id = self.table.find_out2in(hash, &input.key()).ok_or(DropReason::NoSession)?;
        if self.table.session(id).epoch != policies.epoch() && !self.still_allowed(id, policies) {
            self.cut(id);
            return Err(DropReason::SessionCut);
        }
        if input.packet.ttl < 2 {
            return Err(DropReason::TtlExpired);
        }
        let session = self.table.session_mut(id);
        session.last_heard = now.seconds();
        session.out2in.count(input.packet.len());
        rewrite::destination(frame, &input.packet, input.transport, session);
        let state = match input.transport {
            Transport::Tcp { flags, has_payload, .. } => {
                rewrite::clamp_syn(frame, &input.packet, input.transport, self.mss_limit);
                tcp_state::next(session.state, Direction::Out2in, flags, has_payload)
            }
            Transport::Udp { source, .. } => Self::answered(session.state, source),
            Transport::Icmp { .. } => session.state,
        };
        let to_node = ToNode { vtep: session.vtep, policy: session.policy };
        self.set_state(id, state);
        Ok(to_node)
    }
}
