//! Frames with the usual headers, which nearly all have: IPv4, in IPv4 where it comes out of the tunnel, with
//! neither VLAN tag, options, fragments nor surprises. Called by the worker for each frame of a burst.
//!
//! Where the headers are is known before they are looked at, so what all such frames have in common is
//! compared as a whole (`Pattern`), and the rest is read from constant offsets. What is not so is not
//! judged here: [`super::classify`] knows all frames, and why one is dropped.

use super::{config::PortConfig, tunnel::ECN};
use crate::{
    nat::{PolicyTable, Vtep, in2out::In2out, out2in::Out2in},
    wire::{
        Header,
        checksum::is_valid_header,
        ethernet::{ETHERNET_LEN, ETHERTYPE_IPV4, EthernetHeader},
        ipv4::{IPV4_LEN, Ipv4Header, NO_OPTIONS, PROTOCOL_UDP},
        parse,
        udp::{UDP_LEN, UdpHeader},
        vxlan::VxlanHeader,
    },
};
use std::{mem::offset_of, net::Ipv4Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Of an inner L4 header what every protocol has.
type L4 = [u8; 8];

/// What a frame from the tunnel begins with.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tunnelled {
    link: EthernetHeader,
    outer: Ipv4Header,
    udp: UdpHeader,
    vxlan: VxlanHeader,
    inner_link: EthernetHeader,
    inner: Ipv4Header,
    l4: L4,
}

/// What a frame from the world begins with.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Plain {
    link: EthernetHeader,
    ip: Ipv4Header,
    l4: L4,
}

const OUTER: usize = offset_of!(Tunnelled, outer);
const UDP: usize = offset_of!(Tunnelled, udp);
const VXLAN: usize = offset_of!(Tunnelled, vxlan);
const INNER_ETHERTYPE: usize =
    offset_of!(Tunnelled, inner_link) + offset_of!(EthernetHeader, ethertype);
const INNER: usize = offset_of!(Tunnelled, inner);
const TUNNELLED_L4: usize = offset_of!(Tunnelled, l4);
const PLAIN_L4: usize = offset_of!(Plain, l4);

/// All headers of the tunnel, in words.
const TUNNEL_WORDS: usize = INNER / 8;
const _: () = assert!(INNER.is_multiple_of(8));
/// From the link header to the IP header's protocol.
const PLAIN_WORDS: usize = 3;

/// What frames to one port have in common: the octets that they begin with, as far as these are the same in
/// all of them. Compared in words of eight, which the compiler makes vectors of.
#[derive(Clone, Copy, Debug)]
struct Pattern<const WORDS: usize> {
    octets: [u64; WORDS],
    /// Which bits of these count.
    bits: [u64; WORDS],
}

impl<const WORDS: usize> Pattern<WORDS> {
    /// An untagged IPv4 packet to this port, without options and no fragment.
    fn ipv4(port: &PortConfig) -> Self {
        const FRAGMENT: usize = OUTER + offset_of!(Ipv4Header, flags_fragment);
        Pattern { octets: [0; WORDS], bits: [0; WORDS] }
            .octets(0, port.mac.0)
            .octets(offset_of!(EthernetHeader, ethertype), ETHERTYPE_IPV4.to_be_bytes())
            .octets(OUTER, [NO_OPTIONS])
            // Neither more of it nor an offset; whether it may be fragmented does not count.
            .bits(FRAGMENT, 0, 0x3f)
            .octets(FRAGMENT + 1, [0])
    }

    fn octets<const N: usize>(self, at: usize, octets: [u8; N]) -> Self {
        (at..).zip(octets).fold(self, |pattern, (at, octet)| pattern.bits(at, octet, 0xff))
    }

    fn bits(mut self, at: usize, octet: u8, bits: u8) -> Self {
        let word = |octet: u8| {
            let mut octets = [0; 8];
            octets[at % 8] = octet;
            u64::from_ne_bytes(octets)
        };
        self.octets[at / 8] |= word(octet);
        self.bits[at / 8] |= word(bits);
        self
    }

