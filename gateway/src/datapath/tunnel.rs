//! VXLAN off and on (RFC 7348), with ECN as RFC 6040 says.

use super::config::DatapathConfig;
use crate::{
    nat::out2in::ToNode,
    verdict::DropReason,
    wire::{
        Header, MacAddress,
        checksum::{self, Checksum, Delta},
        ethernet::{ETHERNET_LEN, ETHERTYPE_IPV4, EthernetHeader},
        ipv4::{IPV4_LEN, Ipv4Header, PROTOCOL_UDP},
        parse::Ipv4Packet,
        udp::{UDP_LEN, UdpHeader},
        vxlan::{VXLAN_LEN, VxlanHeader},
    },
};
use std::net::Ipv4Addr;
use zerocopy::{IntoBytes, network_endian::U16 as NetU16};

/// From the outer IPv4 header to the inner one.
const HEADERS: usize = IPV4_LEN + UDP_LEN + VXLAN_LEN + ETHERNET_LEN;

/// The inner Ethernet destination, fixed: the node routes by IP and takes any. Locally administered.
pub const INNER_DESTINATION: MacAddress = MacAddress([0x02, 0x65, 0x67, 0x77, 0x00, 0x02]);
const INNER_SOURCE: MacAddress = MacAddress([0x02, 0x65, 0x67, 0x77, 0x00, 0x01]);

const OUTER_TTL: u8 = 64;
/// RFC 7348 section 5 recommends the dynamic range 49152–65535 for the source.
const FIRST_SOURCE: u16 = 49_152;

const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What the tunnel headers say.
#[derive(Clone, Copy, Debug)]
pub struct Decapsulated {
    pub vni: u32,
    /// One past the last byte of the inner frame, which begins with Ethernet's header.
    pub end: usize,
}

/// From the outer UDP header to the inner IPv4 header.
pub const INNER_L3: usize = UDP_LEN + VXLAN_LEN + ETHERNET_LEN;

/// Reads the tunnel headers of `outer`, an unfragmented UDP packet to the VXLAN l4_port whose UDP header
/// `udp` is at `l4`.
#[inline(always)]
pub fn decapsulate(
    frame: &[u8],
    outer: &Ipv4Packet,
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
    // RFC 7348 section 5: a zero checksum must be accepted; another may be verified, and then a
    // wrong one must be dropped. Nodes with broken offload are found by this counter.
    if !udp.checksum.is_zero() {
        let (source, destination) = (outer.source.octets(), outer.destination.octets());
        if !checksum::is_valid_with_pseudo_header(
            source,
            destination,
            PROTOCOL_UDP,
            &frame[l4..end],
        ) {
            return Err(DropReason::OuterChecksum);
        }
    }
    let tunnel = &frame[..end];
    let vxlan = VxlanHeader::at(tunnel, l4 + UDP_LEN).ok_or(DropReason::Truncated)?;
    let vni = vxlan.vni().ok_or(DropReason::VxlanFlags)?;
    let ethernet = EthernetHeader::at(tunnel, l4 + UDP_LEN + VXLAN_LEN);
    // RFC 7348 section 6.1: a frame with an inner VLAN tag is discarded; here as an ethertype that is
    // not IPv4's.
    if ethernet.ok_or(DropReason::Truncated)?.ethertype.get() != ETHERTYPE_IPV4 {
        return Err(DropReason::UnknownEthertype);
    }
    Ok(Decapsulated { vni, end })
}

/// Carries the ECN mark of the outer packet over to the inner one: RFC 6040 section 4.2, figure 4.
#[inline(always)]
pub fn carry_ecn(frame: &mut [u8], inner: &mut Ipv4Packet, outer: u8) -> Result<(), DropReason> {
    let ecn = match (inner.dscp_ecn & ECN, outer & ECN) {
        (NOT_ECT, CE) => return Err(DropReason::EcnInvalid),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (unchanged, _) => unchanged,
    };
    let dscp_ecn = inner.dscp_ecn & !ECN | ecn;
    if dscp_ecn != inner.dscp_ecn
        && let Some(ip) = Ipv4Header::at_mut(frame, inner.l3())
    {
        let before = [ip.version_ihl, ip.dscp_ecn];
        ip.dscp_ecn = dscp_ecn;
        ip.checksum = ip.checksum.apply(Delta::replace_u16(before, [ip.version_ihl, dscp_ecn]));
        inner.dscp_ecn = dscp_ecn;
    }
    Ok(())
}

