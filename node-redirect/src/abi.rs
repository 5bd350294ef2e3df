//! Twins of `bpf/types.h`: what the maps hold, byte for byte.
//!
//! Addresses and l4_ports are big-endian byte arrays, as on the wire; ids, times and counts are integers of the host. The asserts
//! at the end are those of the C side.

// zerocopy's derives make helper types without it.
#![allow(missing_debug_implementations)]

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::prefixes::Key;

pub const VERSION: u32 = 3;
pub const MAX_GATEWAYS: usize = 16;
/// Entries of `steerings`; the first is not used, as number 0 means none.
pub const STEERING_SLOTS: usize = 64;
pub const SHARDS: usize = 256;
pub const MAX_WORKERS: usize = 64;
/// Outer source ports for each worker of a gateway.
pub const PORTS_PER_WORKER: usize = 32;
/// A destination's action: a policy id, or this.
pub const ACTION_EXCLUDE: u32 = 0;
const SET_BITS: u32 = 32;

/// IPv4 as an IPv4-mapped address: `::ffff:a.b.c.d`.
pub type Address = [u8; 16];

pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

pub fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

/// Index of what a policy has for each address family.
pub fn family(ip: IpAddr) -> usize {
    usize::from(ip.is_ipv6())
}

macro_rules! in_maps {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

in_maps! {
    /// `settings[0]`
    pub struct Settings {
        pub abi_version: u32,
        pub generation: u32,
        pub tunnel_ifindex: u32,
    }
}

in_maps! {
    pub struct Endpoint {
        pub set_id: u32,
    }
}

in_maps! {
    pub struct DestinationKey {
        pub prefixlen: u32,
        pub set_id: u32,
        pub daddr: [u8; 4],
    }
}

in_maps! {
    pub struct DestinationKey6 {
        pub prefixlen: u32,
        pub set_id: u32,
        pub daddr: [u8; 16],
    }
}

in_maps! {
    pub struct PrefixKey {
        pub prefixlen: u32,
        pub addr: [u8; 4],
    }
}

in_maps! {
    pub struct PrefixKey6 {
        pub prefixlen: u32,
        pub addr: [u8; 16],
    }
}

in_maps! {
    pub struct Policy {
        pub gateways: [Address; MAX_GATEWAYS],
        /// Bit i: `gateways[i]` is healthy, flows that are on it stay.
        pub usable: u16,
        /// Bit i: `gateways[i]` takes new flows, too. By [`family`] of the pod's address.
        pub accepting: [u16; 2],
        pub gateway_count: u8,
        pub failure_mode: u8,
        /// Of `gateways[i]`: its slot of `steerings`, 0: none.
        pub steering: [u8; MAX_GATEWAYS],
    }
}

/// How a gateway spreads flows over its workers, and with which outer source ports its NIC brings a packet to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Steering {
    pub keys: [u64; 2],
    pub worker_of: [u8; SHARDS],
    /// Upper half of the packet's hash, from which the kernel makes the port.
    pub hashes: [[u16; PORTS_PER_WORKER]; MAX_WORKERS],
}

in_maps! {
    pub struct FlowKey {
        pub pod: Address,
        pub remote: Address,
        pub pod_port: [u8; 2],
        pub remote_port: [u8; 2],
        pub protocol: u8,
        pub pad: [u8; 3],
    }
}

in_maps! {
    pub struct Flow {
        /// Seconds of CLOCK_MONOTONIC.
        pub last_seen: u32,
        pub generation: u32,
        pub policy_id: u32,
        pub gateway: Address,
        pub kind: u8,
        pub flags: u8,
        pub reason: u8,
        /// Of a redirected flow: its gateway's slot of `steerings`, 0: none.
        pub steering: u8,
    }
}

in_maps! {
    pub struct TrafficKey {
        pub pod: Address,
        pub policy_id: u32,
    }
}

in_maps! {
    pub struct Traffic {
        pub packets: u64,
        pub bytes: u64,
    }
}

pub const FAILURE_CLOSED: u8 = 0;
pub const FAILURE_OPEN: u8 = 1;

pub const VTEP_GATEWAY: u32 = 1;
pub const VTEP_NODE: u32 = 2;

