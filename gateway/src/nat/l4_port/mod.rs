//! Choosing the external l4_port of a new session.
//!
//! An external tuple (egress IP, l4_port, remote endpoint, protocol) is taken exactly when the out2in
//! index holds it, so the index is the only book of l4_ports: finding none there and inserting is the
//! reservation, and removing the session gives the l4_port back. The same l4_port serves any number
//! of remotes (RFC 7857 section 3).

mod share;

pub use share::{InvalidShare, L4PortShare};

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

/// 1024–65535: RFC 6056 section 3.2 asks for the whole range above the well-known ports.
pub(super) const FIRST: u16 = 1024;
pub(super) const COUNT: u32 = 65_536 - FIRST as u32;

/// Random tries before the search says that none is free; each is one look-up. While nine of ten
/// l4_ports of a remote are taken, all tries fail once in 850.
const TRIES: u32 = 64;

#[derive(Debug)]
pub(super) struct L4PortPicker {
    /// Keyed by the start's secret: RFC 6056 section 3.3.1, unpredictable from outside.
    random: ChaCha8Rng,
}

impl L4PortPicker {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        L4PortPicker { random }
    }

    /// What `try_it` makes of the first candidate that it takes.
    pub(super) fn pick<T>(&mut self, mut try_it: impl FnMut(u16) -> Option<T>) -> Option<T> {
        (0..TRIES).find_map(|_| {
            // Lemire's multiply-shift: a uniform number below COUNT without a division; the bias of
            // 2^-16 per port is no help to a guesser.
            let below = (u64::from(self.random.next_u32()) * u64::from(COUNT)) >> 32;
            let l4_port = FIRST + below as u16;
            try_it(l4_port)
        })
    }
}
