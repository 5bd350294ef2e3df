//! The node's interfaces and addresses, as the kernel tells them. Events only say that something changed; what is true is read anew,
//! so that none can be missed or taken in the wrong order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use ipnet::Ipv6Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::{Handle, MulticastGroup};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub is_up: bool,
    pub is_ethernet: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Vxlan {
        collects_metadata: bool,
        port: u16,
        /// `udp6zerocsumrx`: takes packets without an outer checksum over IPv6.
        takes_zero_checksum: bool,
        /// `srcport`, as the kernel has it: the upper end is not used. None: `ip_local_port_range`.
        source_ports: Option<(u16, u16)>,
    },
    Other,
}

#[derive(Debug, Clone, Default)]
pub struct Host {
    pub interfaces: BTreeMap<u32, Interface>,
    pub addresses: Vec<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub address: IpAddr,
    /// What the node hears as one of many: IPv4's broadcast, IPv6's subnet-router anycast (RFC 4291 section 2.6.1).
    pub shared: Option<IpAddr>,
}

impl Host {
    pub async fn read(netlink: &Handle) -> Result<Self> {
        let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await?;
        let interfaces = links.iter().map(interface).map(|link| (link.index, link)).collect();
        let mut addresses = Vec::new();
        let mut messages = netlink.address().get().execute();
        while let Some(message) = messages.try_next().await? {
            let header = &message.header;
            addresses.extend(address(header.index, header.prefix_len, &message.attributes));
        }
        Ok(Self { interfaces, addresses })
    }

    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.interfaces.values().find(|interface| interface.name == name)
    }

    /// All that the node answers to.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().flat_map(|own| [Some(own.address), own.shared]).flatten()
    }

    pub fn owner_of(&self, address: IpAddr) -> Option<&Interface> {
        let owner = self.addresses.iter().find(|own| own.address == address)?;
        self.interfaces.get(&owner.ifindex)
    }
}

fn interface(message: &LinkMessage) -> Interface {
    use rtnetlink::packet_route::link::LinkFlags;
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        is_up: message.header.flags.contains(LinkFlags::Up),
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        kind: Kind::Other,
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name.clone_from(name);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            interface.mtu = *mtu;
        } else if let LinkAttribute::LinkInfo(info) = attribute {
            interface.kind = kind(info);
        }
    }
    interface
}

fn kind(info: &[LinkInfo]) -> Kind {
    if !info.iter().any(|part| matches!(part, LinkInfo::Kind(InfoKind::Vxlan))) {
        return Kind::Other;
    }
    let (mut collects_metadata, mut port, mut takes_zero_checksum) = (false, 0, false);
    let mut source_ports = None;
    for part in info {
        let LinkInfo::Data(InfoData::Vxlan(options)) = part else { continue };
        for option in options {
            if let InfoVxlan::CollectMetadata(value) = option {
                collects_metadata = *value;
            } else if let InfoVxlan::Port(value) = option {
                port = *value;
            } else if let InfoVxlan::UDPZeroCsumRX(value) = option {
                takes_zero_checksum = *value;
            } else if let InfoVxlan::PortRange((low, high)) = option {
                source_ports = Some((*low, *high)).filter(|(low, high)| low < high);
            }
        }
    }
    Kind::Vxlan { collects_metadata, port, takes_zero_checksum, source_ports }
}

/// `Local` is the interface's own address; on a point-to-point link `Address` is the far end's. Link-local ones are left out: each pod's
/// interface brings one, and those are never redirected anyway.
fn address(ifindex: u32, prefix_len: u8, attributes: &[AddressAttribute]) -> Option<Address> {
    let (mut own, mut far, mut broadcast) = (None, None, None);
    for attribute in attributes {
        if let AddressAttribute::Local(address) = attribute {
            own = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            far = Some(*address);
        } else if let AddressAttribute::Broadcast(address) = attribute {
            broadcast = Some(IpAddr::V4(*address));
        }
    }
    let address = own.or(far)?;
    let IpAddr::V6(v6) = address else {
        return Some(Address { ifindex, address, shared: broadcast });
    };
    if v6.is_unicast_link_local() {
        return None;
    }
    // A link of two has none (RFC 6164).
    let subnet = Ipv6Net::new(v6, prefix_len).ok().filter(|_| prefix_len < 127);
    Some(Address { ifindex, address, shared: subnet.map(|subnet| subnet.network().into()) })
}

/// Netlink for requests, and the news that links or addresses changed.
pub struct Netlink {
    pub handle: Handle,
    changes: BoxStream<'static, ()>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Netlink")
    }
}

impl Netlink {
    pub fn connect() -> Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&groups).context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle, changes: messages.map(drop).boxed() })
    }

    /// Waits for a change, and takes all that is already there as one.
    pub async fn changed(&mut self) -> Result<()> {
        if self.changes.next().await.is_none() {
            bail!("the kernel's netlink socket was closed");
        }
        while let Some(Some(())) = self.changes.next().now_or_never() {}
        Ok(())
    }
}
