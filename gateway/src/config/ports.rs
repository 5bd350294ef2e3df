//! `[ports.tunnel]` and `[ports.external]`: the two NIC sides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::section::{Item, Section};

/// The side of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPort {
    pub port: PortConfig,
    pub vxlan_port: u16,
}

/// The side of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalPort {
    pub port: PortConfig,
    /// What policies may claim here, but for the gateway's own addresses and its routers'.
    pub egress_prefixes_v4: Vec<Ipv4Net>,
    pub egress_prefixes_v6: Vec<Ipv6Net>,
}

/// What both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// A DPDK vdev with its arguments, or a PCI address.
    pub device: String,
    /// At least one. Each is the port's own address and the prefix that is on-link with it; the
    /// first is the one that it sends from.
    pub addresses_v4: Vec<Ipv4Net>,
    pub addresses_v6: Vec<Ipv6Net>,
    /// Next hops for what is not on-link; they are.
    pub gateways_v4: Vec<Ipv4Addr>,
    pub gateways_v6: Vec<Ipv6Addr>,
    /// Of the port itself: the longest IP packet that it sends or takes.
    pub mtu: u16,
    /// 0: untagged.
    pub vlan: u16,
}

impl PortConfig {
    /// The addresses of the port itself, IPv4 first.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.addresses_v4.iter().map(|net| IpAddr::V4(net.addr()));
        v4.chain(self.addresses_v6.iter().map(|net| IpAddr::V6(net.addr())))
    }

    /// Each of its addresses with the prefix that is on-link, IPv4 first.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.on_link().collect()
    }

    /// Its next hops, IPv4 first.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.gateways_v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.gateways_v6.iter().copied().map(IpAddr::V6))
    }

    fn on_link(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.addresses_v4.iter().copied().map(IpNet::V4);
        v4.chain(self.addresses_v6.iter().copied().map(IpNet::V6))
    }
}

impl ExternalPort {
    /// Both families, IPv4 first.
    pub fn egress_prefixes(&self) -> Vec<IpNet> {
        let v4 = self.egress_prefixes_v4.iter().copied().map(IpNet::V4);
        v4.chain(self.egress_prefixes_v6.iter().copied().map(IpNet::V6)).collect()
    }
}

/// Reads both sides, and what they must agree on. A side is `None` when something without a
/// default is missing or wrong.
pub(super) fn read(mut ports: Section<'_>) -> (Option<TunnelPort>, Option<ExternalPort>) {
    let mut section = ports.section("tunnel");
    let tunnel =
        port(&mut section).map(|port| TunnelPort { port, vxlan_port: vxlan_port(&mut section) });
    section.finish();

    let mut section = ports.section("external");
    let port = port(&mut section);
    if port.as_ref().is_some_and(|port| port.gateways_v4.is_empty()) {
        let reason = "has no IPv4 router: only destinations that are on-link can be reached";
        section.warning("gateways", reason, "write the address of the next hop to the world");
    }
    let prefixes = egress_prefixes(&mut section);
    let external = port.map(|port| {
        let (egress_prefixes_v4, egress_prefixes_v6) = by_family(prefixes);
        ExternalPort { port, egress_prefixes_v4, egress_prefixes_v6 }
    });
    section.finish();

    if let (Some(tunnel), Some(external)) = (&tunnel, &external) {
        check_apart(&ports, &tunnel.port, &external.port);
    }
    ports.finish();
    (tunnel, external)
}

fn port(section: &mut Section<'_>) -> Option<PortConfig> {
    let device = section.required("device").and_then(|item| device(&item));
    let addresses = section.required("addresses").and_then(|list| addresses(section, &list));
    let gateways = section.optional("gateways");
    let gateways = gateways.map(|list| {
        let on_link = addresses.as_deref().unwrap_or_default();
        list.distinct(|item| router(item, on_link))
    });
    let gateways = gateways.unwrap_or_default();
    if gateways.iter().any(IpAddr::is_ipv6) {
        section.warning("gateways", IPV4_ONLY, "");
    }
    let mtu = section.integer("mtu", 576..=9600, 1500);
    let vlan = section.integer("vlan", 0..=4094, 0);

    let (addresses_v4, addresses_v6) = by_family(addresses?);
    let (mut gateways_v4, mut gateways_v6) = (Vec::new(), Vec::new());
    for gateway in gateways {
        match gateway {
            IpAddr::V4(gateway) => gateways_v4.push(gateway),
            IpAddr::V6(gateway) => gateways_v6.push(gateway),
        }
    }
    let device = device?;
    Some(PortConfig { device, addresses_v4, addresses_v6, gateways_v4, gateways_v6, mtu, vlan })
}

const IPV4_ONLY: &str = "this version forwards IPv4 only: the IPv6 part has no effect";

/// The device as DPDK calls it.
fn device(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '\0') {
        let hint = "write a DPDK vdev, as net_af_packet0,iface=eth0, or a PCI address";
        item.error(format!("{text:?} is not a device"), hint);
    }
    Some(text.to_owned())
}

