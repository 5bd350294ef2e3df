//! The node's interfaces and addresses, as the kernel tells them. Events only say that something changed; what is true is read anew,
//! so that none can be missed or taken in the wrong order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
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
    Vxlan { collects_metadata: bool, port: u16 },
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
    pub address: Ipv4Addr,
    pub broadcast: Option<Ipv4Addr>,
}

impl Host {
    pub async fn read(netlink: &Handle) -> Result<Self> {
        let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await?;
        let interfaces = links.iter().map(interface).map(|link| (link.index, link)).collect();
        let mut addresses = Vec::new();
        let mut messages = netlink.address().get().execute();
        while let Some(message) = messages.try_next().await? {
            addresses.extend(address(message.header.index, &message.attributes));
        }
        Ok(Self { interfaces, addresses })
    }

    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.interfaces.values().find(|interface| interface.name == name)
    }

    pub fn owner_of(&self, address: Ipv4Addr) -> Option<&Interface> {
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
    let (mut collects_metadata, mut port) = (false, 0);
    for part in info {
        let LinkInfo::Data(InfoData::Vxlan(options)) = part else { continue };
        for option in options {
            if let InfoVxlan::CollectMetadata(value) = option {
                collects_metadata = *value;
            } else if let InfoVxlan::Port(value) = option {
                port = *value;
            }
        }
    }
    Kind::Vxlan { collects_metadata, port }
}

/// `Local` is the interface's own address; on a point-to-point link `Address` is the far end's.
fn address(ifindex: u32, attributes: &[AddressAttribute]) -> Option<Address> {
    let (mut own, mut far, mut broadcast) = (None, None, None);
    for attribute in attributes {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute {
            own = Some(*address);
        } else if let AddressAttribute::Address(IpAddr::V4(address)) = attribute {
            far = Some(*address);
        } else if let AddressAttribute::Broadcast(address) = attribute {
            broadcast = Some(*address);
        }
    }
    Some(Address { ifindex, address: own.or(far)?, broadcast })
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
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
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
