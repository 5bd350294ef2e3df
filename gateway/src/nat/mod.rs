//! The translation: sessions, l4_ports, timeouts, rewriting. Pure: no DPDK, no clock, no thread.
//!
//! One [`Nat`] belongs to one worker and is shared with nobody. It has a [`Translation`] for each address
//! family, and [`in2out`] and [`out2in`] are the two entrances of each; both take a frame that was
//! parsed, the policies in force and `now`.
//!
//! | word | meaning |
//! |---|---|
//! | in2out / out2in | pod → world / world → pod |
//! | internal, external, remote endpoint | pod address:l4_port · egress IP:l4_port · far end (RFC 4787) |
//! | session | one 5-tuple with its translation |
//! | mapping | an internal ↔ external binding; here each session has its own (endpoint-dependent, RFC 7857 section 3) |
//! | policy, policy id, egress IP | who may leave with which source; the id is the VNI |
//! | tenant | the cluster that a pod address belongs to |
//! | transitory / established idle timeout | RFC 5382 REQ-5 |
//! | epoch | the policy generation that a session was last checked against |
//! | verdict, drop reason | what a stage says of a packet |

mod address_set;
mod egress_ip;
pub mod flow;
pub mod in2out;
pub mod index;
mod judgement;
pub mod l4_port;
pub mod lending;
pub mod out2in;
mod policy_sessions;
pub mod policy_table;
pub mod record;
mod rewrite;
pub mod session;
pub mod table;
mod tcp_state;
mod time;
pub mod timeouts;
pub mod trace;
mod translation;
mod vtep;
mod wheel;

pub use address_set::AddressSet;
pub use flow::{
    Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, TableHash,
};
pub use index::Guess;
pub use judgement::Judgement;
pub use l4_port::{Allotment, L4PortShare};
pub use policy_sessions::PolicySessions;
pub use policy_table::PolicyTable;
pub use record::SessionRecord;
pub use session::{Session, SessionId, SessionState, SessionView};
pub use table::{Direction, TableMemory};
pub use time::Tick;
pub use timeouts::Timeouts;
pub use translation::{FlowPacket, Lookup, Translation};
pub use vtep::{Vtep, VtepNumbers};

use crate::{
    memory::Pages,
    wire::{Address, Both, Each, PerFamily},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{io, ops, sync::Arc};

/// What one worker's translation needs to know at start.
#[derive(Clone, Debug)]
pub struct NatConfig {
    /// Sessions of this worker, of each family; the memory is taken at start. 0: the family is not
    /// translated.
    pub max_sessions: Each<u32>,
    /// The largest TCP segment, in bytes, whose packet still fits the tunnel.
    pub mss_limit: Each<u16>,
    /// The external l4_ports that this worker may give out: those whose packets come back to it.
    pub l4_ports: Allotment,
    /// Where the tables shall lie.
    pub pages: Pages,
    pub timeouts: Timeouts,
    /// Drawn at each start and never shown: it keys the session tables' hash, so that nobody can
    /// build colliding flows, and the choice of l4_ports, so that nobody can guess them.
    pub secret: [u8; 32],
}

/// What happened to sessions since start. Plain counts: the owner publishes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    pub created: u64,
    pub expired: u64,
    /// Ended because their policy or egress IP was removed or is another one for their pod.
    pub cut: u64,
    /// Ended by an operator.
    pub flushed: u64,
    /// l4_ports lent to other workers.
    pub lent: u64,
}

impl ops::Add for SessionCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        SessionCounts {
            created: self.created + other.created,
            expired: self.expired + other.expired,
            cut: self.cut + other.cut,
            flushed: self.flushed + other.flushed,
            lent: self.lent + other.lent,
        }
    }
}

/// The translation of one worker.
#[derive(Debug)]
pub struct Nat {
    families: Both<Translations>,
    policy_sessions: Arc<PolicySessions>,
}

/// A [`Translation`] of each family.
#[derive(Debug)]
pub enum Translations {}

impl PerFamily for Translations {
    type Of<A: Address> = Translation<A>;
}

/// A slot of either family's table, as a number: where a visit of all sessions goes on.
pub type Place = u32;

/// Marks places of the IPv6 table; tables have fewer than 2^31 slots.
const V6: Place = 1 << 31;

impl Nat {
    /// Takes the tables' memory, from the NUMA node of the calling thread; an error where there is
    /// too little.
    pub fn new(config: &NatConfig) -> io::Result<Self> {
        let policy_sessions = Arc::<PolicySessions>::default();
        // Each family draws its own secrets.
        let random = |stream| {
            let mut random = ChaCha8Rng::from_seed(config.secret);
            random.set_stream(stream);
            random
        };
        let families = Both {
            v4: Translation::new(config, random(4), Arc::clone(&policy_sessions))?,
            v6: Translation::new(config, random(6), Arc::clone(&policy_sessions))?,
        };
        Ok(Nat { families, policy_sessions })
    }

