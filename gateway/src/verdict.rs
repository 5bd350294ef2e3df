//! What a stage says of a packet.
//!
//! Every packet that a port receives ends as exactly one of: transmitted, consumed by the gateway
//! itself (ARP, a kept first packet), or dropped with one [`DropReason`]. A reason is one label of
//! `egress_gateway_drops_total`; its help line below is the line of the docs.

use std::fmt;

/// The gateway's two NIC sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Towards the nodes: VXLAN.
    Tunnel,
    /// Towards the world.
    External,
}

impl Side {
    pub const ALL: [Side; 2] = [Side::Tunnel, Side::External];

    /// 0 or 1, for tables with one row per side.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Side::Tunnel => "tunnel",
            Side::External => "external",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

macro_rules! drop_reasons {
    ($($variant:ident $label:literal $help:literal)*) => {
        /// Why a packet was dropped. One cause raises exactly one reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $help] $variant,)*
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// The metric label.
            pub fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }

            /// One sentence for an operator.
            pub fn help(self) -> &'static str {
                match self { $(DropReason::$variant => $help,)* }
            }
        }
    };
}

drop_reasons! {
    // The frame
    Truncated "truncated" "The frame ends before its headers or lengths say it should."
    MultiSegment "multi_segment" "The frame came in several buffers: it is larger than the port's buffers allow."
    WrongMac "wrong_mac" "The frame is addressed to another MAC, or is a broadcast or multicast that is neither ARP nor Neighbor Discovery."
    WrongVlan "wrong_vlan" "The frame's VLAN is not the one that the port is configured for."
    UnknownEthertype "unknown_ethertype" "Neither IPv4, IPv6 nor ARP."
    ArpMalformed "arp_malformed" "An ARP packet that is not Ethernet/IPv4, or with a sender that cannot be one."
    ArpNotForUs "arp_not_for_us" "An ARP packet that neither asks for an address of ours nor answers a question of ours."
    NdMalformed "nd_malformed" "A Neighbor Discovery message that RFC 4861 section 7.1 wants discarded: hop limit, checksum, length, options."
    NdNotForUs "nd_not_for_us" "A Neighbor Discovery message that neither asks for an address of ours nor answers a question of ours."

    // IPv4, outer or inner
    Ipv4Malformed "ipv4_malformed" "The IPv4 header's version, header length or total length is wrong."
    Ipv4Checksum "ipv4_checksum" "The IPv4 header checksum is wrong."

    // IPv6, outer or inner
    Ipv6Malformed "ipv6_malformed" "The IPv6 header's version or payload length is wrong, or an extension header reaches beyond the packet."
    Ipv6Extensions "ipv6_extensions" "More than eight IPv6 extension headers, or a routing header that has segments left (or is of type 0: RFC 5095)."

    // IP, outer or inner
    NotOurAddress "not_our_address" "The destination is neither an address of the port nor an egress IP of this gateway."
    NoService "no_service" "The packet is for an address of the gateway, and nothing answers that protocol or l4_port there."

    // The tunnel
    OuterFragment "outer_fragment" "A fragment of an outer VXLAN packet; tunnel endpoints must not fragment (RFC 7348)."
    OuterChecksum "outer_checksum" "The outer UDP checksum is neither zero nor right: look at checksum offload of the node's NIC."
    VxlanFlags "vxlan_flags" "The VXLAN header has no valid VNI (the I flag is not set)."
    UnknownNode "unknown_node" "The outer source is not the tunnel address of any EgressNode."
    UnknownPolicy "unknown_policy" "No policy of this gateway has the packet's VNI as its id."
    SpoofedSource "spoofed_source" "The inner source is not in the CIDRs of the node that sent it."
    EcnInvalid "ecn_invalid" "The outer packet is marked Congestion Experienced and the inner one cannot carry it (RFC 6040)."

    // Between workers
    HandoffFull "handoff_full" "The ring to the worker that owns the packet's flow was full: that worker is overloaded or stands still."

    // Translation
    ProtocolUnsupported "protocol_unsupported" "The L4 protocol cannot be translated."
    FragmentUnsupported "fragment_unsupported" "A fragment: its flow is not known by its own bytes."
    IcmpUnsupported "icmp_unsupported" "An ICMP type other than an echo that crosses the gateway in its own direction."
    L4Malformed "l4_malformed" "The TCP, UDP or ICMP header is impossible: data offset, length, or l4_port 0."
    DestinationInvalid "destination_invalid" "The destination is not a unicast address that can be reached through a router."
    Hairpin "hairpin" "A pod's packet for an egress IP of this same gateway."
    TtlExpired "ttl_expired" "The TTL ran out at the gateway; Time Exceeded is sent within its rate limit."
    TcpNoSession "tcp_no_session" "TCP in mid-stream from a pod, and no session: only a SYN opens one."
    NoEgressIp "no_egress_ip" "The policy has no egress IP of the packet's address family here that takes new sessions."
    L4PortsExhausted "l4_ports_exhausted" "Every l4_port of this egress IP is taken for the remote endpoint and protocol, at every worker."
    SessionsFull "sessions_full" "The worker's session table is full: raise nat.max_sessions."
    NoSession "no_session" "A packet for an egress IP that belongs to no session."
    SessionCut "session_cut" "The policy or the egress IP of the packet's session was removed."

    // The way out
    TooBig "too_big" "The packet does not fit the output port's MTU (VXLAN takes 50 bytes on the tunnel port, 70 over IPv6)."
    NoNextHop "no_next_hop" "The destination is not on-link and the port has no gateway."
    NeighbourQueueFull "neighbour_queue_full" "The next hop's MAC is being resolved and its few waiting places are taken."
    NeighbourUnresolved "neighbour_unresolved" "The next hop did not answer ARP or Neighbor Solicitation."
    PolicyChanged "policy_changed" "The policies changed while the packet waited for its next hop's MAC or for an l4_port of another worker."
    EgressGuard "egress_guard" "The last check before the external port: the source is not an address of ours. Alert on any."
    NoHeadroom "no_headroom" "The buffer has no room in front for the tunnel headers."
    NoBuffer "no_buffer" "The buffer pool is empty, so an answer of the gateway itself could not be built."
    TxFull "tx_full" "The port's transmit queue stayed full."
}

impl DropReason {
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_and_in_counter_order() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
            assert!(reason.help().ends_with('.'), "{reason}");
        }
    }
}
