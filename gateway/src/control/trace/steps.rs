//! The packet's way in words, in the order of the data path: every step that it passes, and the one at
//! which it is dropped.

use super::{Question, Way, words::Teller};
use crate::{control::Gateway, verdict::DropReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question that the data path asks of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub step: StepName,
    pub outcome: Outcome,
    /// The metric label of the drop reason, where the packet is dropped here.
    pub reason: Option<String>,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Drop,
    /// It goes on, and there is something to know.
    Note,
}

impl Outcome {
    /// As it is printed.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Drop => "DROP",
            Outcome::Note => "note",
        }
    }
}

/// In the order in which a packet meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepName {
    /// Its headers make sense.
    Packet,
    /// A node that may send it.
    Source,
    Policy,
    Destination,
    /// The owner of its flow.
    Worker,
    Session,
    EgressIp,
    SessionTable,
    L4Port,
    NextHop,
    /// How long packets of the flow may be.
    Size,
}

impl StepName {
    pub const ALL: [Self; 11] = [
        Self::Packet,
        Self::Source,
        Self::Policy,
        Self::Destination,
        Self::Worker,
        Self::Session,
        Self::EgressIp,
        Self::SessionTable,
        Self::L4Port,
        Self::NextHop,
        Self::Size,
    ];

    /// As it is printed.
    pub fn label(self) -> &'static str {
        match self {
            StepName::Packet => "packet",
            StepName::Source => "source",
            StepName::Policy => "policy",
            StepName::Destination => "destination",
            StepName::Worker => "worker",
            StepName::Session => "session",
            StepName::EgressIp => "egress IP",
            StepName::SessionTable => "session table",
            StepName::L4Port => "l4_port",
            StepName::NextHop => "next hop",
            StepName::Size => "size",
        }
    }

    /// The step at which a packet is dropped for that reason.
    pub(super) fn of(reason: DropReason) -> Self {
        use DropReason as R;
        let steps: [(StepName, &[DropReason]); 8] = [
            (StepName::Source, &[R::UnknownNode, R::SpoofedSource]),
            (StepName::Policy, &[R::UnknownPolicy]),
            (StepName::Destination, &[R::Hairpin, R::DestinationInvalid]),
            (StepName::Session, &[R::TcpNoSession, R::SessionCut]),
            (StepName::EgressIp, &[R::NoEgressIp]),
            (StepName::SessionTable, &[R::SessionsFull]),
            (StepName::L4Port, &[R::L4PortsExhausted]),
            (StepName::NextHop, &[R::NoNextHop, R::NeighbourQueueFull]),
        ];
        // What is left is what the parser says.
        let step = steps.iter().find(|(_, reasons)| reasons.contains(&reason));
        step.map_or(StepName::Packet, |(step, _)| *step)
    }
}

/// All steps up to the one that drops the packet.
pub(super) fn steps(gateway: &Gateway, question: &Question, way: &Way) -> Vec<Step> {
    let teller = Teller { gateway, question, way };
    let last = way.dropped.map(|reason| (StepName::of(reason), reason));
    let mut steps = Vec::new();
    for step in StepName::ALL {
        if let Some((_, reason)) = last.filter(|(last, _)| *last == step) {
            let (reason, detail) = (Some(reason.label().to_owned()), teller.why(reason));
            steps.push(Step { step, outcome: Outcome::Drop, reason, detail });
            break;
        }
        if let Some((outcome, detail)) = teller.passed(step) {
            steps.push(Step { step, outcome, reason: None, detail });
        }
    }
    steps
}
