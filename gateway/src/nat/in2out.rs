//! Pod → world. Called by the worker for each packet that came out of the tunnel; a hit costs one
//! index line and one session line, a miss comes here too and opens a session.

use super::{
    Direction, FlowPacket, Guess, Lookup, Tick, Translation, Vtep,
    flow::{Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint},
    judgement::Judgement,
    l4_port::BATCH,
    policy_table::PolicyTable,
    rewrite,
    session::{NewSession, SessionId, SessionState},
    table::SessionTable,
    tcp_state,
};
use crate::{
    verdict::DropReason,
    wire::{
        Address, PerFamily,
        parse::{IpPacket, Layout, Transport},
    },
};
use arrayvec::ArrayVec;
use std::net::Ipv4Addr;

const DNS: u16 = 53;
/// The one cluster that this gateway serves.
const TENANT: u16 = 0;

/// A packet out of the tunnel, parsed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct In2out<A: Address = Ipv4Addr> {
    pub layout: Layout,
    pub key: FlowKey<A>,
    /// The VNI: the node has classified, the gateway believes it.
    pub policy: u32,
    /// Of the outer source.
    pub vtep: Vtep,
}

/// An [`In2out`] of each family.
#[derive(Debug)]
pub enum In2outs {}

impl PerFamily for In2outs {
    type Of<A: Address> = In2out<A>;
}

impl<A: Address> In2out<A> {
    /// An error where the direction does not fit the packet: of ICMP only an echo request may open
    /// or continue a session from this side.
    #[inline(always)]
    pub fn new(
        packet: &IpPacket<A>,
        transport: &Transport,
        policy: u32,
        vtep: Vtep,
    ) -> Result<Self, DropReason> {
        let Transport { protocol, source, mut destination, icmp_type, .. } = *transport;
        if protocol == Protocol::Icmp {
            if icmp_type != A::ECHO_REQUEST {
                return Err(DropReason::IcmpUnsupported);
            }
            destination = 0;
        }
        let internal = InternalEndpoint(Endpoint::new(packet.source, source));
        let remote = RemoteEndpoint(Endpoint::new(packet.destination, destination));
        let key = FlowKey::in2out(TENANT, protocol, internal, remote);
        Ok(In2out { layout: Layout::new(packet, transport), key, policy, vtep })
    }

    /// The pod.
    #[inline(always)]
    pub fn source(&self) -> A {
        self.key.ours().address
    }

    #[inline(always)]
    pub fn destination(&self) -> A {
        self.key.remote().0.address
    }
}

impl<A: Address> FlowPacket for In2out<A> {
    const DIRECTION: Direction = Direction::In2out;
    type Address = A;

    #[inline(always)]
    fn key(&self) -> &FlowKey<A> {
        &self.key
    }
}

