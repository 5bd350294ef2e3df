//! Puts a made-up frame on a wire, past the host's own network stack: how a test shows that the oracle would notice.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use etherparse::{Icmpv4Type, PacketBuilder};
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

/// Locally administered; nobody answers to it.
const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x66];
const BROADCAST: [u8; 6] = [0xff; 6];

/// An Ethernet frame to everybody.
#[must_use]
pub fn frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&BROADCAST[..], &SOURCE_MAC, &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet with a UDP datagram, with good checksums.
pub fn udp(source: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(source.octets(), to.octets(), 64).udp(40_000, port);
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

pub fn tcp(source: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(source.octets(), to.octets(), 64).tcp(40_000, 80, 1, 1024);
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

pub fn icmp(source: Ipv4Addr, to: Ipv4Addr, kind: Icmpv4Type, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(source.octets(), to.octets(), 64).icmpv4(kind);
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

/// What VXLAN carries in its datagram: its header, an Ethernet header, and `packet`.
#[must_use]
pub fn vxlan(vni: u32, packet: &[u8]) -> Vec<u8> {
    let header = [&[0x08, 0, 0, 0][..], &(vni << 8).to_be_bytes()].concat();
    [header, frame(IPV4, packet)].concat()
}

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;

/// Tells everybody that `sender` is here.
#[must_use]
pub fn arp(sender: Ipv4Addr) -> Vec<u8> {
    let header = [0, 1, 8, 0, 6, 4, 0, 1];
    [&header[..], &SOURCE_MAC, &sender.octets(), &[0; 6], &sender.octets()].concat()
}
