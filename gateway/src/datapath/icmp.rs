//! What the gateway says of itself by ICMP: echo replies on its own addresses, and Time Exceeded.

use super::{
    config::DatapathConfig,
    io::{PacketBuf, PacketIo},
    next_hop::{Output, Turn},
    tunnel,
};
use crate::{
    nat::{
        Tick,
        in2out::In2out,
        out2in::{Out2in, ToNode},
    },
    verdict::{DropReason, Side},
    wire::{
        Header,
        checksum::{self, Checksum, Delta},
        icmp::{ECHO_REPLY, ECHO_REQUEST, ICMP_LEN, IcmpHeader, TIME_EXCEEDED},
        ipv4::{IPV4_LEN, Ipv4Header, PROTOCOL_ICMP},
        parse::{Ipv4Packet, Layout},
    },
};
use std::net::Ipv4Addr;
use zerocopy::{IntoBytes, network_endian::U16 as NetU16};

const TTL: u8 = 64;
/// RFC 1812 section 4.3.2.3: as much of the offending packet as fits 576 bytes.
const LARGEST_ERROR: usize = 576;
/// RFC 1812 section 5.3.1: TOS of ICMP errors is internetwork control.
const ERROR_TOS: u8 = 0xc0;

/// An ICMP packet to an address of the port: an echo is answered in its own buffer.
pub fn receive<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    mut frame: I::Buf,
    packet: Ipv4Packet,
    icmp_type: u8,
) -> Result<(), DropReason> {
    if icmp_type != ECHO_REQUEST {
        return Err(DropReason::NoService);
    }
    let bytes = frame.data_mut();
    // The header is written anew, without options: nothing here honours any.
    let options = packet.l4() - packet.l3() - IPV4_LEN;
    let header = Ipv4Header::atomic(
        packet.destination,
        packet.source,
        PROTOCOL_ICMP,
        packet.dscp_ecn,
        TTL,
        (packet.end() - packet.l4()) as u16,
    );
    let at = packet.l3() + options;
    if let Some(ip) = Ipv4Header::at_mut(bytes, at) {
        *ip = header;
    }
    if let Some(icmp) = IcmpHeader::at_mut(bytes, packet.l4()) {
        icmp.icmp_type = ECHO_REPLY;
        let before = [ECHO_REQUEST, icmp.code];
        icmp.checksum = icmp.checksum.apply(Delta::replace_u16(before, [ECHO_REPLY, icmp.code]));
    }
    frame.keep(at - output.config.port(side).l2_len()..packet.end());
    output.forward(turn, side, packet.source, frame);
    Ok(())
}

/// Tells the pod that its packet's TTL ran out here, through the tunnel it came by.
pub fn time_exceeded_to_pod<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    frame: I::Buf,
    input: &In2out,
) {
    if !may_have_error(input.source()) {
        return;
    }
    let us = output.config.vtep();
    let Some(mut frame) = error_about(frame, &input.layout, input.source(), us) else {
        return output.drop(Side::Tunnel, DropReason::NoHeadroom);
    };
    if !frame.prepend(tunnel::overhead(&output.config)) {
        return output.drop(Side::Tunnel, DropReason::NoHeadroom);
    }
    let to = ToNode { vtep: input.vtep, policy: input.policy };
    tunnel::encapsulate(frame.data_mut(), &output.config, to, 0);
    output.forward(turn, Side::Tunnel, input.vtep, frame);
}

/// Tells the world that a packet for an egress IP ended here, from the external port's own address.
pub fn time_exceeded_to_world<I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    frame: I::Buf,
    input: &Out2in,
) {
    let Some(us) = external_address(&output.config) else { return };
    if !may_have_error(input.source()) {
        return;
    }
    let Some(mut frame) = error_about(frame, &input.layout, input.source(), us) else {
        return output.drop(Side::External, DropReason::NoHeadroom);
    };
    if !frame.prepend(output.config.external.l2_len()) {
        return output.drop(Side::External, DropReason::NoHeadroom);
    }
    output.forward(turn, Side::External, input.source(), frame);
}

