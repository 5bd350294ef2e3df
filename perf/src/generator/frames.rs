//! The frames that are sent: written from templates in which only what differs between flows is changed,
//! with checksums to which only that is added.
//!
//! | | in2out | out2in |
//! |---|---|---|
//! | outer Ethernet, IPv4, UDP, VXLAN; inner Ethernet | 0 … 63 | |
//! | Ethernet | | 0 … 13 |
//! | IPv4 | 64 | 14 |
//! | UDP | 84 | 34 |
//! | [`Mark`] | 92 | 42 |
//!
//! All of it is pure: bytes in, bytes out.

use super::{
    mark::{MARK, Mark},
    sum::{fold, word32, words},
};
use crate::{
    job::Checksums,
    plan::{self, Flow},
};
use gateway::wire::MacAddress;
use std::net::Ipv4Addr;

/// What VXLAN puts before the pod's IP packet, with the pod's own Ethernet header.
pub(super) const TUNNEL_HEADERS: usize = 50;
/// The smallest frames, without frame check sequence.
pub(super) const PLAIN: usize = 60;
pub(super) const TUNNELLED: usize = PLAIN + TUNNEL_HEADERS;
/// Where the L3 packet of a flow begins.
pub(super) const PLAIN_L3: usize = 14;
pub(super) const TUNNELLED_L3: usize = PLAIN_L3 + TUNNEL_HEADERS;
/// The Ethernet frame check sequence, which no buffer holds and every length counts.
pub(super) const FCS: u64 = 4;
/// Lengths of L3 packets: those of frames of 64, 570 and 1,468 octets with frame check sequence.
pub(super) const L3_LENGTHS: [usize; 3] = [46, 552, 1450];

pub(super) const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 1, 1, 1]);
/// Of the pod, and of what stands for the gateway inside the tunnel: nobody looks at them.
const INNER_MACS: [MacAddress; 2] =
    [MacAddress([2, 0, 0, 0, 7, 7]), MacAddress([2, 0, 0, 0, 7, 8])];

/// Of the node with this VTEP: its last octet is the VTEP's.
pub(super) fn node_mac(vtep: Ipv4Addr) -> MacAddress {
    MacAddress([2, 0, 0, 1, 0, vtep.octets()[3]])
}

/// Frames of one length and direction. `HEAD` octets hold all that differs between flows.
#[derive(Debug)]
struct Template<const HEAD: usize> {
    frame: Vec<u8>,
    head: [u8; HEAD],
    /// Sums of what does not differ: of the IPv4 header, and of UDP with its pseudo header.
    ip: u64,
    udp: Option<u64>,
}

/// Frames of pods, tunnelled.
#[derive(Debug)]
pub(super) struct In2outFrames {
    sizes: [(Template<TUNNELLED>, u64); 3],
    nodes: Remainder,
}

/// Frames of the world.
#[derive(Debug)]
pub(super) struct Out2inFrames {
    sizes: [Template<PLAIN>; 3],
}

/// Whose answer is to be sent, and where to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: u32,
    pub(super) l4_port: u16,
}

impl<const HEAD: usize> Template<HEAD> {
    /// `before` the L3 packet of that length.
    fn new(before: &[u8], l3: usize, checksums: Checksums) -> Self {
        let mut frame = before.to_vec();
        frame.extend(ipv4(l3));
        // The pseudo header of RFC 768 has protocol and UDP length besides the addresses.
        let udp_len = (l3 - 20) as u16;
        let pseudo = u64::from(17u16.swap_bytes()) + u64::from(udp_len.swap_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(udp_len.to_be_bytes());
        frame.extend([0, 0]);
        let mark = frame.len();
        frame.resize(before.len() + l3, 0);
        // What the packet is filled with: never mistaken for zeros that were left out.
        frame[mark + Mark::LEN..].fill(0x5a);
        let at = before.len();
        let udp = pseudo + words(&frame[at + 20..]);
        let mut head = [0; HEAD];
        head.copy_from_slice(&frame[..HEAD]);
        let udp = (checksums == Checksums::Valid).then_some(udp);
        Template { ip: words(&frame[at..at + 20]), udp, head, frame }
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    /// The octets that stay the same; returns those that differ.
    #[inline(always)]
    fn begin<'a>(&self, frame: &'a mut [u8]) -> Option<&'a mut [u8; HEAD]> {
        if frame.len() > HEAD {
            frame.copy_from_slice(&self.frame);
            frame.first_chunk_mut()
        } else {
            let head = frame.first_chunk_mut::<HEAD>()?;
            *head = self.head;
            Some(head)
        }
    }

    /// Completes the L3 packet at `at`. Addresses and l4_ports as numbers; `to` and `from` the same.
    #[inline(always)]
    fn complete(
        &self,
        head: &mut [u8; HEAD],
        at: usize,
        from: Destination,
        to: Destination,
        mark: Mark,
    ) {
        let (source, target) = (word32(from.address), word32(to.address));
        let addresses = source + target;
        put(head, at + 10, fold(self.ip + addresses).to_le_bytes());
        put(head, at + 12, from.address.to_be_bytes());
        put(head, at + 16, to.address.to_be_bytes());
        put(head, at + 20, from.l4_port.to_be_bytes());
        put(head, at + 22, to.l4_port.to_be_bytes());
        if let Some(udp) = self.udp {
            let l4_ports =
                u64::from(from.l4_port.swap_bytes()) + u64::from(to.l4_port.swap_bytes());
            let sum = fold(udp + addresses + l4_ports + mark.sum());
            // RFC 768: a computed 0 is sent as all ones.
            put(head, at + 26, if sum == 0 { [0xff; 2] } else { sum.to_le_bytes() });
        }
        put(head, at + MARK, mark.bytes());
    }
}

