//! The VXLAN device: one per node, in collect-metadata mode, so that programs choose VNI and remote per packet. It has no addresses and no
//! routes; only `from_pod` sends into it, and nothing passes `from_tunnel` up to the kernel's stack.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rtnetlink::packet_route::link::InfoVxlan;
use rtnetlink::{Handle, LinkUnspec, LinkVxlan};

use crate::config::Config;
use crate::host::{Host, Interface, Kind};

/// Outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
const OVERHEAD: u32 = 50;

/// The device as configured: found, or made. Not up yet when it was made, for its program must be there first.
pub async fn ensure_exists(netlink: &Handle, host: &Host, config: &Config) -> Result<u32> {
    let mtu = wanted_mtu(host, config)?;
    if let Some(found) = host.by_name(&config.vxlan_device) {
        check(found, config.vxlan_port)?;
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
    netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
    Ok(())
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
    Ok(config.vxlan_mtu.unwrap_or_else(|| underlay.mtu.saturating_sub(OVERHEAD)))
}

fn check(found: &Interface, port: u16) -> Result<()> {
    let right = Kind::Vxlan { collects_metadata: true, port };
    ensure!(
        found.kind == right,
        "there is an interface {name} that is not a collect-metadata VXLAN with port {port}: remove it (`ip link del {name}`) or set \
         another vxlan.device",
        name = found.name
    );
    Ok(())
}

async fn make(netlink: &Handle, config: &Config, mtu: u32) -> Result<()> {
    let device = LinkVxlan::new(&config.vxlan_device, 0)
        .append_info_data(InfoVxlan::Learning(false))
        .collect_metadata(true)
        .port(config.vxlan_port)
        .mtu(mtu)
        .build();
    netlink.link().add(device).execute().await.with_context(|| {
        format!(
            "cannot make the VXLAN device {} on UDP port {} (has another VXLAN device the port? `ip -d link show type vxlan`)",
            config.vxlan_device, config.vxlan_port
        )
    })
}

/// The route look-up of `from_tunnel` refuses interfaces that do not forward; and without an IPv6 address of its own the device sends nothing.
fn prepare_ip(device: &str) -> Result<()> {
    let forwarding = format!("/proc/sys/net/ipv4/conf/{device}/forwarding");
    fs::write(&forwarding, "1").with_context(|| format!("cannot write {forwarding}"))?;
    let generation = format!("/proc/sys/net/ipv6/conf/{device}/addr_gen_mode");
    const NONE: &str = "1";
    if Path::new(&generation).exists() {
        fs::write(&generation, NONE).with_context(|| format!("cannot write {generation}"))?;
    }
    Ok(())
}
