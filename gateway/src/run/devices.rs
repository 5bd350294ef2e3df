//! What can be said of a device before DPDK is asked, in plain words.

use crate::dpdk::DpdkError;
use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// `0000:01:00.0`, with or without the domain.
pub(super) fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    address.contains(':') && address.contains('.')
}

/// What DPDK says of a missing kernel interface or PCI device is in its log only.
pub(super) fn check_device(key: &str, device: &str) -> Result<()> {
    if is_pci(device) {
        let address = device.split(',').next().unwrap_or_default();
        let full = if address.matches(':').count() == 1 {
            format!("0000:{address}")
        } else {
            address.into()
        };
        if !Path::new("/sys/bus/pci/devices").join(&full).exists() {
            bail!("{key}: there is no PCI device {full} (list them: dpdk-devbind.py --status)");
        }
        return Ok(());
    }
    let is_kernel_interface =
        device.starts_with("net_af_packet") || device.starts_with("net_af_xdp");
    let interface = device.split(',').find_map(|argument| argument.strip_prefix("iface="));
    match interface {
        Some(interface) if is_kernel_interface => {
            if !Path::new("/sys/class/net").join(interface).exists() {
                bail!("{key}: there is no interface {interface} here (list them: ip link)");
            }
            if !has_capability(CAP_NET_RAW)? {
                bail!("{key}: {device} needs root, or CAP_NET_RAW and CAP_NET_ADMIN");
            }
            Ok(())
        }
        None if is_kernel_interface => bail!("{key}: {device} needs iface=NAME"),
        _ => Ok(()),
    }
}

/// Of `linux/capability.h`.
const CAP_NET_RAW: u32 = 13;

/// Whether this process may use the capability of that number.
fn has_capability(number: u32) -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.context("no CapEff in /proc/self/status")?;
    Ok(u64::from_str_radix(effective.trim(), 16)? >> number & 1 == 1)
}

/// A start that failed for lack of rights says so.
pub(super) fn explain(error: DpdkError) -> anyhow::Error {
    let errno = error.errno;
    let error = anyhow::Error::new(error);
    if matches!(errno, libc::EACCES | libc::EPERM) {
        return error.context("DPDK needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK");
    }
    error
}
