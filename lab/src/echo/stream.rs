//! TCP: what comes is sent back, byte by byte, until the client closes.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::seen::{Protocol, Seen, Sighting};
use crate::marker::Marker;

pub(super) async fn serve(listener: TcpListener, seen: Seen) -> Result<()> {
    loop {
        let (stream, source) = listener.accept().await?;
        let seen = seen.clone();
        tokio::spawn(async move {
            // a client that goes away ends its own connection only
            let _ = echo(stream, source, &seen).await;
        });
    }
}

async fn echo(mut stream: TcpStream, source: SocketAddr, seen: &Seen) -> Result<()> {
    let destination = stream.local_addr()?.ip();
    let mut buffer = vec![0; 65_536];
    let mut first = true;
    loop {
        let length = stream.read(&mut buffer).await?;
        let data = buffer.get(..length).unwrap_or_default();
        if data.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut first) {
            let flow = Marker::read(data).map(|marker| marker.sequence);
            seen.add(Sighting { protocol: Protocol::Tcp, source, destination, flow });
        }
        stream.write_all(data).await?;
    }
}