pub const FLOW_INBOUND: u8 = 1;
pub const FLOW_REDIRECTED: u8 = 2;
pub const FLOW_PASSED: u8 = 3;
pub const FLOW_REPLIED: u8 = 0x01;
pub const FLOW_CLOSING: u8 = 0x02;

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_ICMPV6: u8 = 58;

impl Key for DestinationKey {
    type Scope = u32;

    fn new(set_id: u32, prefix: IpNet) -> Option<Self> {
        let IpNet::V4(prefix) = prefix else { return None };
        let prefixlen = SET_BITS + u32::from(prefix.prefix_len());
        Some(Self { prefixlen, set_id, daddr: prefix.network().octets() })
    }

    fn scope(&self) -> u32 {
        self.set_id
    }

    fn prefix(&self) -> IpNet {
        prefix4(self.prefixlen.saturating_sub(SET_BITS), self.daddr)
    }
}

impl Key for DestinationKey6 {
    type Scope = u32;

    fn new(set_id: u32, prefix: IpNet) -> Option<Self> {
        let IpNet::V6(prefix) = prefix else { return None };
        let prefixlen = SET_BITS + u32::from(prefix.prefix_len());
        Some(Self { prefixlen, set_id, daddr: prefix.network().octets() })
    }

    fn scope(&self) -> u32 {
        self.set_id
    }

    fn prefix(&self) -> IpNet {
        prefix6(self.prefixlen.saturating_sub(SET_BITS), self.daddr)
    }
}

impl Key for PrefixKey {
    type Scope = ();

    fn new((): (), prefix: IpNet) -> Option<Self> {
        let IpNet::V4(prefix) = prefix else { return None };
        Some(Self { prefixlen: prefix.prefix_len().into(), addr: prefix.network().octets() })
    }

    fn scope(&self) {}

    fn prefix(&self) -> IpNet {
        prefix4(self.prefixlen, self.addr)
    }
}

impl Key for PrefixKey6 {
    type Scope = ();

    fn new((): (), prefix: IpNet) -> Option<Self> {
        let IpNet::V6(prefix) = prefix else { return None };
        Some(Self { prefixlen: prefix.prefix_len().into(), addr: prefix.network().octets() })
    }

    fn scope(&self) {}

    fn prefix(&self) -> IpNet {
        prefix6(self.prefixlen, self.addr)
    }
}

fn prefix4(length: u32, address: [u8; 4]) -> IpNet {
    let length = u8::try_from(length.min(32)).unwrap_or(32);
    Ipv4Net::new_assert(address.into(), length).trunc().into()
}

fn prefix6(length: u32, address: [u8; 16]) -> IpNet {
    let length = u8::try_from(length.min(128)).unwrap_or(128);
    Ipv6Net::new_assert(address.into(), length).trunc().into()
}

impl Policy {
    pub fn gateways(&self) -> impl Iterator<Item = (usize, IpAddr)> {
        let count = usize::from(self.gateway_count).min(MAX_GATEWAYS);
        self.gateways[..count].iter().map(|&gateway| ip(gateway)).enumerate()
    }

    /// The gateway of a new flow. Twin of `choose_gateway` in `bpf/policy.h`.
    pub fn choose_gateway(&self, pod: IpAddr) -> Option<IpAddr> {
        let accepting = self.accepting[family(pod)];
        let mut best: Option<(u32, IpAddr)> = None;
        for (i, gateway) in self.gateways() {
            if self.usable & accepting & (1 << i) == 0 {
                continue;
            }
            let weight = mix_address(mix_address(HRW_SEED, pod), gateway);
            if best.is_none_or(|(highest, _)| weight > highest) {
                best = Some((weight, gateway));
            }
        }
        best.map(|(_, gateway)| gateway)
    }
}

fn mix_address(hash: u32, ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => mix(hash, ip.into()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            [96, 64, 32, 0].iter().fold(hash, |hash, shift| mix(hash, (bits >> shift) as u32))
        }
    }
}

const HRW_SEED: u32 = 0x6567_7700;

