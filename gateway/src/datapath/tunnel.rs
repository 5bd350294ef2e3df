//! VXLAN off and on (RFC 7348), with ECN as RFC 6040 says.

use super::config::{DatapathConfig, VXLAN_OVERHEAD, VXLAN_OVERHEAD_V6};
use crate::{
    verdict::DropReason,
    wire::{
        Address, Header, MacAddress,
        checksum::{self, Checksum, Sum},
        ethernet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader},
        ipv4::{IPV4_LEN, Ipv4Header, PROTOCOL_UDP},
        ipv6::{IPV6_LEN, Ipv6Header},
        parse::IpPacket,
        udp::{UDP_LEN, UdpHeader},
        vxlan::{VXLAN_LEN, VxlanHeader},
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{IntoBytes, network_endian::U16 as NetU16};

/// The inner Ethernet destination, fixed: the node routes by IP and takes any. Locally administered.
pub const INNER_DESTINATION: MacAddress = MacAddress([0x02, 0x65, 0x67, 0x77, 0x00, 0x02]);
const INNER_SOURCE: MacAddress = MacAddress([0x02, 0x65, 0x67, 0x77, 0x00, 0x01]);

const OUTER_TTL: u8 = 64;
/// RFC 7348 section 5 recommends the dynamic range 49152–65535 for the source.
const FIRST_SOURCE: u16 = 49_152;

/// Of DSCP and ECN, those of ECN.
pub(super) const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What the tunnel headers say.
#[derive(Clone, Copy, Debug)]
pub struct Decapsulated {
    pub vni: u32,
    /// Of the inner frame: which family its packet is of.
    pub ethertype: u16,
    /// One past the last byte of the inner frame, which begins with Ethernet's header.
    pub end: usize,
}

/// From the outer UDP header to the inner IP header.
pub const INNER_L3: usize = UDP_LEN + VXLAN_LEN + ETHERNET_LEN;

/// Reads the tunnel headers of `outer`, an unfragmented UDP packet to the VXLAN l4_port whose UDP header
/// `udp` is at `l4`.
#[inline(always)]
pub fn decapsulate<A: Address>(
    frame: &[u8],
    outer: &IpPacket<A>,
    l4: usize,
    udp: &UdpHeader,
) -> Result<Decapsulated, DropReason> {
    let udp_len = usize::from(udp.length.get());
    if udp_len < UDP_LEN {
        return Err(DropReason::L4Malformed);
    }
    let end = l4 + udp_len;
    if end > outer.end() {
        return Err(DropReason::Truncated);
    }
    // RFC 7348 section 5, and RFC 6935 section 5 for a tunnel over IPv6: a zero checksum must be
    // accepted; another may be verified, and then a wrong one must be dropped. Nodes with broken offload
    // are found by this counter.
    if !udp.checksum.is_zero() {
        let (source, destination) = (outer.source.into(), outer.destination.into());
        let udp = &frame[l4..end];
        if !checksum::is_valid_with_pseudo_header(source, destination, PROTOCOL_UDP, udp) {
            return Err(DropReason::OuterChecksum);
        }
    }
    let tunnel = &frame[..end];
    let vxlan = VxlanHeader::at(tunnel, l4 + UDP_LEN).ok_or(DropReason::Truncated)?;
    let vni = vxlan.vni().ok_or(DropReason::VxlanFlags)?;
    let ethernet = EthernetHeader::at(tunnel, l4 + UDP_LEN + VXLAN_LEN);
    // RFC 7348 section 6.1: a frame with an inner VLAN tag is discarded; here as an ethertype that is
    // no IP's.
    let ethertype = ethernet.ok_or(DropReason::Truncated)?.ethertype.get();
    if !matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
        return Err(DropReason::UnknownEthertype);
    }
    Ok(Decapsulated { vni, ethertype, end })
}

/// Carries the ECN mark of the outer packet over to the inner one: RFC 6040 section 4.2, figure 4.
#[inline(always)]
pub fn carry_ecn<A: Address>(
    frame: &mut [u8],
    inner: &mut IpPacket<A>,
    outer: u8,
) -> Result<(), DropReason> {
    let ecn = match (inner.dscp_ecn & ECN, outer & ECN) {
        (NOT_ECT, CE) => return Err(DropReason::EcnInvalid),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (unchanged, _) => unchanged,
    };
    let dscp_ecn = inner.dscp_ecn & !ECN | ecn;
    if dscp_ecn != inner.dscp_ecn {
        A::set_dscp_ecn(frame, inner, dscp_ecn);
        inner.dscp_ecn = dscp_ecn;
    }
    Ok(())
}

