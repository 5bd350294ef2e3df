//! `lab echo`: the server in the world. Whatever comes, it answers with the source that it saw, and remembers it.
//!
//! - HTTP on port 80: `GET /source`, `GET /blob?bytes=N`, `PUT /blob`, `GET /seen`
//! - UDP and TCP on port 7007: what was sent comes back, over UDP followed by a line with the source
//! - ICMP echo is answered by the kernel; raw sockets read along

mod datagram;
pub mod http;
mod icmp;
pub mod seen;
mod stream;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use seen::Seen;

pub const HTTP_PORT: u16 = 80;
pub const ECHO_PORT: u16 = 7007;

/// Of a socket, in bytes: on a busy machine the server may not run for a whole time slice, and what was lost here would look lost on the way.
const ROOM: usize = 4 << 20;

/// Serves on each of the addresses, by its own sockets: an answer must come from the address that was asked.
pub fn run(addresses: &[IpAddr]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(addresses))
}

async fn serve(addresses: &[IpAddr]) -> Result<()> {
    let seen = Seen::default();
    let mut servers = JoinSet::new();
    for address in addresses {
        let what = |port| SocketAddr::new(*address, port).to_string();
        let http =
            TcpListener::bind((*address, HTTP_PORT)).await.with_context(|| what(HTTP_PORT))?;
        let udp = UdpSocket::bind((*address, ECHO_PORT)).await.with_context(|| what(ECHO_PORT))?;
        setsockopt(&udp, RcvBufForce, &ROOM)?;
        let tcp =
            TcpListener::bind((*address, ECHO_PORT)).await.with_context(|| what(ECHO_PORT))?;
        servers.spawn(http::serve(http, seen.clone()));
        servers.spawn(datagram::serve(udp, seen.clone()));
        servers.spawn(stream::serve(tcp, seen.clone()));
        let (address, seen) = (*address, seen.clone());
        servers.spawn_blocking(move || icmp::watch(address, &seen));
    }
    match servers.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}