impl<A: Address> Translation<A> {
    /// Last stage: translates the packet in `frame`. After an error the frame is as it was.
    #[inline(always)]
    pub fn in2out(
        &mut self,
        frame: &mut [u8],
        input: &In2out<A>,
        lookup: Lookup,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<(), DropReason> {
        if input.layout.ttl < 2 {
            // Whoever may not send is not told that the gateway is here either.
            policies.check_source(input.vtep, input.source())?;
            return Err(DropReason::TtlExpired);
        }
        let id = match lookup.guess {
            Guess::Session(id) if self.is_usual(id, input, policies) => id,
            Guess::Session(_) | Guess::Further | Guess::Absent => {
                self.find_or_open(input, lookup.hash, policies, now)?
            }
        };
        let session = self.table.session_mut(id);
        session.last_heard = now.seconds();
        session.traffic.count(Direction::In2out, input.layout.packet_len());
        rewrite::source(frame, &input.layout, session);
        if input.layout.protocol == Protocol::Tcp {
            let Layout { tcp_flags, has_payload, .. } = input.layout;
            let before = session.state();
            let after = tcp_state::next(before, Direction::In2out, tcp_flags, has_payload);
            if after != before {
                self.set_state(id, after);
            }
            rewrite::clamp_syn(frame, &input.layout, self.mss_limit);
        }
        Ok(())
    }

    /// The common case: it is the packet's session, of the same policy and node, and there was no reload
    /// since its last packet.
    #[inline(always)]
    pub(super) fn is_usual(
        &self,
        id: SessionId,
        input: &In2out<A>,
        policies: &PolicyTable,
    ) -> bool {
        let session = self.table.session(id);
        session.key == input.key
            && session.epoch == policies.epoch()
            && session.policy() == input.policy
            && session.vtep == input.vtep
    }

    #[cold]
    fn find_or_open(
        &mut self,
        input: &In2out<A>,
        hash: u64,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        let found = self.table.find(Direction::In2out, hash, &input.key);
        match self.judge(input, found, policies) {
            Judgement::Continues(id) => Ok(id),
            Judgement::Rebinds(id) => {
                self.rebind(id, input, policies.epoch());
                Ok(id)
            }
            Judgement::Opens { egress_ip, ends } => {
                self.cut_if_any(ends);
                let (external, out2in_hash) = self.pick(input, egress_ip)?;
                self.add(input, external, (hash, out2in_hash), policies, now)
            }
            Judgement::Dropped { reason, ends } => {
                self.cut_if_any(ends);
                Err(reason)
            }
        }
    }

    /// A session goes on under the policy and from the node of its packet.
    fn rebind(&mut self, id: SessionId, input: &In2out<A>, epoch: u16) {
        self.policy_sessions.removed(self.table.session(id).policy());
        self.policy_sessions.added(input.policy);
        let session = self.table.session_mut(id);
        session.set_policy(input.policy);
        session.vtep = input.vtep;
        session.epoch = epoch;
    }

    fn cut_if_any(&mut self, id: Option<SessionId>) {
        if let Some(id) = id {
            self.cut(id);
        }
    }

    /// A free l4_port of this worker, and the hash of the out2in key with it.
    pub(super) fn pick(
        &mut self,
        input: &In2out<A>,
        egress_ip: A,
    ) -> Result<(ExternalEndpoint<A>, u64), DropReason> {
        let table = &self.table;
        let taken = |l4_ports: &[u16]| taken(table, input, egress_ip, l4_ports);
        let pool = out2in(input, egress_ip, 0).1.pool();
        let l4_port = self.l4_ports.pick(&pool, taken).ok_or(DropReason::L4PortsExhausted)?;
        let (external, key) = out2in(input, egress_ip, l4_port);
        Ok((external, self.table.hash().of(&key)))
    }

    /// Makes the session that a packet opens; with the hashes of its in2out and out2in keys.
    pub(super) fn add(
        &mut self,
        input: &In2out<A>,
        external: ExternalEndpoint<A>,
        (in2out_hash, out2in_hash): (u64, u64),
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        let protocol = input.key.protocol();
        let state = match protocol {
            Protocol::Tcp => SessionState::TcpOpening,
            Protocol::Udp => SessionState::UdpUnreplied,
            Protocol::Icmp => SessionState::IcmpQuery,
        };
        let now = now.seconds();
        let new = NewSession {
            tenant: input.key.tenant(),
            protocol,
            internal: InternalEndpoint(input.key.ours()),
            external,
            remote: input.key.remote(),
            state,
            policy: input.policy,
            vtep: input.vtep,
            epoch: policies.epoch(),
            now,
        };
        let deadline = now + self.timeouts.of(state);
        let id = self
            .table
            .insert(&new, in2out_hash, out2in_hash, deadline)
            .map_err(|_| DropReason::SessionsFull)?;
        let key = new.out2in_key();
        let pool = key.pool();
        if self.l4_ports.share_of(&pool).contains(external.0.l4_port) {
            self.l4_ports.took(&pool, external.0.l4_port);
        } else {
            self.borrowed += 1;
        }
        self.policy_sessions.added(input.policy);
        self.policy_sessions.l4_ports().took(&key);
        self.counts.created += 1;
        Ok(id)
    }

    /// Notes the session's state; the timer is set again where the new state allows less time than
    /// the old, for a timer that fires too late would keep the session too long.
    #[inline(never)]
    pub(super) fn set_state(&mut self, id: SessionId, state: SessionState) {
        let session = self.table.session_mut(id);
        let shorter = self.timeouts.of(state) < self.timeouts.of(session.state());
        session.set_state(state);
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

/// What the packet's session would be known by from outside, with that l4_port.
#[inline(always)]
pub(super) fn out2in<A: Address>(
    input: &In2out<A>,
    egress_ip: A,
    l4_port: u16,
) -> (ExternalEndpoint<A>, FlowKey<A>) {
    let external = ExternalEndpoint(Endpoint::new(egress_ip, l4_port));
    (external, input.key.answered_at(external))
}

/// Which of up to [`BATCH`] l4_ports of the egress IP are taken for the packet's remote endpoint: the lowest
/// bit is the first one's.
#[inline(always)]
pub(super) fn taken<A: Address>(
    table: &SessionTable<A>,
    input: &In2out<A>,
    egress_ip: A,
    l4_ports: &[u16],
) -> u64 {
    // All are hashed and their lines asked for before the first is looked at.
    let mut keys = ArrayVec::<_, BATCH>::new();
    for l4_port in l4_ports {
        let (_, key) = out2in(input, egress_ip, *l4_port);
        let hash = table.hash().of(&key);
        table.prefetch(Direction::Out2in, hash);
        keys.push((key, hash));
    }
    keys.iter().enumerate().fold(0, |taken, (i, (key, hash))| {
        let is_taken = table.find(Direction::Out2in, *hash, key).is_some();
        taken | u64::from(is_taken) << i
    })
}
