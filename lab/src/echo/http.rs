//! HTTP: who asks, and bytes in both directions with their checksum.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::seen::{Protocol, Seen, Sighting};

pub(super) async fn serve(listener: TcpListener, seen: Seen) -> Result<()> {
    let own = listener.local_addr()?;
    let app = Router::new()
        .route("/source", get(source))
        .route("/blob", get(send_blob).put(receive_blob))
        .route("/seen", get(list_seen))
        .with_state((seen, own))
        .into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, app).await?)
}

#[derive(Deserialize)]
struct Flow {
    flow: Option<u32>,
}

type Shared = State<(Seen, SocketAddr)>;

/// The source address and port, as text.
async fn source(
    State((seen, own)): Shared,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    Query(Flow { flow }): Query<Flow>,
) -> String {
    seen.add(Sighting { protocol: Protocol::Tcp, source, destination: own.ip(), flow });
    format!("{source}\n")
}

async fn list_seen(State((seen, _)): Shared) -> Json<Vec<Sighting>> {
    Json(seen.list())
}

#[derive(Deserialize)]
struct Size {
    bytes: u64,
}

async fn send_blob(
    State((seen, own)): Shared,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    Query(Flow { flow }): Query<Flow>,
    Query(Size { bytes }): Query<Size>,
) -> Body {
    seen.add(Sighting { protocol: Protocol::Tcp, source, destination: own.ip(), flow });
    Body::new(Blob { left: bytes, state: SEED })
}

#[derive(Serialize)]
struct Received {
    bytes: u64,
    sha256: String,
}

async fn receive_blob(
    State((seen, own)): Shared,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    Query(Flow { flow }): Query<Flow>,
    mut body: Body,
) -> Result<Json<Received>, (StatusCode, String)> {
    seen.add(Sighting { protocol: Protocol::Tcp, source, destination: own.ip(), flow });
    let mut hash = Sha256::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            hash.update(data);
        }
    }
    Ok(Json(Received { bytes, sha256: hex(&hash.finalize()) }))
}

/// Of what `GET /blob?bytes=N` sends.
#[must_use]
pub fn blob_sha256(bytes: u64) -> String {
    let mut blob = Blob { left: bytes, state: SEED };
    let mut hash = Sha256::new();
    while let Some(chunk) = blob.next_chunk() {
        hash.update(&chunk);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Deterministic bytes in which no two packets are alike, so that a swapped or repeated one changes the checksum.
struct Blob {
    left: u64,
    state: u64,
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const CHUNK: usize = 64 * 1024;

impl Blob {
    fn next_chunk(&mut self) -> Option<Bytes> {
        let length = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < length {
            // xorshift64
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            chunk.extend_from_slice(&self.state.to_le_bytes());
        }
        chunk.truncate(length);
        self.left -= length as u64;
        (length > 0).then(|| chunk.into())
    }
}

impl http_body::Body for Blob {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_the_length_asked_for_and_always_the_same_content() {
        for bytes in [0, 1, 65_536, 65_537, 200_000] {
            let mut blob = Blob { left: bytes, state: SEED };
            let mut length = 0;
            while let Some(chunk) = blob.next_chunk() {
                length += chunk.len() as u64;
            }
            assert_eq!(length, bytes);
            assert_eq!(blob_sha256(bytes), blob_sha256(bytes));
        }
        assert_ne!(blob_sha256(1), blob_sha256(2));
    }
}
