//! One HTTP request at a time to a running program.

use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::listen::Listen;

const CONNECT: Duration = Duration::from_secs(5);

/// The address of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// `host:port`
    Http(String),
    Unix(PathBuf),
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("write unix:/run/egress-gateway.sock".to_owned());
            }
            return Ok(Api::Unix(PathBuf::from(path)));
        }
        let authority = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = authority.and_then(|text| text.parse::<hyper::http::uri::Authority>().ok());
        match authority {
            Some(authority) if authority.port_u16().is_some() => {
                Ok(Api::Http(authority.to_string()))
            }
            _ => Err("write http://HOST:PORT or unix:/PATH".to_owned()),
        }
    }
}

/// Where that API is for those on the same host.
impl From<&Listen> for Api {
    fn from(listen: &Listen) -> Self {
        match listen {
            Listen::Tcp(address) => Api::Http(address.to_string()),
            Listen::Unix(path) => Api::Unix(path.clone()),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Api::Http(authority) => write!(f, "http://{authority}"),
            Api::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no answer. The texts say where.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("nobody answers at {api}: {error}")]
    Unreachable { api: Api, error: io::Error },
    #[error("{api} did not answer within {} s", within.as_secs())]
    Silent { api: Api, within: Duration },
    #[error("{api}: {error}")]
    Broken { api: Api, error: hyper::Error },
}

impl Api {
    /// Asks, and waits for the whole answer for so long.
    ///
    /// The request needs no `Host`.
    pub async fn ask(
        &self,
        mut request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Answer, ClientError> {
        // An authority that was parsed is a valid header.
        if let Ok(host) = self.host().parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        let stream = timeout(CONNECT, self.connect())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| ClientError::Unreachable { api: self.clone(), error })?;
        let exchange = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok(Answer { status: head.status, body: body.collect().await?.to_bytes() })
        };
        timeout(within, exchange)
            .await
            .map_err(|_| ClientError::Silent { api: self.clone(), within })?
            .map_err(|error| ClientError::Broken { api: self.clone(), error })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Api::Http(authority) => Box::new(TcpStream::connect(authority).await?),
            Api::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }

    fn host(&self) -> &str {
        match self {
            Api::Http(authority) => authority,
            Api::Unix(_) => "localhost",
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["http://127.0.0.1:9480", "http://[::1]:9480", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Api>().unwrap().to_string(), text);
        }
        assert_eq!("http://gw:1/".parse(), Ok(Api::Http("gw:1".to_owned())));
        for text in ["", "unix:", "127.0.0.1:9480", "http://gw", "https://gw:1", "http://a b:1"] {
            assert!(text.parse::<Api>().unwrap_err().contains("write "), "{text}");
        }
    }
}
