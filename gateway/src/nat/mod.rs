//! The translation: sessions, l4_ports, timeouts, rewriting. Pure: no DPDK, no clock, no thread.
//!
//! One [`Nat`] belongs to one worker and is shared with nobody. [`in2out`] and [`out2in`] are its
//! two entrances; both take a frame that was parsed, the policies in force and `now`.
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
pub mod l4_port;
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
mod wheel;

pub use address_set::AddressSet;
pub use flow::{
    Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, TableHash,
};
pub use index::Guess;
pub use policy_sessions::PolicySessions;
pub use policy_table::PolicyTable;
pub use record::SessionRecord;
pub use session::{Session, SessionId, SessionState, SessionView};
pub use table::{Direction, TableMemory};
pub use time::Tick;
pub use timeouts::Timeouts;

use crate::memory::Pages;
use arrayvec::ArrayVec;
use l4_port::L4PortPicker;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{io, sync::Arc};
use table::SessionTable;

/// What one worker's translation needs to know at start.
#[derive(Clone, Debug)]
pub struct NatConfig {
    /// Sessions of this worker; the memory is taken at start.
    pub max_sessions: u32,
    /// Where the table shall lie.
    pub pages: Pages,
    pub timeouts: Timeouts,
    /// The largest TCP segment, in bytes, whose packet still fits the tunnel.
    pub mss_limit: u16,
    /// Drawn at each start and never shown: it keys the session table's hash, so that nobody can
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
}

/// A look-up on its way through the stages of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    hash: u64,
    guess: Guess,
}

/// A parsed packet of a flow.
pub trait FlowPacket {
    const DIRECTION: Direction;

    fn key(&self) -> &FlowKey;
}

/// The translation of one worker.
///
/// A packet goes through [`Nat::look_up`], [`Nat::locate`], [`Nat::locate_further`] and then
/// [`Nat::in2out`] or [`Nat::out2in`]; a burst goes through each of them as a whole.
#[derive(Debug)]
pub struct Nat {
    table: SessionTable,
    timeouts: Timeouts,
    mss_limit: u16,
    l4_ports: L4PortPicker,
    policy_sessions: Arc<PolicySessions>,
    counts: SessionCounts,
    /// Where the search for sessions of an older epoch goes on; see [`Nat::sweep`].
    sweep: Sweep,
}

#[derive(Debug, Default)]
struct Sweep {
    epoch: u16,
    next: u32,
}

/// Sessions whose end is prepared together, so that their cache misses overlap.
const EXPIRE_BATCH: usize = 32;

impl Nat {
    /// Takes the table's memory, from the NUMA node of the calling thread; an error where there is
    /// too little.
    pub fn new(config: &NatConfig) -> io::Result<Self> {
        let mut random = ChaCha8Rng::from_seed(config.secret);
        let hash = TableHash::new(&mut random);
        Ok(Nat {
            table: SessionTable::new(config.max_sessions, hash, config.pages)?,
            timeouts: config.timeouts,
            mss_limit: config.mss_limit,
            l4_ports: L4PortPicker::new(random),
            policy_sessions: Arc::default(),
            counts: SessionCounts::default(),
            sweep: Sweep::default(),
        })
    }

    pub fn memory(&self) -> TableMemory {
        self.table.memory()
    }

    /// First stage: the flow's hash; its line of the index begins to load.
    #[inline(always)]
    pub fn look_up(&self, direction: Direction, key: &FlowKey) -> Lookup {
        let hash = self.table.hash().of(key);
        self.table.prefetch(direction, hash);
        Lookup { hash, guess: Guess::Further }
    }

    /// Second stage: where the session is by that line; it begins to load.
    #[inline(always)]
    pub fn locate(&self, direction: Direction, lookup: &mut Lookup) {
        lookup.guess = self.table.locate(direction, lookup.hash);
    }

    /// The second stage once more, for those that it left [`Guess::Further`].
    #[inline(always)]
    pub fn locate_further(&self, direction: Direction, lookup: &mut Lookup) {
        if lookup.guess == Guess::Further {
            lookup.guess = self.table.locate_further(direction, lookup.hash);
        }
    }

