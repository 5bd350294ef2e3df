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
mod index;
mod l4_port;
pub mod out2in;
mod policy_sessions;
pub mod policy_table;
mod rewrite;
pub mod session;
mod table;
mod tcp_state;
mod time;
pub mod timeouts;
mod wheel;

pub use address_set::AddressSet;
pub use flow::{
    Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint, TableHash,
};
pub use policy_sessions::PolicySessions;
pub use policy_table::PolicyTable;
pub use session::{Session, SessionId, SessionState, SessionView};
pub use time::Tick;
pub use timeouts::Timeouts;

use l4_port::L4PortPicker;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::sync::Arc;
use table::SessionTable;

/// What one worker's translation needs to know at start.
#[derive(Clone, Debug)]
pub struct NatConfig {
    /// Sessions of this worker; the memory is taken at start.
    pub max_sessions: u32,
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

/// The translation of one worker.
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

impl Nat {
    pub fn new(config: &NatConfig) -> Self {
        let mut random = ChaCha8Rng::from_seed(config.secret);
        let hash = TableHash::new(&mut random);
        Nat {
            table: SessionTable::new(config.max_sessions, hash),
            timeouts: config.timeouts,
            mss_limit: config.mss_limit,
            l4_ports: L4PortPicker::new(random),
            policy_sessions: Arc::default(),
            counts: SessionCounts::default(),
            sweep: Sweep::default(),
        }
    }

    pub fn hash(&self) -> &TableHash {
        self.table.hash()
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
        let now = now.seconds();
        for _ in 0..budget {
            let Some(id) = self.table.next_due(now) else { return };
            let session = self.table.session(id);
            let deadline = session.last_heard + self.timeouts.of(session.state);
            if deadline <= now {
                self.remove(id);
                self.counts.expired += 1;
            } else {
                // A packet came since the timer was set. Hits only note the time on the session's
                // own cache line; the timer catches up here.
                self.table.arm(id, deadline);
            }
        }
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
        mut visit: impl FnMut(SessionId, SessionView) -> bool,
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
        self.policy_sessions.removed(self.table.session(id).policy);
        self.table.remove(id);
    }

    /// Panics where the table contradicts itself. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
        assert_eq!(self.policy_sessions.total(), u64::from(self.table.len()));
    }
}
