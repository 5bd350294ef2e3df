//! Addresses that a port, or a router beside it, can have.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::section::Item;

/// An address that an interface can have, with the length of the prefix around it.
pub(super) fn own_address(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<IpAddr>() {
            Ok(address @ IpAddr::V4(_)) => {
                format!("the prefix length is missing, as in {address}/24")
            }
            Ok(address) => format!("the prefix length is missing, as in {address}/64"),
            Err(_) => "write it as 192.0.2.10/24 or 2001:db8::10/64".to_owned(),
        };
        item.error(format!("{text:?} is not an address with its prefix length"), hint);
        return None;
    };
    let address = net.addr();
    // Prefixes with two addresses have no reserved ones (RFC 3021, RFC 6164).
    let has_reserved = net.prefix_len() < net.max_prefix_len() - 1;
    if let Some((class, hint)) = unusable_class(address) {
        item.error(format!("{address} is {class}"), hint);
    } else if has_reserved && address == net.network() && address.is_ipv6() {
        let reason = format!("{address} is the anycast address of all routers of {net}");
        item.error(reason, "write the port's own address (RFC 4291 section 2.6.1)");
    } else if has_reserved && address.is_ipv4() && is_end(net) {
        let reason = format!("{address} is the network or broadcast address of {}", net.trunc());
        item.error(reason, "write the port's own address");
    }
    Some(net)
}

fn is_end(net: IpNet) -> bool {
    net.addr() == net.network() || net.addr() == net.broadcast()
}

/// What kind of address no port can have of its own, and what to do.
fn unusable_class(address: IpAddr) -> Option<(&'static str, &'static str)> {
    let reachable = "write an address that others can reach";
    match address {
        _ if address.is_unspecified() => Some(("the unspecified address", reachable)),
        _ if address.is_loopback() => Some(("a loopback address", reachable)),
        _ if address.is_multicast() => Some(("a multicast address", reachable)),
        _ if address == Ipv4Addr::BROADCAST => Some(("the broadcast address", reachable)),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some((
            "a link-local address",
            "remove it: every port has its own fe80:: address by itself, from its MAC",
        )),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some(("an IPv4-mapped IPv6 address", "write the IPv4 address"))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// A next hop. `own` are the port's addresses; empty while they are not known.
pub(super) fn router(item: &Item<'_>, own: &[IpNet]) -> Option<IpAddr> {
    let text = item.text()?;
    let Ok(address) = text.parse::<IpAddr>() else {
        item.error(format!("{text:?} is not an IP address"), "write it as 192.0.2.1");
        return None;
    };
    // On-link on every link (RFC 4291 section 2.5.6), and what IPv6 routers announce themselves by.
    if is_link_local_v6(address) {
        return Some(address);
    }
    if own.iter().any(|net| net.addr() == address) {
        item.error(format!("{address} is the port's own address"), "write that of the router");
    } else if !own.is_empty() && !own.iter().any(|net| net.contains(&address)) {
        let reason = format!("{address} is not on-link: no prefix of addresses contains it");
        let hint = match address {
            IpAddr::V4(_) => "a next hop is found by ARP, so it must be in one of them",
            IpAddr::V6(_) => "write one that is in one of them, or its link-local address",
        };
        item.error(reason, hint);
    }
    Some(address)
}

pub(super) fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
