//! What one worker would do with a packet that nobody sent. Nothing changes by it: no session, no l4_port,
//! no count, no timer.

use super::{
    Direction, Nat, SessionRecord, Tick, Translation,
    flow::Address,
    in2out::{In2out, In2outs, out2in, taken},
    judgement::Judgement,
    l4_port::BATCH,
    policy_table::PolicyTable,
};
use crate::{verdict::DropReason, wire::Any};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// A packet whose fate is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub packet: Any<In2outs>,
    /// Whether the worker is asked to lend an l4_port for it to another one, which owns its flow.
    pub to_lend: bool,
}

impl Question {
    /// Where the packet would go.
    pub fn destination(&self) -> IpAddr {
        match &self.packet {
            Any::V4(packet) => packet.destination().into(),
            Any::V6(packet) => packet.destination().into(),
        }
    }
}

/// What the worker would do.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// Of the policies by which it was judged.
    pub generation: u64,
    pub judgement: Judgement<IpAddr>,
    /// The session that it found.
    pub session: Option<SessionRecord>,
    /// Slots of the table of its family that are taken (with those of lent l4_ports), and how many there are.
    pub slots: (u32, u32),
    /// For a packet that would open a session: the worker's l4_ports that are taken for its remote
    /// endpoint, protocol and egress IP, and how many the worker has.
    pub l4_ports: (u32, u32),
}

impl Fate {
    /// The address that the world would see as the source.
    pub fn egress_ip(&self) -> Option<IpAddr> {
        match self.judgement {
            Judgement::Continues(_) | Judgement::Rebinds(_) => {
                self.session.map(|session| session.external.address)
            }
            Judgement::Opens { egress_ip, .. } => Some(egress_ip),
            Judgement::Dropped { .. } => None,
        }
    }

    /// Why it would be dropped, as far as the translation goes.
    pub fn dropped(&self) -> Option<DropReason> {
        match self.judgement {
            Judgement::Continues(_) | Judgement::Rebinds(_) => None,
            Judgement::Opens { .. } => {
                (self.l4_ports.0 >= self.l4_ports.1).then_some(DropReason::L4PortsExhausted)
            }
            Judgement::Dropped { reason, .. } => Some(reason),
        }
    }
}

impl Nat {
    /// The fate of a packet, but for [`Fate::l4_ports`], of which none is counted yet.
    pub fn foretell(&self, question: &Question, policies: &PolicyTable, now: Tick) -> Fate {
        match &question.packet {
            Any::V4(packet) => self.families.v4.foretell(packet, question.to_lend, policies, now),
            Any::V6(packet) => self.families.v6.foretell(packet, question.to_lend, policies, now),
        }
    }

    /// Adds the next l4_ports of the share to [`Fate::l4_ports`], from number `first` on and no more than
    /// [`BATCH`] of them. Returns with which to go on, or `None` when all are counted.
    pub fn count_l4_ports(&self, question: &Question, fate: &mut Fate, first: u32) -> Option<u32> {
        let Judgement::Opens { egress_ip, .. } = fate.judgement else { return None };
        let (taken, next) = match &question.packet {
            Any::V4(packet) => self.families.v4.count_l4_ports(packet, egress_ip, first),
            Any::V6(packet) => self.families.v6.count_l4_ports(packet, egress_ip, first),
        };
        fate.l4_ports.0 += taken;
        next
    }
}

impl<A: Address> Translation<A> {
    fn foretell(
        &self,
        packet: &In2out<A>,
        to_lend: bool,
        policies: &PolicyTable,
        now: Tick,
    ) -> Fate {
        let hash = self.table.hash().of(&packet.key);
        // A lender knows nothing of the flow.
        let found = self.table.find(Direction::In2out, hash, &packet.key).filter(|_| !to_lend);
        Fate {
            generation: policies.generation(),
            judgement: self.judge(packet, found, policies).any(),
            session: found.map(|id| self.table.view(id).record(policies, now.seconds())),
            slots: (self.table.len(), self.table.capacity() as u32),
            l4_ports: (0, self.l4_ports.len()),
        }
    }

    fn count_l4_ports(
        &self,
        packet: &In2out<A>,
        egress_ip: IpAddr,
        first: u32,
    ) -> (u32, Option<u32>) {
        let Some(egress_ip) = A::of_family(egress_ip) else { return (0, None) };
        let pool = out2in(packet, egress_ip, 0).1.pool();
        let share = self.l4_ports.share_of(&pool);
        let end = share.len().min(first.saturating_add(BATCH as u32));
        let batch: ArrayVec<u16, BATCH> =
            (first..end).filter_map(|number| share.nth(number)).collect();
        let taken = taken(&self.table, packet, egress_ip, &batch).count_ones();
        (taken, (end < share.len()).then_some(end))
    }
}
