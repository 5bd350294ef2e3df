//! Lending l4_ports between workers, so that no flow is refused while any l4_port for its remote endpoint
//! is free.
//!
//! Each worker gives out the l4_ports whose packets come back to it. One that has none left for a remote
//! endpoint asks the others, one after the other, with the flow's first packet in hand. Who has one makes
//! a *stub* for it, which leads the packets that come back to the borrower, and gives the packet back with
//! the l4_port. The borrower opens the session; when that ends, it gives the l4_port back, and the stub goes.
//!
//! A stub is a slot of the lender's table like a session's: its out2in key is the external tuple, its
//! in2out key is one that no packet has, of tenant `LENT`.

use super::{
    Direction, ExternalEndpoint, FlowKey, InternalEndpoint, SessionState, Tick, Translation, Vtep,
    in2out::In2out, policy_table::PolicyTable, session::NewSession,
};
use crate::{
    verdict::DropReason,
    wire::{Address, PerFamily},
};

/// The tenant of stubs; no cluster has it.
pub(super) const LENT: u16 = u16::MAX;

/// Seconds between looks at a stub, which no time ends: it goes when its l4_port comes home.
pub(super) const STUB_IDLE: u32 = 3600;

/// A loan that came to its end, to be told to the lender: the out2in key of its stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned<A: Address>(pub FlowKey<A>);

/// A [`Returned`] of each family.
#[derive(Debug)]
pub enum Loans {}

impl PerFamily for Loans {
    type Of<A: Address> = Returned<A>;
}

/// A flow's first packet, and the external endpoint that its session may have.
#[derive(Clone, Copy, Debug)]
pub struct Offer<A: Address> {
    pub input: In2out<A>,
    pub external: ExternalEndpoint<A>,
}

impl<A: Address> Offer<A> {
    /// Nobody takes it.
    pub fn declined(&self) -> Returned<A> {
        Returned(self.input.key.answered_at(self.external))
    }
}

/// An [`Offer`] of each family.
#[derive(Debug)]
pub enum Offers {}

impl PerFamily for Offers {
    type Of<A: Address> = Offer<A>;
}

/// Room for loans that end in one turn. More can wait only while their lender's loop stands still.
pub(super) const RETURNS: usize = 4096;

impl<A: Address> Translation<A> {
    /// Lends an l4_port to worker `borrower`, for the session that `input` would open there.
    pub fn lend(
        &mut self,
        input: &In2out<A>,
        borrower: usize,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<Offer<A>, DropReason> {
        let egress_ip = self.admit(input, policies)?;
        let (external, out2in_hash) = self.pick(input, egress_ip)?;
        let now = now.seconds();
        let stub = NewSession {
            tenant: LENT,
            protocol: input.key.protocol(),
            internal: InternalEndpoint(external.0),
            external,
            remote: input.key.remote(),
            state: SessionState::TcpEstablished,
            policy: borrower as u32,
            vtep: Vtep::NONE,
            epoch: policies.epoch(),
            now,
        };
        let in2out_hash = self.table.hash().of(&stub.in2out_key());
        self.table
            .insert(&stub, in2out_hash, out2in_hash, now + STUB_IDLE)
            .map_err(|_| DropReason::SessionsFull)?;
        self.l4_ports.took(&stub.out2in_key().pool(), external.0.l4_port);
        self.stubs += 1;
        self.counts.lent += 1;
        Ok(Offer { input: *input, external })
    }

    /// Translates the first packet of a flow for which another worker lends an l4_port. After an error the
    /// frame is as it was, and the loan is on its way home.
    pub fn in2out_borrowed(
        &mut self,
        frame: &mut [u8],
        offer: &Offer<A>,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<(), DropReason> {
        let input = &offer.input;
        let lookup = self.look_up(Direction::In2out, &input.key);
        let is_known = self.table.find(Direction::In2out, lookup.hash, &input.key).is_some();
        if is_known {
            // Another packet of the flow was first.
            self.returns.push_back(offer.declined());
        } else if let Err(reason) = self.open_borrowed(offer, lookup.hash, policies, now) {
            self.returns.push_back(offer.declined());
            return Err(reason);
        }
        self.in2out(frame, input, lookup, policies, now)
    }

    fn open_borrowed(
        &mut self,
        offer: &Offer<A>,
        hash: u64,
        policies: &PolicyTable,
        now: Tick,
    ) -> Result<(), DropReason> {
        let Offer { input, external } = offer;
        if self.admit(input, policies)? != external.0.address {
            // Lent under other policies than are in force here.
            return Err(DropReason::PolicyChanged);
        }
        let out2in_hash = self.table.hash().of(&offer.declined().0);
        self.add(input, *external, (hash, out2in_hash), policies, now).map(|_| ())
    }

    /// An l4_port came home.
    pub fn take_back(&mut self, Returned(key): &Returned<A>) {
        let hash = self.table.hash().of(key);
        let stub = self.table.find(Direction::Out2in, hash, key);
        if let Some(id) = stub.filter(|id| self.table.session(*id).borrower().is_some()) {
            self.remove(id);
        }
    }

    /// A loan that ended since the last call.
    pub fn next_return(&mut self) -> Option<Returned<A>> {
        self.returns.pop_front()
    }

    /// What [`Translation::next_return`] gave and could not be told.
    pub fn return_later(&mut self, returned: Returned<A>) {
        self.returns.push_front(returned);
    }

    /// Stubs: l4_ports of this worker that others use.
    pub fn lent(&self) -> u32 {
        self.stubs
    }

    /// Sessions here whose l4_port is another worker's.
    pub fn borrowed(&self) -> u32 {
        self.borrowed
    }
}
