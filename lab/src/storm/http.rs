//! The gateway's API from within this process, so that a reload's time is that of the gateway.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;

use crate::stack::Lab;

const API: &str = "127.0.0.1:9480";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Api(Runtime);

impl Api {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    /// Replaces the policies: the answer, and how long it took from connecting on.
    pub(super) fn put_policies(
        &self,
        lab: &Lab,
        documents: String,
    ) -> Result<(serde_json::Value, Duration)> {
        let began = Instant::now();
        let request = Request::put("/v1/policies").header("content-type", "application/yaml");
        let answer = self.ask(lab, request.body(documents)?)?;
        Ok((serde_json::from_slice(&answer)?, began.elapsed()))
    }

    pub(super) fn get(&self, lab: &Lab, path: &str) -> Result<Vec<u8>> {
        let request = Request::builder().method(Method::GET).uri(path);
        self.ask(lab, request.body(String::new())?)
    }

    fn ask(&self, lab: &Lab, mut request: Request<String>) -> Result<Vec<u8>> {
        request.headers_mut().insert("host", API.parse()?);
        let what = format!("{} {}", request.method(), request.uri());
        let stream = lab.host("gateway")?.within(|| Ok(TcpStream::connect(API)?)).context(API)?;
        stream.set_nonblocking(true)?;
        let exchange = async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            connection.abort();
            let text = String::from_utf8_lossy(&body);
            ensure!(status == StatusCode::OK, "{what}: {status}: {text}");
            Ok(body.to_vec())
        };
        let limited = async { tokio::time::timeout(PATIENCE, exchange).await };
        self.0.block_on(limited).with_context(|| what.clone())?
    }
}