/// Where a packet goes through the tunnel: to a node, under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub address: IpAddr,
    pub policy: u32,
}

impl Tunnel {
    /// What [`encapsulate`] puts in front of an inner IP packet, from the outer L2 header on.
    #[inline(always)]
    pub fn overhead(&self, config: &DatapathConfig) -> usize {
        let headers = match self.address {
            IpAddr::V4(_) => VXLAN_OVERHEAD,
            IpAddr::V6(_) => VXLAN_OVERHEAD_V6,
        };
        config.tunnel.l2_len() + headers
    }
}

/// The tunnel headers of any packet, to be completed: over IPv4 and over IPv6.
#[derive(Clone, Debug)]
pub struct TunnelHeaders {
    v4: [u8; VXLAN_OVERHEAD],
    /// Of the IPv4 header as it stands in `v4`.
    sum: Sum,
    v6: [u8; VXLAN_OVERHEAD_V6],
}

// Offsets from the outer IPv4 header.
const TOTAL_LENGTH: usize = 2;
const IP_CHECKSUM: usize = 10;
const DESTINATION: usize = 16;
// Offsets from the outer IPv6 header.
const PAYLOAD_LENGTH: usize = 4;
const DESTINATION_V6: usize = 24;
// Offsets from the outer UDP header.
const VXLAN: usize = UDP_LEN;
const ETHERNET: usize = VXLAN + VXLAN_LEN;
const ETHERTYPE: usize = ETHERNET + ETHERNET_LEN - 2;

const _: () = assert!(VXLAN_OVERHEAD == IPV4_LEN + INNER_L3);
const _: () = assert!(VXLAN_OVERHEAD_V6 == IPV6_LEN + INNER_L3);

impl TunnelHeaders {
    /// From the gateway's tunnel address of each family, as far as it has one.
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>, vxlan_port: u16) -> Self {
        let source = v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut ip = Ipv4Header::atomic(source, 0.into(), PROTOCOL_UDP, 0, OUTER_TTL, 0);
        ip.total_length = NetU16::ZERO;
        ip.checksum = Checksum::ZERO;
        let sum = Sum::of(ip.as_bytes());
        let ends = (v6.unwrap_or(Ipv6Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED);
        let ipv6 = Ipv6Header::new(ends, PROTOCOL_UDP, 0, OUTER_TTL, 0, 0);
        let udp = UdpHeader {
            source: NetU16::ZERO,
            destination: NetU16::new(vxlan_port),
            length: NetU16::ZERO,
            // RFC 7348 section 5: zero over IPv4; RFC 6935 allows it over IPv6. The inner packet has its
            // own.
            checksum: Checksum::ZERO,
        };
        let ethernet = EthernetHeader {
            destination: INNER_DESTINATION,
            source: INNER_SOURCE,
            ethertype: NetU16::ZERO,
        };
        let mut rest = [0; INNER_L3];
        rest[..VXLAN].copy_from_slice(udp.as_bytes());
        rest[ETHERNET..].copy_from_slice(ethernet.as_bytes());
        let (mut v4, mut v6) = ([0; VXLAN_OVERHEAD], [0; VXLAN_OVERHEAD_V6]);
        v4[..IPV4_LEN].copy_from_slice(ip.as_bytes());
        v4[IPV4_LEN..].copy_from_slice(&rest);
        v6[..IPV6_LEN].copy_from_slice(ipv6.as_bytes());
        v6[IPV6_LEN..].copy_from_slice(&rest);
        TunnelHeaders { v4, sum, v6 }
    }
}

