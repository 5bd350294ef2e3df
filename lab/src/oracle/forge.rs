//! Puts a made-up frame on a wire, past the host's own network stack: how a test shows that the oracle would notice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, icmpv4,
    icmpv6,
};
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

/// The same to one station, in a VLAN; 0: untagged.
#[must_use]
pub fn addressed(to: [u8; 6], vlan: u16, frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(ADDRESSES);
    let from = addresses.get(to.len()..).unwrap_or_default();
    let tag = [VLAN.to_be_bytes(), vlan.to_be_bytes()].concat();
    let tag = if vlan == 0 { Vec::new() } else { tag };
    [&to, from, &tag, rest].concat()
}

/// To everybody and from whom.
const ADDRESSES: usize = 12;
const VLAN: u16 = 0x8100;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;

/// An Ethernet frame with this IP packet, of the family that its first byte says.
#[must_use]
pub fn ip_frame(packet: &[u8]) -> Vec<u8> {
    let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    frame(if is_v6 { IPV6 } else { IPV4 }, packet)
}

fn ip(source: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<IpHeaders>> {
    match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            Ok(PacketBuilder::ipv4(source.octets(), to.octets(), HOP_LIMIT))
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            Ok(PacketBuilder::ipv6(source.octets(), to.octets(), HOP_LIMIT))
        }
        _ => bail!("{source} and {to} are of two families"),
    }
}

/// An IP packet with a UDP datagram, with good checksums.
pub fn udp(source: IpAddr, to: IpAddr, port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    ip(source, to)?.udp(40_000, port).write(&mut packet, payload)?;
    Ok(packet)
}

pub fn tcp(source: IpAddr, to: IpAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    ip(source, to)?.tcp(40_000, 80, 1, 1024).write(&mut packet, payload)?;
    Ok(packet)
}

/// ICMP messages that exist in both families.
#[derive(Clone, Copy, Debug)]
pub enum Icmp {
    EchoRequest,
    PortUnreachable,
}

pub fn icmp(source: IpAddr, to: IpAddr, kind: Icmp, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    let step = ip(source, to)?;
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    match (kind, source.is_ipv6()) {
        (Icmp::EchoRequest, false) => {
            step.icmpv4(Icmpv4Type::EchoRequest(echo)).write(&mut packet, payload)
        }
        (Icmp::EchoRequest, true) => {
            step.icmpv6(Icmpv6Type::EchoRequest(echo)).write(&mut packet, payload)
        }
        (Icmp::PortUnreachable, false) => {
            let port = icmpv4::DestUnreachableHeader::Port;
            step.icmpv4(Icmpv4Type::DestinationUnreachable(port)).write(&mut packet, payload)
        }
        (Icmp::PortUnreachable, true) => {
            let port = icmpv6::DestUnreachableCode::Port;
            step.icmpv6(Icmpv6Type::DestinationUnreachable(port)).write(&mut packet, payload)
        }
    }?;
    Ok(packet)
}

/// A neighbour or listener discovery message without options: type, four bytes of flags, and the address that it is about.
pub fn discovery(source: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Result<Vec<u8>> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
    let builder = PacketBuilder::ipv6(source.octets(), all_nodes.octets(), ND_HOP_LIMIT);
    let mut packet = Vec::new();
    builder.icmpv6(message).write(&mut packet, &target.octets())?;
    Ok(packet)
}

/// The same IPv6 packet with an extension header of 8 bytes in front of what it carries. Fragment headers have their own fields in `content`.
#[must_use]
pub fn extended(packet: &[u8], extension: u8, content: [u8; 6]) -> Vec<u8> {
    let mut extended = packet.to_vec();
    let next = std::mem::replace(&mut extended[NEXT_HEADER], extension);
    let header = [&[next, 0][..], &content].concat();
    extended.splice(IPV6_HEADER..IPV6_HEADER, header);
    let length = (extended.len() - IPV6_HEADER) as u16;
    extended[PAYLOAD_LENGTH..NEXT_HEADER].copy_from_slice(&length.to_be_bytes());
    extended
}

pub const HOP_BY_HOP: u8 = 0;
pub const FRAGMENT: u8 = 44;

const HOP_LIMIT: u8 = 64;
/// RFC 4861 section 7.1: whoever passes a packet on lowers it, so this one comes from the link.
const ND_HOP_LIMIT: u8 = 255;
const IPV6_HEADER: usize = 40;
const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;

/// What VXLAN carries in its datagram: its header, an Ethernet header, and `packet`.
#[must_use]
pub fn vxlan(vni: u32, packet: &[u8]) -> Vec<u8> {
    let header = [&[0x08, 0, 0, 0][..], &(vni << 8).to_be_bytes()].concat();
    [header, ip_frame(packet)].concat()
}

/// Tells everybody that `sender` is here.
#[must_use]
pub fn arp(sender: Ipv4Addr) -> Vec<u8> {
    let header = [0, 1, 8, 0, 6, 4, 0, 1];
    [&header[..], &SOURCE_MAC, &sender.octets(), &[0; 6], &sender.octets()].concat()
}