    /// Live sessions.
    pub fn sessions(&self) -> u32 {
        self.table.len()
    }

    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Live sessions per policy, readable from another thread.
    pub fn policy_sessions(&self) -> Arc<PolicySessions> {
        Arc::clone(&self.policy_sessions)
    }

    /// Ends sessions that were idle too long; looks at no more than `budget` of them.
    pub fn expire(&mut self, now: Tick, budget: usize) {
        let mut left = budget;
        while left > 0 {
            let batch = left.min(EXPIRE_BATCH);
            if self.expire_batch(now.seconds(), batch) < batch {
                return;
            }
            left -= batch;
        }
    }

    /// Returns how many timers had fired.
    fn expire_batch(&mut self, now: u32, most: usize) -> usize {
        let mut due = ArrayVec::<SessionId, EXPIRE_BATCH>::new();
        while due.len() < most {
            let Some(id) = self.table.next_due(now) else { break };
            due.push(id);
        }
        let fired = due.len();
        due.retain(|id| {
            let session = self.table.session(*id);
            let deadline = session.last_heard + self.timeouts.of(session.state());
            if deadline > now {
                // A packet came since the timer was set. Hits only note the time on the session's own
                // cache line; the timer catches up here.
                self.table.arm(*id, deadline);
                return false;
            }
            self.table.prefetch_removal(*id);
            true
        });
        for id in due {
            self.remove(id);
            self.counts.expired += 1;
        }
        fired
    }

    /// Goes on looking for sessions that the policies in force no longer allow, `budget` slots at a
    /// time. Packets check their own session anyway; this ends the ones that are silent.
    pub fn sweep(&mut self, policies: &PolicyTable, budget: u32) {
        if self.sweep.epoch != policies.epoch() {
            self.sweep = Sweep { epoch: policies.epoch(), next: 0 };
        }
        let end = self.sweep.next.saturating_add(budget).min(self.table.slots_used());
        for id in (self.sweep.next..end).map(SessionId) {
            if self.table.is_live(id) && !self.still_allowed(id, policies) {
                self.cut(id);
            }
        }
        self.sweep.next = end;
    }

    /// Looks at up to `slots` session slots from `first` on and shows the live ones to `visit`, until
    /// it returns false. Returns where to go on, or `None` after the last.
    pub fn visit(
        &self,
        first: u32,
        slots: u32,
        mut visit: impl FnMut(SessionId, SessionView<'_>) -> bool,
    ) -> Option<u32> {
        let end = first.saturating_add(slots).min(self.table.slots_used());
        for id in (first..end).map(SessionId) {
            if self.table.is_live(id) && !visit(id, self.table.view(id)) {
                return Some(id.0 + 1);
            }
        }
        (end < self.table.slots_used()).then_some(end)
    }

    /// Ends one session at an operator's wish.
    pub fn flush(&mut self, id: SessionId) {
        if self.table.is_live(id) {
            self.remove(id);
            self.counts.flushed += 1;
        }
    }

    /// True while the session's policy is here and still has its egress IP, and its node may still
    /// send for its pod. Then the session is of the current epoch.
    fn still_allowed(&mut self, id: SessionId, policies: &PolicyTable) -> bool {
        if self.table.session(id).epoch == policies.epoch() {
            return true;
        }
        let allowed = policies.allows(&self.table.view(id));
        if allowed {
            self.table.session_mut(id).epoch = policies.epoch();
        }
        allowed
    }

    fn cut(&mut self, id: SessionId) {
        self.remove(id);
        self.counts.cut += 1;
    }

    fn remove(&mut self, id: SessionId) {
        self.policy_sessions.removed(self.table.session(id).policy());
        self.table.remove(id);
    }

    /// Panics where the table contradicts itself. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
        assert_eq!(self.policy_sessions.total(), u64::from(self.table.len()));
    }
}