    #[inline(always)]
    fn fits(&self, frame: &[u8]) -> bool {
        let Some(words) = frame.as_chunks::<8>().0.first_chunk::<WORDS>() else { return false };
        let mut differs = 0;
        for ((word, octets), bits) in words.iter().zip(self.octets).zip(self.bits) {
            differs |= (u64::from_ne_bytes(*word) ^ octets) & bits;
        }
        differs == 0
    }
}

/// What usual frames to the two ports have in common; `None` where a port gets no such frames.
#[derive(Clone, Debug)]
pub struct UsualFrames {
    tunnel: Option<Pattern<TUNNEL_WORDS>>,
    external: Option<Pattern<PLAIN_WORDS>>,
}

impl UsualFrames {
    /// To these ports, and to this VTEP.
    pub fn new(
        tunnel: &PortConfig,
        external: &PortConfig,
        vtep: Option<Ipv4Addr>,
        vxlan_port: u16,
    ) -> Self {
        // RFC 7348 section 5: the other flags are reserved, and ignored.
        let has_vni = VxlanHeader::new(0).as_bytes()[0];
        let in_tunnel = |vtep: Ipv4Addr| {
            Pattern::ipv4(tunnel)
                .octets(OUTER + offset_of!(Ipv4Header, protocol), [PROTOCOL_UDP])
                .octets(OUTER + offset_of!(Ipv4Header, destination), vtep.octets())
                .octets(UDP + offset_of!(UdpHeader, destination), vxlan_port.to_be_bytes())
                .octets(UDP + offset_of!(UdpHeader, checksum), [0; 2])
                .bits(VXLAN, has_vni, has_vni)
                .octets(INNER_ETHERTYPE, ETHERTYPE_IPV4.to_be_bytes())
        };
        UsualFrames {
            tunnel: vtep.filter(|_| tunnel.vlan == 0).map(in_tunnel),
            external: (external.vlan == 0).then(|| Pattern::ipv4(external)),
        }
    }

    /// The packet of a pod in a usual frame that arrived at the tunnel port.
    #[inline(always)]
    pub fn from_tunnel(&self, frame: &[u8]) -> Option<In2out> {
        let headers = Tunnelled::at(frame, 0)?;
        if !self.tunnel.as_ref()?.fits(frame) {
            return None;
        }
        let Tunnelled { outer, udp, vxlan, inner, .. } = headers;
        let end = UDP + usize::from(udp.length.get());
        if OUTER + usize::from(outer.total_length.get()) != end
            || frame.len() < end
            || !is_valid_header(zerocopy::transmute_ref!(outer))
            // Else RFC 6040 has something to say.
            || (outer.dscp_ecn ^ inner.dscp_ecn) & ECN != 0
        {
            return None;
        }
        let inner = parse::usual_ipv4(inner, INNER, end)?;
        let transport = parse::transport(frame, &inner, TUNNELLED_L4).ok()?;
        In2out::new(&inner, &transport, vxlan.vni()?, Vtep::from(outer.source())).ok()
    }

    /// The packet to an egress IP in a usual frame that arrived at the external port.
    #[inline(always)]
    pub fn from_external(&self, frame: &[u8], policies: &PolicyTable) -> Option<Out2in> {
        let headers = Plain::at(frame, 0)?;
        if !self.external.as_ref()?.fits(frame) {
            return None;
        }
        let packet = parse::usual_ipv4(&headers.ip, ETHERNET_LEN, frame.len())?;
        if !policies.egress_ips().contains(packet.destination) {
            return None;
        }
        let transport = parse::transport(frame, &packet, PLAIN_L4).ok()?;
        Out2in::new(&packet, &transport).ok()
    }
}

const _: () = assert!(PLAIN_L4 == ETHERNET_LEN + IPV4_LEN && VXLAN == UDP + UDP_LEN);

#[cfg(test)]
mod tests;
