//! Writing the translation into the packet. Called by `in2out` and `out2in` after they found the
//! session; what comes in was checked by `wire::parse`.

use super::session::Session;
use crate::wire::{
    Address, Header,
    address::End,
    checksum::Delta,
    icmp::IcmpHeader,
    parse::{Layout, Protocol},
    tcp::{SYN, TcpHeader, clamp_mss},
    udp::UdpHeader,
};

/// What changes, and what that adds to the checksum sums.
struct Change<A> {
    end: End,
    address: A,
    l4_port: u16,
    l3: Delta,
    l4: Delta,
}

/// Internal → external: the source. One hop less to live.
#[inline(always)]
pub(super) fn source<A: Address>(frame: &mut [u8], layout: &Layout, to: &Session<A>) {
    let change = Change {
        end: End::Source,
        address: to.external_address,
        l4_port: to.external_l4_port,
        l3: to.l3_delta,
        l4: to.l4_delta,
    };
    write(frame, layout, &change);
}

/// External → internal: the destination. One hop less to live.
#[inline(always)]
pub(super) fn destination<A: Address>(frame: &mut [u8], layout: &Layout, to: &Session<A>) {
    let change = Change {
        end: End::Destination,
        address: to.internal().0.address,
        l4_port: to.internal().0.l4_port,
        l3: to.l3_delta.reversed(),
        l4: to.l4_delta.reversed(),
    };
    write(frame, layout, &change);
}

/// Lowers the MSS of a SYN to what fits the tunnel; other packets stay as they are.
#[inline(always)]
pub(super) fn clamp_syn(frame: &mut [u8], layout: &Layout, limit: u16) {
    if layout.tcp_flags & SYN != 0 {
        clamp_mss(&mut frame[layout.l4()..layout.end()], limit);
    }
}

#[inline(always)]
fn write<A: Address>(frame: &mut [u8], layout: &Layout, change: &Change<A>) {
    // The caller has seen to it that the TTL is at least 2.
    A::translate(frame, layout.l3(), change.end, change.address, change.l3);
    match layout.protocol {
        Protocol::Tcp => {
            let Some(tcp) = TcpHeader::at_mut(frame, layout.l4()) else { return };
            match change.end {
                End::Source => tcp.source.set(change.l4_port),
                End::Destination => tcp.destination.set(change.l4_port),
            }
            tcp.checksum = tcp.checksum.apply(change.l4);
        }
        Protocol::Udp => {
            let Some(udp) = UdpHeader::at_mut(frame, layout.l4()) else { return };
            match change.end {
                End::Source => udp.source.set(change.l4_port),
                End::Destination => udp.destination.set(change.l4_port),
            }
            udp.checksum = udp.checksum.apply_udp(change.l4);
        }
        Protocol::Icmp => {
            let Some(icmp) = IcmpHeader::at_mut(frame, layout.l4()) else { return };
            // RFC 5508 REQ-1: the query id is what a l4_port is elsewhere, and an echo and its
            // reply bear the same one.
            icmp.identifier.set(change.l4_port);
            icmp.checksum = icmp.checksum.apply(change.l4);
        }
    }
}
