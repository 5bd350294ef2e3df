//! ICMP echo requests, as raw sockets see them beside the kernel, which answers.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpSlice};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{SockaddrStorage, recvfrom, setsockopt};
use socket2::{Domain, Protocol as Ip, Socket, Type};

use super::ROOM;
use super::seen::{Protocol, Seen, Sighting};
use crate::marker::Marker;

/// `ping` puts a timestamp before the pattern that carries the marker.
const PING_TIMESTAMP: usize = 16;

/// Sees what is sent to `own`. Blocks: to be run on a thread of its own.
pub(super) fn watch(own: IpAddr, seen: &Seen) -> Result<()> {
    let (domain, protocol) = match own {
        IpAddr::V4(_) => (Domain::IPV4, Ip::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Ip::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("raw socket")?;
    setsockopt(&socket, RcvBufForce, &ROOM)?;
    socket.bind(&SocketAddr::new(own, 0).into())?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, source) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer)?;
        let received = buffer.get(..length).unwrap_or_default();
        let source = source.as_ref().and_then(address);
        let request = match own {
            IpAddr::V4(_) => request_v4(received),
            IpAddr::V6(_) => request_v6(received),
        };
        if let (Some(source), Some((id, payload))) = (source, request) {
            seen.add(sighting(source, own, id, payload));
        }
    }
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Identifier and data. Here the kernel hands out the IP header too.
fn request_v4(packet: &[u8]) -> Option<(u16, &[u8])> {
    let IpSlice::Ipv4(ip) = IpSlice::from_slice(packet).ok()? else { return None };
    let icmp = Icmpv4Slice::from_slice(ip.payload().payload).ok()?;
    let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else { return None };
    Some((echo.id, icmp.payload()))
}

fn request_v6(message: &[u8]) -> Option<(u16, &[u8])> {
    let icmp = Icmpv6Slice::from_slice(message).ok()?;
    let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else { return None };
    Some((echo.id, icmp.payload()))
}

fn sighting(source: IpAddr, destination: IpAddr, id: u16, payload: &[u8]) -> Sighting {
    let marker = Marker::read(payload).or_else(|| Marker::read(payload.get(PING_TIMESTAMP..)?));
    Sighting {
        protocol: Protocol::Icmp,
        source: SocketAddr::new(source, id),
        destination,
        flow: marker.map(|marker| marker.sequence),
    }
}
