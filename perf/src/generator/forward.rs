//! What the router twin does to a packet: pure, bytes in, bytes out.

use super::{
    arp::{self, Arp},
    frames::{PLAIN, PLAIN_L3, Remainder, TUNNEL_HEADERS, TUNNELLED, TUNNELLED_L3},
    sum::{fold, update, word32, words},
};
use crate::plan;
use gateway::{datapath::PacketBuf, verdict::Side, wire::MacAddress};
use std::net::Ipv4Addr;

const NODES: usize = plan::MAX_NODES as usize;
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;

/// Who is where: learned from those who ask for the twin, which itself asks nobody.
#[derive(Debug)]
pub(super) struct Forward {
    /// Of the twin: tunnel, external.
    macs: [MacAddress; 2],
    nodes: [MacAddress; NODES],
    /// Pods are on nodes by the remainder of their address.
    node_of: Remainder,
    router: Option<MacAddress>,
    /// Outer Ethernet to VXLAN header and inner Ethernet header, without what depends on packet and node.
    tunnel: [u8; TUNNEL_HEADERS + PLAIN_L3],
    /// Of the outer IPv4 header.
    sum: u64,
}

impl Forward {
    pub(super) fn new(macs: [MacAddress; 2]) -> Self {
        let mut tunnel = [0; TUNNEL_HEADERS + PLAIN_L3];
        tunnel[6..12].copy_from_slice(&macs[0].0);
        tunnel[12..14].copy_from_slice(&IPV4);
        tunnel[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP]);
        tunnel[26..30].copy_from_slice(&plan::TUNNEL.octets());
        tunnel[36..38].copy_from_slice(&plan::VXLAN_PORT.to_be_bytes());
        tunnel[42] = 8;
        tunnel[46..50].copy_from_slice(&(plan::POLICY << 8).to_be_bytes());
        tunnel[50..62].copy_from_slice(&[2, 0, 0, 0, 7, 7, 2, 0, 0, 0, 7, 8]);
        tunnel[62..64].copy_from_slice(&IPV4);
        let sum = words(&tunnel[14..34]);
        let nodes = [MacAddress([0; 6]); NODES];
        Forward { macs, nodes, node_of: Remainder::by(1), router: None, tunnel, sum }
    }

    /// Makes `packet` what leaves by the other side; false, and no change, where it is not to be forwarded.
    #[inline(always)]
    pub(super) fn forward(&self, side: Side, packet: &mut impl PacketBuf) -> bool {
        match side {
            Side::Tunnel => self.decapsulate(packet).is_some(),
            Side::External => self.encapsulate(packet).is_some(),
        }
    }

    #[inline(always)]
    fn decapsulate(&self, packet: &mut impl PacketBuf) -> Option<()> {
        let router = self.router?;
        let frame = packet.data_mut();
        let len = frame.len();
        let head: &mut [u8; TUNNELLED] = frame.first_chunk_mut()?;
        let to_us = head[..6] == self.macs[0].0 && head[30..34] == plan::TUNNEL.octets();
        let is_vxlan = head[12..14] == IPV4
            && head[14] == 0x45
            && head[23] == UDP
            && head[36..38] == plan::VXLAN_PORT.to_be_bytes();
        if !(to_us && is_vxlan && head[62..64] == IPV4) {
            return None;
        }
        hop(head, TUNNELLED_L3)?;
        head[50..56].copy_from_slice(&router.0);
        head[56..62].copy_from_slice(&self.macs[1].0);
        packet.keep(TUNNEL_HEADERS..len);
        Some(())
    }

    #[inline(always)]
    fn encapsulate(&self, packet: &mut impl PacketBuf) -> Option<()> {
        let frame = packet.data_mut();
        let l3 = frame.len() - PLAIN_L3.min(frame.len());
        let head: &mut [u8; PLAIN] = frame.first_chunk_mut()?;
        let to_us = head[..6] == self.macs[1].0 && head[12..14] == IPV4;
        let pod = u32::from_be_bytes([head[30], head[31], head[32], head[33]]);
        if !to_us || pod >> 24 != plan::PODS.0.to_bits() >> 24 {
            return None;
        }
        let l4_ports = u32::from_be_bytes([head[34], head[35], head[36], head[37]]);
        hop(head, PLAIN_L3)?;
        if !packet.prepend(TUNNEL_HEADERS) {
            return None;
        }
        let number = self.node_of.of(pod);
        let node = plan::node(number).to_bits();
        let head: &mut [u8; TUNNEL_HEADERS + PLAIN_L3] = packet.data_mut().first_chunk_mut()?;
        *head = self.tunnel;
        head[..6].copy_from_slice(&self.nodes[number as usize % NODES].0);
        let ip_len = (l3 + TUNNEL_HEADERS) as u16;
        head[16..18].copy_from_slice(&ip_len.to_be_bytes());
        let sum = fold(self.sum + u64::from(ip_len.swap_bytes()) + word32(node));
        head[24..26].copy_from_slice(&sum.to_le_bytes());
        head[30..34].copy_from_slice(&node.to_be_bytes());
        let hash = (pod ^ l4_ports).wrapping_mul(0x9e37_79b1) >> 18;
        head[34..36].copy_from_slice(&(hash as u16 | 0xc000).to_be_bytes());
        head[38..40].copy_from_slice(&(ip_len - 20).to_be_bytes());
        Some(())
    }

    /// Learns from ARP; returns the answer to a question for us.
    #[cold]
    pub(super) fn listen(&mut self, side: Side, frame: &[u8]) -> Option<arp::ArpFrame> {
        let arp = Arp::read(frame)?;
        let (mac, sender) = arp.sender;
        let first = plan::node(0).to_bits();
        match side {
            Side::Tunnel => {
                // All nodes ask, the highest last: so many there are.
                let number = sender.to_bits().wrapping_sub(first);
                if let Some(known) = self.nodes.get_mut(number as usize) {
                    *known = mac;
                    self.node_of = Remainder::by(number + 1);
                }
            }
            Side::External if sender == plan::ROUTER => self.router = Some(mac),
            Side::External => {}
        }
        let ours: Ipv4Addr = arp::system(side);
        let asked = arp.is_request && arp.target == ours;
        asked.then(|| arp::reply(arp.sender, (self.macs[side.index()], ours)))
    }
}

