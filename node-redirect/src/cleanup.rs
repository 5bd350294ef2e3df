//! `node-redirect cleanup`: takes everything away that `run` leaves behind. Safe to repeat, and where nothing is.

use std::fs;
use std::io;

use anyhow::{Context, Result};
use rtnetlink::Handle;

use crate::attach::{pinned_links, remove_pin};
use crate::clsact;
use crate::config::Config;
use crate::host::{Host, Netlink};
use crate::preflight;
use crate::tcx::Side;
use crate::vxlan;

pub async fn run(config: &Config) -> Result<()> {
    preflight::check_capabilities()?;
    let _lock = config.pin_path.exists().then(|| preflight::lock(&config.pin_path)).transpose()?;
    let netlink = Netlink::connect()?;
    remove_all(config, &netlink.handle).await
}

/// Redirection ends first, then what it needs goes.
pub async fn remove_all(config: &Config, netlink: &Handle) -> Result<()> {
    for link in pinned_links(&config.link_pins())? {
        remove_pin(&link.path)?;
    }
    let host = Host::read(netlink).await?;
    for &ifindex in host.interfaces.keys() {
        let mut was_ours = false;
        for side in [Side::Ingress, Side::Egress] {
            was_ours |= clsact::detach(ifindex, side)?;
        }
        if was_ours {
            clsact::remove_unused_qdisc(netlink, ifindex).await?;
        }
    }
    vxlan::remove(netlink, &host, &config.vxlan_device, config.vxlan_port).await?;
    remove_pins(config)
}

fn remove_pins(config: &Config) -> Result<()> {
    for folder in [config.link_pins(), config.pin_path.clone()] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        };
        for entry in entries {
            remove_pin(&entry?.path())?;
        }
        fs::remove_dir(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
