//! Pod → world. Called by the worker for each packet that came out of the tunnel; a hit costs one
//! index line and one session line, a miss comes here too and opens a session.

use super::{
    Nat, Tick,
    flow::{Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint},
    policy_table::PolicyTable,
    rewrite,
    session::{NewSession, SessionId, SessionState},
    tcp_state::{self, Direction},
};
use crate::{
    verdict::DropReason,
    wire::{
        icmp::ECHO_REQUEST,
        parse::{Ipv4Packet, Transport},
        tcp::{ACK, RST, SYN},
    },
};
use std::net::Ipv4Addr;

const DNS: u16 = 53;

/// A packet out of the tunnel, parsed.
#[derive(Clone, Copy, Debug)]
pub struct In2out {
    pub packet: Ipv4Packet,
    pub transport: Transport,
    /// The VNI: the node has classified, the gateway believes it.
    pub policy: u32,
    /// The outer source.
    pub vtep: Ipv4Addr,
    pub tenant: u16,
    protocol: Protocol,
    internal: InternalEndpoint,
    remote: RemoteEndpoint,
}

impl In2out {
    /// An error where the direction does not fit the packet: of ICMP only an echo request may open
    /// or continue a session from this side.
    pub fn new(
        packet: Ipv4Packet,
        transport: Transport,
        policy: u32,
        vtep: Ipv4Addr,
    ) -> Result<Self, DropReason> {
        let (protocol, internal, remote) = match transport {
            Transport::Tcp { source, destination, .. } => (Protocol::Tcp, source, destination),
            Transport::Udp { source, destination } => (Protocol::Udp, source, destination),
            Transport::Icmp { icmp_type: ECHO_REQUEST, identifier } => {
                (Protocol::Icmp, identifier, 0)
            }
            Transport::Icmp { .. } => return Err(DropReason::IcmpUnsupported),
        };
        let internal = InternalEndpoint(Endpoint::new(packet.source, internal));
        let remote = RemoteEndpoint(Endpoint::new(packet.destination, remote));
        Ok(In2out { packet, transport, policy, vtep, tenant: 0, protocol, internal, remote })
    }

    #[inline]
    pub fn key(&self) -> FlowKey {
        FlowKey::in2out(self.tenant, self.protocol, self.internal, self.remote)
    }
}

impl Nat {
    #[inline]
    pub fn prefetch_in2out_bucket(&self, hash: u64) {
        self.table.prefetch_in2out(hash);
    }

    #[inline]
    pub fn prefetch_in2out_session(&self, hash: u64) {
        self.table.prefetch_session_in2out(hash);
    }

