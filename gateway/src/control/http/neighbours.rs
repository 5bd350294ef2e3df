//! `/v1/neighbors`: who is where on the links of both ports.

use super::{Api, blocking, error::ApiError, json, query::Query};
use crate::{control::neighbours, datapath::neighbour_list::NeighbourRecord};
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};

/// The neighbours of all workers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Neighbours {
    /// By port, address and worker.
    pub neighbors: Vec<Neighbour>,
}

/// What one worker knows of one neighbour.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// `tunnel` or `external`.
    pub port: String,
    pub address: IpAddr,
    /// `null` until it answered.
    pub mac: Option<String>,
    /// `incomplete`, `reachable` or `stale`.
    pub state: String,
    /// Since its last answer, or where there was none since it was first asked for.
    pub age_seconds: u64,
    /// Packets that wait for its MAC.
    pub queued: usize,
    pub worker: usize,
}

pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.finish()?;
    let gateway = Arc::clone(&api.gateway);
    blocking(move || {
        let mut found = neighbours::list(&gateway.workers)?;
        found.sort_by_key(|(worker, record)| {
            (record.side.index(), record.neighbour.address, *worker)
        });
        let neighbors = found.iter().map(|(worker, record)| neighbour(*worker, record)).collect();
        Ok(json(StatusCode::OK, &Neighbours { neighbors }))
    })
    .await?
}

fn neighbour(worker: usize, NeighbourRecord { side, neighbour }: &NeighbourRecord) -> Neighbour {
    Neighbour {
        port: side.label().to_owned(),
        address: neighbour.address,
        mac: neighbour.mac.map(|mac| mac.to_string()),
        state: neighbour.state.label().to_owned(),
        age_seconds: neighbour.age_millis / 1000,
        queued: neighbour.waiting,
        worker,
    }
}
