//! The form of every refusal, and of every answer in JSON.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// An answer that is not 200: an object that says what is wrong and where. `error` is one sentence,
/// `hint` what to do.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    retry_after: Option<u32>,
    body: Map<String, Value>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::empty(status).with("error", message.into())
    }

    /// Without a sentence: what is wrong is said by what is added.
    pub fn empty(status: StatusCode) -> Self {
        ApiError { status, retry_after: None, body: Map::new() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// For a path that the API does not have, with those that it has.
    pub fn unknown_route(path: &str, routes: &[&str]) -> Self {
        let error = Self::new(StatusCode::NOT_FOUND, format!("there is no {path}"));
        error.hint(&format!("there are {}", routes.join(", ")))
    }

    /// For a method that a path does not take.
    pub fn unknown_method(path: &str, method: &Method) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
            .hint("the header Allow says what it takes")
    }

    /// What to do instead.
    pub fn hint(self, hint: &str) -> Self {
        self.with("hint", hint)
    }

    /// The same request may succeed later.
    pub fn retry_after(self, seconds: u32) -> Self {
        ApiError { retry_after: Some(seconds), ..self }
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The object.
    pub fn body(&self) -> &Map<String, Value> {
        &self.body
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON answer, with a line end for terminals.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
