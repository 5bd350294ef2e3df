//! The last check before the external port, for every frame, whoever made it: its source is an egress
//! IP of this gateway or, for what the gateway says itself, an address of the port.
//!
//! It reads the bytes that would leave and trusts no earlier stage, so an error anywhere before it
//! becomes a counted drop and not a packet with a wrong source.

use super::config::DatapathConfig;
use crate::{
    nat::PolicyTable,
    verdict::{DropReason, Side},
    wire::{
        Address, Header,
        arp::ArpPacket,
        ethernet::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader},
        icmpv6::NEIGHBOR_SOLICITATION,
        ipv4::Ipv4Header,
        ipv6::{IPV6_LEN, Ipv6Header, PROTOCOL_ICMPV6},
        parse,
    },
};
use std::net::Ipv4Addr;

#[inline(always)]
pub fn check(
    frame: &[u8],
    config: &DatapathConfig,
    policies: &PolicyTable,
) -> Result<(), DropReason> {
    if is_usual(frame, config, policies) { Ok(()) } else { check_any(frame, config, policies) }
}

/// What nearly all frames are: untagged IPv4 with an egress IP as source.
#[inline(always)]
fn is_usual(frame: &[u8], config: &DatapathConfig, policies: &PolicyTable) -> bool {
    let (link, ip) = (EthernetHeader::at(frame, 0), Ipv4Header::at(frame, ETHERNET_LEN));
    config.external.vlan == 0
        && link.is_some_and(|link| link.ethertype.get() == ETHERTYPE_IPV4)
        && ip.is_some_and(|ip| policies.egress_ips().contains(ip.source()))
}

#[inline(never)]
fn check_any(
    frame: &[u8],
    config: &DatapathConfig,
    policies: &PolicyTable,
) -> Result<(), DropReason> {
    let link = parse::link(frame).map_err(|_| DropReason::EgressGuard)?;
    let may_leave = match link.ethertype {
        ETHERTYPE_IPV4 => Ipv4Header::at(frame, link.l3())
            .is_some_and(|ip| may_leave(ip.source(), ip.protocol, config, policies)),
        ETHERTYPE_IPV6 => Ipv6Header::at(frame, link.l3()).is_some_and(|ip| {
            may_leave(ip.source(), ip.next_header, config, policies)
                || ip.source().is_unspecified() && is_probe(ip, frame, link.l3() + IPV6_LEN)
        }),
        ETHERTYPE_ARP => ArpPacket::at(frame, link.l3()).is_some_and(|arp| {
            let sender = Ipv4Addr::from(arp.sender_ip);
            config.own(Side::External).contains(sender) || policies.egress_ips().contains(sender)
        }),
        _ => false,
    };
    if may_leave && link.vlan == config.external.vlan {
        Ok(())
    } else {
        Err(DropReason::EgressGuard)
    }
}

#[inline(always)]
fn may_leave<A: Address>(
    source: A,
    protocol: u8,
    config: &DatapathConfig,
    policies: &PolicyTable,
) -> bool {
    policies.egress_ips().contains(source)
        // Of itself the gateway says nothing but ICMP.
        || protocol == A::ICMP && config.own(Side::External).contains(source)
}

/// Duplicate Address Detection asks without a source (RFC 4862 section 5.4.2).
fn is_probe(ip: &Ipv6Header, frame: &[u8], l4: usize) -> bool {
    ip.next_header == PROTOCOL_ICMPV6 && frame.get(l4) == Some(&NEIGHBOR_SOLICITATION)
}
