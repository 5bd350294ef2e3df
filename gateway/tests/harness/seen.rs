//! What comes out, as etherparse reads it.

use super::*;
use etherparse::{SlicedPacket, TransportSlice};
use std::ops::Deref;

/// What etherparse reads in a frame, all checksums recomputed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenOf<F> {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    pub vlan: Option<u16>,
    /// Its fields can be read as if they were here.
    pub ip: Ip<F>,
    /// ICMP echo: the id in both.
    pub sport: u16,
    pub dport: u16,
    pub payload: Vec<u8>,
    pub l4_checksum_ok: bool,
    /// UDP without a checksum.
    pub l4_checksum_zero: bool,
}

pub type Seen = SeenOf<Ipv4Addr>;
pub type Seen6 = SeenOf<Ipv6Addr>;

impl<F> Deref for SeenOf<F> {
    type Target = Ip<F>;

    fn deref(&self) -> &Ip<F> {
        &self.ip
    }
}

impl<F: Family> SeenOf<F> {
    /// Panics where the frame is not sound: lengths, IPv4 checksum.
    pub fn of(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("etherparse reads the frame");
        let Some(etherparse::LinkSlice::Ethernet2(link)) = &sliced.link else {
            panic!("not Ethernet: {frame:02x?}")
        };
        let (to_mac, from_mac) = (link.destination(), link.source());
        let vlan = sliced.vlan_ids().first().map(|id| id.value());
        SeenOf { to_mac, from_mac, vlan, ..Self::of_sliced(&sliced) }
    }

    /// An IP packet without Ethernet.
    pub fn of_packet(packet: &[u8]) -> Self {
        Self::of_sliced(&SlicedPacket::from_ip(packet).expect("etherparse reads the packet"))
    }

    fn of_sliced(sliced: &SlicedPacket<'_>) -> Self {
        let ip = F::read(sliced.net.as_ref().expect("an IP packet"));
        let (mut sport, mut dport, mut zero, mut payload) = (0, 0, false, vec![]);
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => {
                (sport, dport) = (udp.source_port(), udp.destination_port());
                payload = udp.payload().to_vec();
                zero = udp.checksum() == 0;
            }
            Some(TransportSlice::Tcp(tcp)) => {
                (sport, dport) = (tcp.source_port(), tcp.destination_port());
                payload = tcp.payload().to_vec();
            }
            Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {
                let id = u16::from_be_bytes([ip.segment[4], ip.segment[5]]);
                (sport, dport) = (id, id);
                payload = ip.segment[8..].to_vec();
            }
            _ => {}
        }
        let ok = zero || sliced.transport.as_ref().is_none_or(|l4| F::sum_is_right(&ip, l4));
        SeenOf {
            to_mac: [0; 6],
            from_mac: [0; 6],
            vlan: None,
            ip,
            sport,
            dport,
            payload,
            l4_checksum_ok: ok,
            l4_checksum_zero: zero,
        }
    }

    /// The inner packet and the VNI of a frame to a node, the tunnel headers checked.
    pub fn in_tunnel<U: Family>(frame: &[u8], node: U) -> (Self, u32) {
        let outer = SeenOf::<U>::of(frame);
        assert_eq!((outer.source, outer.destination), (U::VTEP, node));
        assert_eq!((outer.from_mac, outer.to_mac), (TUNNEL_MAC, NODE_MAC));
        assert_eq!((outer.dport, outer.ttl), (VXLAN_PORT, 64));
        assert!(outer.sport >= 49_152, "outer source l4_port {}", outer.sport);
        assert!(outer.dont_fragment && outer.l4_checksum_zero, "DF, and UDP checksum 0");
        let vxlan = &outer.payload;
        assert_eq!((vxlan[0], &vxlan[1..4], vxlan[7]), (0x08, &[0, 0, 0][..], 0));
        let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
        (Self::of(&vxlan[8..]), vni)
    }
}

/// The ethertype of a frame, behind a VLAN tag where there is one, and where its packet begins.
pub fn ethertype(frame: &[u8]) -> Option<(u16, usize)> {
    let at = if frame.get(12..14)? == [0x81, 0x00] { 18 } else { 14 };
    Some((u16::from_be_bytes([*frame.get(at - 2)?, *frame.get(at - 1)?]), at))
}

/// Whatever a test looks at: no frame leaves that etherparse does not find sound; where `whole`, with
/// every L4 checksum right.
pub fn judge(side: Side, frame: &[u8], whole: bool) {
    match ethertype(frame) {
        Some((0x0800, _)) => judge_ip::<Ipv4Addr>(side, frame, whole),
        Some((0x86dd, _)) => judge_ip::<Ipv6Addr>(side, frame, whole),
        Some((0x0806, _)) => {}
        other => panic!("{other:x?}: {frame:02x?}"),
    }
}

fn judge_ip<F: Family>(side: Side, frame: &[u8], whole: bool) {
    let seen = SeenOf::<F>::of(frame);
    if side == Side::Tunnel && seen.dport == VXLAN_PORT {
        assert!(seen.l4_checksum_zero, "RFC 7348, RFC 6935: the tunnel has no checksum");
        return judge(Side::External, &seen.payload[8..], whole);
    }
    assert!(!whole || seen.l4_checksum_ok, "L4 checksum: {seen:?}");
}
