//! What the tunnel side and the external side must agree on, and whether they share one device.

use super::address::is_link_local_v6;
use super::ports::{ExternalPort, MIN_IPV6_MTU, PortConfig};
use super::section::Section;

/// How the sides are told apart that share one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneArmed {
    /// Each has a VLAN of its own; one of them may be untagged.
    ByVlan,
    /// By the addresses: what is for one of the tunnel port's is of the tunnel side.
    ByAddress,
}

/// `None` when each side has a device.
pub(super) fn one_armed(tunnel: &PortConfig, external: &PortConfig) -> Option<OneArmed> {
    let arrangement =
        if tunnel.vlan == external.vlan { OneArmed::ByAddress } else { OneArmed::ByVlan };
    (tunnel.device == external.device).then_some(arrangement)
}

pub(super) fn check(ports: &Section<'_>, tunnel: &PortConfig, external: &ExternalPort) {
    let port = &external.port;
    match one_armed(tunnel, port) {
        None if is_same_device(&tunnel.device, &port.device) => {
            let reason = format!("{:?} is the device of ports.tunnel as well", port.device);
            let hint = "write it exactly as there for a one-armed gateway, or take another device";
            ports.error("external.device", reason, hint);
        }
        None => {}
        Some(arrangement) => check_one_armed(ports, arrangement, tunnel, external),
    }
    // Each side has a table of routes of its own, so a destination is on-link on one of them only.
    for net in port.on_link() {
        let other = tunnel.on_link().find(|other| other.contains(&net) || net.contains(other));
        if let Some(other) = other {
            let reason = format!("{net} overlaps {other} of ports.tunnel");
            ports.error("external.addresses", reason, "give each side a prefix of its own");
        }
    }
    check_room_in_tunnel(ports, tunnel, external);
}

fn check_one_armed(
    ports: &Section<'_>,
    arrangement: OneArmed,
    tunnel: &PortConfig,
    external: &ExternalPort,
) {
    let port = &external.port;
    if tunnel.mtu != port.mtu {
        let reason = format!("{} is not the {} of ports.tunnel", port.mtu, tunnel.mtu);
        ports.error("external.mtu", reason, "the sides share a device, which has one MTU");
    }
    if arrangement == OneArmed::ByVlan {
        return;
    }
    // Both sides have one MAC here and so one link-local address, whose Neighbor Discovery is the
    // external side's: a router's answer to it would never reach the tunnel side.
    for router in tunnel.gateways().filter(|router| is_link_local_v6(*router)) {
        let reason = format!("{router} is link-local, and the sides share a device and a VLAN");
        let hint = "write an address of it in a prefix of addresses, or give each side a VLAN";
        ports.error("tunnel.gateways", reason, hint);
    }
    // Who asks for an address of these prefixes by ARP or ND is taken for the tunnel side's.
    for prefix in external.egress_prefixes() {
        let net = tunnel.on_link().find(|net| net.contains(&prefix) || prefix.contains(net));
        if let Some(net) = net {
            let reason = format!(
                "{prefix} overlaps {net} of ports.tunnel, and the sides share a device and a VLAN"
            );
            let hint = "take prefixes outside of it, or give each side a VLAN";
            ports.error("external.egress_prefixes", reason, hint);
        }
    }
}

/// IPv6 packets of up to 1280 bytes must fit the tunnel in one piece: no sender goes below that,
/// whatever it is told (RFC 8201 section 4).
fn check_room_in_tunnel(ports: &Section<'_>, tunnel: &PortConfig, external: &ExternalPort) {
    // Outer IPv4 or IPv6, UDP and VXLAN headers and the inner Ethernet header, in bytes.
    let overhead = if tunnel.addresses_v6.is_empty() { 50 } else { 70 };
    let room = tunnel.mtu.saturating_sub(overhead);
    if room < MIN_IPV6_MTU && !external.egress_prefixes_v6.is_empty() {
        let reason = format!(
            "leaves {room} bytes for a packet in the tunnel, and IPv6 needs {MIN_IPV6_MTU} (RFC 8200 \
             section 5)"
        );
        let hint =
            format!("longer ones cannot get through: write at least {}", MIN_IPV6_MTU + overhead);
        ports.warning("tunnel.mtu", reason, hint);
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
