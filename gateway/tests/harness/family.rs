//! What the address families differ in: the lab's addresses, and how etherparse builds and reads
//! packets.

use super::*;
use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, PacketBuilderStep,
    TransportSlice,
};
use std::{fmt::Debug, hash::Hash};

/// A test that says `<F: Family>` runs over both.
pub trait Family: Copy + Eq + Ord + Hash + Debug + Into<IpAddr> + 'static {
    const VTEP: Self;
    const NODE: Self;
    const NODE2: Self;
    const POD: Self;
    const POD_C: Self;
    const REMOTE: Self;
    const ROUTER: Self;
    const EXTERNAL: Self;
    const EGRESS: Self;
    const EGRESS_2: Self;
    /// All hosts of a link.
    const GROUP: Self;

    const ETHERTYPE: u16;
    const ICMP: u8;
    const ECHO_REPLY: u8;
    /// An IP header without options, in bytes.
    const HEADER: usize;
    /// What VXLAN adds over this underlay, in bytes.
    const OVERHEAD: usize;
    /// The largest TCP segment whose packet fits 1500 bytes.
    const MSS: u16 = 1480 - Self::HEADER as u16;

    /// `10.244.1.n`.
    fn pod(n: u8) -> Self;
    /// `198.51.100.n`.
    fn remote(n: u8) -> Self;

    fn builder(from: Self, to: Self, ttl: u8) -> PacketBuilderStep<IpHeaders>;
    /// A packet of any protocol.
    fn packet(from: Self, to: Self, protocol: u8, payload: &[u8]) -> Vec<u8>;
    fn echo(from: Self, to: Self, request: bool, id: u16, ttl: u8) -> Vec<u8>;
    /// What the IP header says; panics where it is another family's or not sound.
    fn read(net: &NetSlice<'_>) -> Ip<Self>;
    /// The checksum that a segment should have, as etherparse computes it.
    fn sum_is_right(ip: &Ip<Self>, transport: &TransportSlice<'_>) -> bool;
}

/// Calls a generic test with (pods' family, underlay's), for every pairing but IPv4 in IPv4.
#[allow(unused_macros, reason = "each test binary uses a part of the harness")]
macro_rules! each_pairing {
    ($test:ident) => {
        $test::<Ipv6Addr, Ipv4Addr>();
        $test::<Ipv6Addr, Ipv6Addr>();
        $test::<Ipv4Addr, Ipv6Addr>();
    };
}
#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
pub(crate) use each_pairing;

/// An IP header as etherparse reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip<F> {
    pub source: F,
    pub destination: F,
    /// Behind all extension headers.
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
    /// IPv6 only, else 0.
    pub flow_label: u32,
    /// IPv4 options, IPv6 extension headers: their length.
    pub options: usize,
    pub segment: Vec<u8>,
}

impl Family for Ipv4Addr {
    const VTEP: Self = VTEP;
    const NODE: Self = NODE;
    const NODE2: Self = NODE2;
    const POD: Self = POD;
    const POD_C: Self = POD_C;
    const REMOTE: Self = REMOTE;
    const ROUTER: Self = ROUTER;
    const EXTERNAL: Self = EXTERNAL;
    const EGRESS: Self = EGRESS;
    const EGRESS_2: Self = EGRESS_2;
    const GROUP: Self = Ipv4Addr::new(224, 0, 0, 1);
    const ETHERTYPE: u16 = 0x0800;
    const ICMP: u8 = 1;
    const ECHO_REPLY: u8 = 0;
    const HEADER: usize = 20;
    const OVERHEAD: usize = 50;

    fn pod(n: u8) -> Self {
        Ipv4Addr::new(10, 244, 1, n)
    }

    fn remote(n: u8) -> Self {
        Ipv4Addr::new(198, 51, 100, n)
    }

    fn builder(from: Self, to: Self, ttl: u8) -> PacketBuilderStep<IpHeaders> {
        let header = Ipv4Header::new(0, ttl, IpNumber(0), from.octets(), to.octets()).unwrap();
        PacketBuilder::ip(IpHeaders::Ipv4(header, Default::default()))
    }

    fn packet(from: Self, to: Self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ipv4(from, to, protocol, payload)
    }

