//! What stands behind the `?`: every key is known and there once, or the request is refused. A
//! misspelt filter that was ignored would show, or end, the wrong sessions.

use super::error::ApiError;
use axum::{extract, http::Uri};
use std::{fmt::Display, str::FromStr};

/// The keys of a request that were not taken yet.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let extract::Query(pairs) = extract::Query::try_from_uri(uri)
            .map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Query { pairs, known: Vec::new() })
    }

    /// The value of `key`.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, ApiError> {
        self.known.push(key);
        let value = self.remove(key);
        if self.pairs.iter().any(|(other, _)| other == key) {
            return Err(ApiError::bad_request(format!("{key} is given twice")));
        }
        Ok(value)
    }

    /// The value of `key`; `wanted` says of what form it has to be.
    pub(super) fn value<T: FromStr>(
        &mut self,
        key: &'static str,
        wanted: impl Display,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(ApiError::bad_request(format!("{key}={text}: {wanted} is wanted"))),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, ApiError> {
        Ok(self.value(key, "true or false")?.unwrap_or(false))
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) => Err(ApiError::bad_request(format!(
                "unknown query key {key}: there are {}",
                self.known.join(", ")
            ))),
        }
    }

    fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(other, _)| other == key)?;
        Some(self.pairs.remove(at).1)
    }
}
