//! Writing the translation into the packet. Called by `in2out` and `out2in` after they found the
//! session; what comes in was checked by `wire::parse`.

use super::session::Session;
use crate::wire::{
    Header,
    checksum::Delta,
    icmp::IcmpHeader,
    ipv4::Ipv4Header,
    parse::{Layout, Protocol},
    tcp::{SYN, TcpHeader, clamp_mss},
    udp::UdpHeader,
};
use std::net::Ipv4Addr;

/// Which end of the packet changes.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// What a TTL that is one less adds to the header's sum, whatever it was: it is the upper byte of its
/// word.
const ONE_HOP: Delta = Delta::replace_u16([1, 0], [0, 0]);

/// What changes, and what that adds to the checksum sums.
struct Change {
    end: End,
    address: Ipv4Addr,
    l4_port: u16,
    l3: Delta,
    l4: Delta,
}

/// Internal → external: the source. One hop less to live.
#[inline(always)]
pub(super) fn source(frame: &mut [u8], layout: &Layout, protocol: Protocol, to: &Session) {
    let change = Change {
        end: End::Source,
        address: to.external_address,
        l4_port: to.external_l4_port,
        l3: to.l3_delta,
        l4: to.l4_delta,
    };
    write(frame, layout, protocol, &change);
}

/// External → internal: the destination. One hop less to live.
#[inline(always)]
pub(super) fn destination(frame: &mut [u8], layout: &Layout, protocol: Protocol, to: &Session) {
    let change = Change {
        end: End::Destination,
        address: to.internal().0.address,
        l4_port: to.internal().0.l4_port,
        l3: to.l3_delta.reversed(),
        l4: to.l4_delta.reversed(),
    };
    write(frame, layout, protocol, &change);
}

/// Lowers the MSS of a SYN to what fits the tunnel; other packets stay as they are.
#[inline(always)]
pub(super) fn clamp_syn(frame: &mut [u8], layout: &Layout, limit: u16) {
    if layout.tcp_flags & SYN != 0 {
        clamp_mss(&mut frame[layout.l4()..layout.end()], limit);
    }
}

#[inline(always)]
fn write(frame: &mut [u8], layout: &Layout, protocol: Protocol, change: &Change) {
    if let Some(ip) = Ipv4Header::at_mut(frame, layout.l3()) {
        match change.end {
            End::Source => ip.source = change.address.octets(),
            End::Destination => ip.destination = change.address.octets(),
        }
        // The caller has seen to it that the TTL is at least 2.
        ip.ttl -= 1;
        ip.checksum = ip.checksum.apply(change.l3.and(ONE_HOP));
    }
    match protocol {
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
