//! The Rust side of bpf/oracle.h.

use std::net::Ipv4Addr;

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

/// `struct exit_config`.
pub(super) fn exit_config(kind: ExitKind, own: Ipv4Addr) -> Vec<u8> {
    [
        &(kind as u32).to_ne_bytes()[..],
        &own.octets(),
        &GATEWAY_TUNNEL.octets(),
        &POD_NET.octets(),
        &POD_MASK.octets(),
        &VXLAN_PORT.to_be_bytes(),
        &[0; 2],
    ]
    .concat()
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
