//! The packet that is asked about, as bytes, and what the data path's parser reads in them.

use super::Question;
use crate::{
    nat::{
        Protocol, Vtep,
        flow::Address,
        in2out::{In2out, In2outs},
    },
    verdict::DropReason,
    wire::{
        Any,
        ipv4::{PROTOCOL_TCP, PROTOCOL_UDP},
        parse,
        tcp::{ACK, SYN},
    },
};

/// A TCP header without options, the longest that is needed.
const L4: usize = 20;
const UDP: usize = 8;

/// Or why the parser refuses it.
pub(super) fn new(
    question: &Question,
    policy: u32,
    vtep: Vtep,
) -> Result<Any<In2outs>, DropReason> {
    use std::net::IpAddr::{V4, V6};
    match (question.source, question.destination) {
        (V4(source), V4(to)) => of(question, (source, to), policy, vtep).map(Any::V4),
        (V6(source), V6(to)) => of(question, (source, to), policy, vtep).map(Any::V6),
        // One packet has addresses of one family.
        (V4(_), V6(_)) | (V6(_), V4(_)) => Err(DropReason::DestinationInvalid),
    }
}

fn of<A: Address>(
    question: &Question,
    ends: (A, A),
    policy: u32,
    vtep: Vtep,
) -> Result<In2out<A>, DropReason> {
    let mut l4 = [0; L4];
    let [s1, s2] = question.sport.to_be_bytes();
    let [d1, d2] = question.dport.to_be_bytes();
    let (protocol, len) = match question.protocol {
        Protocol::Tcp => {
            let flags = if question.mid_stream { ACK } else { SYN };
            l4[..4].copy_from_slice(&[s1, s2, d1, d2]);
            // Five words of header.
            l4[12..14].copy_from_slice(&[0x50, flags]);
            (PROTOCOL_TCP, L4)
        }
        Protocol::Udp => {
            l4[..6].copy_from_slice(&[s1, s2, d1, d2, 0, UDP as u8]);
            (PROTOCOL_UDP, UDP)
        }
        Protocol::Icmp => {
            l4[..6].copy_from_slice(&[A::ECHO_REQUEST, 0, 0, 0, s1, s2]);
            (A::ICMP, UDP)
        }
    };
    let mut packet = vec![0; A::HEADER_LEN];
    A::write_header(&mut packet, ends, protocol, 0, len as u16);
    packet.extend_from_slice(&l4[..len]);
    let ip = A::parse(&packet, 0)?;
    let transport = parse::transport(&packet, &ip, ip.l4())?;
    In2out::new(&ip, &transport, policy, vtep)
}
