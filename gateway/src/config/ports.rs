//! `[ports.tunnel]` and `[ports.external]`: the two NIC sides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::{own_address, router};
use super::section::{Item, Section};
use super::sides;

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
    /// At least one of either family. Each is the port's own address and the prefix that is on-link
    /// with it; the first of its family is the one that the port sends from.
    pub addresses_v4: Vec<Ipv4Net>,
    /// Without the link-local one, which every port makes of its MAC.
    pub addresses_v6: Vec<Ipv6Net>,
    /// Next hops for what is not on-link; they are, or are link-local (IPv6).
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

    /// What is on-link by its addresses, IPv4 first.
    pub(super) fn on_link(&self) -> impl Iterator<Item = IpNet> {
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
    if let Some(TunnelPort { port, .. }) = &tunnel {
        unused_routers(&section, port);
    }
    section.finish();

    let mut section = ports.section("external");
    let port = port(&mut section);
    let prefixes = egress_prefixes(&mut section);
    if let Some(port) = &port {
        ways_out(&section, port, &prefixes);
    }
    let external = port.map(|port| {
        let (egress_prefixes_v4, egress_prefixes_v6) = by_family(prefixes);
        ExternalPort { port, egress_prefixes_v4, egress_prefixes_v6 }
    });
    section.finish();

    if let (Some(tunnel), Some(external)) = (&tunnel, &external) {
        sides::check(&ports, &tunnel.port, external);
    }
    ports.finish();
    (tunnel, external)
}

fn port(section: &mut Section<'_>) -> Option<PortConfig> {
    let device = section.required("device").and_then(|item| device(&item));
    let addresses = section.required("addresses").and_then(|list| addresses(&list));
    let gateways = section.optional("gateways");
    let gateways = gateways.map(|list| {
        let on_link = addresses.as_deref().unwrap_or_default();
        list.distinct(|item| router(item, on_link))
    });
    let gateways = gateways.unwrap_or_default();
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
    if mtu < MIN_IPV6_MTU && !(addresses_v6.is_empty() && gateways_v6.is_empty()) {
        let reason = format!("{mtu} is less than the {MIN_IPV6_MTU} of RFC 8200 section 5");
        section.error("mtu", reason, "raise it, or give the port no IPv6 addresses and gateways");
    }
    let device = device?;
    Some(PortConfig { device, addresses_v4, addresses_v6, gateways_v4, gateways_v6, mtu, vlan })
}

/// What every IPv6 link has to carry in one piece, in bytes (RFC 8200 section 5).
pub(super) const MIN_IPV6_MTU: u16 = 1280;

/// Link-local next hops of a tunnel port that has no IPv6 VTEP to send from.
fn unused_routers(section: &Section<'_>, port: &PortConfig) {
    if port.addresses_v6.is_empty() && !port.gateways_v6.is_empty() {
        let reason = "the port has no IPv6 address, so nothing is sent to its IPv6 next hops";
        section.warning("gateways", reason, "add one to addresses, or remove them");
    }
}

/// Whether what policies may claim has a way to the world, for each address family.
fn ways_out(section: &Section<'_>, port: &PortConfig, egress_prefixes: &[IpNet]) {
    for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
        let has_address = port.own_addresses().any(|address| address.is_ipv6() == is_v6);
        let has_router = port.gateways().any(|router| router.is_ipv6() == is_v6);
        if has_router || !egress_prefixes.iter().any(|net| net.addr().is_ipv6() == is_v6) {
            continue;
        }
        if has_address {
            let reason = format!(
                "has no {family} router: only destinations that are on-link can be reached"
            );
            section.warning("gateways", reason, "write the address of the next hop to the world");
        } else {
            let reason = format!(
                "has {family}, and the port has no {family} address or router: such traffic cannot \
                 leave"
            );
            section.warning("egress_prefixes", reason, "add both to addresses and gateways");
        }
    }
}

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
fn addresses(list: &Item<'_>) -> Option<Vec<IpNet>> {
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
    (count > 0 && count == own.len()).then_some(own)
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
    list.distinct(|item| {
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
    })
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