    fn echo(from: Self, to: Self, request: bool, id: u16, ttl: u8) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(from.octets(), to.octets(), ttl);
        let builder = match request {
            true => builder.icmpv4_echo_request(id, 3),
            false => builder.icmpv4_echo_reply(id, 3),
        };
        let mut packet = Vec::new();
        builder.write(&mut packet, b"abcdefgh").unwrap();
        packet
    }

    fn read(net: &NetSlice<'_>) -> Ip<Self> {
        let NetSlice::Ipv4(ip) = net else { panic!("not IPv4: {net:?}") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
        Ip {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol.0,
            ttl: header.time_to_live,
            tos: header.dscp.value() << 2 | header.ecn.value(),
            dont_fragment: header.dont_fragment,
            flow_label: 0,
            options: header.options.len(),
            segment: ip.payload().payload.to_vec(),
        }
    }

    fn sum_is_right(ip: &Ip<Self>, transport: &TransportSlice<'_>) -> bool {
        let (from, to) = (ip.source.octets(), ip.destination.octets());
        match transport {
            TransportSlice::Udp(udp) => {
                let sum = udp.to_header().calc_checksum_ipv4_raw(from, to, udp.payload());
                udp.checksum() == sum.unwrap()
            }
            TransportSlice::Tcp(tcp) => {
                let sum = tcp.to_header().calc_checksum_ipv4_raw(from, to, tcp.payload());
                tcp.checksum() == sum.unwrap()
            }
            TransportSlice::Icmpv4(icmp) => {
                icmp.icmp_type().calc_checksum(icmp.payload()) == icmp.checksum()
            }
            TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => true,
        }
    }
}

const fn v6(net: u16, more: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, more, 0, 0, 0, host)
}

impl Family for Ipv6Addr {
    const VTEP: Self = v6(2, 0, 0x10);
    const NODE: Self = v6(2, 0, 1);
    const NODE2: Self = v6(2, 0, 2);
    const POD: Self = Ipv6Addr::new(0xfd00, 0x244, 1, 0, 0, 0, 0, 0x10);
    const POD_C: Self = Ipv6Addr::new(0xfd00, 0x244, 2, 0, 0, 0, 0, 0x10);
    const REMOTE: Self = v6(0x100, 0, 0x10);
    const ROUTER: Self = v6(0x113, 0, 1);
    const EXTERNAL: Self = v6(0x113, 0, 2);
    const EGRESS: Self = v6(0x113, 0, 0x10);
    const EGRESS_2: Self = v6(0x113, 0, 0x11);
    const GROUP: Self = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ETHERTYPE: u16 = 0x86dd;
    const ICMP: u8 = 58;
    const ECHO_REPLY: u8 = 129;
    const HEADER: usize = 40;
    const OVERHEAD: usize = 70;

    fn pod(n: u8) -> Self {
        Ipv6Addr::new(0xfd00, 0x244, 1, 0, 0, 0, 0, n.into())
    }

    fn remote(n: u8) -> Self {
        v6(0x100, 0, n.into())
    }

    fn builder(from: Self, to: Self, ttl: u8) -> PacketBuilderStep<IpHeaders> {
        let header = Ipv6Header {
            hop_limit: ttl,
            source: from.octets(),
            destination: to.octets(),
            flow_label: FLOW_LABEL.try_into().unwrap(),
            ..Ipv6Header::default()
        };
        PacketBuilder::ip(IpHeaders::Ipv6(header, Default::default()))
    }

    fn packet(from: Self, to: Self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ipv6_with(from, to, protocol, payload, |_| {})
    }

    fn echo(from: Self, to: Self, request: bool, id: u16, ttl: u8) -> Vec<u8> {
        let builder = PacketBuilder::ipv6(from.octets(), to.octets(), ttl);
        let builder = match request {
            true => builder.icmpv6_echo_request(id, 3),
            false => builder.icmpv6_echo_reply(id, 3),
        };
        let mut packet = Vec::new();
        builder.write(&mut packet, b"abcdefgh").unwrap();
        packet
    }

    fn read(net: &NetSlice<'_>) -> Ip<Self> {
        let NetSlice::Ipv6(ip) = net else { panic!("not IPv6: {net:?}") };
        let header = ip.header().to_header();
        Ip {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: ip.payload().ip_number.0,
            ttl: header.hop_limit,
            tos: header.traffic_class,
            dont_fragment: true,
            flow_label: header.flow_label.value(),
            options: ip.extensions().slice().len(),
            segment: ip.payload().payload.to_vec(),
        }
    }

    fn sum_is_right(ip: &Ip<Self>, transport: &TransportSlice<'_>) -> bool {
        let (from, to) = (ip.source.octets(), ip.destination.octets());
        match transport {
            TransportSlice::Udp(udp) => {
                let sum = udp.to_header().calc_checksum_ipv6_raw(from, to, udp.payload());
                udp.checksum() == sum.unwrap()
            }
            TransportSlice::Tcp(tcp) => {
                let sum = tcp.to_header().calc_checksum_ipv6_raw(from, to, tcp.payload());
                tcp.checksum() == sum.unwrap()
            }
            TransportSlice::Icmpv6(icmp) => icmp.is_checksum_valid(from, to),
            TransportSlice::Icmpv4(_) | TransportSlice::Igmp(_) => true,
        }
    }
}