fn mix(hash: u32, value: u32) -> u32 {
    let mut hash = hash ^ value;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

const _: () = assert!(size_of::<Address>() == 16);
const _: () = assert!(size_of::<Settings>() == 12);
const _: () = assert!(size_of::<Endpoint>() == 4);
const _: () = assert!(size_of::<DestinationKey>() == 12);
const _: () = assert!(size_of::<DestinationKey6>() == 24);
const _: () = assert!(size_of::<PrefixKey>() == 8);
const _: () = assert!(size_of::<PrefixKey6>() == 20);
const _: () = assert!(size_of::<Policy>() == 280);
const _: () = assert!(size_of::<Steering>() == 4368);
const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<Flow>() == 32);
const _: () = assert!(size_of::<TrafficKey>() == 20);
const _: () = assert!(size_of::<Traffic>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES_H: &str = include_str!("../bpf/types.h");

    fn c_value(name: &str) -> u32 {
        let line = TYPES_H
            .lines()
            .map(|line| line.trim_start_matches("#define ").trim())
            .find(|line| line.split([' ', '=']).next() == Some(name))
            .unwrap_or_else(|| panic!("{name} is not in types.h"));
        let value = line[name.len()..].trim_start_matches([' ', '=']);
        let value = value.split([',', ' ']).next().unwrap();
        match value.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
            None => value.parse().unwrap(),
        }
    }

    #[test]
    fn constants_are_those_of_the_c_side() {
        for (name, value) in [
            ("ABI_VERSION", VERSION),
            ("MAX_GATEWAYS", 16),
            ("STEERING_SLOTS", STEERING_SLOTS as u32),
            ("SHARDS", SHARDS as u32),
            ("MAX_WORKERS", MAX_WORKERS as u32),
            ("PORTS_PER_WORKER", PORTS_PER_WORKER as u32),
            ("ACTION_EXCLUDE", ACTION_EXCLUDE),
            ("SET_BITS", SET_BITS),
            ("FAILURE_CLOSED", FAILURE_CLOSED.into()),
            ("FAILURE_OPEN", FAILURE_OPEN.into()),
            ("VTEP_GATEWAY", VTEP_GATEWAY),
            ("VTEP_NODE", VTEP_NODE),
            ("FLOW_INBOUND", FLOW_INBOUND.into()),
            ("FLOW_REDIRECTED", FLOW_REDIRECTED.into()),
            ("FLOW_PASSED", FLOW_PASSED.into()),
            ("FLOW_REPLIED", FLOW_REPLIED.into()),
            ("FLOW_CLOSING", FLOW_CLOSING.into()),
            ("FAMILY_IPV4", family([0; 4].into()) as u32),
        ] {
            assert_eq!(c_value(name), value, "{name}");
        }
    }

    #[test]
    fn an_address_comes_back_as_it_went_in() {
        for text in ["10.244.1.10", "0.0.0.0", "fd00:244:1::10", "::", "2001:db8::ffff:0:0"] {
            let ip_before: IpAddr = text.parse().unwrap();
            assert_eq!(ip(address(ip_before)), ip_before);
        }
        let mapped: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 244, 1, 10];
        assert_eq!(address([10, 244, 1, 10].into()), mapped);
    }

    #[test]
    fn a_gateway_more_moves_only_the_pods_that_rank_it_first() {
        let policy = |count: u8| {
            let mut policy = Policy {
                usable: !0,
                accepting: [!0; 2],
                gateway_count: count,
                ..Policy::default()
            };
            for i in 0..count {
                policy.gateways[usize::from(i)] = address([192, 0, 2, 10 + i].into());
            }
            policy
        };
        let (three, four) = (policy(3), policy(4));
        let added = IpAddr::from([192, 0, 2, 13]);
        let v4 = |pod: u16| IpAddr::from((0x0af4_0000 + u32::from(pod)).to_be_bytes());
        let v6 = |pod: u16| IpAddr::from([0xfd00, 0x244, 1, 0, 0, 0, 0, pod]);
        for pods in [(0..1000).map(v4).collect::<Vec<_>>(), (0..1000).map(v6).collect()] {
            let mut moved = 0;
            for pod in pods {
                let (before, after) = (three.choose_gateway(pod), four.choose_gateway(pod));
                assert!(before == after || after == Some(added), "{pod}");
                moved += u32::from(before != after);
            }
            assert!((150..350).contains(&moved), "{moved} of 1000 pods moved; a quarter is fair");
        }
    }
}
