//! `/v1/steering`: which worker a packet comes to, by which hash, key and table.

use super::{Api, error::ApiError, json, query::Query};
use crate::control::{self_test::Report, steering::SteeringReport};
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Fixed since start, but for the self-test.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Steering<'a> {
    #[serde(flatten)]
    steering: &'a SteeringReport,
    self_test: Report,
}

pub(super) async fn steering(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    let (steering, self_test) = (&api.gateway.steering, api.gateway.self_test.report());
    Ok(json(StatusCode::OK, &Steering { steering, self_test }))
}
