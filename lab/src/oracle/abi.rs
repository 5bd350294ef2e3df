//! The Rust side of bpf/oracle.h.

use std::net::IpAddr;

use crate::family::Dual;
use crate::topology::{GATEWAY_TUNNEL, POD_MASK, POD_NET, VXLAN_PORT};

/// `enum packet_class`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Control,
    EgressIp,
    Node,
    Tunnel,
    Cluster,
    WrongPolicy,
    WrongPod,
    GatewayOwnAddress,
    PodAddressLeaked,
    Unclassified,
}

impl Class {
    pub const ALL: [Self; 10] = [
        Self::Control,
        Self::EgressIp,
        Self::Node,
        Self::Tunnel,
        Self::Cluster,
        Self::WrongPolicy,
        Self::WrongPod,
        Self::GatewayOwnAddress,
        Self::PodAddressLeaked,
        Self::Unclassified,
    ];

    /// A packet of this class is a broken promise.
    #[must_use]
    pub fn is_red(self) -> bool {
        self >= Self::WrongPolicy
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::EgressIp => "egress IP of the policy",
            Self::Node => "node address",
            Self::Tunnel => "tunnel",
            Self::Cluster => "pod to pod",
            Self::WrongPolicy => "wrong policy",
            Self::WrongPod => "wrong pod",
            Self::GatewayOwnAddress => "gateway's own address",
            Self::PodAddressLeaked => "pod address leaked",
            Self::Unclassified => "unclassified",
        }
    }

    pub(super) fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

/// `enum exit_kind`.
#[derive(Clone, Copy, Debug)]
pub(super) enum ExitKind {
    GatewayExternal = 1,
    GatewayTunnel = 2,
    NodeUplink = 3,
}

/// One side of what sends through an exit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExitSide {
    pub kind: ExitKind,
    /// Of the host behind it.
    pub own: Dual,
    /// 0: untagged.
    pub vlan: u16,
    /// The external side's only neighbour, where both sides are one segment; else zeros.
    pub router: [u8; 6],
}

/// `struct exit_config`.
pub(super) fn exit_config(side: ExitSide) -> Vec<u8> {
    let ExitSide { kind, own, vlan, router } = side;
    let mut bytes = (kind as u32).to_ne_bytes().to_vec();
    for address in own.both().into_iter().chain(GATEWAY_TUNNEL.both()) {
        bytes.extend(address_bytes(address));
    }
    for (net, mask) in POD_NET.both().into_iter().zip(POD_MASK.both()) {
        bytes.extend(address_bytes(net));
        bytes.extend(mask_bytes(mask));
    }
    bytes.extend(VXLAN_PORT.to_be_bytes());
    bytes.extend(vlan.to_ne_bytes());
    bytes.extend(router);
    bytes.extend([0; 2]);
    bytes
}

/// `struct address`: of IPv4 as `::ffff:192.0.2.1`.
pub(super) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Of IPv4 all of what goes before the address is part of the prefix.
fn mask_bytes(mask: IpAddr) -> [u8; 16] {
    let mut bytes = address_bytes(mask);
    if mask.is_ipv4() {
        bytes[..12].fill(0xff);
    }
    bytes
}

/// `struct sample`: the class, the packet's length, its first bytes.
#[derive(Clone, Debug)]
pub struct Sample {
    pub class: Class,
    pub length: usize,
    pub head: Vec<u8>,
}

impl Sample {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (class, rest) = bytes.split_first_chunk::<4>()?;
        let (length, head) = rest.split_first_chunk::<4>()?;
        let length = u32::from_ne_bytes(*length) as usize;
        let head = head.get(..length).unwrap_or(head).to_vec();
        Some(Self { class: Class::from_index(u32::from_ne_bytes(*class))?, length, head })
    }
}
