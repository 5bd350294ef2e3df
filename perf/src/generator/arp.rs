//! ARP for those whom the generator plays: the nodes and the router.

use super::frames::{ROUTER_MAC, node_mac};
use crate::plan;
use gateway::{verdict::Side, wire::MacAddress};
use std::net::Ipv4Addr;

/// Ethernet header and ARP packet.
pub(super) type ArpFrame = [u8; 42];

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    pub(super) is_request: bool,
    pub(super) sender: (MacAddress, Ipv4Addr),
    pub(super) target: Ipv4Addr,
}

impl Arp {
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let frame: &ArpFrame = frame.first_chunk()?;
        let operation = u16::from_be_bytes([frame[20], frame[21]]);
        // Ethernet and IPv4, with addresses of six and four octets.
        let is_arp = frame[12..20] == [8, 6, 0, 1, 8, 0, 6, 4];
        let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|i| frame[at + i]));
        (is_arp && matches!(operation, REQUEST | REPLY)).then(|| Arp {
            is_request: operation == REQUEST,
            sender: (MacAddress([0, 1, 2, 3, 4, 5].map(|i| frame[22 + i])), address(28)),
            target: address(38),
        })
    }

    /// The answer of whoever lives at `side`; `None` where it is a question to nobody there, or none.
    pub(super) fn answer(&self, side: Side, nodes: u32) -> Option<ArpFrame> {
        let mac = owner(side, self.target, nodes)?;
        self.is_request.then(|| frame(REPLY, self.sender.0, (mac, self.target), self.sender))
    }
}

/// All questions that the generator asks at `side`: each of those who live there asks for the system, so
/// that it learns of all.
pub(super) fn questions(side: Side, nodes: u32) -> Vec<ArpFrame> {
    let ask = |sender| {
        let nobody = MacAddress([0; 6]);
        frame(REQUEST, MacAddress([0xff; 6]), sender, (nobody, system(side)))
    };
    match side {
        Side::Tunnel => (0..nodes).map(plan::node).map(|at| ask((node_mac(at), at))).collect(),
        Side::External => vec![ask((ROUTER_MAC, plan::ROUTER))],
    }
}

/// Where the system under test has its address.
pub(super) fn system(side: Side) -> Ipv4Addr {
    match side {
        Side::Tunnel => plan::TUNNEL,
        Side::External => plan::EXTERNAL,
    }
}

fn owner(side: Side, address: Ipv4Addr, nodes: u32) -> Option<MacAddress> {
    match side {
        Side::Tunnel => {
            (0..nodes).map(plan::node).any(|node| node == address).then(|| node_mac(address))
        }
        Side::External => (address == plan::ROUTER).then_some(ROUTER_MAC),
    }
}

/// A reply, in the router twin's words.
pub(super) fn reply(to: (MacAddress, Ipv4Addr), from: (MacAddress, Ipv4Addr)) -> ArpFrame {
    frame(REPLY, to.0, from, to)
}

fn frame(
    operation: u16,
    to: MacAddress,
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
) -> ArpFrame {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&sender.0.0);
    frame[12..20].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4]);
    frame[20..22].copy_from_slice(&operation.to_be_bytes());
    frame[22..28].copy_from_slice(&sender.0.0);
    frame[28..32].copy_from_slice(&sender.1.octets());
    frame[32..38].copy_from_slice(&target.0.0);
    frame[38..42].copy_from_slice(&target.1.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x10]);

    fn asked(side: Side, target: Ipv4Addr) -> Option<Arp> {
        let question = frame(REQUEST, MacAddress([0xff; 6]), (SYSTEM, system(side)), {
            (MacAddress([0; 6]), target)
        });
        Arp::read(&Arp::read(&question)?.answer(side, 3)?)
    }

    #[test]
    fn nodes_answer_in_the_tunnels_network_and_the_router_in_the_other() {
        for (side, target, mac) in [
            (Side::Tunnel, plan::node(0), Some(node_mac(plan::node(0)))),
            (Side::Tunnel, plan::node(2), Some(node_mac(plan::node(2)))),
            (Side::Tunnel, plan::node(3), None),
            (Side::Tunnel, plan::ROUTER, None),
            (Side::Tunnel, plan::TUNNEL, None),
            (Side::External, plan::ROUTER, Some(ROUTER_MAC)),
            (Side::External, plan::node(0), None),
            (Side::External, plan::EGRESS_IPS[0], None),
        ] {
            let expected = mac.map(|mac| Arp {
                is_request: false,
                sender: (mac, target),
                target: system(side),
            });
            assert_eq!(asked(side, target), expected, "{side} {target}");
        }
    }

    /// Read by somebody else.
    #[test]
    fn each_node_asks_for_the_system() {
        let frames = questions(Side::Tunnel, 2);
        assert_eq!(frames.len(), 2);
        for (frame, node) in frames.iter().zip([plan::node(0), plan::node(1)]) {
            let packet = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
            let Some(etherparse::NetSlice::Arp(arp)) = packet.net else { panic!("no ARP") };
            assert_eq!(arp.operation(), etherparse::ArpOperation::REQUEST);
            assert_eq!(arp.sender_protocol_addr(), node.octets());
            assert_eq!(arp.target_protocol_addr(), plan::TUNNEL.octets());
            assert_eq!(arp.sender_hw_addr(), node_mac(node).0);
        }
    }

    #[test]
    fn what_is_no_arp_of_ipv4_is_none() {
        let right = questions(Side::External, 1)[0];
        assert!(Arp::read(&right).is_some());
        for (octet, value) in [(12, 9), (15, 6), (16, 0x86), (18, 8), (19, 16), (21, 3)] {
            let mut other = right;
            other[octet] = value;
            assert_eq!(Arp::read(&other), None, "octet {octet}");
        }
        assert_eq!(Arp::read(&right[..41]), None);
    }
}