impl In2outFrames {
    /// From `nodes` nodes to the system's tunnel port with that MAC.
    pub(super) fn new(to: MacAddress, nodes: u32, checksums: Checksums) -> Self {
        let sizes = L3_LENGTHS.map(|l3| {
            // The node's last octet, which MAC and address end with, comes with the flow.
            let mut before = [to.0, node_mac(Ipv4Addr::UNSPECIFIED).0].concat();
            before.extend([0x08, 0x00]);
            before.extend(ipv4(20 + 8 + 8 + PLAIN_L3 + l3));
            before[26..30].copy_from_slice(&plan::node(0).octets());
            before[29] = 0;
            before[30..34].copy_from_slice(&plan::TUNNEL.octets());
            let outer = words(&before[14..34]);
            before.extend([0, 0]);
            before.extend(plan::VXLAN_PORT.to_be_bytes());
            before.extend(((8 + 8 + PLAIN_L3 + l3) as u16).to_be_bytes());
            before.extend([0, 0, 0x08, 0, 0, 0]);
            before.extend((plan::POLICY << 8).to_be_bytes());
            before.extend([INNER_MACS[0].0, INNER_MACS[1].0].concat());
            before.extend([0x08, 0x00]);
            (Template::new(&before, l3, checksums), outer)
        });
        In2outFrames { sizes, nodes: Remainder::by(nodes) }
    }

    pub(super) fn len(&self, size: usize) -> usize {
        self.sizes[size].0.len()
    }

    /// Makes `frame`, of [`In2outFrames::len`] octets, one of this flow.
    #[inline(always)]
    pub(super) fn write(&self, frame: &mut [u8], size: usize, mark: Mark) {
        let (template, outer) = &self.sizes[size];
        let Some(head) = template.begin(frame) else { return };
        let flow = Flow::number(mark.flow);
        let pod = flow.pod.to_bits();
        let node = self.nodes.of(pod) as u8 + 1;
        head[11] = node;
        head[29] = node;
        put(head, 24, fold(outer + (u64::from(node) << 8)).to_le_bytes());
        put(head, 34, outer_l4_port(mark.flow).to_be_bytes());
        let from = Destination { address: pod, l4_port: flow.l4_port };
        let to = Destination { address: flow.remote.to_bits(), l4_port: plan::REMOTE_L4_PORT };
        template.complete(head, TUNNELLED_L3, from, to, mark);
    }
}

impl Out2inFrames {
    /// From the router to the system's external port with that MAC.
    pub(super) fn new(to: MacAddress, checksums: Checksums) -> Self {
        let mut before = [to.0, ROUTER_MAC.0].concat();
        before.extend([0x08, 0x00]);
        Out2inFrames { sizes: L3_LENGTHS.map(|l3| Template::new(&before, l3, checksums)) }
    }

    pub(super) fn len(&self, size: usize) -> usize {
        self.sizes[size].len()
    }

    /// Makes `frame`, of [`Out2inFrames::len`] octets, an answer to this flow.
    #[inline(always)]
    pub(super) fn write(&self, frame: &mut [u8], size: usize, to: Destination, mark: Mark) {
        let template = &self.sizes[size];
        let Some(head) = template.begin(frame) else { return };
        let remote = Flow::number(mark.flow).remote.to_bits();
        let from = Destination { address: remote, l4_port: plan::REMOTE_L4_PORT };
        template.complete(head, PLAIN_L3, from, to, mark);
    }
}

/// RFC 7348 section 5: of the dynamic range, by a hash of the flow.
#[inline(always)]
fn outer_l4_port(flow: u32) -> u16 {
    (flow.wrapping_mul(0x9e37_79b1) >> 18) as u16 | 0xc000
}

/// A header without addresses and checksum; UDP, TTL 64, not to be fragmented.
fn ipv4(len: usize) -> [u8; 20] {
    let mut header = [0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    header
}

#[inline(always)]
fn put<const N: usize, const M: usize>(frame: &mut [u8; N], at: usize, bytes: [u8; M]) {
    frame[at..at + M].copy_from_slice(&bytes);
}

/// Remainders by a number that is known once only, without a division (Lemire, Kaser, Kurz 2019).
#[derive(Clone, Copy, Debug)]
pub(super) struct Remainder {
    by: u32,
    inverse: u64,
}

impl Remainder {
    pub(super) fn by(by: u32) -> Self {
        let by = by.max(1);
        Remainder { by, inverse: (u64::MAX / u64::from(by)).wrapping_add(1) }
    }

    #[inline(always)]
    pub(super) fn of(self, number: u32) -> u32 {
        let fraction = self.inverse.wrapping_mul(u64::from(number));
        ((u128::from(fraction) * u128::from(self.by)) >> 64) as u32
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
