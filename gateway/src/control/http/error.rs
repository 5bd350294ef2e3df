//! What went wrong, as a refusal: a status, and an object that says what and where.

use crate::control::{ApplyError, workers::Silent};
pub(super) use admin::answer::ApiError;
use axum::http::StatusCode;
use policy::{LoadError, PolicyError, SyntaxError};
use serde_json::json;
use std::io;

/// A text that is not UTF-8 from there on.
pub(super) fn not_utf8(line: usize, column: usize) -> ApiError {
    ApiError::bad_request("the text is not UTF-8").with("line", line).with("column", column)
}

/// For documents `errors`, a list, takes the place of `error`.
fn invalid(errors: &[PolicyError]) -> ApiError {
    ApiError::empty(StatusCode::UNPROCESSABLE_ENTITY).with("errors", json!(errors))
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
            ApplyError::Load(LoadError::Invalid(errors)) => invalid(&errors),
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
            assert_eq!(error.status().as_u16(), status);
            let message = error.body()["error"].as_str().unwrap();
            assert!(message.contains("nothing was changed: state_dir"), "{message}");
        }
    }
}
