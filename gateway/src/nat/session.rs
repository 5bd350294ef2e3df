//! One session: one cache line for IPv4, two for IPv6, both directions in it.

use super::{
    Direction,
    flow::{
        Address, Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint,
    },
    lending::LENT,
    policy_table::PolicyTable,
    record::{SessionRecord, Traffic},
    vtep::Vtep,
};
use crate::wire::checksum::Delta;
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The slot of a session in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

/// Where a session is in its life; chooses its idle timeout.
///
/// The numbers stand in exported records: add, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SessionState {
    /// The pod sent a SYN.
    TcpOpening = 0,
    /// The remote answered it.
    TcpAnswered = 1,
    TcpEstablished = 2,
    /// The pod sent a FIN, the remote did not.
    TcpClosedByPod = 3,
    /// The remote sent a FIN, the pod did not.
    TcpClosedByRemote = 4,
    /// Either side sent a RST. Not the end: it may be forged (RFC 7857 section 2.2).
    TcpReset = 5,
    /// Both sides sent a FIN.
    TcpTimeWait = 6,
    UdpUnreplied = 7,
    UdpReplied = 8,
    /// Remote l4_port 53, and the answer came.
    UdpDnsAnswered = 9,
    IcmpQuery = 10,
}

impl SessionState {
    /// In the order of their numbers.
    pub const ALL: [SessionState; 11] = [
        SessionState::TcpOpening,
        SessionState::TcpAnswered,
        SessionState::TcpEstablished,
        SessionState::TcpClosedByPod,
        SessionState::TcpClosedByRemote,
        SessionState::TcpReset,
        SessionState::TcpTimeWait,
        SessionState::UdpUnreplied,
        SessionState::UdpReplied,
        SessionState::UdpDnsAnswered,
        SessionState::IcmpQuery,
    ];

    /// As the API and the command line show it.
    pub fn label(self) -> &'static str {
        match self {
            SessionState::TcpOpening => "opening",
            SessionState::TcpAnswered => "answered",
            SessionState::TcpEstablished => "established",
            SessionState::TcpClosedByPod => "closed-by-pod",
            SessionState::TcpClosedByRemote => "closed-by-remote",
            SessionState::TcpReset => "reset",
            SessionState::TcpTimeWait => "time-wait",
            SessionState::UdpUnreplied => "unreplied",
            SessionState::UdpReplied => "replied",
            SessionState::UdpDnsAnswered => "dns-answered",
            SessionState::IcmpQuery => "query",
        }
    }
}

/// Packets and bytes of both directions, 48 bits each: 281 T, in 24 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct TrafficCounts {
    /// By direction: the bytes in the upper 48 bits, the packets' bits 32 to 47 in the lower 16.
    bytes_packets: [u64; 2],
    /// By direction: the packets' lower 32 bits.
    packets: [u32; 2],
}

impl TrafficCounts {
    const NONE: Self = TrafficCounts { bytes_packets: [0; 2], packets: [0; 2] };

    /// One packet whose IP header says `bytes`.
    #[inline(always)]
    pub(super) fn count(&mut self, direction: Direction, bytes: usize) {
        let at = direction as usize;
        let (packets, carry) = self.packets[at].overflowing_add(1);
        self.packets[at] = packets;
        let more = ((bytes as u64) << 16) + u64::from(carry);
        self.bytes_packets[at] = self.bytes_packets[at].wrapping_add(more);
    }

    fn of(&self, direction: Direction) -> Traffic {
        let word = self.bytes_packets[direction as usize];
        let packets = u64::from(self.packets[direction as usize]);
        Traffic { packets: (word & 0xffff) << 32 | packets, bytes: word >> 16 }
    }
}

/// A hit reads and writes this and nothing else of the table.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Session<A: Address = Ipv4Addr> {
    /// The in2out key, which is most of what there is to know: protocol, tenant, internal and remote
    /// endpoint.
    pub(super) key: FlowKey<A>,
    pub(super) traffic: TrafficCounts,
    pub(super) external_address: A,
    /// The tunnel address of the node that the last valid in2out packet came from.
    pub(super) vtep: Vtep,
    /// Seconds ([`super::Tick::seconds`]).
    pub(super) last_heard: u32,
    /// Policy id (a VNI: 24 bits) and state.
    policy_state: u32,
    pub(super) external_l4_port: u16,
    pub(super) epoch: u16,
    /// What internal → external adds to the IPv4 header's checksum sum; out2in takes it reversed. IPv6
    /// has no such checksum.
    pub(super) l3_delta: Delta,
    /// The same for the L4 checksum, the pseudo header included where the protocol has one.
    pub(super) l4_delta: Delta,
}

const _: () = assert!(size_of::<Session>() == 64, "an IPv4 session is one cache line");
const _: () = assert!(size_of::<Session<Ipv6Addr>>() == 128, "an IPv6 session is two");

/// Of `policy_state`: the state is in the upper eight bits.
const POLICY: u32 = 0x00ff_ffff;

/// What a new session is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<A: Address = Ipv4Addr> {
    pub tenant: u16,
    pub protocol: Protocol,
    pub internal: InternalEndpoint<A>,
    pub external: ExternalEndpoint<A>,
    pub remote: RemoteEndpoint<A>,
    pub state: SessionState,
    pub policy: u32,
    pub vtep: Vtep,
    pub epoch: u16,
    /// Seconds.
    pub now: u32,
}

impl<A: Address> NewSession<A> {
    pub fn in2out_key(&self) -> FlowKey<A> {
        FlowKey::in2out(self.tenant, self.protocol, self.internal, self.remote)
    }