fn external_address(config: &DatapathConfig) -> Option<Ipv4Addr> {
    Some(config.external.addresses.first()?.addr())
}

/// RFC 1122 section 3.2.2: never to a source that is no single host. Errors about errors, fragments
/// but the first and broadcasts were dropped before: they belong to no flow.
fn may_have_error(source: Ipv4Addr) -> bool {
    !source.is_unspecified() && !source.is_multicast()
}

/// Makes of the packet in `frame` an IPv4 packet with a Time Exceeded that quotes it.
fn error_about<B: PacketBuf>(
    mut frame: B,
    layout: &Layout,
    to: Ipv4Addr,
    us: Ipv4Addr,
) -> Option<B> {
    let quoted = layout.packet_len().min(LARGEST_ERROR - IPV4_LEN - ICMP_LEN);
    frame.keep(layout.l3()..layout.l3() + quoted);
    if !frame.prepend(IPV4_LEN + ICMP_LEN) {
        return None;
    }
    let bytes = frame.data_mut();
    let payload = (ICMP_LEN + quoted) as u16;
    let ip = Ipv4Header::atomic(us, to, PROTOCOL_ICMP, ERROR_TOS, TTL, payload);
    let icmp = IcmpHeader {
        icmp_type: TIME_EXCEEDED,
        code: 0,
        checksum: Checksum::ZERO,
        identifier: NetU16::ZERO,
        sequence: NetU16::ZERO,
    };
    bytes[..IPV4_LEN].copy_from_slice(ip.as_bytes());
    bytes[IPV4_LEN..IPV4_LEN + ICMP_LEN].copy_from_slice(icmp.as_bytes());
    let sum = checksum::of(&bytes[IPV4_LEN..]);
    if let Some(icmp) = IcmpHeader::at_mut(bytes, IPV4_LEN) {
        icmp.checksum = sum;
    }
    Some(frame)
}

/// The rate limit of ICMP errors (RFC 1812 section 4.3.2.8): a token bucket that holds a tenth of a
/// second's errors.
#[derive(Debug)]
pub struct ErrorLimit {
    per_second: u32,
    /// In thousandths of an error, so that a millisecond adds a whole number.
    tokens: u64,
    last: Tick,
}

impl ErrorLimit {
    pub fn new(per_second: u32) -> Self {
        ErrorLimit { per_second, tokens: Self::capacity(per_second), last: Tick::default() }
    }

    /// Whether one more error may be sent.
    pub fn allow(&mut self, now: Tick) -> bool {
        let passed = now.millis().saturating_sub(self.last.millis());
        self.last = now;
        let earned = passed.saturating_mul(u64::from(self.per_second));
        self.tokens = self.tokens.saturating_add(earned).min(Self::capacity(self.per_second));
        let allowed = self.tokens >= 1000;
        if allowed {
            self.tokens -= 1000;
        }
        allowed
    }

    /// A tenth of a second's errors, and at least one (none where the limit is 0).
    fn capacity(per_second: u32) -> u64 {
        if per_second == 0 { 0 } else { (u64::from(per_second) * 100).max(1000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_limited_to_the_rate_and_a_short_burst() {
        let mut limit = ErrorLimit::new(1000);
        let at_once = (0..500).filter(|_| limit.allow(Tick::from_millis(5))).count();
        assert_eq!(at_once, 100);
        let in_a_second: usize = (0..1000u64)
            .map(|ms| (0..10).filter(|_| limit.allow(Tick::from_millis(6 + ms))).count())
            .sum();
        assert_eq!(in_a_second, 1000);
        assert!(!ErrorLimit::new(0).allow(Tick::from_secs(100)));
        assert!(ErrorLimit::new(1).allow(Tick::from_secs(1)));
    }
}
