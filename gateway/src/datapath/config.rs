//! What the loop knows of its two ports. Fixed from start to end of the process.

use super::{tunnel::TunnelHeaders, usual::UsualFrames};
use crate::{
    nat::{AddressSet, policy_table::Sets},
    verdict::Side,
    wire::{Address, Both, Each, MacAddress, PerFamily, ethernet::ETHERNET_LEN, vlan::VLAN_LEN},
};
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Outer IP, UDP and VXLAN headers and the inner Ethernet header: what VXLAN takes of the tunnel port's
/// MTU, for a node with an IPv4 and one with an IPv6 tunnel address.
pub const VXLAN_OVERHEAD: usize = 50;
pub const VXLAN_OVERHEAD_V6: usize = 70;
/// A TCP header without options.
const TCP_HEADER: usize = 20;

#[derive(Clone, Debug)]
pub struct PortConfig {
    pub mac: MacAddress,
    /// Each with the on-link prefix.
    pub addresses: Vec<IpNet>,
    /// Next hops for what is not on-link; the first of each family is used.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet, in bytes.
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
    own: [Both<Sets>; 2],
    routes: [Both<Routes>; 2],
    vtep: Both<Maybe>,
    tunnel_headers: TunnelHeaders,
    usual_frames: UsualFrames,
}

/// An address of each family, or none.
#[derive(Debug)]
enum Maybe {}

impl PerFamily for Maybe {
    type Of<A: Address> = Option<A>;
}

/// A [`Route`] of each family.
#[derive(Debug)]
enum Routes {}

impl PerFamily for Routes {
    type Of<A: Address> = Route<A>;
}

/// One side's way out, as a packet asks for it.
#[derive(Clone, Debug)]
struct Route<A: Address> {
    /// Network and mask of each on-link prefix.
    on_link: Box<[(A::Bits, A::Bits)]>,
    gateway: Option<A>,
}

impl<A: Address> Route<A> {
    fn of(port: &PortConfig) -> Self {
        let prefix = |net: IpNet| {
            let network = A::of_family(net.network())?;
            Some((network.bits(), A::of_family(net.netmask())?.bits()))
        };
        Route {
            on_link: port.on_link().filter_map(prefix).collect(),
            gateway: port.gateways.iter().copied().find_map(A::of_family),
        }
    }
}

impl PortConfig {
    /// The address that the port has on its link without being told: RFC 4291 section 2.5.6, of the
    /// interface identifier that appendix A makes of its MAC.
    pub fn link_local(&self) -> Ipv6Addr {
        let MacAddress([a, b, c, d, e, f]) = self.mac;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// The port's own addresses, its link-local one last.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let link_local = self.has_ipv6().then(|| self.link_local().into());
        self.addresses.iter().map(IpNet::addr).chain(link_local)
    }

    /// Whether it speaks IPv6: with a router of its link that needs no other address than the link-local
    /// one.
    pub fn has_ipv6(&self) -> bool {
        let gateways = self.gateways.iter().any(IpAddr::is_ipv6);
        gateways || self.addresses.iter().any(|net| net.addr().is_ipv6())
    }

    fn on_link(&self) -> impl Iterator<Item = IpNet> + '_ {
        const LINK_LOCAL: Ipv6Net =
            Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
        let link_local = self.has_ipv6().then_some(IpNet::V6(LINK_LOCAL));
        self.addresses.iter().copied().chain(link_local)
    }

    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.on_link().any(|net| net.contains(&address))
    }

    /// The address to speak from with `target`: of the prefix that it is in, else the first of its
    /// family. `None` where there is none of that family.
    pub fn source_for<A: Address>(&self, target: A) -> Option<A> {
        let target = target.into();
        let link_local = self.has_ipv6().then(|| self.link_local().into());
        let beside = match target {
            IpAddr::V6(target) if target.is_unicast_link_local() => link_local,
            IpAddr::V4(_) | IpAddr::V6(_) => {
                self.addresses.iter().find(|net| net.contains(&target)).map(IpNet::addr)
            }
        };
        let of_family = |net: &IpNet| A::of_family(net.addr());
        beside.and_then(A::of_family).or_else(|| self.addresses.iter().find_map(of_family))
    }

    /// Ethernet with the VLAN tag, if the port has one.
    #[inline]
    pub fn l2_len(&self) -> usize {
        if self.vlan == 0 { ETHERNET_LEN } else { ETHERNET_LEN + VLAN_LEN }
    }
}

