//! What comes out, as etherparse reads it.

use super::*;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// What etherparse reads in a frame, all checksums recomputed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    pub vlan: Option<u16>,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
    /// ICMP echo: the id in both.
    pub sport: u16,
    pub dport: u16,
    pub payload: Vec<u8>,
    /// Behind the IP header, whole.
    pub segment: Vec<u8>,
    pub l4_checksum_ok: bool,
    /// UDP without a checksum.
    pub l4_checksum_zero: bool,
}

impl Seen {
    /// Panics where the frame is not sound: lengths, IPv4 checksum.
    pub fn of(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("etherparse reads the frame");
        let Some(etherparse::LinkSlice::Ethernet2(link)) = &sliced.link else {
            panic!("not Ethernet: {frame:02x?}")
        };
        let (to_mac, from_mac) = (link.destination(), link.source());
        let vlan = sliced.vlan_ids().first().map(|id| id.value());
        let mut seen = Self::of_sliced(&sliced);
        (seen.to_mac, seen.from_mac, seen.vlan) = (to_mac, from_mac, vlan);
        seen
    }

    /// An IPv4 packet without Ethernet.
    pub fn of_packet(packet: &[u8]) -> Self {
        Self::of_sliced(&SlicedPacket::from_ip(packet).expect("etherparse reads the packet"))
    }

    fn of_sliced(sliced: &SlicedPacket<'_>) -> Self {
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4: {sliced:?}") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
        let segment = ip.payload().payload.to_vec();
        let (mut sport, mut dport, mut ok, mut zero, mut payload) = (0, 0, true, false, vec![]);
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => {
                (sport, dport) = (udp.source_port(), udp.destination_port());
                payload = udp.payload().to_vec();
                zero = udp.checksum() == 0;
                let sum = udp.to_header().calc_checksum_ipv4(&header, &payload).unwrap();
                ok = zero || udp.checksum() == sum;
            }
            Some(TransportSlice::Tcp(tcp)) => {
                (sport, dport) = (tcp.source_port(), tcp.destination_port());
                payload = tcp.payload().to_vec();
                let sum = tcp.to_header().calc_checksum_ipv4(&header, &payload).unwrap();
                ok = tcp.checksum() == sum;
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                let id = u16::from_be_bytes([segment[4], segment[5]]);
                (sport, dport) = (id, id);
                payload = icmp.payload().to_vec();
                ok = icmp.icmp_type().calc_checksum(&payload) == icmp.checksum();
            }
            _ => {}
        }
        Seen {
            to_mac: [0; 6],
            from_mac: [0; 6],
            vlan: None,
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol.0,
            ttl: header.time_to_live,
            tos: header.dscp.value() << 2 | header.ecn.value(),
            dont_fragment: header.dont_fragment,
            sport,
            dport,
            payload,
            segment,
            l4_checksum_ok: ok,
            l4_checksum_zero: zero,
        }
    }

    /// The inner packet and the VNI of a frame to a node, the tunnel headers checked.
    pub fn in_tunnel(frame: &[u8], node: Ipv4Addr) -> (Seen, u32) {
        let outer = Seen::of(frame);
        assert_eq!((outer.source, outer.destination), (VTEP, node));
        assert_eq!((outer.from_mac, outer.to_mac), (TUNNEL_MAC, NODE_MAC));
        assert_eq!((outer.dport, outer.ttl), (VXLAN_PORT, 64));
        assert!(outer.sport >= 49_152, "outer source l4_port {}", outer.sport);
        assert!(outer.dont_fragment && outer.l4_checksum_zero, "DF, and UDP checksum 0");
        let vxlan = &outer.payload;
        assert_eq!((vxlan[0], &vxlan[1..4], vxlan[7]), (0x08, &[0, 0, 0][..], 0));
        let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
        (Seen::of(&vxlan[8..]), vni)
    }
}
