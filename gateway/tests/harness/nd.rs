//! Neighbor Discovery frames (RFC 4861), built and read byte by byte; their checksums are etherparse's.

use super::*;
use etherparse::Icmpv6Type;

pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;
// Flags of an advertisement.
pub const SOLICITED: u8 = 0x40;
pub const OVERRIDE: u8 = 0x20;
// Options.
pub const SOURCE_LINK: u8 = 1;
pub const TARGET_LINK: u8 = 2;

pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A Neighbor Solicitation or Advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nd {
    pub kind: u8,
    pub code: u8,
    pub hop_limit: u8,
    pub flags: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub target: Ipv6Addr,
    pub options: Vec<u8>,
}

/// RFC 4291 section 2.7.1.
pub fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// RFC 2464 section 7.
pub fn mac_of(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// RFC 4291 appendix A.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

pub fn link_option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    let mut option = vec![kind, 1];
    option.extend(mac);
    option
}

impl Nd {
    /// The question of `asker` who has `target`, to the target's group.
    pub fn question((asker, mac): (Ipv6Addr, [u8; 6]), target: Ipv6Addr) -> Nd {
        Nd {
            kind: SOLICITATION,
            code: 0,
            hop_limit: 255,
            flags: 0,
            source: asker,
            destination: group_of(target),
            target,
            options: link_option(SOURCE_LINK, mac),
        }
    }

    /// The question of a host that is about to take `target` (RFC 4862 section 5.4.2).
    pub fn probe(target: Ipv6Addr) -> Nd {
        let asker = (Ipv6Addr::UNSPECIFIED, [0; 6]);
        Nd { options: vec![], ..Self::question(asker, target) }
    }

    /// `target` says to `to` what its MAC is.
    pub fn advertisement((target, mac): (Ipv6Addr, [u8; 6]), to: Ipv6Addr, flags: u8) -> Nd {
        Nd {
            kind: ADVERTISEMENT,
            code: 0,
            hop_limit: 255,
            flags,
            source: target,
            destination: to,
            target,
            options: link_option(TARGET_LINK, mac),
        }
    }

    pub fn packet(&self) -> Vec<u8> {
        let mut rest = self.target.octets().to_vec();
        rest.extend(&self.options);
        let kind = Icmpv6Type::Unknown {
            type_u8: self.kind,
            code_u8: self.code,
            bytes5to8: [self.flags, 0, 0, 0],
        };
        let (from, to) = (self.source.octets(), self.destination.octets());
        let header = kind.to_header(from, to, &rest).unwrap();
        let mut message = header.to_bytes().to_vec();
        message.extend(rest);
        ipv6_with(self.source, self.destination, 58, &message, |ip| {
            ip.hop_limit = self.hop_limit;
            ip.flow_label = Default::default();
        })
    }

    /// As `from` sends it: to a group's MAC, or to `to`.
    pub fn frame(&self, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let to = if self.destination.is_multicast() { mac_of(self.destination) } else { to };
        ethernet(to, from, 0x86dd, &self.packet())
    }
}

/// What the worker said by Neighbor Discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NdSeen {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    pub nd: Nd,
}

impl std::ops::Deref for NdSeen {
    type Target = Nd;

    fn deref(&self) -> &Nd {
        &self.nd
    }
}

impl NdSeen {
    /// `None` for any other frame.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (0x86dd, at) = ethertype(frame)? else { return None };
        let (ip, message) = frame.get(at..)?.split_at_checked(40)?;
        if ip[6] != 58 || !matches!(message.first()?, 135 | 136) {
            return None;
        }
        let address = |bytes: &[u8]| Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap());
        let nd = Nd {
            kind: message[0],
            code: message[1],
            hop_limit: ip[7],
            flags: message[4],
            source: address(&ip[8..24]),
            destination: address(&ip[24..40]),
            target: address(&message[8..24]),
            options: message[24..].to_vec(),
        };
        let (to_mac, from_mac) = (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap());
        Some(NdSeen { to_mac, from_mac, nd })
    }

    /// The frame that answers this question: the target has `mac`.
    pub fn answer(&self, mac: [u8; 6]) -> Vec<u8> {
        let flags = SOLICITED | OVERRIDE;
        Nd::advertisement((self.target, mac), self.source, flags).frame(self.from_mac, mac)
    }
}
