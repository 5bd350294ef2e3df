//! Frames, byte by byte. IPv4 headers have their checksum, L4 headers none: UDP may, and nobody reads the others'.

use std::net::Ipv4Addr;

pub const ETHERNET: usize = 14;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const SCTP: u8 = 132;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

pub const MORE_FRAGMENTS: u16 = 0x2000;

#[derive(Debug, Clone)]
pub struct Packet {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub protocol: u8,
    pub id: u16,
    /// Flags and offset, as in the header.
    pub fragment: u16,
    pub options: usize,
    pub l4: Vec<u8>,
}

pub fn packet(src: &str, dst: &str, protocol: u8, l4: Vec<u8>) -> Packet {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    Packet { src, dst, protocol, id: 1, fragment: 0, options: 0, l4 }
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
    packet(src, dst, UDP, l4)
}

pub fn sctp(src: &str, dst: &str, sport: u16, dport: u16) -> Packet {
    let mut l4 = ports(sport, dport);
    l4.extend([0; 8]);
    packet(src, dst, SCTP, l4)
}

pub fn icmp(src: &str, dst: &str, icmp_type: u8, id: u16) -> Packet {
    let mut l4 = vec![icmp_type, 0, 0, 0];
    l4.extend(id.to_be_bytes());
    l4.extend([0, 1]);
    packet(src, dst, ICMP, l4)
}

/// An ICMP error that quotes the header of `quoted` and eight bytes more.
pub fn icmp_error(src: &str, dst: &str, icmp_type: u8, quoted: &Packet) -> Packet {
    let mut l4 = vec![icmp_type, 3, 0, 0, 0, 0, 0, 0];
    let header = 20 + quoted.options;
    l4.extend(&quoted.ip()[..header + 8]);
    packet(src, dst, ICMP, l4)
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

    pub fn ip(&self) -> Vec<u8> {
        let header = 20 + self.options;
        let total = u16::try_from(header + self.l4.len()).unwrap();
        let mut ip = vec![0x40 | (header / 4) as u8, 0];
        ip.extend(total.to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol, 0, 0]);
        ip.extend(self.src.octets());
        ip.extend(self.dst.octets());
        ip.extend(std::iter::repeat_n(1, self.options));
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip.extend(&self.l4);
        ip
    }

    pub fn frame(&self) -> Vec<u8> {
        ethernet(0x0800, &self.ip())
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
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub sport: u16,
    pub udp_checksum: u16,
    pub vni: u32,
    pub inner: Vec<u8>,
}

/// None when it is no UDP to that port.
pub fn parse_outer(frame: &[u8], vxlan_port: u16) -> Option<Outer> {
    let half =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let ip = frame.get(ETHERNET..)?;
    if half(frame, 12)? != 0x0800 || *ip.get(9)? != UDP {
        return None;
    }
    let udp = ip.get(usize::from(ip[0] & 0xf) * 4..)?;
    if half(udp, 2)? != vxlan_port {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let payload = udp.get(8..half(udp, 4)?.into())?;
    let vni = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?) >> 8;
    Some(Outer {
        src: address(12)?,
        dst: address(16)?,
        dont_fragment: half(ip, 6)? & 0x4000 != 0,
        ttl: ip[8],
        sport: half(udp, 0)?,
        udp_checksum: half(udp, 6)?,
        vni,
        inner: payload.get(8..)?.to_vec(),
    })
}