    pub fn out2in_key(&self) -> FlowKey<A> {
        FlowKey::out2in(self.protocol, self.external, self.remote)
    }
}

impl<A: Address> Session<A> {
    /// What an empty slot holds.
    pub(super) fn empty() -> Self {
        let nowhere = Endpoint::new(A::UNSPECIFIED, 0);
        let (internal, remote) = (InternalEndpoint(nowhere), RemoteEndpoint(nowhere));
        Session {
            key: FlowKey::in2out(0, Protocol::Tcp, internal, remote),
            traffic: TrafficCounts::NONE,
            external_address: A::UNSPECIFIED,
            vtep: Vtep::NONE,
            last_heard: 0,
            policy_state: 0,
            external_l4_port: 0,
            epoch: 0,
            l3_delta: Delta::NONE,
            l4_delta: Delta::NONE,
        }
    }

    pub(super) fn new(new: &NewSession<A>) -> Self {
        let (internal, external) = (new.internal.0, new.external.0);
        let address = A::delta(internal.address, external.address);
        let l4_port =
            Delta::replace_u16(internal.l4_port.to_be_bytes(), external.l4_port.to_be_bytes());
        let has_pseudo_header = match new.protocol {
            Protocol::Tcp | Protocol::Udp => true,
            Protocol::Icmp => A::ICMP_HAS_PSEUDO_HEADER,
        };
        Session {
            key: new.in2out_key(),
            traffic: TrafficCounts::NONE,
            external_address: external.address,
            vtep: new.vtep,
            last_heard: new.now,
            policy_state: (new.policy & POLICY) | u32::from(new.state as u8) << 24,
            external_l4_port: external.l4_port,
            epoch: new.epoch,
            l3_delta: address,
            l4_delta: if has_pseudo_header { address.and(l4_port) } else { l4_port },
        }
    }

    pub fn internal(&self) -> InternalEndpoint<A> {
        InternalEndpoint(self.key.ours())
    }

    #[inline(always)]
    pub fn external(&self) -> ExternalEndpoint<A> {
        ExternalEndpoint(Endpoint::new(self.external_address, self.external_l4_port))
    }

    #[inline(always)]
    pub fn remote(&self) -> RemoteEndpoint<A> {
        self.key.remote()
    }

    #[inline(always)]
    pub fn policy(&self) -> u32 {
        self.policy_state & POLICY
    }

    #[inline(always)]
    pub fn state(&self) -> SessionState {
        SessionState::ALL[(self.policy_state >> 24) as usize]
    }

    /// Of a stub (see [`super::lending`]): the worker that borrows its l4_port. `None` for a session.
    #[inline(always)]
    pub(super) fn borrower(&self) -> Option<usize> {
        (self.key.tenant() == LENT).then(|| self.policy() as usize)
    }

    pub(super) fn set_policy(&mut self, policy: u32) {
        self.policy_state = self.policy_state & !POLICY | policy & POLICY;
    }

    #[inline(always)]
    pub(super) fn set_state(&mut self, state: SessionState) {
        self.policy_state = self.policy() | u32::from(state as u8) << 24;
    }

    #[inline(always)]
    pub(super) fn in2out_key(&self) -> FlowKey<A> {
        self.key
    }

    #[inline(always)]
    pub(super) fn out2in_key(&self) -> FlowKey<A> {
        self.key.answered_at(self.external())
    }
}

impl<A: Address> fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (internal, external, remote) = (self.internal().0, self.external().0, self.remote().0);
        write!(f, "{} {internal} → {external} → {remote} ", self.key.protocol().label())?;
        write!(f, "policy {} {}", self.policy(), self.state().label())
    }
}

/// A live session in its table.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a, A: Address = Ipv4Addr> {
    pub(super) session: &'a Session<A>,
    /// Seconds.
    pub(super) created: u32,
}

impl<A: Address> SessionView<'_, A> {
    pub fn policy(&self) -> u32 {
        self.session.policy()
    }

    pub fn protocol(&self) -> Protocol {
        self.session.key.protocol()
    }

    pub fn internal(&self) -> Endpoint<A> {
        self.session.internal().0
    }

    pub fn external(&self) -> Endpoint<A> {
        self.session.external().0
    }

    pub fn remote(&self) -> Endpoint<A> {
        self.session.remote().0
    }

    pub fn vtep(&self) -> Vtep {
        self.session.vtep
    }

    /// The session as it leaves the worker; `now` in seconds.
    pub fn record(&self, policies: &PolicyTable, now: u32) -> SessionRecord {
        let session = self.session;
        SessionRecord {
            tenant: session.key.tenant(),
            policy: session.policy(),
            protocol: session.key.protocol(),
            state: session.state(),
            internal: self.internal().any(),
            external: self.external().any(),
            remote: self.remote().any(),
            vtep: policies.vtep_address(session.vtep),
            age_seconds: now.saturating_sub(self.created),
            idle_seconds: now.saturating_sub(session.last_heard),
            in2out: session.traffic.of(Direction::In2out),
            out2in: session.traffic.of(Direction::Out2in),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_carry_over_32_bits_and_keep_the_directions_apart() {
        let mut counts = TrafficCounts::NONE;
        counts.packets[0] = u32::MAX;
        counts.bytes_packets[0] = (u64::from(u32::MAX) << 16) | 7;
        counts.count(Direction::In2out, 1500);
        counts.count(Direction::Out2in, 40);
        let sum = u64::from(u32::MAX);
        let in2out = Traffic { packets: (7 << 32 | sum) + 1, bytes: sum + 1500 };
        assert_eq!(counts.of(Direction::In2out), in2out);
        assert_eq!(counts.of(Direction::Out2in), Traffic { packets: 1, bytes: 40 });
    }
}
