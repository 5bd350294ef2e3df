//! Whether a frame that came is what should come of one that was sent. Every frame is judged in full: its
//! flow's addresses and l4_ports are computed from the flow's number, which costs less than a look-up.

use super::{
    frames::{PLAIN_L3, Remainder, TUNNELLED_L3},
    mark::Mark,
};
use crate::{
    job::FarSide,
    plan::{self, Flow},
};
use gateway::verdict::Side;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// As foretold, with its flow's translated source where it left by the external port.
    Right(Mark, Source),
    /// Ours, but otherwise than foretold.
    Wrong,
    /// Not ours: ARP, and what hosts tell each other.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) address: u32,
    pub(super) l4_port: u16,
}

/// What should come out of one port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    tunnelled: bool,
    from_pod: bool,
    source: FarSide,
    nodes: Remainder,
}

const IPV4: u16 = 0x0800;

#[inline(always)]
fn be16(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

#[inline(always)]
fn be32(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

impl Judge {
    pub(super) fn new(side: Side, far_side: FarSide, nodes: u32) -> Self {
        let is_tunnel = side == Side::Tunnel;
        // A wire brings the pods' frames as they were sent, to the other port.
        Judge {
            tunnelled: is_tunnel != (far_side == FarSide::Wire),
            from_pod: !is_tunnel,
            source: far_side,
            nodes: Remainder::by(nodes),
        }
    }

    #[inline(always)]
    pub(super) fn judge(&self, frame: &[u8]) -> Judged {
        let l3 = if self.tunnelled { TUNNELLED_L3 } else { PLAIN_L3 };
        match Mark::read(frame, l3) {
            Some(mark) => {
                let (source, differs) = self.differs(frame, l3, mark.flow);
                if differs == 0 { Judged::Right(mark, source) } else { Judged::Wrong }
            }
            None => self.unmarked(frame),
        }
    }

    /// Its source, and 0 where all is as foretold. The frame holds a mark at `l3`, so all before it.
    #[inline(always)]
    fn differs(&self, frame: &[u8], l3: usize, number: u32) -> (Source, u32) {
        let flow = Flow::number(number);
        let (pod, remote) = (flow.pod.to_bits(), flow.remote.to_bits());
        let source = Source { address: be32(frame, l3 + 12), l4_port: be16(frame, l3 + 20) };
        let target = (be32(frame, l3 + 16), be16(frame, l3 + 22));
        let mut differs = u32::from(be16(frame, l3 - 2) ^ IPV4);
        if self.from_pod {
            differs |= target.0 ^ remote | u32::from(target.1 ^ plan::REMOTE_L4_PORT);
            differs |= match self.source {
                FarSide::Nat => u32::from(!is_egress_ip(source.address)),
                FarSide::Router | FarSide::Wire => {
                    source.address ^ pod | u32::from(source.l4_port ^ flow.l4_port)
                }
            };
        } else {
            differs |= source.address ^ remote | u32::from(source.l4_port ^ plan::REMOTE_L4_PORT);
            // Where nothing is translated the answer comes as it was addressed: to the flow itself.
            differs |= target.0 ^ pod | u32::from(target.1 ^ flow.l4_port);
        }
        if self.tunnelled {
            differs |= u32::from(be16(frame, 12) ^ IPV4);
            differs |= u32::from(be16(frame, 36) ^ plan::VXLAN_PORT);
            differs |= be32(frame, 46) >> 8 ^ plan::POLICY;
            let node = plan::node(self.nodes.of(pod)).to_bits();
            let at = if self.from_pod { 26 } else { 30 };
            differs |= be32(frame, at) ^ node;
        }
        (source, differs)
    }

    /// Where ours would have its mark had it been wrapped, or not been.
    #[cold]
    fn unmarked(&self, frame: &[u8]) -> Judged {
        let elsewhere = if self.tunnelled { PLAIN_L3 } else { TUNNELLED_L3 };
        match Mark::read(frame, elsewhere) {
            Some(_) => Judged::Wrong,
            None => Judged::Other,
        }
    }
}

#[inline(always)]
fn is_egress_ip(address: u32) -> bool {
    let [first, last] = plan::EGRESS_IPS.map(|ip| ip.to_bits());
    address.wrapping_sub(first) <= last - first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        generator::frames::{Destination, In2outFrames, Out2inFrames, TUNNEL_HEADERS},
        job::Checksums,
    };
    use gateway::wire::MacAddress;

    const NODES: u32 = 7;
    const MARK: Mark = Mark { window: 3, flow: 12_345, stamp: 99 };

    fn flow() -> Destination {
        let flow = Flow::number(MARK.flow);
        Destination { address: flow.pod.to_bits(), l4_port: flow.l4_port }
    }

    fn tunnelled() -> Vec<u8> {
        let frames = In2outFrames::new(MacAddress([2; 6]), NODES, Checksums::Valid);
        let mut frame = vec![0; frames.len(0)];
        frames.write(&mut frame, 0, MARK);
        frame
    }

    fn answer() -> Vec<u8> {
        let frames = Out2inFrames::new(MacAddress([2; 6]), Checksums::Valid);
        let mut frame = vec![0; frames.len(0)];
        frames.write(&mut frame, 0, flow(), MARK);
        frame
    }

    /// As it leaves by the external port.
    fn decapsulated() -> Vec<u8> {
        tunnelled().split_off(TUNNEL_HEADERS)
    }

    fn translated() -> Vec<u8> {
        let mut frame = decapsulated();
        frame[26..30].copy_from_slice(&plan::EGRESS_IPS[1].octets());
        frame[34..36].copy_from_slice(&5000u16.to_be_bytes());
        frame
    }

    /// As an answer comes back in the tunnel.
    fn encapsulated() -> Vec<u8> {
        let mut frame = tunnelled()[..TUNNEL_HEADERS].to_vec();
        frame.copy_within(26..30, 30);
        frame.extend(answer());
        frame
    }

    #[test]
    fn what_comes_as_foretold_is_right_and_any_other_octet_of_addresses_is_wrong() {
        let (external, tunnel) = (Side::External, Side::Tunnel);
        let source = |frame: &[u8], l3| Source {
            address: be32(frame, l3 + 12),
            l4_port: be16(frame, l3 + 20),
        };
        let all = [
            (FarSide::Nat, external, translated(), vec![12, 26, 30, 33, 36, 37]),
            (FarSide::Router, external, decapsulated(), vec![12, 26, 29, 30, 33, 34, 35, 36]),
            (FarSide::Wire, external, tunnelled(), vec![12, 29, 36, 47, 62, 76, 79, 80, 84, 86]),
            (
                FarSide::Nat,
                tunnel,
                encapsulated(),
                vec![12, 33, 36, 47, 62, 76, 79, 80, 83, 84, 87],
            ),
            (FarSide::Router, tunnel, encapsulated(), vec![12, 33, 47, 79, 83, 87]),
            (FarSide::Wire, tunnel, answer(), vec![12, 26, 30, 33, 34, 37]),
        ];
        for (far_side, side, frame, octets) in all {
            let judge = Judge::new(side, far_side, NODES);
            let l3 = if frame.len() > 100 { TUNNELLED_L3 } else { PLAIN_L3 };
            let right = Judged::Right(MARK, source(&frame, l3));
            assert_eq!(judge.judge(&frame), right, "{far_side:?} {side}");
            for octet in octets {
                let mut other = frame.clone();
                other[octet] ^= 0x40;
                assert_eq!(judge.judge(&other), Judged::Wrong, "{far_side:?} {side} {octet}");
            }
        }
    }

    #[test]
    fn a_nat_that_lets_a_pods_own_address_out_is_wrong_and_so_is_a_tunnel_that_is_left_on() {
        let judge = Judge::new(Side::External, FarSide::Nat, NODES);
        assert_eq!(judge.judge(&decapsulated()), Judged::Wrong);
        assert_eq!(judge.judge(&tunnelled()), Judged::Wrong);
        let judge = Judge::new(Side::Tunnel, FarSide::Nat, NODES);
        assert_eq!(judge.judge(&answer()), Judged::Wrong);
        assert_eq!(judge.judge(&tunnelled()), Judged::Wrong, "sent back where it came from");
    }

    #[test]
    fn the_chatter_of_hosts_is_nobodys() {
        let judge = Judge::new(Side::External, FarSide::Nat, NODES);
        for frame in [vec![], vec![0; 14], vec![0xff; 60], vec![0; 1514]] {
            assert_eq!(judge.judge(&frame), Judged::Other);
        }
    }
}
