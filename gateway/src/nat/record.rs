//! The session record: the one form in which a session leaves its worker.
//!
//! The API shows it as JSON. As bytes it is versioned and only ever added to: a reader takes the
//! fields that it knows and skips the rest by the record's own length, so that a log, a snapshot or
//! another gateway may be older or newer than the writer.
//!
//! Version 1, 128 bytes, integers in network byte order:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version: 1 |
//! | 2 | 2 | length of the record in bytes |
//! | 4 | 1 | address family: 4 or 6 |
//! | 5 | 1 | protocol, as in the IP header: 6, 17, 1 (ICMP) or 58 (ICMPv6) |
//! | 6 | 1 | state ([`SessionState`]'s number) |
//! | 7 | 1 | 0 |
//! | 8 | 4 | policy id |
//! | 12 | 2 | tenant |
//! | 14 | 2 | 0 |
//! | 16 | 4 × 16 | addresses: internal, external, remote, node's tunnel address; IPv4 as ::ffff:a.b.c.d |
//! | 80 | 3 × 2 | l4_ports (ICMP: query id): internal, external, remote |
//! | 86 | 2 | 0 |
//! | 88 | 4 | age in seconds |
//! | 92 | 4 | seconds since the last packet |
//! | 96 | 4 × 8 | packets and bytes in2out, packets and bytes out2in |

use super::{
    flow::{Endpoint, Protocol},
    session::SessionState,
};
use std::net::{IpAddr, Ipv6Addr};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
    /// As the IP headers say.
    pub bytes: u64,
}

/// A session of either family at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub tenant: u16,
    pub policy: u32,
    pub protocol: Protocol,
    pub state: SessionState,
    pub internal: Endpoint<IpAddr>,
    pub external: Endpoint<IpAddr>,
    pub remote: Endpoint<IpAddr>,
    /// The tunnel address of the pod's node.
    pub vtep: IpAddr,
    pub age_seconds: u32,
    pub idle_seconds: u32,
    pub in2out: Traffic,
    pub out2in: Traffic,
}

/// Why bytes are not a session record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a session record of {needed} bytes, and only {there} are there")]
    Truncated { needed: usize, there: usize },
    #[error("a session record says that it has {0} bytes, fewer than its first version")]
    TooShort(u16),
    #[error("session record version 0 does not exist")]
    Version,
    #[error("a session record's {field} is {value}, which is unknown")]
    Unknown { field: &'static str, value: u8 },
}

/// The layout in the table above.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Version1 {
    version: U16,
    length: U16,
    family: u8,
    protocol: u8,
    state: u8,
    zero: u8,
    policy: U32,
    tenant: U16,
    zero2: U16,
    addresses: [[u8; 16]; 4],
    l4_ports: [U16; 3],
    zero3: U16,
    age: U32,
    idle: U32,
    in2out: [U64; 2],
    out2in: [U64; 2],
}

impl SessionRecord {
    /// Bytes that [`SessionRecord::encode`] writes.
    pub const LEN: usize = size_of::<Version1>();
    const VERSION: u16 = 1;

