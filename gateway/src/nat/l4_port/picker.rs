//! Random tries alone.

use super::{COUNT, FIRST};
use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

/// Random tries before the search says that none is free; each is one look-up. While nine of ten
/// l4_ports of a remote are taken, all tries fail once in 850.
const TRIES: u32 = 64;

#[derive(Debug)]
pub(in crate::nat) struct L4PortPicker {
    /// Keyed by the start's secret: RFC 6056 section 3.3.1, unpredictable from outside.
    random: ChaCha8Rng,
}

impl L4PortPicker {
    pub(in crate::nat) fn new(random: ChaCha8Rng) -> Self {
        L4PortPicker { random }
    }

    /// What `try_it` makes of the first candidate that it takes.
    pub(in crate::nat) fn pick<T>(
        &mut self,
        mut try_it: impl FnMut(u16) -> Option<T>,
    ) -> Option<T> {
        (0..TRIES).find_map(|_| {
            // Lemire's multiply-shift: a uniform number below COUNT without a division; the bias of
            // 2^-16 per port is no help to a guesser.
            let below = (u64::from(self.random.next_u32()) * u64::from(COUNT)) >> 32;
            let l4_port = FIRST + below as u16;
            try_it(l4_port)
        })
    }
}
