//! Who may be connected. There are so many seats; when all are taken, the client that has let the
//! server wait for longest gives up its own. Whoever waits for the server keeps it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::oneshot;

/// In place of a time: the server works for this client.
const WORKING: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Seats {
    limit: usize,
    /// What the times are counted from.
    epoch: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, (Arc<Client>, oneshot::Sender<()>)>,
}

/// What the server and a client are at.
#[derive(Debug)]
pub(super) struct Client {
    epoch: Instant,
    /// Since when the server waits for the client, in microseconds; or [`WORKING`].
    waiting_since: AtomicU64,
    /// The answer is made; it is on its way until all is written.
    is_answered: AtomicBool,
    /// A part of the request's body is still to come.
    has_unread: AtomicBool,
}

/// Given up on drop.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    seats: Arc<Seats>,
    pub(super) client: Arc<Client>,
    /// Ends when the seat is another's.
    pub(super) lost: oneshot::Receiver<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().seats.remove(&self.id);
    }
}

impl Seats {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Seats { limit, epoch: Instant::now(), taken: Mutex::default() })
    }

    /// A free seat, or that of the client that was waited for longest. None when the server works
    /// for all of them.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        if self.taken().seats.len() >= self.limit && !self.free_one() {
            return None;
        }
        let client = Arc::new(Client {
            epoch: self.epoch,
            waiting_since: AtomicU64::new(micros_since(self.epoch)),
            is_answered: AtomicBool::new(false),
            has_unread: AtomicBool::new(false),
        });
        let (lose, lost) = oneshot::channel();
        let mut taken = self.taken();
        let id = taken.next;
        taken.next += 1;
        taken.seats.insert(id, (Arc::clone(&client), lose));
        drop(taken);
        Some(Seat { id, seats: Arc::clone(self), client, lost })
    }

    /// Ends the connection of the client that was waited for longest, if any is waited for.
    pub(super) fn free_one(&self) -> bool {
        let mut taken = self.taken();
        let waits = taken.seats.iter().filter_map(|(&id, (client, _))| {
            let since = client.waiting_since.load(Relaxed);
            (since != WORKING).then_some((since, id))
        });
        let longest = waits.min().map(|(_, id)| id);
        // Its other half learns that the sender is gone.
        longest.is_some_and(|id| taken.seats.remove(&id).is_some())
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// A request's head is here.
    pub(super) fn has_asked(&self, has_body: bool) {
        self.is_answered.store(false, Relaxed);
        self.has_unread.store(has_body, Relaxed);
        self.is_worked_for();
    }

    /// The whole answer was given to the connection, which may not have sent all of it.
    pub(super) fn is_answered(&self) {
        self.is_answered.store(true, Relaxed);
    }

    /// Nothing is left that the connection has to send.
    pub(super) fn is_flushed(&self) {
        if self.is_answered.swap(false, Relaxed) {
            self.is_waited_for();
        }
    }

    pub(super) fn body_is_read(&self) {
        self.has_unread.store(false, Relaxed);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.has_unread.load(Relaxed)
    }

    pub(super) fn is_worked_for(&self) {
        self.waiting_since.store(WORKING, Relaxed);
    }

    /// From now on, or as before.
    pub(super) fn is_waited_for(&self) {
        let now = micros_since(self.epoch);
        let _ = self.waiting_since.compare_exchange(WORKING, now, Relaxed, Relaxed);
    }
}

fn micros_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_micros()).unwrap_or(WORKING - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_longest_gives_up_its_seat() {
        let seats = Seats::new(3);
        let mut taken: Vec<Seat> = (0..3).map(|_| seats.take().unwrap()).collect();
        // The first has asked, the second has been answered since.
        taken[0].client.has_asked(false);
        taken[1].client.has_asked(false);
        taken[1].client.is_answered();
        while micros_since(seats.epoch) == taken[2].client.waiting_since.load(Relaxed) {}
        taken[1].client.is_flushed();
        let fourth = seats.take().unwrap();
        assert!(taken[2].lost.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
        let still =
            |seat: &mut Seat| seat.lost.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        assert!(still(&mut taken[0]) && still(&mut taken[1]));

        fourth.client.has_asked(true);
        taken[1].client.has_asked(false);
        // Three are worked for; whose body does not come is waited for.
        assert!(seats.take().is_none());
        fourth.client.is_waited_for();
        let mut fifth = seats.take().unwrap();
        assert!(still(&mut fifth));
        fifth.client.has_asked(false);
        assert!(seats.take().is_none());
        drop(taken.remove(0));
        assert!(seats.take().is_some());
    }

    #[test]
    fn a_seat_that_was_lost_is_not_given_up_again() {
        let seats = Seats::new(1);
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        drop(first);
        assert_eq!(seats.taken().seats.len(), 1);
        drop(second);
        assert_eq!(seats.taken().seats.len(), 0);
    }
}
