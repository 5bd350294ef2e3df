//! One request at a time to a gateway's API.

use admin::client;
use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, body::Bytes};
use serde::{Deserialize, de::DeserializeOwned};
use std::{path::PathBuf, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// A gateway may end ten million sessions before it answers.
const ANSWER: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Api {
    address: client::Api,
    runtime: Runtime,
}

/// The body of `/readyz`.
#[derive(Debug, Deserialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
}

impl Api {
    pub(super) fn new(socket: PathBuf) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Api { address: client::Api::Unix(socket), runtime })
    }

    /// `None` while nobody answers.
    pub(super) fn readiness(&self) -> Result<Option<Readiness>> {
        match self.ask(Method::GET, "/readyz") {
            Ok((_, body)) => Ok(Some(serde_json::from_slice(&body).context("/readyz")?)),
            Err(client::ClientError::Unreachable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &'static str) -> Result<T> {
        self.send(Method::GET, path)
    }

    pub(super) fn delete<T: DeserializeOwned>(&self, path: &'static str) -> Result<T> {
        self.send(Method::DELETE, path)
    }

    fn send<T: DeserializeOwned>(&self, method: Method, path: &'static str) -> Result<T> {
        let (status, body) = self.ask(method, path)?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_slice(&body).with_context(|| format!("{path}: {text}"))
    }

    fn ask(
        &self,
        method: Method,
        path: &'static str,
    ) -> Result<(StatusCode, Bytes), client::ClientError> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static(path);
        let answer = self.runtime.block_on(self.address.ask(request, ANSWER))?;
        Ok((answer.status, answer.body))
    }
}
