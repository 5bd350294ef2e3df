//! What the loop knows of its two ports. Fixed from start to end of the process.

use super::tunnel::TunnelHeaders;
use crate::{
    nat::AddressSet,
    verdict::Side,
    wire::{MacAddress, ethernet::ETHERNET_LEN, vlan::VLAN_LEN},
};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Outer Ethernet, IPv4, UDP and VXLAN headers and the inner Ethernet header, without the outer
/// Ethernet header: what VXLAN takes of the tunnel port's MTU.
pub const VXLAN_OVERHEAD: usize = 50;
/// IPv4 and TCP headers without options.
const TCP_HEADERS: usize = 40;

#[derive(Clone, Debug)]
pub struct PortConfig {
    pub mac: MacAddress,
    /// Each with the on-link prefix.
    pub addresses: Vec<Ipv4Net>,
    /// Next hops for what is not on-link; the first is used.
    pub gateways: Vec<Ipv4Addr>,
    /// Largest IPv4 packet, in bytes.
    pub mtu: usize,
    /// 0: untagged.
    pub vlan: u16,
}

#[derive(Clone, Debug)]
pub struct DatapathConfig {
    pub tunnel: PortConfig,
    pub external: PortConfig,
    /// UDP destination l4_port of the tunnel.
    pub vxlan_port: u16,
    pub icmp_errors_per_second: u32,
    own: [AddressSet; 2],
    routes: [Route; 2],
    vtep: Ipv4Addr,
    tunnel_headers: TunnelHeaders,
}

/// One side's way out, as a packet asks for it.
#[derive(Clone, Debug)]
struct Route {
    /// Network and mask of each on-link prefix.
    on_link: Box<[(u32, u32)]>,
    gateway: Option<Ipv4Addr>,
}

impl Route {
    fn of(port: &PortConfig) -> Self {
        let prefix = |net: &Ipv4Net| (net.network().to_bits(), net.netmask().to_bits());
        let on_link = port.addresses.iter().map(prefix).collect();
        Route { on_link, gateway: port.gateways.first().copied() }
    }
}

impl PortConfig {
    pub fn has_address(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|a| a.addr() == address)
    }

    pub fn is_on_link(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|net| net.contains(&address))
    }

    /// Ethernet with the VLAN tag, if the port has one.
    #[inline]
    pub fn l2_len(&self) -> usize {
        if self.vlan == 0 { ETHERNET_LEN } else { ETHERNET_LEN + VLAN_LEN }
    }
}

/// A port without an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress(pub Side);

impl DatapathConfig {
    /// The first address of the tunnel port is the VTEP.
    pub fn new(
        tunnel: PortConfig,
        external: PortConfig,
        vxlan_port: u16,
        icmp_errors_per_second: u32,
    ) -> Result<Self, NoAddress> {
        let vtep = tunnel.addresses.first().ok_or(NoAddress(Side::Tunnel))?.addr();
        if external.addresses.is_empty() {
            return Err(NoAddress(Side::External));
        }
        Ok(DatapathConfig {
            own: [&tunnel, &external].map(|p| p.addresses.iter().map(Ipv4Net::addr).collect()),
            routes: [&tunnel, &external].map(Route::of),
            tunnel_headers: TunnelHeaders::new(vtep, vxlan_port),
            tunnel,
            external,
            vxlan_port,
            icmp_errors_per_second,
            vtep,
        })
    }

    #[inline]
    pub fn port(&self, side: Side) -> &PortConfig {
        match side {
            Side::Tunnel => &self.tunnel,
            Side::External => &self.external,
        }
    }

    /// Who gets a packet for `destination`: itself when on-link, else the gateway.
    #[inline(always)]
    pub fn next_hop(&self, side: Side, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        let route = &self.routes[side.index()];
        let is_in = |(network, mask): &(u32, u32)| destination.to_bits() & mask == *network;
        if route.on_link.iter().any(is_in) { Some(destination) } else { route.gateway }
    }

    #[inline(always)]
    pub fn tunnel_headers(&self) -> &TunnelHeaders {
        &self.tunnel_headers
    }

    /// The gateway's tunnel address: outer source of what it sends.
    #[inline]
    pub fn vtep(&self) -> Ipv4Addr {
        self.vtep
    }

    /// The port's own addresses.
    #[inline]
    pub fn own(&self, side: Side) -> &AddressSet {
        &self.own[side.index()]
    }

    /// The largest inner packet that fits the tunnel, in bytes.
    #[inline]
    pub fn max_inner(&self) -> usize {
        self.tunnel.mtu.saturating_sub(VXLAN_OVERHEAD)
    }

    /// The largest TCP segment whose packet fits the tunnel and the external port.
    pub fn mss_limit(&self) -> u16 {
        let packet = self.max_inner().min(self.external.mtu);
        u16::try_from(packet.saturating_sub(TCP_HEADERS)).unwrap_or(u16::MAX)
    }
}
