//! The last check before the external port, for every frame, whoever made it: its source is an egress
//! IP of this gateway or, for what the gateway says itself, an address of the port.
//!
//! It reads the bytes that would leave and trusts no earlier stage, so an error anywhere before it
//! becomes a counted drop and not a packet with a wrong source.

use super::config::DatapathConfig;
use crate::{
    nat::AddressSet,
    verdict::{DropReason, Side},
    wire::{
        Header,
        arp::ArpPacket,
        ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4},
        ipv4::{Ipv4Header, PROTOCOL_ICMP},
        parse,
    },
};

#[inline(always)]
pub fn check(
    frame: &[u8],
    config: &DatapathConfig,
    egress_ips: &AddressSet,
) -> Result<(), DropReason> {
    let own = config.own(Side::External);
    let link = parse::link(frame).map_err(|_| DropReason::EgressGuard)?;
    let may_leave = match link.ethertype {
        ETHERTYPE_IPV4 => Ipv4Header::at(frame, link.l3()).is_some_and(|ip| {
            egress_ips.contains(ip.source())
                // Of itself the gateway says nothing but ICMP.
                || ip.protocol == PROTOCOL_ICMP && own.contains(ip.source())
        }),
        ETHERTYPE_ARP => ArpPacket::at(frame, link.l3()).is_some_and(|arp| {
            let sender = arp.sender_ip.into();
            own.contains(sender) || egress_ips.contains(sender)
        }),
        _ => false,
    };
    if may_leave && link.vlan == config.external.vlan {
        Ok(())
    } else {
        Err(DropReason::EgressGuard)
    }
}