/// Writes the tunnel headers into the first bytes of `frame`, behind the room for its L2 header; the
/// inner packet, of family `A`, is at [`Tunnel::overhead`]. `spread` chooses the source l4_port.
#[inline(always)]
pub fn encapsulate<A: Address>(
    frame: &mut [u8],
    config: &DatapathConfig,
    to: &Tunnel,
    spread: u16,
) {
    let outer = &mut frame[config.tunnel.l2_len()..];
    match to.address {
        IpAddr::V4(address) => {
            over_ipv4::<A>(outer, config.tunnel_headers(), address, to.policy, spread)
        }
        IpAddr::V6(address) => {
            over_ipv6::<A>(outer, config.tunnel_headers(), address, to.policy, spread)
        }
    }
}

#[inline(always)]
fn over_ipv4<A: Address>(
    outer: &mut [u8],
    headers: &TunnelHeaders,
    node: Ipv4Addr,
    policy: u32,
    spread: u16,
) {
    let Some((tunnel, inner)) = outer.split_first_chunk_mut::<VXLAN_OVERHEAD>() else { return };
    // RFC 6040 section 4.1, normal mode: the inner ECN field is copied; so is DSCP (RFC 2983,
    // uniform). The kernel at the other end sees to the way back.
    let dscp_ecn = A::dscp_ecn(inner);
    let udp_len = (INNER_L3 + inner.len()) as u16;
    *tunnel = headers.v4;

    let (total_len, node) = ((udp_len + IPV4_LEN as u16).to_be_bytes(), node.octets());
    tunnel[1] = dscp_ecn;
    tunnel[TOTAL_LENGTH..TOTAL_LENGTH + 2].copy_from_slice(&total_len);
    let checksum = headers.sum.complete(node, [[0, dscp_ecn], total_len]);
    tunnel[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(checksum.as_bytes());
    tunnel[DESTINATION..DESTINATION + 4].copy_from_slice(&node);
    complete::<A>(&mut tunnel[IPV4_LEN..], udp_len, policy, spread);
}

#[inline(always)]
fn over_ipv6<A: Address>(
    outer: &mut [u8],
    headers: &TunnelHeaders,
    node: Ipv6Addr,
    policy: u32,
    spread: u16,
) {
    let Some((tunnel, inner)) = outer.split_first_chunk_mut::<VXLAN_OVERHEAD_V6>() else { return };
    let traffic_class = A::dscp_ecn(inner);
    let udp_len = (INNER_L3 + inner.len()) as u16;
    *tunnel = headers.v6;

    // RFC 6438 section 3: the flow label bears the inner flow's entropy, for routers that spread by it.
    let class_flow = 6 << 28 | u32::from(traffic_class) << 20 | u32::from(spread);
    tunnel[..PAYLOAD_LENGTH].copy_from_slice(&class_flow.to_be_bytes());
    tunnel[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&udp_len.to_be_bytes());
    tunnel[DESTINATION_V6..DESTINATION_V6 + 16].copy_from_slice(&node.octets());
    complete::<A>(&mut tunnel[IPV6_LEN..], udp_len, policy, spread);
}

/// UDP and what follows it.
#[inline(always)]
fn complete<A: Address>(udp: &mut [u8], udp_len: u16, policy: u32, spread: u16) {
    let source = FIRST_SOURCE | (spread & !FIRST_SOURCE);
    udp[..2].copy_from_slice(&source.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[VXLAN..ETHERNET].copy_from_slice(VxlanHeader::new(policy).as_bytes());
    udp[ETHERTYPE..ETHERTYPE + 2].copy_from_slice(&A::ETHERTYPE.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    #[test]
    fn ecn_follows_rfc_6040_figure_4() {
        // Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE. `None`: drop.
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                let dscp = 0b1010_1000;
                let header = Ipv4Header::atomic(
                    [10, 0, 0, 1].into(),
                    [198, 51, 100, 1].into(),
                    PROTOCOL_UDP,
                    dscp | inner,
                    9,
                    0,
                );
                let mut frame = header.as_bytes().to_vec();
                let mut packet = parse::ipv4(&frame, 0).unwrap();
                let result = carry_ecn(&mut frame, &mut packet, outer);
                let carried = result.ok().map(|()| packet.dscp_ecn);
                assert_eq!(carried, expected.map(|ecn| dscp | ecn), "{inner:02b} in {outer:02b}");
                if expected.is_some() {
                    assert_eq!(parse::ipv4(&frame, 0).unwrap().dscp_ecn, carried.unwrap());
                }
            }
        }
    }
}
