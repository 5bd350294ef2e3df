//! One HTTP request at a time to a running gateway.

use super::{Failure, Result, run::mistakes};
use admin::client::{self, ClientError};
use clap::Args;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use policy::PolicyError;
use serde::{Deserialize, de::DeserializeOwned};
use std::{borrow::Cow, fmt, path::Path, str::FromStr, time::Duration};

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
#[derive(Clone, Debug)]
pub(super) struct Api(client::Api);

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.parse().map(Api)
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer(client::Answer);

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
        let mut request = Request::builder().method(method).uri(path);
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
        let answer = runtime.block_on(self.0.ask(request, ANSWER));
        answer.map(Answer).map_err(|error| {
            Failure::Failed(match error {
                ClientError::Unreachable { error, .. } => format!(
                    "no gateway answers at {self}: {error}. Is `egress-gateway run` up? Its API is \
                     where [api] listen says; give that with --api"
                ),
                ClientError::Silent { .. } | ClientError::Broken { .. } => error.to_string(),
            })
        })
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
        serde_json::from_slice(&self.0.body).map_err(|error| {
            Failure::Failed(format!(
                "the answer is not understood: {error}; is the gateway of another version?"
            ))
        })
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0.body)
    }

    fn judged(self, file: Option<&Path>) -> Result<Self> {
        if self.0.status.is_success() {
            return Ok(self);
        }
        let message = self.refusal(file);
        Err(match self.0.status {
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE => Failure::BadInput(message),
            _ => Failure::Failed(message),
        })
    }

    fn refusal(&self, file: Option<&Path>) -> String {
        let refusal: Refusal = serde_json::from_slice(&self.0.body).unwrap_or_default();
        if let (Some(file), false) = (file, refusal.errors.is_empty()) {
            let lines = refusal.errors.into_iter().map(|mistake| {
                let Mistake { document, path, reason, hint } = mistake;
                PolicyError { file: None, document, path, reason, hint }.to_string()
            });
            return mistakes(file, lines);
        }
        let error = refusal.error.unwrap_or_else(|| format!("{}: {}", self.0.status, self.text()));
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
