//! Whether the policy that comes and goes is there, as the senders of its flow know it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Odd while the gateway has said that the policy is removed and nobody is about to bring it back; each time another number.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU32);

impl Gate {
    /// After the answer to the PUT that removes it.
    pub(super) fn shut(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Well before the PUT that brings it back: what is sent from here on may wait for it on the way.
    pub(super) fn open(&self) {
        let now = self.0.load(Ordering::SeqCst);
        self.0.store(now.next_multiple_of(2), Ordering::SeqCst);
    }

    /// Does `send`; whether the policy was removed all that time.
    pub(super) fn was_shut<T>(&self, send: impl FnOnce() -> T) -> (T, bool) {
        let before = self.0.load(Ordering::SeqCst);
        let sent = send();
        (sent, before % 2 == 1 && self.0.load(Ordering::SeqCst) == before)
    }
}