    #[inline(always)]
    pub fn of<A: Address>(&self) -> &Translation<A> {
        self.families.of()
    }

    #[inline(always)]
    pub fn of_mut<A: Address>(&mut self) -> &mut Translation<A> {
        self.families.of_mut()
    }

    pub fn memory(&self) -> TableMemory {
        self.families.v4.memory() + self.families.v6.memory()
    }

    /// Live sessions.
    pub fn sessions(&self) -> u32 {
        self.families.v4.sessions() + self.families.v6.sessions()
    }

    /// l4_ports of this worker that others use.
    pub fn lent(&self) -> u32 {
        self.families.v4.lent() + self.families.v6.lent()
    }

    /// Sessions here whose l4_port is another worker's.
    pub fn borrowed(&self) -> u32 {
        self.families.v4.borrowed() + self.families.v6.borrowed()
    }

    pub fn counts(&self) -> SessionCounts {
        self.families.v4.counts() + self.families.v6.counts()
    }

    /// Live sessions per policy, readable from another thread.
    pub fn policy_sessions(&self) -> Arc<PolicySessions> {
        Arc::clone(&self.policy_sessions)
    }

    /// Ends sessions that were idle too long; looks at no more than `budget` of each family.
    pub fn expire(&mut self, now: Tick, budget: usize) {
        self.families.v4.expire(now, budget);
        self.families.v6.expire(now, budget);
    }

    /// Goes on looking for sessions that the policies in force no longer allow, `budget` slots of each
    /// family at a time. Packets check their own session anyway; this ends the ones that are silent.
    pub fn sweep(&mut self, policies: &PolicyTable, budget: u32) {
        self.families.v4.sweep(policies, budget);
        self.families.v6.sweep(policies, budget);
    }

    /// Whether [`Nat::sweep`] has something to look at.
    pub fn is_sweeping(&self) -> bool {
        self.families.v4.is_sweeping() || self.families.v6.is_sweeping()
    }

    /// Looks at up to `slots` session slots from `first` on and shows the live sessions to `visit`, until
    /// it returns false. Returns where to go on, or `None` after the last.
    pub fn visit(
        &self,
        first: Place,
        slots: u32,
        policies: &PolicyTable,
        now: Tick,
        mut visit: impl FnMut(Place, SessionRecord) -> bool,
    ) -> Option<Place> {
        let now = now.seconds();
        if first & V6 == 0 {
            let next = self
                .families
                .v4
                .visit(first, slots, |id, session| visit(id.0, session.record(policies, now)));
            return next.or(self.first_v6());
        }
        let next = self.families.v6.visit(first & !V6, slots, |id, session| {
            visit(id.0 | V6, session.record(policies, now))
        });
        next.map(|next| next | V6)
    }

    /// `None` while there never was an IPv6 session.
    fn first_v6(&self) -> Option<Place> {
        self.families.v6.has_slots().then_some(V6)
    }

    /// How many of the sessions in up to `slots` slots from `first` on would `policies` allow, how many
    /// not? And where to go on, or `None` after the last.
    pub fn assess(
        &self,
        first: Place,
        slots: u32,
        policies: &PolicyTable,
    ) -> ((u64, u64), Option<Place>) {
        let mut counted = (0, 0);
        let mut count = |allowed| match allowed {
            true => counted.0 += 1,
            false => counted.1 += 1,
        };
        let next = if first & V6 == 0 {
            let next = self.families.v4.visit(first, slots, |_, session| {
                count(policies.allows(&session));
                true
            });
            next.or(self.first_v6())
        } else {
            let next = self.families.v6.visit(first & !V6, slots, |_, session| {
                count(policies.allows(&session));
                true
            });
            next.map(|next| next | V6)
        };
        (counted, next)
    }

    /// Ends the session of a place at an operator's wish.
    pub fn flush(&mut self, place: Place) {
        match place & V6 {
            0 => self.families.v4.flush(SessionId(place)),
            _ => self.families.v6.flush(SessionId(place & !V6)),
        }
    }

    /// Panics where a table contradicts itself. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.families.v4.check_invariants();
        self.families.v6.check_invariants();
        let sessions = u64::from(self.sessions());
        assert_eq!(self.policy_sessions.total(), sessions);
        let l4_ports = self.policy_sessions.l4_ports();
        let in_use: u64 = l4_ports.egress_ips().map(|(_, in_use)| in_use).sum();
        assert_eq!(in_use + l4_ports.others(), sessions);
    }
}
