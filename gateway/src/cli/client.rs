//! One HTTP request at a time to a running gateway.

use super::{Failure, Result, run::mistakes};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use policy::PolicyError;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

const CONNECT: Duration = Duration::from_secs(5);
/// A gateway counts the sessions that a new policy set would cut before it answers, and gives its
/// workers half a minute for that.
const ANSWER: Duration = Duration::from_secs(90);

#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// Where the gateway's API is: http://HOST:PORT or unix:/PATH
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:9480")]
    pub(super) api: Api,
}

/// The address of a gateway's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `host:port`
    Http(String),
    Unix(PathBuf),
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
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
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// The body of a refusal.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    hint: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    #[serde(default)]
    errors: Vec<Mistake>,
}

#[derive(Debug, Deserialize)]
struct Mistake {
    document: String,
    path: String,
    reason: String,
    hint: String,
}

type Headers<'a> = [(header::HeaderName, &'a str)];

impl Api {
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, &[], Bytes::new())?.succeeded()?.json()
    }

    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &Headers<'_>,
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.host());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|error| Failure::BadInput(format!("{path}: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("no runtime: {error}")))?;
        runtime.block_on(self.exchange(request))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let stream = timeout(CONNECT, self.connect())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| {
                Failure::Failed(format!(
                    "no gateway answers at {self}: {error}. Is `egress-gateway run` up? Its API is \
                     where [api] listen says; give that with --api"
                ))
            })?;
        let failed = |error: hyper::Error| Failure::Failed(format!("{self}: {error}"));
        let exchange = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status, body })
        };
        timeout(ANSWER, exchange)
            .await
            .map_err(|_| {
                Failure::Failed(format!("{self} did not answer within {} s", ANSWER.as_secs()))
            })?
            .map_err(failed)
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

impl Answer {
    /// Itself when the gateway did what was asked, else what the gateway says is wrong.
    pub(super) fn succeeded(self) -> Result<Self> {
        self.judged(None)
    }

    /// The same of a request whose body was `file`.
    pub(super) fn accepted(self, file: &Path) -> Result<Self> {
        self.judged(Some(file))
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::Failed(format!(
                "the answer is not understood: {error}; is the gateway of another version?"
            ))
        })
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    fn judged(self, file: Option<&Path>) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let message = self.refusal(file);
        Err(match self.status {
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE => Failure::BadInput(message),
            _ => Failure::Failed(message),
        })
    }

    fn refusal(&self, file: Option<&Path>) -> String {
        let refusal: Refusal = serde_json::from_slice(&self.body).unwrap_or_default();
        if let (Some(file), false) = (file, refusal.errors.is_empty()) {
            let lines = refusal.errors.into_iter().map(|mistake| {
                let Mistake { document, path, reason, hint } = mistake;
                PolicyError { file: None, document, path, reason, hint }.to_string()
            });
            return mistakes(file, lines);
        }
        let error = refusal.error.unwrap_or_else(|| format!("{}: {}", self.status, self.text()));
        let place = match (file, refusal.line, refusal.column) {
            (Some(file), Some(line), Some(column)) => {
                format!("{}: line {line}, column {column}: ", file.display())
            }
            _ => String::new(),
        };
        let hint = refusal.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{place}{error}{hint}")
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
