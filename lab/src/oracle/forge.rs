//! Puts a made-up frame on a wire, past the host's own network stack: how a test shows that the oracle would notice.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::host::Host;

/// Sends `frame` out of `device` of `host`.
pub fn inject(host: &Host, device: &str, frame: &[u8]) -> Result<()> {
    host.within(|| {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .context("packet socket")?;
        bind(socket.as_raw_fd(), &link_address(device)?)?;
        let sent = send(socket.as_raw_fd(), frame, MsgFlags::empty())?;
        ensure!(sent == frame.len(), "{sent} of {} bytes sent", frame.len());
        Ok(())
    })
}

fn link_address(device: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {device}"))
}

/// A UDP datagram in an Ethernet frame, with good checksums.
#[must_use]
pub fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(SOURCE_MAC, BROADCAST)
        .ipv4(source, destination, 64)
        .udp(ports.0, ports.1);
    builder.write(&mut frame, payload).unwrap_or_default();
    frame
}

/// Locally administered; nobody answers to it.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x66];
pub const BROADCAST: [u8; 6] = [0xff; 6];
