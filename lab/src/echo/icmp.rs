//! ICMP echo requests, as a raw socket sees them beside the kernel, which answers.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use etherparse::{Icmpv4Type, NetSlice, SlicedPacket, TransportSlice};
use socket2::{Domain, Protocol as Ip, Socket, Type};

use super::seen::{Protocol, Seen, Sighting};
use crate::marker::Marker;

/// `ping` puts a timestamp before the pattern that carries the marker.
const PING_TIMESTAMP: usize = 16;

/// Blocks: to be run on a thread of its own.
pub(super) fn watch(seen: &Seen) -> Result<()> {
    let mut socket =
        Socket::new(Domain::IPV4, Type::RAW, Some(Ip::ICMPV4)).context("raw socket")?;
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.read(&mut buffer)?;
        if let Some(sighting) = read(buffer.get(..length).unwrap_or_default()) {
            seen.add(sighting);
        }
    }
}

fn read(packet: &[u8]) -> Option<Sighting> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) =
        (packet.net, packet.transport)
    else {
        return None;
    };
    let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else { return None };
    let payload = icmp.payload();
    let marker = Marker::read(payload).or_else(|| Marker::read(payload.get(PING_TIMESTAMP..)?));
    let header = ip.header();
    Some(Sighting {
        protocol: Protocol::Icmp,
        source: SocketAddr::new(IpAddr::V4(header.source_addr()), echo.id),
        destination: IpAddr::V4(header.destination_addr()),
        flow: marker.map(|marker| marker.sequence),
    })
}
