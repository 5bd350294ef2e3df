//! The form of every refusal: a status, and an object that says what is wrong and where.

use crate::control::{ApplyError, workers::Silent};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use policy::{LoadError, PolicyError, SyntaxError};
use serde_json::{Map, Value, json};
use std::io;

/// An answer that is not 200. Its body has `error`, one sentence, or for documents `errors`, a list.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Map<String, Value>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let error = ApiError { status, body: Map::new() };
        error.with("error", message.into())
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What to do instead.
    pub(super) fn hint(self, hint: &str) -> Self {
        self.with("hint", hint)
    }

    /// A text that is not UTF-8 from there on.
    pub(super) fn not_utf8(line: usize, column: usize) -> Self {
        Self::bad_request("the text is not UTF-8").with("line", line).with("column", column)
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    fn invalid(errors: &[PolicyError]) -> Self {
        let error = ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, body: Map::new() };
        error.with("errors", json!(errors))
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::Load(LoadError::Syntax(errors)) => {
                // A body is one text.
                let Some(SyntaxError { line, column, message, document, .. }) = errors.first()
                else {
                    return Self::bad_request(message);
                };
                let error = Self::bad_request(message).with("line", *line).with("column", *column);
                match *document {
                    Some(document) => error.with("document", document),
                    None => error,
                }
            }
            ApplyError::Load(LoadError::Invalid(errors)) | ApplyError::NotHere(errors) => {
                Self::invalid(&errors)
            }
            ApplyError::Outdated { current, .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, message).with("generation", current)
            }
            ApplyError::Store(error) => {
                let is_full = matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
                let status = if is_full {
                    StatusCode::INSUFFICIENT_STORAGE
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                Self::new(status, message)
            }
            ApplyError::Unacknowledged { worker, generation } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
                    .with("worker", worker)
                    .with("generation", generation)
            }
        }
    }
}

impl From<Silent> for ApiError {
    fn from(silent: Silent) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, silent.to_string()).with("worker", silent.0)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        super::json(self.status, &self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_status() {
        for (kind, status) in [
            (io::ErrorKind::StorageFull, 507),
            (io::ErrorKind::QuotaExceeded, 507),
            (io::ErrorKind::PermissionDenied, 500),
        ] {
            let error = ApiError::from(ApplyError::Store(io::Error::new(kind, "state_dir")));
            assert_eq!(error.status.as_u16(), status);
            let message = error.body["error"].as_str().unwrap();
            assert!(message.contains("nothing was changed: state_dir"), "{message}");
        }
    }
}