/// RFC 1812 section 5.3.1: one less to live; `None` where that was the last.
#[inline(always)]
fn hop<const N: usize>(head: &mut [u8; N], l3: usize) -> Option<()> {
    let (ttl, checksum) = (l3 + 8, l3 + 10);
    if head[ttl] <= 1 {
        return None;
    }
    let word = |head: &[u8; N], at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let before = word(head, ttl);
    head[ttl] -= 1;
    let sum = update(word(head, checksum), before, word(head, ttl));
    head[checksum..checksum + 2].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        generator::{
            frames::{Destination, In2outFrames, Out2inFrames},
            judge::{Judge, Judged},
            mark::Mark,
        },
        job::{Checksums, FarSide},
        plan::Flow,
    };
    use etherparse::{NetSlice, SlicedPacket};
    use gateway::datapath::{Burst, PacketIo, memory_io::MemoryIo};

    const NODES: u32 = 5;
    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    fn twin() -> Forward {
        let mut forward = Forward::new(MACS);
        for side in Side::ALL {
            for question in arp::questions(side, NODES) {
                let answer = forward.listen(side, &question).expect("an answer");
                let answer = Arp::read(&answer).expect("ARP");
                assert_eq!(answer.sender, (MACS[side.index()], arp::system(side)));
            }
        }
        forward
    }

    fn mark(flow: u32) -> Mark {
        Mark { window: 1, flow, stamp: 7 }
    }

    fn in2out(flow: u32, size: usize) -> Vec<u8> {
        let frames = In2outFrames::new(MACS[0], NODES, Checksums::Valid);
        let mut frame = vec![0; frames.len(size)];
        frames.write(&mut frame, size, mark(flow));
        frame
    }

    fn out2in(number: u32, size: usize) -> Vec<u8> {
        let frames = Out2inFrames::new(MACS[1], Checksums::Valid);
        let mut frame = vec![0; frames.len(size)];
        let flow = Flow::number(number);
        let to = Destination { address: flow.pod.to_bits(), l4_port: flow.l4_port };
        frames.write(&mut frame, size, to, mark(number));
        frame
    }

    fn forwarded(side: Side, frame: &[u8]) -> Option<Vec<u8>> {
        let (mut io, mut burst) = (MemoryIo::default(), Burst::new());
        io.receive(side, frame);
        io.rx(side, &mut burst);
        let mut packet = burst.pop().unwrap();
        twin().forward(side, &mut packet).then(|| packet.data().to_vec())
    }

    /// The outermost IPv4 header is right; returns its TTL.
    fn ttl(frame: &[u8]) -> u8 {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), frame.len() - PLAIN_L3);
        header.time_to_live
    }

    #[test]
    fn what_the_generator_sends_comes_as_it_should_from_a_router() {
        for (flow, size) in [(0, 0), (1, 1), (12_345, 2), (999_999, 0)] {
            let out = forwarded(Side::Tunnel, &in2out(flow, size)).unwrap();
            let judged = Judge::new(Side::External, FarSide::Router, NODES).judge(&out);
            assert!(matches!(judged, Judged::Right(read, _) if read == mark(flow)), "{judged:?}");
            assert_eq!(out[..12], [super::super::frames::ROUTER_MAC.0, MACS[1].0].concat());
            assert_eq!(ttl(&out), 63);
            let back = forwarded(Side::External, &out2in(flow, size)).unwrap();
            let judged = Judge::new(Side::Tunnel, FarSide::Router, NODES).judge(&back);
            assert!(matches!(judged, Judged::Right(read, _) if read == mark(flow)), "{judged:?}");
            assert_eq!((ttl(&back), ttl(&back[TUNNEL_HEADERS..])), (64, 63));
        }
    }

    #[test]
    fn other_frames_are_not_forwarded() {
        let (tunnelled, plain) = (in2out(1, 0), out2in(1, 0));
        for (side, frame, octet, value) in [
            (Side::Tunnel, &tunnelled, 0, 4),
            (Side::Tunnel, &tunnelled, 12, 9),
            (Side::Tunnel, &tunnelled, 23, 6),
            (Side::Tunnel, &tunnelled, 33, 7),
            (Side::Tunnel, &tunnelled, 37, 7),
            (Side::Tunnel, &tunnelled, 62, 0x86),
            (Side::Tunnel, &tunnelled, 72, 1),
            (Side::External, &plain, 0, 4),
            (Side::External, &plain, 12, 0x86),
            (Side::External, &plain, 22, 1),
            (Side::External, &plain, 30, 11),
        ] {
            assert!(forwarded(side, frame).is_some());
            let mut other = frame.clone();
            other[octet] = value;
            assert_eq!(forwarded(side, &other), None, "{side}, octet {octet}");
            assert_eq!(forwarded(side, &frame[..40]), None);
        }
    }
}
