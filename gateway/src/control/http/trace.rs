//! `/v1/trace`: what would become of a pod's packet, and why. Nothing changes by asking.

use super::{
    Api, blocking,
    error::ApiError,
    json,
    query::Query,
    sessions::{Session, protocol, session},
};
use crate::{
    control::trace::{self, Answer, Question, Step},
    nat::{Endpoint, Protocol},
};
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};

/// Where the request does not say.
const SPORT: u16 = 40_000;
const HTTPS: u16 = 443;
const DNS: u16 = 53;

/// What would become of a packet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub verdict: Verdict,
    /// The metric label of the reason, and what it means, where the packet is dropped.
    pub reason: Option<String>,
    pub help: Option<String>,
    pub packet: Packet,
    /// The generation of the policies that judged it.
    pub generation: u64,
    /// Who owns the flow; `null` where the packet does not come so far.
    pub worker: Option<usize>,
    /// The source address that the world sees; `null` where it sees nothing.
    #[serde(rename = "egressIP")]
    pub egress_ip: Option<IpAddr>,
    /// `address:l4_port` of the session that there is. A new one draws its l4_port at random.
    pub external: Option<String>,
    /// The session of the packet's flow. It may be about to end: the steps tell.
    pub session: Option<Session>,
    /// In the order of the data path, up to the one that drops the packet.
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Forwarded,
    Dropped,
}

/// The packet that was asked about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// `null` where none was given, and none may send it.
    pub node: Option<String>,
    pub policy: String,
    /// The VNI.
    #[serde(rename = "policyID")]
    pub policy_id: u32,
    /// `TCP`, `UDP` or `ICMP`.
    pub protocol: String,
    /// `address:l4_port`, of ICMP `address:id`.
    pub internal: String,
    /// `address:l4_port`, of ICMP the address.
    pub remote: String,
    /// Of TCP: `SYN`, or `ACK` for a segment in mid-stream.
    pub flags: Option<String>,
    /// Query keys that were not given and have a default.
    pub assumed: Vec<String>,
}

pub(super) async fn trace(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    let gateway = Arc::clone(&api.gateway);
    let (question, assumed) = question(Query::of(&uri)?)?;
    blocking(move || {
        let answer = trace::trace(&gateway, &question)?;
        Ok(json(StatusCode::OK, &shown(&question, &answer, assumed)))
    })
    .await?
}

/// With the keys that were not given.
fn question(mut query: Query) -> Result<(Question, Vec<String>), ApiError> {
    const ADDRESS: &str = "an IP address";
    const L4_PORT: &str = "a number from 0 to 65535";
    let source: Option<IpAddr> = query.value("src", ADDRESS)?;
    let destination: Option<IpAddr> = query.value("dst", ADDRESS)?;
    let protocol = protocol(&mut query)?;
    let (sport, dport) = (query.value("sport", L4_PORT)?, query.value("dport", L4_PORT)?);
    let mid_stream = query.flag("midStream")?;
    let (policy, node) = (query.text("policy")?, query.text("node")?);
    query.finish()?;

    let missing = |what: &str| {
        let hint =
            "a trace needs src, dst and policy; it takes protocol, sport, dport, node, midStream";
        ApiError::bad_request(format!("{what} is missing")).hint(hint)
    };
    let source = source.ok_or_else(|| missing("src"))?;
    let destination = destination.ok_or_else(|| missing("dst"))?;
    let policy = policy.ok_or_else(|| missing("policy"))?;
    if !::policy::is_name(&policy) {
        let message = format!("policy={policy}: the name of a policy, or its id, is wanted");
        return Err(ApiError::bad_request(message));
    }
    if source.is_ipv4() != destination.is_ipv4() {
        let message = format!("src={source} and dst={destination} are of two address families");
        return Err(ApiError::bad_request(message).hint("a packet has addresses of one family"));
    }
    let mut assumed = Vec::new();
    let mut or = |value: Option<u16>, key: &str, default: u16| {
        value.unwrap_or_else(|| {
            assumed.push(key.to_owned());
            default
        })
    };
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    let sport = or(sport, "sport", SPORT);
    let dport = match protocol {
        Protocol::Tcp => or(dport, "dport", HTTPS),
        Protocol::Udp => or(dport, "dport", DNS),
        Protocol::Icmp if dport.is_some() => {
            let message = "ICMP has no dport";
            return Err(ApiError::bad_request(message).hint("sport is the id of the echo request"));
        }
        Protocol::Icmp => 0,
    };
    if mid_stream && protocol != Protocol::Tcp {
        return Err(ApiError::bad_request("midStream is for TCP alone"));
    }
    let question =
        Question { source, destination, protocol, sport, dport, mid_stream, policy, node };
    Ok((question, assumed))
}

fn shown(question: &Question, answer: &Answer, assumed: Vec<String>) -> Trace {
    let Question { source, destination, protocol, sport, dport, mid_stream, policy, .. } = question;
    let remote = match protocol {
        Protocol::Icmp => destination.to_string(),
        Protocol::Tcp | Protocol::Udp => Endpoint::new(*destination, *dport).to_string(),
    };
    let flags = match (protocol, mid_stream) {
        (Protocol::Tcp, false) => Some("SYN".to_owned()),
        (Protocol::Tcp, true) => Some("ACK".to_owned()),
        (Protocol::Udp | Protocol::Icmp, _) => None,
    };
    // A session that ends by the packet is not what the world sees.
    let goes_on = answer.session.filter(|_| answer.dropped.is_none() && !answer.is_cut);
    Trace {
        verdict: answer.dropped.map_or(Verdict::Forwarded, |_| Verdict::Dropped),
        reason: answer.dropped.map(|reason| reason.label().to_owned()),
        help: answer.dropped.map(|reason| reason.help().to_owned()),
        packet: Packet {
            node: answer.node.clone(),
            policy: policy.clone(),
            policy_id: answer.policy_id,
            protocol: protocol.label().to_owned(),
            internal: Endpoint::new(*source, *sport).to_string(),
            remote,
            flags,
            assumed,
        },
        generation: answer.generation,
        worker: answer.worker,
        egress_ip: answer.egress_ip,
        external: goes_on.map(|session| session.external.to_string()),
        session: answer
            .session
            .map(|record| session(answer.worker.unwrap_or_default(), &record, &answer.policies)),
        steps: answer.steps.clone(),
    }
}
