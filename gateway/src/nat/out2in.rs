//! World → pod. Called by the worker for each packet to an egress IP. Only what answers a session
//! goes in: address-and-port-dependent filtering (RFC 4787 section 5).

use super::{
    Direction, FlowPacket, Lookup, Tick, Translation, Vtep,
    flow::{Endpoint, ExternalEndpoint, FlowKey, Protocol, RemoteEndpoint},
    policy_table::PolicyTable,
    rewrite, tcp_state,
};
use crate::{
    verdict::DropReason,
    wire::{
        Address, PerFamily,
        parse::{IpPacket, Layout, Transport},
    },
};
use std::net::Ipv4Addr;

/// A packet from the world, parsed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Out2in<A: Address = Ipv4Addr> {
    pub layout: Layout,
    pub key: FlowKey<A>,
}

/// Where a translated packet goes: into the tunnel to this node, under this policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToNode {
    pub vtep: Vtep,
    pub policy: u32,
}

/// Why a packet from the world does not go on from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Drop(DropReason),
    /// Its l4_port is lent to this worker, who has the session.
    Borrowed(usize),
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Self {
        Stop::Drop(reason)
    }
}

/// An [`Out2in`] of each family.
#[derive(Debug)]
pub enum Out2ins {}

impl PerFamily for Out2ins {
    type Of<A: Address> = Out2in<A>;
}

impl<A: Address> Out2in<A> {
    /// An error where the direction does not fit the packet: of ICMP only an echo reply.
    #[inline(always)]
    pub fn new(packet: &IpPacket<A>, transport: &Transport) -> Result<Self, DropReason> {
        let Transport { protocol, mut source, destination, icmp_type, .. } = *transport;
        if protocol == Protocol::Icmp {
            if icmp_type != A::ECHO_REPLY {
                return Err(DropReason::IcmpUnsupported);
            }
            source = 0;
        }
        let external = ExternalEndpoint(Endpoint::new(packet.destination, destination));
        let remote = RemoteEndpoint(Endpoint::new(packet.source, source));
        let key = FlowKey::out2in(protocol, external, remote);
        Ok(Out2in { layout: Layout::new(packet, transport), key })
    }

    /// The far end.
    #[inline(always)]
    pub fn source(&self) -> A {
        self.key.remote().0.address
    }
}

impl<A: Address> FlowPacket for Out2in<A> {
    const DIRECTION: Direction = Direction::Out2in;
    type Address = A;

    #[inline(always)]
    fn key(&self) -> &FlowKey<A> {
        &self.key
    }
}

impl<A: Address> Translation<A> {
    /// Last stage: translates the packet in `frame`. After an error the frame is as it was.
    #[inline(always)]
    pub fn out2in(
        &mut self,
        frame: &mut [u8],
        input: &Out2in<A>,
        lookup: Lookup,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<ToNode, Stop> {
        let Lookup { hash, guess } = lookup;
        let found = self.table.find_at(guess, Direction::Out2in, hash, &input.key);
        let id = found.ok_or(DropReason::NoSession)?;
        if let Some(borrower) = self.table.session(id).borrower() {
            return Err(Stop::Borrowed(borrower));
        }
        if self.table.session(id).epoch != policies.epoch() && !self.still_allowed(id, policies) {
            self.cut(id);
            return Err(DropReason::SessionCut.into());
        }
        if input.layout.ttl < 2 {
            return Err(DropReason::TtlExpired.into());
        }
        let session = self.table.session_mut(id);
        session.last_heard = now.seconds();
        session.traffic.count(Direction::Out2in, input.layout.packet_len());
        rewrite::destination(frame, &input.layout, session);
        let before = session.state();
        let after = match input.layout.protocol {
            Protocol::Tcp => {
                rewrite::clamp_syn(frame, &input.layout, self.mss_limit);
                let Layout { tcp_flags, has_payload, .. } = input.layout;
                tcp_state::next(before, Direction::Out2in, tcp_flags, has_payload)
            }
            Protocol::Udp => Self::answered(before, input.key.remote().0.l4_port),
            Protocol::Icmp => before,
        };
        let to_node = ToNode { vtep: session.vtep, policy: session.policy() };
        if after != before {
            self.set_state(id, after);
        }
        Ok(to_node)
    }
}