/// The port's own addresses. `None` when one of them is wrong: without all of them, what is on-link
/// is not known.
fn addresses(section: &Section<'_>, list: &Item<'_>) -> Option<Vec<IpNet>> {
    let (mut count, mut own) = (0, Vec::<IpNet>::new());
    list.items::<()>(|item| {
        count += 1;
        let net = own_address(item)?;
        if own.iter().any(|other| other.addr() == net.addr()) {
            item.error(format!("{} is in the list already", net.addr()), "remove it");
        }
        own.push(net);
        None
    });
    if count == 0 && list.is_empty_list() {
        list.error("needs at least one address", "write it with its prefix, as 192.0.2.10/24");
    }
    if count == 0 || count != own.len() {
        return None;
    }
    let has_v4 = own.iter().any(|net| net.addr().is_ipv4());
    if !has_v4 {
        list.error("this version forwards IPv4 only, and no address is IPv4", "add one");
    } else if own.iter().any(|net| net.addr().is_ipv6()) {
        section.warning("addresses", IPV4_ONLY, "");
    }
    Some(own)
}

/// An address that an interface can have, with the length of the prefix around it.
fn own_address(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<IpAddr>() {
            Ok(address) => format!("the prefix length is missing, as in {address}/24"),
            Err(_) => "write it as 192.0.2.10/24".to_owned(),
        };
        item.error(format!("{text:?} is not an address with its prefix length"), hint);
        return None;
    };
    let address = net.addr();
    let is_end = address == net.network() || address == net.broadcast();
    if let Some(class) = unusable_class(address) {
        item.error(format!("{address} is {class}"), "write an address that others can reach");
    } else if is_end && net.prefix_len() < net.max_prefix_len() - 1 && address.is_ipv4() {
        let reason = format!("{address} is the network or broadcast address of {}", net.trunc());
        item.error(reason, "write the port's own address");
    }
    Some(net)
}

fn unusable_class(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address == Ipv4Addr::BROADCAST => Some("the broadcast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// A next hop. `own` are the port's addresses; empty while they are not known.
fn router(item: &Item<'_>, own: &[IpNet]) -> Option<IpAddr> {
    let text = item.text()?;
    let Ok(address) = text.parse::<IpAddr>() else {
        item.error(format!("{text:?} is not an IP address"), "write it as 192.0.2.1");
        return None;
    };
    if own.iter().any(|net| net.addr() == address) {
        item.error(format!("{address} is the port's own address"), "write that of the router");
    } else if !own.is_empty() && !own.iter().any(|net| net.contains(&address)) {
        let reason = format!("{address} is not on-link: no prefix of addresses contains it");
        item.error(reason, "a next hop is found by ARP or ND, so it must be in one of them");
    }
    Some(address)
}

fn vxlan_port(section: &mut Section<'_>) -> u16 {
    let port = section.integer("vxlan_port", 1..=u16::MAX, 4790);
    if [4789, 8472].contains(&port) {
        let reason = format!("CNIs use {port} for their own VXLAN on the nodes");
        section.warning("vxlan_port", reason, "4790 is free of that");
    }
    port
}

fn egress_prefixes(section: &mut Section<'_>) -> Vec<IpNet> {
    let Some(list) = section.required("egress_prefixes") else { return Vec::new() };
    if list.is_empty_list() {
        list.error("needs at least one prefix", "policies may claim nothing without");
    }
    let prefixes = list.distinct(|item| {
        let text = item.text()?;
        let Ok(net) = text.parse::<IpNet>() else {
            let hint = match text.parse::<IpAddr>() {
                Ok(address) => format!("for this one address write {}", IpNet::from(address)),
                Err(_) => "write it as 203.0.113.16/28".to_owned(),
            };
            item.error(format!("{text:?} is not a prefix"), hint);
            return None;
        };
        if net != net.trunc() {
            let hint = format!("write {} or {}", net.trunc(), IpNet::from(net.addr()));
            item.error(format!("{net} has bits set after its prefix"), hint);
        }
        Some(net)
    });
    if prefixes.iter().any(|net| net.addr().is_ipv6()) {
        section.warning("egress_prefixes", IPV4_ONLY, "");
    }
    prefixes
}

/// The two sides must be two devices, and a destination on-link on one of them only.
fn check_apart(ports: &Section<'_>, tunnel: &PortConfig, external: &PortConfig) {
    if is_same_device(&tunnel.device, &external.device) {
        let reason = format!("{:?} is the device of ports.tunnel as well", external.device);
        ports.error("external.device", reason, "this version needs a device for each side");
    }
    for net in external.on_link() {
        let other = tunnel.on_link().find(|other| other.contains(&net) || net.contains(other));
        if let Some(other) = other {
            let reason = format!("{net} overlaps {other} of ports.tunnel");
            ports.error("external.addresses", reason, "give each side a prefix of its own");
        }
    }
}

/// Whether two device strings open one device: by its name, or by the interface under a vdev.
fn is_same_device(a: &str, b: &str) -> bool {
    let name = |device: &str| {
        let name = device.split(',').next().unwrap_or_default();
        // A PCI address may leave out its domain.
        name.strip_prefix("0000:").unwrap_or(name).to_ascii_lowercase()
    };
    let interface = |device: &str| {
        device.split(',').find_map(|argument| Some(argument.strip_prefix("iface=")?.to_owned()))
    };
    name(a) == name(b) || (interface(a).is_some() && interface(a) == interface(b))
}

fn by_family(nets: Vec<IpNet>) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for net in nets {
        match net {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    (v4, v6)
}
