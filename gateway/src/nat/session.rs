//! One session: one cache line, both directions in it.

use super::flow::{
    Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint,
};
use crate::wire::checksum::Delta;
use std::net::Ipv4Addr;

/// The slot of a session in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

/// Where a session is in its life; chooses its idle timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SessionState {
    /// The pod sent a SYN.
    TcpOpening,
    /// The remote answered it.
    TcpAnswered,
    TcpEstablished,
    /// The pod sent a FIN, the remote did not.
    TcpClosedByPod,
    /// The remote sent a FIN, the pod did not.
    TcpClosedByRemote,
    /// Either side sent a RST. Not the end: it may be forged (RFC 7857 section 2.2).
    TcpReset,
    /// Both sides sent a FIN.
    TcpTimeWait,
    UdpUnreplied,
    UdpReplied,
    /// Remote l4_port 53, and the answer came.
    UdpDnsAnswered,
    IcmpQuery,
}

impl SessionState {
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

/// Packets and bytes of one direction, 48 bits each: 281 T, in 12 bytes that need no padding.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Traffic {
    packets: [u16; 3],
    bytes: [u16; 3],
}

impl Traffic {
    /// One packet whose IPv4 header says `bytes`.
    #[inline]
    pub(super) fn count(&mut self, bytes: usize) {
        add(&mut self.packets, 1);
        add(&mut self.bytes, bytes as u64);
    }
}

#[inline]
fn add(words: &mut [u16; 3], n: u64) {
    let sum = value(*words).wrapping_add(n);
    *words = [sum as u16, (sum >> 16) as u16, (sum >> 32) as u16];
}

#[inline]
fn value([a, b, c]: [u16; 3]) -> u64 {
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32
}

/// A hit reads and writes this line and no other.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Session {
    pub(super) internal_address: Ipv4Addr,
    pub(super) remote_address: Ipv4Addr,
    pub(super) external_address: Ipv4Addr,
    /// The tunnel address of the node that the last valid in2out packet came from.
    pub(super) vtep: Ipv4Addr,
    pub(super) internal_l4_port: u16,
    pub(super) remote_l4_port: u16,
    pub(super) external_l4_port: u16,
    /// What internal → external adds to the IPv4 header's checksum sum; out2in takes it reversed.
    pub(super) l3_delta: Delta,
    /// The same for the L4 checksum, the pseudo header included where the protocol has one.
    pub(super) l4_delta: Delta,
    pub(super) tenant: u16,
    pub(super) policy: u32,
    pub(super) epoch: u16,
    pub(super) protocol: Protocol,
    pub(super) state: SessionState,
    /// Seconds ([`super::Tick::seconds`]).
    pub(super) last_heard: u32,
    pub(super) in2out: Traffic,
    pub(super) out2in: Traffic,
}

const _: () = assert!(size_of::<Session>() == 64, "a session is one cache line");

/// What a new session is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewSession {
    pub(super) tenant: u16,
    pub(super) protocol: Protocol,
    pub(super) internal: InternalEndpoint,
    pub(super) external: ExternalEndpoint,
    pub(super) remote: RemoteEndpoint,
    pub(super) state: SessionState,
    pub(super) policy: u32,
    pub(super) vtep: Ipv4Addr,
    pub(super) epoch: u16,
    pub(super) now: u32,
}

impl Session {
    pub(super) fn new(new: &NewSession) -> Self {
        let (internal, external, remote) = (new.internal.0, new.external.0, new.remote.0);
        let address = Delta::replace_u32(internal.address.octets(), external.address.octets());
        let l4_port =
            Delta::replace_u16(internal.l4_port.to_be_bytes(), external.l4_port.to_be_bytes());
        Session {
            internal_address: internal.address,
            remote_address: remote.address,
            external_address: external.address,
            vtep: new.vtep,
            internal_l4_port: internal.l4_port,
            remote_l4_port: remote.l4_port,
            external_l4_port: external.l4_port,
            l3_delta: address,
            l4_delta: match new.protocol {
                Protocol::Tcp | Protocol::Udp => address.and(l4_port),
                // ICMP for IPv4 has no pseudo header (RFC 792).
                Protocol::Icmp => l4_port,
            },
            tenant: new.tenant,
            policy: new.policy,
            epoch: new.epoch,
            protocol: new.protocol,
            state: new.state,
            last_heard: new.now,
            in2out: Traffic::default(),
            out2in: Traffic::default(),
        }
    }

    pub fn internal(&self) -> InternalEndpoint {
        InternalEndpoint(Endpoint::new(self.internal_address, self.internal_l4_port))
    }

    pub fn external(&self) -> ExternalEndpoint {
        ExternalEndpoint(Endpoint::new(self.external_address, self.external_l4_port))
    }

    pub fn remote(&self) -> RemoteEndpoint {
        RemoteEndpoint(Endpoint::new(self.remote_address, self.remote_l4_port))
    }

    #[inline]
    pub(super) fn in2out_key(&self) -> FlowKey {
        FlowKey::in2out(self.tenant, self.protocol, self.internal(), self.remote())
    }

    #[inline]
    pub(super) fn out2in_key(&self) -> FlowKey {
        FlowKey::out2in(self.protocol, self.external(), self.remote())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (internal, external, remote) = (self.internal().0, self.external().0, self.remote().0);
        write!(f, "{} {internal} → {external} → {remote} ", self.protocol.label())?;
        write!(f, "policy {} {}", self.policy, self.state.label())
    }
}

/// A session as it leaves the worker: what the API shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    pub policy: u32,
    pub protocol: Protocol,
    pub internal: Endpoint,
    pub external: Endpoint,
    pub remote: Endpoint,
    pub state: SessionState,
    pub vtep: Ipv4Addr,
    /// Seconds since the process started.
    pub created: u32,
    pub last_heard: u32,
    pub in2out_packets: u64,
    pub in2out_bytes: u64,
    pub out2in_packets: u64,
    pub out2in_bytes: u64,
}

impl SessionView {
    pub(super) fn new(session: &Session, created: u32) -> Self {
        SessionView {
            policy: session.policy,
            protocol: session.protocol,
            internal: session.internal().0,
            external: session.external().0,
            remote: session.remote().0,
            state: session.state,
            vtep: session.vtep,
            created,
            last_heard: session.last_heard,
            in2out_packets: value(session.in2out.packets),
            in2out_bytes: value(session.in2out.bytes),
            out2in_packets: value(session.out2in.packets),
            out2in_bytes: value(session.out2in.bytes),
        }
    }
}
