//! Frames, byte by byte. IPv4 headers have their checksum. Of L4 headers, UDP over IPv6 has one, as there it must; the others' nobody reads.

use std::net::IpAddr;

pub const ETHERNET: usize = 14;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const SCTP: u8 = 132;
pub const ICMPV6: u8 = 58;

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// Of IPv4, and of IPv6's fragment header; offsets are in units of eight bytes.
pub const MORE_FRAGMENTS: u16 = 0x2000;
const MORE_FRAGMENTS6: u16 = 1;

#[derive(Debug, Clone)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub id: u16,
    /// Flags and offset, as in IPv4's header.
    pub fragment: u16,
    /// IPv4 only.
    pub options: usize,
    /// IPv6 only: extension headers, each with its own number and without the next one's.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub l4: Vec<u8>,
}

pub fn packet(src: &str, dst: &str, protocol: u8, l4: Vec<u8>) -> Packet {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    Packet { src, dst, protocol, id: 1, fragment: 0, options: 0, extensions: Vec::new(), l4 }
}

pub fn tcp(src: &str, dst: &str, sport: u16, dport: u16, flags: u8) -> Packet {
    let mut l4 = ports(sport, dport);
    l4.extend([0; 8]);
    l4.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    packet(src, dst, TCP, l4)
}

pub fn udp(src: &str, dst: &str, sport: u16, dport: u16) -> Packet {
    let mut l4 = ports(sport, dport);
    l4.extend([0, 12, 0, 0]);
    l4.extend(b"data");
    let mut udp = packet(src, dst, UDP, l4);
    if udp.src.is_ipv6() {
        let checksum = udp.l4_checksum();
        udp.l4[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
    udp
}

pub fn sctp(src: &str, dst: &str, sport: u16, dport: u16) -> Packet {
    let mut l4 = ports(sport, dport);
    l4.extend([0; 8]);
    packet(src, dst, SCTP, l4)
}

/// By the addresses' family, ICMP or ICMPv6.
pub fn icmp(src: &str, dst: &str, icmp_type: u8, id: u16) -> Packet {
    let mut l4 = vec![icmp_type, 0, 0, 0];
    l4.extend(id.to_be_bytes());
    l4.extend([0, 1]);
    packet(src, dst, icmp_number(src), l4)
}

pub fn icmp_number(address: &str) -> u8 {
    if address.contains(':') { ICMPV6 } else { ICMP }
}

/// An ICMP error that quotes the header of `quoted` and eight bytes more.
pub fn icmp_error(src: &str, dst: &str, icmp_type: u8, quoted: &Packet) -> Packet {
    let mut l4 = vec![icmp_type, 3, 0, 0, 0, 0, 0, 0];
    let ip = quoted.ip();
    let header = ip.len() - quoted.l4.len();
    l4.extend(&ip[..header + 8]);
    packet(src, dst, icmp_number(src), l4)
}

fn ports(sport: u16, dport: u16) -> Vec<u8> {
    [sport.to_be_bytes(), dport.to_be_bytes()].concat()
}

impl Packet {
    pub fn payload(mut self, bytes: usize) -> Self {
        self.l4.extend(std::iter::repeat_n(0x61, bytes));
        self
    }

    pub fn fragment(mut self, id: u16, flags_and_offset: u16) -> Self {
        (self.id, self.fragment) = (id, flags_and_offset);
        self
    }

    pub fn options(mut self, bytes: usize) -> Self {
        self.options = bytes;
        self
    }

    /// An extension header behind those that are there.
    pub fn extension(mut self, number: u8, content: &[u8]) -> Self {
        self.extensions.push((number, content.to_vec()));
        self
    }

    pub fn ip(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets()),
            _ => panic!("two families in one packet"),
        }
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if self.fragment != 0 {
            let more = if self.fragment & MORE_FRAGMENTS != 0 { MORE_FRAGMENTS6 } else { 0 };
            let offset = (self.fragment & 0x1fff) << 3 | more;
            let mut content = vec![0];
            content.extend(offset.to_be_bytes());
            content.extend(u32::from(self.id).to_be_bytes());
            extensions.push((FRAGMENT, content));
        }
        let next_of = |i: usize| extensions.get(i).map_or(self.protocol, |(number, _)| *number);
        let mut payload = Vec::new();
        for (i, (_, content)) in extensions.iter().enumerate() {
            payload.push(next_of(i + 1));
            payload.extend(content);
        }
        payload.extend(&self.l4);
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        ip.extend([next_of(0), 64]);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(payload);
        ip
    }

    /// With the pseudo-header of RFC 8200 section 8.1.
    fn l4_checksum(&self) -> u16 {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (self.src, self.dst) else { return 0 };
        let mut bytes = [src.octets(), dst.octets()].concat();
        bytes.extend(u32::try_from(self.l4.len()).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol]);
        bytes.extend(&self.l4);
        checksum(&bytes)
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let header = 20 + self.options;
        let total = u16::try_from(header + self.l4.len()).unwrap();
        let mut ip = vec![0x40 | (header / 4) as u8, 0];
        ip.extend(total.to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol, 0, 0]);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(std::iter::repeat_n(1, self.options));
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip.extend(&self.l4);
        ip
    }

    pub fn frame(&self) -> Vec<u8> {
        ethernet(if self.src.is_ipv6() { 0x86dd } else { 0x0800 }, &self.ip())
    }
}

pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// What a VTEP sends: the VXLAN header of RFC 7348, and a frame.
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    payload
}

/// An outer packet as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Over IPv6 always, as nobody on the way may fragment.
    pub dont_fragment: bool,
    pub ttl: u8,
    pub sport: u16,
    pub udp_checksum: u16,
    pub vni: u32,
    pub inner: Vec<u8>,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// None when it is no UDP to that port.
pub fn parse_outer(frame: &[u8], vxlan_port: u16) -> Option<Outer> {
    let ip = frame.get(ETHERNET..)?;
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
    let (protocol, src, dst, header, dont_fragment, ttl) = match half(frame, 12)? {
        0x0800 => {
            let header = usize::from(ip[0] & 0xf) * 4;
            (*ip.get(9)?, v4(12)?, v4(16)?, header, half(ip, 6)? & 0x4000 != 0, ip[8])
        }
        0x86dd => (*ip.get(6)?, v6(8)?, v6(24)?, 40, true, ip[7]),
        _ => return None,
    };
    let udp = ip.get(header..)?;
    if protocol != UDP || half(udp, 2)? != vxlan_port {
        return None;
    }
    let payload = udp.get(8..half(udp, 4)?.into())?;
    let vni = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?) >> 8;
    Some(Outer {
        src,
        dst,
        dont_fragment,
        ttl,
        sport: half(udp, 0)?,
        udp_checksum: half(udp, 6)?,
        vni,
        inner: payload.get(8..)?.to_vec(),
    })
}
