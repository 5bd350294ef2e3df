//! What the gateway says of itself by ICMP and ICMPv6: echo replies on its own addresses, and Time
//! Exceeded.

use super::{
    io::{PacketBuf, PacketIo},
    next_hop::{Output, Turn},
    tunnel::{self, Tunnel},
};
use crate::{
    nat::{Tick, in2out::In2out, out2in::Out2in},
    verdict::{DropReason, Side},
    wire::{
        Address, Header,
        checksum::{self, Checksum, Delta},
        icmp::{ICMP_LEN, IcmpHeader},
        parse::{IpPacket, Layout},
    },
};
use zerocopy::{IntoBytes, network_endian::U16 as NetU16};

/// RFC 1812 section 5.3.1: TOS of ICMP errors is internetwork control.
const ERROR_TOS: u8 = 0xc0;

/// An ICMP packet to an address of the port: an echo is answered in its own buffer.
pub fn receive<A: Address, I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    side: Side,
    mut frame: I::Buf,
    packet: IpPacket<A>,
    icmp_type: u8,
) -> Result<(), DropReason> {
    // What came to a group or from nobody in particular is not answered (RFC 1122 section 3.2.2.6).
    let from_a_host = packet.source.is_routable() || packet.source.is_link_local();
    if icmp_type != A::ECHO_REQUEST || !from_a_host {
        return Err(DropReason::NoService);
    }
    let bytes = frame.data_mut();
    // The header is written anew, without options: nothing here honours any.
    let at = packet.l4() - A::HEADER_LEN;
    let ends = (packet.destination, packet.source);
    let payload = (packet.end() - packet.l4()) as u16;
    A::write_header(&mut bytes[at..], ends, A::ICMP, packet.dscp_ecn, payload);
    if let Some(icmp) = IcmpHeader::at_mut(bytes, packet.l4()) {
        icmp.icmp_type = A::ECHO_REPLY;
        // The two ends change places, which the sum of a pseudo header does not see.
        let before = [A::ECHO_REQUEST, icmp.code];
        let change = Delta::replace_u16(before, [A::ECHO_REPLY, icmp.code]);
        icmp.checksum = icmp.checksum.apply(change);
    }
    frame.keep(at - output.config.port(side).l2_len()..packet.end());
    output.forward(turn, side, packet.source, frame);
    Ok(())
}

/// Tells the pod that its packet's TTL ran out here, through the tunnel it came by.
pub fn time_exceeded_to_pod<A: Address, I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    frame: I::Buf,
    input: &In2out<A>,
) {
    let config = &output.config;
    // The family of pods need not be one of the underlay.
    let us = config.tunnel.source_for(A::UNSPECIFIED);
    let Some(us) = us.or_else(|| config.external.source_for(A::UNSPECIFIED)) else { return };
    if !may_have_error(input.source(), input.destination()) {
        return;
    }
    let Some(mut frame) = error_about(frame, &input.layout, input.source(), us) else {
        return output.drop(Side::Tunnel, DropReason::NoHeadroom);
    };
    let address = turn.policies.vtep_address(input.vtep);
    let to = Tunnel { address, policy: input.policy };
    if !frame.prepend(to.overhead(&output.config)) {
        return output.drop(Side::Tunnel, DropReason::NoHeadroom);
    }
    tunnel::encapsulate::<A>(frame.data_mut(), &output.config, &to, 0);
    output.forward_any(turn, Side::Tunnel, address, frame);
}

/// Tells the world that a packet for an egress IP ended here, from the external port's own address.
pub fn time_exceeded_to_world<A: Address, I: PacketIo>(
    output: &mut Output<I::Buf>,
    turn: &mut Turn<'_, I>,
    frame: I::Buf,
    input: &Out2in<A>,
) {
    let Some(us) = output.config.external.source_for(A::UNSPECIFIED) else { return };
    if !may_have_error(input.source(), input.key.ours().address) {
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

/// RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): never to a source that is no single host, nor about
/// a packet to a group. Errors about errors, fragments but the first and broadcasts were dropped before:
/// they belong to no flow.
fn may_have_error<A: Address>(source: A, destination: A) -> bool {
    source.is_routable() && destination.is_routable()
}

/// Makes of the packet in `frame` an IP packet with a Time Exceeded that quotes it.
fn error_about<A: Address, B: PacketBuf>(mut frame: B, layout: &Layout, to: A, us: A) -> Option<B> {
    let headers = A::HEADER_LEN + ICMP_LEN;
    let quoted = layout.packet_len().min(A::LARGEST_ERROR - headers);
    frame.keep(layout.l3()..layout.l3() + quoted);
    if !frame.prepend(headers) {
        return None;
    }
    let bytes = frame.data_mut();
    A::write_header(bytes, (us, to), A::ICMP, ERROR_TOS, (ICMP_LEN + quoted) as u16);
    let icmp = IcmpHeader {
        icmp_type: A::TIME_EXCEEDED,
        code: 0,
        checksum: Checksum::ZERO,
        identifier: NetU16::ZERO,
        sequence: NetU16::ZERO,
    };
    bytes[A::HEADER_LEN..headers].copy_from_slice(icmp.as_bytes());
    let message = &bytes[A::HEADER_LEN..];
    let sum = match A::ICMP_HAS_PSEUDO_HEADER {
        true => checksum::with_pseudo_header(us.into(), to.into(), A::ICMP, message),
        false => checksum::of(message),
    };
    if let Some(icmp) = IcmpHeader::at_mut(bytes, A::HEADER_LEN) {
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