/// A port without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress(pub Side);

impl DatapathConfig {
    /// The first IPv4 and the first IPv6 address of the tunnel port are the VTEPs.
    pub fn new(
        tunnel: PortConfig,
        external: PortConfig,
        vxlan_port: u16,
        icmp_errors_per_second: u32,
    ) -> Result<Self, NoAddress> {
        if tunnel.addresses.is_empty() {
            return Err(NoAddress(Side::Tunnel));
        }
        if external.addresses.is_empty() {
            return Err(NoAddress(Side::External));
        }
        let own = |port: &PortConfig| Both {
            v4: port.own_addresses().filter_map(Ipv4Addr::of_family).collect(),
            v6: port.own_addresses().filter_map(Ipv6Addr::of_family).collect(),
        };
        let vtep = Both {
            v4: tunnel.addresses.iter().find_map(|net| Ipv4Addr::of_family(net.addr())),
            v6: tunnel.addresses.iter().find_map(|net| Ipv6Addr::of_family(net.addr())),
        };
        Ok(DatapathConfig {
            own: [&tunnel, &external].map(own),
            routes: [&tunnel, &external]
                .map(|port| Both { v4: Route::of(port), v6: Route::of(port) }),
            tunnel_headers: TunnelHeaders::new(vtep.v4, vtep.v6, vxlan_port),
            usual_frames: UsualFrames::new(&tunnel, &external, vtep.v4, vxlan_port),
            vtep,
            tunnel,
            external,
            vxlan_port,
            icmp_errors_per_second,
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
    pub fn next_hop<A: Address>(&self, side: Side, destination: A) -> Option<A> {
        let route = self.routes[side.index()].of::<A>();
        let bits = destination.bits();
        let is_in = |(network, mask): &(A::Bits, A::Bits)| bits & *mask == *network;
        if route.on_link.iter().any(is_in) { Some(destination) } else { route.gateway }
    }

    #[inline(always)]
    pub fn tunnel_headers(&self) -> &TunnelHeaders {
        &self.tunnel_headers
    }

    #[inline(always)]
    pub fn usual_frames(&self) -> &UsualFrames {
        &self.usual_frames
    }

    /// The gateway's tunnel address of one family: outer source of what it sends.
    #[inline(always)]
    pub fn vtep<A: Address>(&self) -> Option<A> {
        *self.vtep.of::<A>()
    }

    /// The port's own addresses.
    #[inline(always)]
    pub fn own<A: Address>(&self, side: Side) -> &AddressSet<A> {
        self.own[side.index()].of()
    }

    /// The largest inner packet that fits the tunnel to a node, in bytes.
    #[inline(always)]
    pub fn max_inner(&self, tunnel_address: IpAddr) -> usize {
        let overhead = match tunnel_address {
            IpAddr::V4(_) => VXLAN_OVERHEAD,
            IpAddr::V6(_) => VXLAN_OVERHEAD_V6,
        };
        self.tunnel.mtu.saturating_sub(overhead)
    }

    /// The largest TCP segment of each family whose packet fits the tunnel, over any underlay that the
    /// tunnel port has, and the external port.
    pub fn mss_limits(&self) -> Each<u16> {
        let v4 = self.vtep.v4.map(IpAddr::from);
        let vteps = v4.into_iter().chain(self.vtep.v6.map(IpAddr::from));
        let inner = vteps.map(|vtep| self.max_inner(vtep)).min().unwrap_or(0);
        let packet = inner.min(self.external.mtu);
        let segment = |ip_header: usize| {
            u16::try_from(packet.saturating_sub(ip_header + TCP_HEADER)).unwrap_or(u16::MAX)
        };
        Both { v4: segment(Ipv4Addr::HEADER_LEN), v6: segment(Ipv6Addr::HEADER_LEN) }
    }
}
