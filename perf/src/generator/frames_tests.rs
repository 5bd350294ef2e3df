//! Frames judged by etherparse.

use super::*;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x10]);

struct Seen {
    macs: [[u8; 6]; 2],
    addresses: [Ipv4Addr; 2],
    l4_ports: [u16; 2],
    checksum: u16,
    payload: Vec<u8>,
}

/// The outermost UDP packet: its header checksums are right, its lengths those of the frame.
fn parse(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4") };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("not UDP") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(usize::from(header.total_len), frame.len() - 14);
    assert_eq!((header.time_to_live, header.dont_fragment), (64, true));
    if udp.checksum() != 0 {
        let payload = udp.payload();
        let udp = udp.to_header();
        assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&header, payload).unwrap());
    }
    Seen {
        macs: [frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap()],
        addresses: [header.source.into(), header.destination.into()],
        l4_ports: [udp.source_port(), udp.destination_port()],
        checksum: udp.checksum(),
        payload: udp.payload().to_vec(),
    }
}

fn marks() -> impl Iterator<Item = Mark> {
    [0, 1, 63, 64, 4711, 999_999, 10_000_000, 999_999_999].into_iter().map(|flow| Mark {
        window: flow as u16 ^ 0x5555,
        flow,
        stamp: u64::from(flow).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    })
}

fn both() -> impl Iterator<Item = (usize, Checksums)> {
    (0..3).flat_map(|size| [(size, Checksums::Valid), (size, Checksums::Zero)])
}

#[test]
fn frames_of_pods_are_vxlan_from_their_node_with_their_packet_inside() {
    for (size, checksums) in both() {
        for (nodes, mark) in [1, 3, 64].into_iter().flat_map(|n| marks().map(move |m| (n, m))) {
            let frames = In2outFrames::new(MAC, nodes, checksums);
            let mut frame = vec![0xee; frames.len(size)];
            frames.write(&mut frame, size, mark);
            assert_eq!(frame.len(), [110, 616, 1514][size]);
            let flow = Flow::number(mark.flow);
            let outer = parse(&frame);
            assert_eq!(outer.macs, [MAC.0, node_mac(flow.node(nodes)).0]);
            assert_eq!(outer.addresses, [flow.node(nodes), plan::TUNNEL]);
            assert!(outer.l4_ports[0] >= 0xc000);
            assert_eq!((outer.l4_ports[1], outer.checksum), (4790, 0));
            let vxlan = &outer.payload[..8];
            assert_eq!((vxlan[0], &vxlan[4..7]), (8, &4711u32.to_be_bytes()[1..]));
            let inner = parse(&outer.payload[8..]);
            assert_eq!(inner.addresses, [flow.pod, flow.remote]);
            assert_eq!(inner.l4_ports, [flow.l4_port, 443]);
            assert_eq!(inner.checksum != 0, checksums == Checksums::Valid);
            assert_eq!(Mark::read(&frame, TUNNELLED_L3), Some(mark));
        }
    }
}

#[test]
fn answers_come_from_the_remote_endpoint_to_the_translated_one() {
    for (size, checksums) in both() {
        let frames = Out2inFrames::new(MAC, checksums);
        for mark in marks() {
            let to = Destination { address: 0xcb00_7110 + mark.flow % 16, l4_port: 1024 };
            let mut frame = vec![0xee; frames.len(size)];
            frames.write(&mut frame, size, to, mark);
            assert_eq!(frame.len(), [60, 566, 1464][size]);
            let seen = parse(&frame);
            assert_eq!(seen.macs, [MAC.0, ROUTER_MAC.0]);
            let remote = Flow::number(mark.flow).remote;
            assert_eq!(seen.addresses, [remote, Ipv4Addr::from_bits(to.address)]);
            assert_eq!(seen.l4_ports, [443, 1024]);
            assert_eq!(seen.checksum != 0, checksums == Checksums::Valid);
            assert_eq!(Mark::read(&frame, PLAIN_L3), Some(mark));
        }
    }
}

/// Some sum of all words is 0: there is one stamp of 65,535 for which it is.
#[test]
fn a_checksum_is_never_sent_as_the_zero_that_means_none() {
    let frames = Out2inFrames::new(MAC, Checksums::Valid);
    let mut frame = vec![0; frames.len(0)];
    let mut all_ones = 0;
    for stamp in 0..=0xffff {
        let mark = Mark { window: 1, flow: 1, stamp };
        frames.write(&mut frame, 0, Destination { address: 0xcb00_7110, l4_port: 1024 }, mark);
        assert_ne!(frame[40..42], [0, 0]);
        all_ones += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert!(all_ones > 0);
}

#[test]
fn flows_of_one_node_have_many_outer_l4_ports() {
    let l4_ports: std::collections::BTreeSet<_> = (0..1000).map(outer_l4_port).collect();
    assert!(l4_ports.len() > 900, "{}", l4_ports.len());
}

#[test]
fn remainders_are_what_division_says() {
    for by in (1..=64).chain([100, 12_345, u32::MAX]) {
        let remainder = Remainder::by(by);
        for number in (0..200).chain([0x0a00_0001, 0x0aff_ffff, u32::MAX - 1, u32::MAX]) {
            assert_eq!(remainder.of(number), number % by, "{number} by {by}");
        }
    }
}