/// What [`encapsulate`] puts in front of an inner IPv4 packet, from the outer L2 header on.
pub fn overhead(config: &DatapathConfig) -> usize {
    config.tunnel.l2_len() + HEADERS
}

/// The tunnel headers of any packet, to be completed.
#[derive(Clone, Debug)]
pub struct TunnelHeaders {
    bytes: [u8; HEADERS],
    /// Of the IPv4 header as it stands in `bytes`.
    checksum: Checksum,
}

// Offsets from the outer IPv4 header.
const TOTAL_LENGTH: usize = 2;
const IP_CHECKSUM: usize = 10;
const DESTINATION: usize = 16;
const UDP: usize = IPV4_LEN;
const VXLAN: usize = UDP + UDP_LEN;
const ETHERNET: usize = VXLAN + VXLAN_LEN;

impl TunnelHeaders {
    pub fn new(vtep: Ipv4Addr, vxlan_port: u16) -> Self {
        let mut ip = Ipv4Header::atomic(vtep, 0.into(), PROTOCOL_UDP, 0, OUTER_TTL, 0);
        ip.total_length = NetU16::ZERO;
        ip.checksum = Checksum::ZERO;
        let checksum = checksum::of(ip.as_bytes());
        let udp = UdpHeader {
            source: NetU16::ZERO,
            destination: NetU16::new(vxlan_port),
            length: NetU16::ZERO,
            // RFC 7348 section 5: zero over IPv4; the inner packet has its own.
            checksum: Checksum::ZERO,
        };
        let ethernet = EthernetHeader {
            destination: INNER_DESTINATION,
            source: INNER_SOURCE,
            ethertype: NetU16::new(ETHERTYPE_IPV4),
        };
        let mut bytes = [0; HEADERS];
        bytes[..UDP].copy_from_slice(ip.as_bytes());
        bytes[UDP..VXLAN].copy_from_slice(udp.as_bytes());
        bytes[ETHERNET..].copy_from_slice(ethernet.as_bytes());
        TunnelHeaders { bytes, checksum }
    }
}

/// Writes the tunnel headers into the first bytes of `frame`, behind the room for its L2 header; the
/// inner IPv4 packet is at [`overhead`]. `spread` chooses the source l4_port.
#[inline(always)]
pub fn encapsulate(frame: &mut [u8], config: &DatapathConfig, to: ToNode, spread: u16) {
    let l2 = config.tunnel.l2_len();
    let Some((tunnel, inner)) = frame[l2..].split_first_chunk_mut::<HEADERS>() else { return };
    let Some(inner_ip) = Ipv4Header::at(inner, 0) else { return };
    // RFC 6040 section 4.1, normal mode: the inner ECN field is copied; so is DSCP (RFC 2983,
    // uniform). The kernel at the other end sees to the way back.
    let dscp_ecn = inner_ip.dscp_ecn;
    let udp_len = (HEADERS - IPV4_LEN + inner.len()) as u16;
    let total_len = udp_len + IPV4_LEN as u16;
    let TunnelHeaders { bytes, checksum } = config.tunnel_headers();
    *tunnel = *bytes;

    let (total_len, vtep) = (total_len.to_be_bytes(), to.vtep.octets());
    let changes = Delta::replace_u16([0, 0], [0, dscp_ecn])
        .and(Delta::replace_u16([0, 0], total_len))
        .and(Delta::replace_u32([0; 4], vtep));
    tunnel[1] = dscp_ecn;
    tunnel[TOTAL_LENGTH..TOTAL_LENGTH + 2].copy_from_slice(&total_len);
    tunnel[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(checksum.apply(changes).as_bytes());
    tunnel[DESTINATION..DESTINATION + 4].copy_from_slice(&vtep);

    let source = FIRST_SOURCE | (spread & !FIRST_SOURCE);
    tunnel[UDP..UDP + 2].copy_from_slice(&source.to_be_bytes());
    tunnel[UDP + 4..UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
    tunnel[VXLAN..ETHERNET].copy_from_slice(VxlanHeader::new(to.policy).as_bytes());
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
