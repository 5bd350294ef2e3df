//! The VXLAN device: one per node, in collect-metadata mode, so that programs choose VNI and remote per packet. It has no addresses and no
//! routes; only `from_pod` sends into it, and nothing passes `from_tunnel` up to the kernel's stack.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rtnetlink::packet_route::link::InfoVxlan;
use rtnetlink::{Handle, LinkUnspec, LinkVxlan};

use crate::config::Config;
use crate::host::{Host, Interface, Kind};
use crate::outer_port::SourcePorts;

/// UDP 8, VXLAN 8, inner Ethernet 14.
const TUNNEL_HEADERS: u32 = 30;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Of a device that is made here: the dynamic ports, as RFC 7348 section 5 recommends. The upper end is not used.
const SOURCE_PORTS: SourcePorts = SourcePorts { low: 49152, high: 65535 };

/// What the kernel takes outer source ports from; of a device that is missing, what it will be made with.
pub fn source_ports(host: &Host, config: &Config) -> Result<SourcePorts> {
    let Some(found) = host.by_name(&config.vxlan_device) else { return Ok(SOURCE_PORTS) };
    if let Kind::Vxlan { source_ports: Some((low, high)), .. } = found.kind {
        return Ok(SourcePorts { low, high });
    }
    let text = fs::read_to_string(LOCAL_PORT_RANGE)
        .with_context(|| format!("cannot read {LOCAL_PORT_RANGE}"))?;
    let mut ends = text.split_whitespace().map(str::parse);
    let (Some(Ok(low)), Some(Ok(high)), None) = (ends.next(), ends.next(), ends.next()) else {
        bail!("{LOCAL_PORT_RANGE} is {text:?}: two UDP ports are wanted");
    };
    Ok(SourcePorts { low, high })
}

/// The device as configured: found, or made. Not up yet when it was made, for its program must be there first.
pub async fn ensure_exists(netlink: &Handle, host: &Host, config: &Config) -> Result<u32> {
    let mtu = wanted_mtu(host, config)?;
    if let Some(found) = host.by_name(&config.vxlan_device) {
        check(found, config.vxlan_port)?;
        check_zero_checksum(found, config.vtep)?;
        if found.mtu != mtu {
            netlink
                .link()
                .set(LinkUnspec::new_with_index(found.index).mtu(mtu).build())
                .execute()
                .await?;
        }
        return Ok(found.index);
    }
    make(netlink, config, mtu).await?;
    let host = Host::read(netlink).await?;
    let made = host.by_name(&config.vxlan_device).map(|device| device.index);
    made.with_context(|| format!("{} vanished as soon as it was made", config.vxlan_device))
}

pub async fn set_up(netlink: &Handle, config: &Config, index: u32) -> Result<()> {
    prepare_ip(&config.vxlan_device)?;
    let up = netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await;
    up.with_context(|| port_may_be_taken("bring up", config))
}

/// Only a device that this program could have made: another of that name is somebody else's.
pub async fn remove(netlink: &Handle, host: &Host, name: &str, port: u16) -> Result<bool> {
    let Some(found) = host.by_name(name) else { return Ok(false) };
    if check(found, port).is_err() {
        return Ok(false);
    }
    netlink.link().del(found.index).execute().await?;
    Ok(true)
}

fn wanted_mtu(host: &Host, config: &Config) -> Result<u32> {
    let Some(underlay) = host.owner_of(config.vtep) else {
        bail!("node.vtep {} is not an address of this node", config.vtep);
    };
    let outer_ip = if config.vtep.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    let carries = underlay.mtu.saturating_sub(outer_ip + TUNNEL_HEADERS);
    Ok(config.vxlan_mtu.unwrap_or(carries))
}

fn check(found: &Interface, port: u16) -> Result<()> {
    let is_right =
        matches!(found.kind, Kind::Vxlan { collects_metadata: true, port: its, .. } if its == port);
    ensure!(
        is_right,
        "there is an interface {name} that is not a collect-metadata VXLAN with port {port}: remove it (`ip link del {name}`) or set \
         another vxlan.device",
        name = found.name
    );
    Ok(())
}

/// Gateways send no outer checksum over IPv6 either (RFC 6935 section 5), which the kernel refuses unless told.
fn check_zero_checksum(found: &Interface, vtep: IpAddr) -> Result<()> {
    let takes_zero = matches!(found.kind, Kind::Vxlan { takes_zero_checksum: true, .. });
    ensure!(
        takes_zero || vtep.is_ipv4(),
        "the VXLAN device {name} has no udp6zerocsumrx, which gateways over IPv6 need: remove it (`ip link del {name}`), it is made again",
        name = found.name
    );
    Ok(())
}

async fn make(netlink: &Handle, config: &Config, mtu: u32) -> Result<()> {
    let device = LinkVxlan::new(&config.vxlan_device, 0)
        .append_info_data(InfoVxlan::Learning(false))
        .append_info_data(InfoVxlan::UDPZeroCsumRX(true))
        .collect_metadata(true)
        .port(config.vxlan_port)
        .port_range(SOURCE_PORTS.low, SOURCE_PORTS.high)
        .mtu(mtu)
        .build();
    let made = netlink.link().add(device).execute().await;
    made.with_context(|| port_may_be_taken("make", config))
}

/// The kernel refuses two such devices on one port when the second is made, or not before it comes up.
fn port_may_be_taken(what: &str, config: &Config) -> String {
    format!(
        "cannot {what} the VXLAN device {} on UDP port {} (has another VXLAN device the port? `ip -d link show type vxlan`)",
        config.vxlan_device, config.vxlan_port
    )
}

/// The route look-up of `from_tunnel` refuses interfaces that do not forward; and without an IPv6 address of its own the device sends nothing.
/// A node without IPv6 has none of the latter's settings.
fn prepare_ip(device: &str) -> Result<()> {
    let forwarding = format!("/proc/sys/net/ipv4/conf/{device}/forwarding");
    fs::write(&forwarding, "1").with_context(|| format!("cannot write {forwarding}"))?;
    const NO_ADDRESS: &str = "1";
    for (setting, value) in [("addr_gen_mode", NO_ADDRESS), ("forwarding", "1")] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/{setting}");
        if Path::new(&path).exists() {
            fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}