    /// Translates the packet in `frame`; `hash` is that of `input.key()`. After an error the frame is
    /// as it was.
    #[inline]
    pub fn in2out(
        &mut self,
        frame: &mut [u8],
        input: &In2out,
        hash: u64,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<(), DropReason> {
        if input.packet.ttl < 2 {
            // Whoever may not send is not told that the gateway is here either.
            policies.check_source(input.vtep, input.packet.source)?;
            return Err(DropReason::TtlExpired);
        }
        let id = match self.table.find_in2out(hash, &input.key()) {
            Some(id) if self.is_unchanged(id, input, policies) => id,
            Some(id) => self.changed(id, input, policies, now)?,
            None => self.open(input, policies, now)?,
        };
        let session = self.table.session_mut(id);
        session.last_heard = now.seconds();
        session.in2out.count(input.packet.len());
        rewrite::source(frame, &input.packet, input.transport, session);
        if let Transport::Tcp { flags, has_payload, .. } = input.transport {
            let state = tcp_state::next(session.state, Direction::In2out, flags, has_payload);
            self.set_state(id, state);
            rewrite::clamp_syn(frame, &input.packet, input.transport, self.mss_limit);
        }
        Ok(())
    }

    /// The common case: same policy, same node, and no reload since the last packet.
    #[inline]
    fn is_unchanged(&self, id: SessionId, input: &In2out, policies: &PolicyTable) -> bool {
        let session = self.table.session(id);
        session.epoch == policies.epoch()
            && session.policy == input.policy
            && session.vtep == input.vtep
    }

    /// A session whose packet comes under another policy, from another node, or after a reload: the
    /// packet's VNI is authoritative, and so is its outer source once that is checked.
    #[cold]
    fn changed(
        &mut self,
        id: SessionId,
        input: &In2out,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        policies.check_source(input.vtep, input.packet.source)?;
        let session = *self.table.session(id);
        if policies.policy(input.policy).is_none() {
            // A VNI that means nothing here says nothing about a session of another policy.
            if session.policy == input.policy {
                self.cut(id);
            }
            return Err(DropReason::UnknownPolicy);
        }
        if let Err(reason) = policies.check_destination(input.packet.destination) {
            self.cut(id);
            return Err(reason);
        }
        if policies.has_egress_ip(input.policy, session.external_address) {
            self.policy_sessions.removed(session.policy);
            self.policy_sessions.added(input.policy);
            let session = self.table.session_mut(id);
            session.policy = input.policy;
            session.vtep = input.vtep;
            session.epoch = policies.epoch();
            return Ok(id);
        }
        self.cut(id);
        // TCP cannot change its source in mid-life. Anything else may begin anew under its policy.
        if opens(input.transport) {
            self.open(input, policies, now)
        } else {
            Err(DropReason::SessionCut)
        }
    }

    /// The first packet of a flow.
    #[cold]
    fn open(
        &mut self,
        input: &In2out,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        policies.check_source(input.vtep, input.packet.source)?;
        let egress_ip = policies.egress_ip(input.policy, input.packet.source)?;
        policies.check_destination(input.packet.destination)?;
        if !opens(input.transport) {
            return Err(DropReason::TcpNoSession);
        }
        if self.table.is_full() {
            return Err(DropReason::SessionsFull);
        }
        let (table, protocol, remote) = (&self.table, input.protocol, input.remote);
        let external = |l4_port| ExternalEndpoint(Endpoint::new(egress_ip, l4_port));
        let l4_port = self
            .l4_ports
            .pick(|l4_port| {
                let key = FlowKey::out2in(protocol, external(l4_port), remote);
                table.find_out2in(table.hash().of(&key), &key).is_none()
            })
            .ok_or(DropReason::L4PortsExhausted)?;
        let state = match protocol {
            Protocol::Tcp => SessionState::TcpOpening,
            Protocol::Udp => SessionState::UdpUnreplied,
            Protocol::Icmp => SessionState::IcmpQuery,
        };
        let now = now.seconds();
        let new = NewSession {
            tenant: input.tenant,
            protocol,
            internal: input.internal,
            external: external(l4_port),
            remote,
            state,
            policy: input.policy,
            vtep: input.vtep,
            epoch: policies.epoch(),
            now,
        };
        let deadline = now + self.timeouts.of(state);
        let id = self.table.insert(&new, deadline).map_err(|_| DropReason::SessionsFull)?;
        self.policy_sessions.added(input.policy);
        self.counts.created += 1;
        Ok(id)
    }

    /// Notes the session's state; the timer is set again where the new state allows less time than
    /// the old, for a timer that fires too late would keep the session too long.
    #[inline]
    pub(super) fn set_state(&mut self, id: SessionId, state: SessionState) {
        let session = self.table.session_mut(id);
        if session.state == state {
            return;
        }
        let shorter = self.timeouts.of(state) < self.timeouts.of(session.state);
        session.state = state;
        let deadline = session.last_heard + self.timeouts.of(state);
        if shorter {
            self.table.arm(id, deadline);
        }
    }

    /// The state of a UDP session after an answer from `remote_l4_port`.
    pub(super) fn answered(state: SessionState, remote_l4_port: u16) -> SessionState {
        if state != SessionState::UdpUnreplied {
            return state;
        }
        if remote_l4_port == DNS { SessionState::UdpDnsAnswered } else { SessionState::UdpReplied }
    }
}

/// Whether a packet may open a session: of TCP only a bare SYN, because anything else belongs to a
/// connection whose translation is gone.
fn opens(transport: Transport) -> bool {
    match transport {
        Transport::Tcp { flags, .. } => flags & (SYN | ACK | RST) == SYN,
        Transport::Udp { .. } | Transport::Icmp { .. } => true,
    }
}
