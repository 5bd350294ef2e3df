//! Where a node reads what a gateway tells of its steering: a file with the answer of `/v1/steering`, or the gateway's API itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use admin::client::Api;
use steering::report::SteeringReport;
use thiserror::Error;

const PATH: &str = "/v1/steering";
/// For a gateway to answer.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Api(Api),
}

/// Why there is nothing to read, or not what was meant. The texts say where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Perhaps only now.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Wrong(String),
}
use SourceError::{Unreachable, Wrong};

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let api = text.parse().map(Self::Api);
        api.map_err(|hint| format!("{hint} (of the gateway's API), or the absolute path of a file"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Api(api) => write!(f, "{api}{PATH}"),
        }
    }
}

impl Source {
    pub async fn read(&self) -> Result<SteeringReport, SourceError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Api(api) => ask(api).await,
        }
    }
}

pub fn read_file(path: &Path) -> Result<SteeringReport, SourceError> {
    let text = std::fs::read(path)
        .map_err(|error| Wrong(format!("cannot read {}: {error}", path.display())))?;
    parse(&text, &path.display())
}

pub async fn ask(api: &Api) -> Result<SteeringReport, SourceError> {
    let unreachable = |error: &dyn fmt::Display| Unreachable(error.to_string());
    let request = hyper::Request::get(PATH).body(Default::default());
    let request = request.map_err(|error| unreachable(&error))?;
    let answer = api.ask(request, ANSWER).await.map_err(|error| unreachable(&error))?;
    if !answer.status.is_success() {
        return Err(Wrong(format!("{api}{PATH} answers {}", answer.status)));
    }
    parse(&answer.body, &format_args!("{api}{PATH}"))
}

fn parse(text: &[u8], place: &dyn fmt::Display) -> Result<SteeringReport, SourceError> {
    serde_json::from_slice(text)
        .map_err(|error| Wrong(format!("{place} is not what a gateway answers at {PATH}: {error}")))
}
