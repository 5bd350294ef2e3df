//! `/v1/sessions`: what is translated right now.

use super::{Api, blocking, error::ApiError, json, query::Query};
use crate::{
    control::{
        Gateway,
        sessions::{self, Cursor, MAX_PAGE},
    },
    datapath::request::SessionFilter,
    nat::{self, PolicyTable, Protocol, SessionRecord},
};
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Sessions of a page where the request does not say.
const PAGE: usize = 1000;

/// One page of sessions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    pub sessions: Vec<Session>,
    /// The `cursor` of the next page; absent on the last.
    pub next: Option<String>,
}

/// One session, with names instead of ids.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// `#4711` when the policy is no longer there and its session not yet ended.
    pub policy: String,
    /// `TCP`, `UDP` or `ICMP`.
    pub protocol: String,
    /// `address:l4_port`, for ICMP `address:id`, as they are on the wire.
    pub internal: String,
    pub external: String,
    pub remote: String,
    pub state: String,
    /// The node that last sent for it, or its tunnel address when it is no longer there.
    pub node: String,
    pub worker: usize,
    pub age_seconds: u64,
    pub idle_seconds: u64,
    pub in2out: Traffic,
    pub out2in: Traffic,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// How many sessions were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Flushed {
    pub flushed: u64,
}

impl From<nat::record::Traffic> for Traffic {
    fn from(traffic: nat::record::Traffic) -> Self {
        Traffic { packets: traffic.packets, bytes: traffic.bytes }
    }
}

/// A page of the sessions that fit the filter.
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    let gateway = Arc::clone(&api.gateway);
    let policies = gateway.policies.published().load_full();
    let mut query = Query::of(&uri)?;
    let filter = filter(&mut query, &policies)?;
    let wanted = format!("a number from 1 to {MAX_PAGE}");
    let limit = query.value("limit", &wanted)?.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit={limit}: {wanted} is wanted")));
    }
    let wanted = "the value of \"next\" of the page before";
    let cursor = query.value::<Cursor>("cursor", wanted)?.unwrap_or_default();
    query.finish()?;

    blocking(move || {
        let (found, next) = sessions::list(&gateway.workers, filter, limit, cursor)?;
        let sessions =
            found.iter().map(|(worker, record)| session(*worker, record, &policies)).collect();
        let next = next.map(|cursor| cursor.to_string());
        Ok(json(StatusCode::OK, &Sessions { sessions, next }))
    })
    .await?
}

/// Ends the sessions that fit the filter, or with `all=true` every one.
pub(super) async fn flush(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    let gateway: Arc<Gateway> = Arc::clone(&api.gateway);
    let mut query = Query::of(&uri)?;
    let filter = filter(&mut query, &gateway.policies.published().load())?;
    let all = query.flag("all")?;
    query.finish()?;
    match (filter == SessionFilter::default(), all) {
        (true, true) | (false, false) => {}
        (true, false) => {
            let message = "which sessions? Nothing was said, and nothing was done";
            let hint = "say src, dst, policy, egressIP or protocol, or all=true";
            return Err(ApiError::bad_request(message).hint(hint));
        }
        (false, true) => {
            let message = "all=true together with a filter: which of the two is meant?";
            return Err(ApiError::bad_request(message));
        }
    }
    let flushed = blocking(move || sessions::flush(&gateway.workers, filter)).await??;
    tracing::info!(flushed, filter = uri.query(), "sessions ended by request");
    Ok(json(StatusCode::OK, &Flushed { flushed }))
}

fn filter(query: &mut Query, policies: &PolicyTable) -> Result<SessionFilter, ApiError> {
    const ADDRESS: &str = "an IP address";
    let source = query.value("src", ADDRESS)?;
    let destination = query.value("dst", ADDRESS)?;
    let policy = match query.text("policy")? {
        None => None,
        Some(name) => {
            let id = policies.policies().find(|(_, policy)| policy.name == name);
            let unknown = || ApiError::bad_request(format!("policy={name}: not at this gateway"));
            Some(id.ok_or_else(unknown)?.0)
        }
    };
    let egress_ip = query.value("egressIP", ADDRESS)?;
    let protocol = protocol(query)?;
    Ok(SessionFilter { source, destination, policy, egress_ip, protocol })
}

/// The query key `protocol`.
pub(super) fn protocol(query: &mut Query) -> Result<Option<Protocol>, ApiError> {
    let Some(text) = query.text("protocol")? else { return Ok(None) };
    let named = |protocol: &Protocol| text.eq_ignore_ascii_case(protocol.label());
    let unknown = || ApiError::bad_request(format!("protocol={text}: TCP, UDP or ICMP is wanted"));
    Protocol::ALL.into_iter().find(named).ok_or_else(unknown).map(Some)
}

/// A session with names instead of ids.
pub(super) fn session(worker: usize, record: &SessionRecord, policies: &PolicyTable) -> Session {
    let policy = policies.policy(record.policy);
    let node = policies.node_at(record.vtep);
    let mut remote = record.remote;
    if record.protocol == Protocol::Icmp {
        // The far end has no number of its own: it sees and returns the external id.
        remote.l4_port = record.external.l4_port;
    }
    Session {
        policy: policy.map_or_else(|| format!("#{}", record.policy), |policy| policy.name.clone()),
        protocol: record.protocol.label().to_owned(),
        internal: record.internal.to_string(),
        external: record.external.to_string(),
        remote: remote.to_string(),
        state: record.state.label().to_owned(),
        node: node.map_or_else(|| record.vtep.to_string(), |node| node.name.clone()),
        worker,
        age_seconds: record.age_seconds.into(),
        idle_seconds: record.idle_seconds.into(),
        in2out: record.in2out.into(),
        out2in: record.out2in.into(),
    }
}
