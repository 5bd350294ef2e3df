//! UDP: the payload comes back, followed by a line with the source.

use std::io::ErrorKind;

use anyhow::Result;
use tokio::net::UdpSocket;

use super::seen::{Protocol, Seen, Sighting};
use crate::marker::Marker;

pub(super) async fn serve(socket: UdpSocket, seen: Seen) -> Result<()> {
    let destination = socket.local_addr()?.ip();
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // an earlier answer met a closed port
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error.into()),
        };
        let payload = buffer.get(..length).unwrap_or_default();
        let flow = Marker::read(payload).map(|marker| marker.sequence);
        seen.add(Sighting { protocol: Protocol::Udp, source, destination, flow });
        let answer = [payload, source.to_string().as_bytes(), b"\n"].concat();
        // whoever cannot be reached any more gets no answer; the others still do
        let _ = socket.send_to(&answer, source).await;
    }
}
