use super::*;
use crate::{
    datapath::{DatapathConfig, classify},
    nat::{VtepNumbers, policy_table::PolicyEntry},
    verdict::Side,
    wire::{Any, MacAddress},
};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use std::collections::HashMap;

const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
const POD: [u8; 4] = [10, 244, 1, 10];
const EGRESS_IP: [u8; 4] = [203, 0, 113, 16];
const REMOTE: [u8; 4] = [198, 51, 100, 10];
const VTEP: [u8; 4] = [192, 0, 2, 10];

fn config(vlans: [u16; 2]) -> DatapathConfig {
    let port = |address: &str, vlan| PortConfig {
        mac: MacAddress(GATEWAY),
        addresses: vec![address.parse().unwrap()],
        gateways: vec![],
        mtu: 1500,
        vlan,
    };
    let ports = (port("192.0.2.10/24", vlans[0]), port("203.0.113.2/24", vlans[1]));
    DatapathConfig::new(ports.0, ports.1, 4790, 1000).unwrap()
}

fn policies() -> PolicyTable {
    let policy = PolicyEntry::new("p", &[EGRESS_IP.into()], &[]);
    let policies = HashMap::from([(4711, policy)]);
    PolicyTable::new(1, policies, HashMap::new(), vec![], VtepNumbers::default())
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Echo,
}

fn packet(kind: Kind, (source, destination): ([u8; 4], [u8; 4])) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(OTHER, GATEWAY).ipv4(source, destination, 64);
    let (mut frame, payload) = (Vec::new(), [7; 20]);
    match (kind, source == POD) {
        (Kind::Tcp, _) => ip.tcp(40_000, 443, 1, 1000).ack(2).write(&mut frame, &payload),
        (Kind::Udp, _) => ip.udp(40_000, 443).write(&mut frame, &payload),
        (Kind::Echo, true) => ip.icmpv4_echo_request(9, 1).write(&mut frame, &payload),
        (Kind::Echo, false) => ip.icmpv4_echo_reply(9, 1).write(&mut frame, &payload),
    }
    .unwrap();
    frame
}

/// As it arrives at that port.
fn frame(side: Side, kind: Kind) -> Vec<u8> {
    if side == Side::External {
        return packet(kind, (REMOTE, EGRESS_IP));
    }
    let inner = packet(kind, (POD, REMOTE));
    let vxlan = [[8, 0, 0, 0], (4711u32 << 8).to_be_bytes()].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(OTHER, GATEWAY)
        .ipv4([192, 0, 2, 1], VTEP, 64)
        .udp(50_000, 4790)
        .write(&mut frame, &[vxlan, inner].concat())
        .unwrap();
    frame[UDP + 6..UDP + 8].fill(0);
    frame
}

/// Whether the frame is usual; then the other reader must find the same in it.
fn is_usual(side: Side, frame: &[u8], config: &DatapathConfig) -> bool {
    let (policies, mut copy) = (policies(), frame.to_vec());
    let usual = config.usual_frames();
    let (found, expected) = match side {
        Side::Tunnel => (
            usual.from_tunnel(frame).map(|packet| format!("{packet:?}")),
            match classify::from_tunnel(&mut copy, config, &policies) {
                Ok(Any::V4(packet)) => Some(format!("{packet:?}")),
                Ok(Any::V6(_)) | Err(_) => None,
            },
        ),
        Side::External => (
            usual.from_external(frame, &policies).map(|packet| format!("{packet:?}")),
            match classify::from_external(&copy, config, &policies) {
                Ok(Any::V4(packet)) => Some(format!("{packet:?}")),
                Ok(Any::V6(_)) | Err(_) => None,
            },
        ),
    };
    if found.is_some() {
        assert_eq!(found, expected);
        assert_eq!(copy, frame, "what has to be changed is not usual");
    }
    found.is_some()
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Udp, Kind::Echo];

#[test]
fn what_every_flow_sends_is_usual_and_no_tagged_port_gets_any() {
    for (side, kind) in Side::ALL.into_iter().flat_map(|side| KINDS.map(|kind| (side, kind))) {
        let frame = frame(side, kind);
        assert!(is_usual(side, &frame, &config([0, 0])), "{side} {kind:?}");
        assert!(!is_usual(side, &frame, &config([7, 7])), "{side} {kind:?}");
    }
}

/// Bit by bit: the pattern is neither wider nor narrower than what it stands for.
#[test]
fn a_changed_bit_of_the_headers_is_unusual_where_it_matters() {
    // Octets of no consequence: MACs of senders, TTLs' neighbours and lengths are told by checksums.
    let free = |side: Side| -> Vec<usize> {
        let (source, tunnel) = (6..12, side == Side::Tunnel);
        // Source of the outer UDP, reserved fields of VXLAN and the VNI itself, the inner MACs.
        let more = [UDP..UDP + 2, VXLAN + 1..VXLAN + 8, VXLAN + 8..VXLAN + 20];
        source.chain(more.into_iter().flatten().filter(|_| tunnel)).collect()
    };
    let config = config([0, 0]);
    for side in Side::ALL {
        let (l4, original) = match side {
            Side::Tunnel => (TUNNELLED_L4, frame(side, Kind::Udp)),
            Side::External => (PLAIN_L4, frame(side, Kind::Udp)),
        };
        let free = free(side);
        for (at, bit) in (0..l4).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut frame = original.clone();
            frame[at] ^= 1 << bit;
            let flags = side == Side::Tunnel && at == VXLAN && bit != 3;
            let expected = free.contains(&at) || flags;
            assert_eq!(is_usual(side, &frame, &config), expected, "{side} octet {at} bit {bit}");
        }
    }
}

proptest! {
    /// Damage whose checksums are right again, and frames that end anywhere.
    #[test]
    fn both_readers_find_the_same(
        (side, kind) in (prop::sample::select(&Side::ALL[..]), prop::sample::select(&KINDS[..])),
        damage in proptest::collection::vec((0usize..110, any::<u8>()), 0..4),
        len in prop_oneof![Just(usize::MAX), 0usize..140],
    ) {
        let mut frame = frame(side, kind);
        for (at, octet) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = octet;
            }
        }
        for l3 in [ETHERNET_LEN, INNER] {
            if side == Side::External && l3 == INNER {
                continue;
            }
            frame[l3 + 10..l3 + 12].fill(0);
            let sum = crate::wire::checksum::of(&frame[l3..l3 + IPV4_LEN]);
            frame[l3 + 10..l3 + 12].copy_from_slice(sum.as_bytes());
        }
        frame.truncate(len);
        is_usual(side, &frame, &config([0, 0]));
    }
}