    pub fn encode(&self) -> [u8; Self::LEN] {
        let is_v4 = self.internal.address.is_ipv4();
        let bytes = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let traffic = |t: Traffic| [U64::new(t.packets), U64::new(t.bytes)];
        let ends = [self.internal, self.external, self.remote];
        let [internal, external, remote] = ends.map(|end| bytes(end.address));
        zerocopy::transmute!(Version1 {
            version: U16::new(Self::VERSION),
            length: U16::new(Self::LEN as u16),
            family: if is_v4 { 4 } else { 6 },
            protocol: match self.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
                Protocol::Icmp if is_v4 => 1,
                Protocol::Icmp => 58,
            },
            state: self.state as u8,
            zero: 0,
            policy: U32::new(self.policy),
            tenant: U16::new(self.tenant),
            zero2: U16::ZERO,
            addresses: [internal, external, remote, bytes(self.vtep)],
            l4_ports: ends.map(|end| U16::new(end.l4_port)),
            zero3: U16::ZERO,
            age: U32::new(self.age_seconds),
            idle: U32::new(self.idle_seconds),
            in2out: traffic(self.in2out),
            out2in: traffic(self.out2in),
        })
    }

    /// The record at the front of `bytes`, and what follows it.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        let there = bytes.len();
        let truncated = |needed| RecordError::Truncated { needed, there };
        let (record, _) = Version1::ref_from_prefix(bytes).map_err(|_| truncated(Self::LEN))?;
        let length = record.length.get();
        if record.version.get() == 0 {
            return Err(RecordError::Version);
        }
        if usize::from(length) < Self::LEN {
            return Err(RecordError::TooShort(length));
        }
        let rest = bytes.get(length.into()..).ok_or(truncated(length.into()))?;
        let unknown = |field, value| RecordError::Unknown { field, value };
        let protocol = match record.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            1 | 58 => Protocol::Icmp,
            other => return Err(unknown("protocol", other)),
        };
        let state = SessionState::ALL.get(usize::from(record.state));
        let address = |bytes: [u8; 16]| match record.family {
            4 => Ipv6Addr::from(bytes).to_canonical(),
            _ => Ipv6Addr::from(bytes).into(),
        };
        if !matches!(record.family, 4 | 6) {
            return Err(unknown("family", record.family));
        }
        let end = |i: usize| Endpoint::new(address(record.addresses[i]), record.l4_ports[i].get());
        let traffic = |t: [U64; 2]| Traffic { packets: t[0].get(), bytes: t[1].get() };
        let decoded = SessionRecord {
            tenant: record.tenant.get(),
            policy: record.policy.get(),
            protocol,
            state: *state.ok_or(unknown("state", record.state))?,
            internal: end(0),
            external: end(1),
            remote: end(2),
            // The tunnel's family is its own.
            vtep: Ipv6Addr::from(record.addresses[3]).to_canonical(),
            age_seconds: record.age.get(),
            idle_seconds: record.idle.get(),
            in2out: traffic(record.in2out),
            out2in: traffic(record.out2in),
        };
        Ok((decoded, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> SessionRecord {
        let v4 = |a: [u8; 4], l4_port| Endpoint::new(IpAddr::from(a), l4_port);
        SessionRecord {
            tenant: 0x0102,
            policy: 4711,
            protocol: Protocol::Tcp,
            state: SessionState::TcpEstablished,
            internal: v4([10, 244, 1, 10], 40_000),
            external: v4([203, 0, 113, 16], 1024),
            remote: v4([198, 51, 100, 10], 443),
            vtep: [192, 0, 2, 1].into(),
            age_seconds: 100,
            idle_seconds: 3,
            in2out: Traffic { packets: 5, bytes: 500 },
            out2in: Traffic { packets: 4, bytes: 1 << 40 },
        }
    }

    /// The bytes of version 1, written down by hand from the table above: they never change.
    #[test]
    fn version_1_is_carved_in_stone() {
        let mut bytes = vec![0, 1, 0, 128, 4, 6, 2, 0, 0, 0, 0x12, 0x67, 1, 2, 0, 0];
        for address in [[10, 244, 1, 10], [203, 0, 113, 16], [198, 51, 100, 10], [192, 0, 2, 1]] {
            bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            bytes.extend(address);
        }
        bytes.extend([0x9c, 0x40, 0x04, 0x00, 0x01, 0xbb, 0, 0]);
        bytes.extend([0, 0, 0, 100, 0, 0, 0, 3]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0x01, 0xf4]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(example().encode().as_slice(), bytes);
        assert_eq!(SessionRecord::decode(&bytes), Ok((example(), &[][..])));
    }

    #[test]
    fn a_later_version_with_more_fields_is_read_as_far_as_it_is_known() {
        let mut bytes = example().encode().to_vec();
        bytes[1] = 9;
        bytes[3] = 128 + 12;
        bytes.extend([0xaa; 12]);
        bytes.extend(example().encode());
        let (first, rest) = SessionRecord::decode(&bytes).unwrap();
        assert_eq!((first, rest), (example(), &example().encode()[..]));
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason() {
        let good = example().encode();
        let with = |at: usize, value| {
            let mut bytes = good;
            bytes[at] = value;
            SessionRecord::decode(&bytes).unwrap_err()
        };
        let unknown = |field, value| RecordError::Unknown { field, value };
        assert_eq!(with(1, 0), RecordError::Version);
        assert_eq!(with(3, 127), RecordError::TooShort(127));
        assert_eq!(with(3, 129), RecordError::Truncated { needed: 129, there: 128 });
        assert_eq!(with(4, 5), unknown("family", 5));
        assert_eq!(with(5, 2), unknown("protocol", 2));
        assert_eq!(with(6, 11), unknown("state", 11));
        for len in 0..good.len() {
            let error = SessionRecord::decode(&good[..len]).unwrap_err();
            assert_eq!(error, RecordError::Truncated { needed: 128, there: len });
        }
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            v6: bool,
            addresses: [u128; 4],
            l4_ports: [u16; 3],
            numbers: (u16, u32, u32, u32),
            protocol in prop::sample::select(&Protocol::ALL[..]),
            state in prop::sample::select(&SessionState::ALL[..]),
            counts: [u64; 4],
        ) {
            let address = |bits: u128| match v6 {
                true => IpAddr::from(bits.to_be_bytes()),
                false => IpAddr::from((bits as u32).to_be_bytes()),
            };
            let end = |i: usize| Endpoint::new(address(addresses[i]), l4_ports[i]);
            let record = SessionRecord {
                tenant: numbers.0,
                policy: numbers.1,
                protocol,
                state,
                internal: end(0),
                external: end(1),
                remote: end(2),
                vtep: address(addresses[3] | 1 << 127),
                age_seconds: numbers.2,
                idle_seconds: numbers.3,
                in2out: Traffic { packets: counts[0], bytes: counts[1] },
                out2in: Traffic { packets: counts[2], bytes: counts[3] },
            };
            let bytes = record.encode();
            prop_assert_eq!(SessionRecord::decode(&bytes), Ok((record, &[][..])));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((record, _)) = SessionRecord::decode(&bytes) {
                prop_assert!(SessionRecord::decode(&record.encode()).is_ok());
            }
        }
    }
}
