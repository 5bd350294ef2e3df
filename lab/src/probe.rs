//! `lab probe`: marked traffic from a pod to the world's echo server. Whoever calls this is in the pod's network namespace already.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::echo::ECHO_PORT;
use crate::marker::Marker;

/// Within the lab an answer takes less than a millisecond; only a lost one takes this long.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends one datagram and waits for its answer. The source that the world saw.
///
/// # Errors
/// No answer, or the answer to somebody else's datagram.
pub fn udp(marker: Marker, to: IpAddr, timeout: Duration) -> Result<SocketAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // connected: the kernel passes on nothing but answers from there
    socket.connect((to, ECHO_PORT))?;
    udp_over(&socket, marker, timeout)
}

/// The same over a socket that was used before: another datagram of the same flow.
pub fn udp_over(socket: &UdpSocket, marker: Marker, timeout: Duration) -> Result<SocketAddr> {
    socket.set_read_timeout(Some(timeout))?;
    socket.send(&marker.to_bytes())?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).context("no answer over UDP")?;
    let (echoed, source) = buffer
        .get(..length)
        .and_then(|answer| answer.split_at_checked(Marker::LENGTH))
        .context("the answer is too short")?;
    let answered = Marker::read(echoed);
    ensure!(answered == Some(marker), "answer to {answered:?} came to {marker:?}");
    Ok(std::str::from_utf8(source)?.trim().parse()?)
}

/// Opens a connection, sends the marker, and expects it back.
pub fn tcp(marker: Marker, to: IpAddr, timeout: Duration) -> Result<()> {
    let address = SocketAddr::from((to, ECHO_PORT));
    let mut stream = TcpStream::connect_timeout(&address, timeout).context("connect")?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(&marker.to_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer over TCP")?;
    let answered = Marker::read(&answer);
    ensure!(answered == Some(marker), "answer to {answered:?} came to {marker:?}");
    Ok(())
}
