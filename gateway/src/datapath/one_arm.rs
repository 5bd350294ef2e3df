//! One device as the two ports that a worker knows: a one-armed gateway.
//!
//! [`OneArm`] stands between the worker and the one queue pair that it has ([`Wire`]). What is received is
//! told apart frame by frame ([`side_of`]); what is sent needs nothing, since each side makes frames with
//! its own VLAN, and both with the device's MAC. Behind it, the sides are as separate as two devices are:
//! each has its addresses, next hops and neighbours, and the guard stands before the external one.

use super::{
    idle::Wait,
    io::{Burst, PacketBuf, PacketIo},
};
use crate::{
    verdict::Side,
    wire::{
        Header,
        arp::ArpPacket,
        ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6},
        icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION},
        ipv4::Ipv4Header,
        ipv6::{IPV6_LEN, Ipv6Header, PROTOCOL_ICMPV6},
        nd::NeighborMessage,
        parse,
    },
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

#[cfg(test)]
mod tests;

/// One device as one worker sees it: a receive and a transmit queue.
pub trait Wire {
    type Buf: PacketBuf;

    /// Adds received packets to `burst`, up to its capacity.
    fn rx(&mut self, burst: &mut Burst<Self::Buf>);

    /// Takes packets from the front of `burst`; what the device had no room for stays in it.
    fn tx(&mut self, burst: &mut Burst<Self::Buf>);

    /// An empty packet; `None` when the pool is.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// How a frame's side is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideRule {
    /// The sides have different VLANs; this is the tunnel's. 0: untagged.
    ByVlan(u16),
    /// The sides share a VLAN, and their prefixes are disjoint.
    ByAddress(TunnelAddresses),
}

impl SideRule {
    /// Of the tunnel port's own addresses, each with its on-link prefix.
    pub fn by_address(tunnel: impl IntoIterator<Item = IpNet>) -> Self {
        let mut addresses = TunnelAddresses::default();
        for net in tunnel {
            match net {
                IpNet::V4(net) => addresses.v4.push(net),
                IpNet::V6(net) => addresses.v6.push(net),
            }
        }
        SideRule::ByAddress(addresses)
    }
}

/// The tunnel port's own addresses, each with its on-link prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelAddresses {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

/// Which side a received frame is of. What cannot be read so far, and what neither side wants, is the
/// external side's, whose parser counts it.
#[inline]
pub fn side_of(frame: &[u8], rule: &SideRule) -> Side {
    let is_tunnel = parse::link(frame).is_ok_and(|link| match rule {
        SideRule::ByVlan(vlan) => link.vlan == *vlan,
        SideRule::ByAddress(tunnel) => {
            let is_tunnel = match link.ethertype {
                ETHERTYPE_IPV4 => tunnel.takes_ipv4(frame, link.l3()),
                ETHERTYPE_IPV6 => tunnel.takes_ipv6(frame, link.l3()),
                ETHERTYPE_ARP => tunnel.takes_arp(frame, link.l3()),
                _ => None,
            };
            is_tunnel == Some(true)
        }
    });
    if is_tunnel { Side::Tunnel } else { Side::External }
}

/// Each `None` where the frame ends too soon.
impl TunnelAddresses {
    fn takes_ipv4(&self, frame: &[u8], l3: usize) -> Option<bool> {
        let header = Ipv4Header::at(frame, l3)?;
        Some(header.version() == 4 && self.has_v4(header.destination()))
    }

    /// A request is for the side of its target, a reply of the side of its sender. A sender that is on-link
    /// on the tunnel side is of that side, whatever it asks for: the external one owes it no answer.
    fn takes_arp(&self, frame: &[u8], l3: usize) -> Option<bool> {
        let arp = ArpPacket::at(frame, l3)?;
        let is_on_link = |ip: [u8; 4]| self.v4.iter().any(|net| net.contains(&Ipv4Addr::from(ip)));
        Some(is_on_link(arp.target_ip) || is_on_link(arp.sender_ip))
    }

    fn takes_ipv6(&self, frame: &[u8], l3: usize) -> Option<bool> {
        let header = Ipv6Header::at(frame, l3)?;
        if header.version() != 6 {
            return None;
        }
        if header.next_header == PROTOCOL_ICMPV6
            && let Some(target) = neighbor_discovery_target(frame, l3 + IPV6_LEN)
        {
            return Some(self.v6.iter().any(|net| net.contains(&target)));
        }
        Some(self.v6.iter().any(|net| net.addr() == header.destination()))
    }

    fn has_v4(&self, address: Ipv4Addr) -> bool {
        self.v4.iter().any(|net| net.addr() == address)
    }
}

/// Whose MAC a Neighbor Solicitation asks for, or an Advertisement tells (RFC 4861 sections 4.3, 4.4).
/// `None` for other messages.
///
/// It tells the side, and the destination does not: that is a group, or the link-local address. Ports make
/// the latter of their MAC, so with one device both have the same, and it belongs to no side's prefixes:
/// the external side alone answers for it. The answer would be the same, as the MAC is.
fn neighbor_discovery_target(frame: &[u8], l4: usize) -> Option<Ipv6Addr> {
    let message = NeighborMessage::at(frame, l4)?;
    let has_target = matches!(message.icmp_type, NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT);
    has_target.then(|| message.target.into())
}

/// One queue pair of one device, as the two ports of a worker.
///
/// A worker that asks both sides in each of its turns leaves nothing waiting here: the tunnel side, when
/// asked, fetches a burst, and the external side gets its share of the same.
#[derive(Debug)]
pub struct OneArm<W: Wire> {
    wire: W,
    rule: SideRule,
    /// Received, and not asked for yet. Fetched into only while all are empty, so that a burst fits
    /// whatever its shares are.
    pending: [Burst<W::Buf>; 2],
}

impl<W: Wire> OneArm<W> {
    pub fn new(wire: W, rule: SideRule) -> Self {
        OneArm { wire, rule, pending: [Burst::new(), Burst::new()] }
    }

    pub fn wire(&self) -> &W {
        &self.wire
    }

    pub fn wire_mut(&mut self) -> &mut W {
        &mut self.wire
    }

    fn fetch(&mut self) {
        let mut burst = Burst::<W::Buf>::new();
        self.wire.rx(&mut burst);
        // The headers of all begin to load before the first is read.
        for packet in &burst {
            packet.prefetch(Side::Tunnel);
        }
        for packet in burst {
            let side = side_of(packet.data(), &self.rule);
            self.pending[side.index()].push(packet);
        }
    }
}

impl<W: Wire> PacketIo for OneArm<W> {
    type Buf = W::Buf;

    fn rx(&mut self, side: Side, burst: &mut Burst<W::Buf>) {
        if side == Side::Tunnel && self.pending.iter().all(|pending| pending.is_empty()) {
            self.fetch();
        }
        let pending = &mut self.pending[side.index()];
        let n = pending.len().min(burst.remaining_capacity());
        burst.extend(pending.drain(..n));
    }

    fn tx(&mut self, _: Side, burst: &mut Burst<W::Buf>) {
        self.wire.tx(burst);
    }

    fn alloc(&mut self) -> Option<W::Buf> {
        self.wire.alloc()
    }
}

impl<W: Wire + Wait> Wait for OneArm<W> {
    fn wait(&mut self, at_most: Duration) {
        self.wire.wait(at_most);
    }
}
