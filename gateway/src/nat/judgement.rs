//! What is to become of a pod's packet, before anything is changed. Asked by [`super::in2out`] for each
//! packet that is not the usual one, and by a trace for a packet that nobody sent: so both say the same.
//!
//! The order of the questions is that of the reasons: who is at fault first is told first.
//!
//! | question | else |
//! |---|---|
//! | may the node send this pod? | `unknown_node`, `spoofed_source` |
//! | is the policy here? | `unknown_policy` |
//! | may it be sent there? | `hairpin`, `destination_invalid` |
//! | has the policy the session's egress IP? | the session is cut: `session_cut`, or a new one |
//! | has the policy an egress IP of that family? | `no_egress_ip` |
//! | may it open a session? | `tcp_no_session` |
//! | is there room for one? | `sessions_full` |

use super::{
    Protocol, SessionId, Translation, flow::Address, in2out::In2out, policy_table::PolicyTable,
};
use crate::{
    verdict::DropReason,
    wire::tcp::{ACK, RST, SYN},
};
use std::net::IpAddr;

/// What is to become of a packet, and of the session that it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement<A> {
    /// It goes on in its session.
    Continues(SessionId),
    /// Its session goes on, under the packet's policy and from the packet's node.
    Rebinds(SessionId),
    /// It opens a session with this egress IP, if there is an l4_port for it; the one that it found ends.
    Opens {
        egress_ip: A,
        ends: Option<SessionId>,
    },
    Dropped {
        reason: DropReason,
        ends: Option<SessionId>,
    },
}

impl<A> Judgement<A> {
    /// The session that ends by it.
    pub fn ends(&self) -> Option<SessionId> {
        match self {
            Judgement::Continues(_) | Judgement::Rebinds(_) => None,
            Judgement::Opens { ends, .. } | Judgement::Dropped { ends, .. } => *ends,
        }
    }
}

impl<A: Address> Judgement<A> {
    /// The same where both families meet.
    pub(super) fn any(self) -> Judgement<IpAddr> {
        match self {
            Judgement::Continues(id) => Judgement::Continues(id),
            Judgement::Rebinds(id) => Judgement::Rebinds(id),
            Judgement::Opens { egress_ip, ends } => {
                Judgement::Opens { egress_ip: egress_ip.into(), ends }
            }
            Judgement::Dropped { reason, ends } => Judgement::Dropped { reason, ends },
        }
    }
}

impl<A: Address> Translation<A> {
    /// `found`: the session of the packet's key.
    pub(super) fn judge(
        &self,
        input: &In2out<A>,
        found: Option<SessionId>,
        policies: &PolicyTable,
    ) -> Judgement<A> {
        match found {
            Some(id) if self.is_usual(id, input, policies) => Judgement::Continues(id),
            Some(id) => self.judge_changed(id, input, policies),
            None => match self.admit(input, policies) {
                Ok(egress_ip) => Judgement::Opens { egress_ip, ends: None },
                Err(reason) => Judgement::Dropped { reason, ends: None },
            },
        }
    }

    /// A session whose packet comes under another policy, from another node, or after a reload: the
    /// packet's VNI is authoritative, and so is its outer source once that is checked.
    fn judge_changed(
        &self,
        id: SessionId,
        input: &In2out<A>,
        policies: &PolicyTable,
    ) -> Judgement<A> {
        let dropped = |reason, ends| Judgement::Dropped { reason, ends };
        if let Err(reason) = policies.check_source(input.vtep, input.source()) {
            return dropped(reason, None);
        }
        let session = self.table.session(id);
        if policies.policy(input.policy).is_none() {
            // A VNI that means nothing here says nothing about a session of another policy.
            let ends = (session.policy() == input.policy).then_some(id);
            return dropped(DropReason::UnknownPolicy, ends);
        }
        if let Err(reason) = policies.check_destination(input.destination()) {
            return dropped(reason, Some(id));
        }
        if policies.has_egress_ip(input.policy, session.external().0.address) {
            return Judgement::Rebinds(id);
        }
        // TCP cannot change its source in mid-life. Anything else may begin anew under its policy, and
        // the session that ends makes room for it.
        if !opens(input) {
            return dropped(DropReason::SessionCut, Some(id));
        }
        match allow(input, policies) {
            Ok(egress_ip) => Judgement::Opens { egress_ip, ends: Some(id) },
            Err(reason) => dropped(reason, Some(id)),
        }
    }

    /// The egress IP of the session that a packet wants to open, if it may and there is room.
    pub(super) fn admit(&self, input: &In2out<A>, policies: &PolicyTable) -> Result<A, DropReason> {
        let egress_ip = allow(input, policies)?;
        if self.table.is_full() {
            return Err(DropReason::SessionsFull);
        }
        Ok(egress_ip)
    }
}

/// The egress IP of the session that a packet wants to open, if it may.
fn allow<A: Address>(input: &In2out<A>, policies: &PolicyTable) -> Result<A, DropReason> {
    policies.check_source(input.vtep, input.source())?;
    let policy = policies.policy(input.policy).ok_or(DropReason::UnknownPolicy)?;
    policies.check_destination(input.destination())?;
    let egress_ip = policy.egress_ip(input.source())?;
    if opens(input) { Ok(egress_ip) } else { Err(DropReason::TcpNoSession) }
}

/// Whether a packet may open a session: of TCP only a bare SYN, because anything else belongs to a
/// connection whose translation is gone.
fn opens<A: Address>(input: &In2out<A>) -> bool {
    match input.key.protocol() {
        Protocol::Tcp => input.layout.tcp_flags & (SYN | ACK | RST) == SYN,
        Protocol::Udp | Protocol::Icmp => true,
    }
}
