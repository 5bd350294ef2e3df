//! ICMPv6 (RFC 4443): its numbers. The fixed eight bytes are those of [`super::icmp::IcmpHeader`].

pub const TIME_EXCEEDED: u8 = 3;
pub const ECHO_REQUEST: u8 = 128;
pub const ECHO_REPLY: u8 = 129;

// Neighbor Discovery (RFC 4861 section 4).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Router and neighbour solicitations and advertisements, and redirects.
pub fn is_neighbor_discovery(icmp_type: u8) -> bool {
    matches!(icmp_type, 133..=137)
}
