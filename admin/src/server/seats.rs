//! Who may be connected. There are so many seats; when all are taken, the client that has let the
//! server wait for longest gives up its own. Whoever waits for the server keeps it, and in the middle
//! of a request a client has more time than one that asks for nothing.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) struct Seats {
    limit: usize,
    /// Nobody gives way before it has had so long.
    grace: Duration,
    /// What the times are counted from.
    epoch: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, (Arc<Client>, oneshot::Sender<()>)>,
}

/// One who is in the middle of a request may let the server wait so many times as long as one who is
/// idle: it may be a large one, of a client that has not had the processor for a while.
const PATIENCE: u64 = 8;
/// Bytes of a body or an answer after which the wait begins anew. Who sends a byte at a time does not
/// get on.
const STEP: usize = 16 * 1024;

/// What the server and a client are at.
#[derive(Debug)]
pub(super) struct Client {
    epoch: Instant,
    /// The server can do nothing before the client does something.
    is_waited_for: AtomicBool,
    /// When the client last got on, in microseconds.
    since: AtomicU64,
    /// Bytes that went either way since.
    moved: AtomicUsize,
    /// A request is here, and its answer not all sent.
    is_asking: AtomicBool,
    /// The answer is made; it is on its way until all is written.
    is_answered: AtomicBool,
    /// A part of the request's body is still to come.
    has_unread: AtomicBool,
}

/// Why there is no seat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// The server works for all clients.
    AllBusy,
    /// Until then nobody need give way.
    Within(Duration),
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
    pub(super) fn new(limit: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Seats { limit, grace, epoch: Instant::now(), taken: Mutex::default() })
    }

    /// A free seat, or that of the client that was waited for longest.
    pub(super) fn take(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        if self.taken().seats.len() >= self.limit {
            self.free_one()?;
        }
        let client = Arc::new(Client::new(self.epoch));
        let (lose, lost) = oneshot::channel();
        let mut taken = self.taken();
        let id = taken.next;
        taken.next += 1;
        taken.seats.insert(id, (Arc::clone(&client), lose));
        drop(taken);
        Ok(Seat { id, seats: Arc::clone(self), client, lost })
    }

    /// Ends the connection of the client that lets the server wait for longest.
    pub(super) fn free_one(&self) -> Result<(), NoSeat> {
        let mut taken = self.taken();
        let now = micros_since(self.epoch);
        let waits = taken.seats.iter().filter_map(|(&id, (client, _))| {
            let wait = client.lets_wait(now)?;
            // Of those that came in one moment the first.
            Some((client.weighed(wait), Reverse(id), wait))
        });
        let (_, Reverse(id), wait) = waits.max().ok_or(NoSeat::AllBusy)?;
        match self.grace.checked_sub(Duration::from_micros(wait)) {
            Some(rest) if !rest.is_zero() => Err(NoSeat::Within(rest)),
            // Its other half learns that the sender is gone.
            _ => {
                taken.seats.remove(&id);
                Ok(())
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// One who has asked for nothing yet.
    fn new(epoch: Instant) -> Self {
        let flag = AtomicBool::new;
        Client {
            epoch,
            is_waited_for: flag(true),
            since: AtomicU64::new(micros_since(epoch)),
            moved: AtomicUsize::new(0),
            is_asking: flag(false),
            is_answered: flag(false),
            has_unread: flag(false),
        }
    }

    /// A request's head is here.
    pub(super) fn has_asked(&self, has_body: bool) {
        self.is_asking.store(true, Relaxed);
        self.is_answered.store(false, Relaxed);
        self.has_unread.store(has_body, Relaxed);
        self.is_worked_for();
        self.gets_on();
    }

    /// The answer is known, and about to be sent.
    pub(super) fn has_answer(&self) {
        self.gets_on();
    }

    /// The whole answer was given to the connection, which may not have sent all of it.
    pub(super) fn is_answered(&self) {
        self.is_answered.store(true, Relaxed);
    }

    /// Nothing is left that the connection has to send.
    pub(super) fn is_flushed(&self) {
        if self.is_answered.swap(false, Relaxed) {
            self.is_asking.store(false, Relaxed);
            self.gets_on();
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
        self.is_waited_for.store(false, Relaxed);
    }

    pub(super) fn is_waited_for(&self) {
        self.is_waited_for.store(true, Relaxed);
    }

    /// Bytes of a body came, or bytes of an answer were taken.
    pub(super) fn moves(&self, bytes: usize) {
        let moved = self.moved.load(Relaxed).saturating_add(bytes);
        self.moved.store(moved, Relaxed);
        if moved >= STEP {
            self.gets_on();
        }
    }

    fn gets_on(&self) {
        self.since.store(micros_since(self.epoch), Relaxed);
        self.moved.store(0, Relaxed);
    }

    /// For how long, in microseconds; none when the server works for it.
    fn lets_wait(&self, now: u64) -> Option<u64> {
        let wait = now.saturating_sub(self.since.load(Relaxed));
        self.is_waited_for.load(Relaxed).then_some(wait)
    }

    /// A wait beside those of others.
    fn weighed(&self, wait: u64) -> u64 {
        if self.is_asking.load(Relaxed) { wait / PATIENCE } else { wait }
    }
}

fn micros_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_longest_gives_up_its_seat() {
        let seats = Seats::new(3, Duration::ZERO);
        let mut taken: Vec<Seat> = (0..3).map(|_| seats.take().unwrap()).collect();
        // The first has asked, the second has been answered since.
        taken[0].client.has_asked(false);
        taken[1].client.has_asked(false);
        taken[1].client.is_answered();
        while micros_since(seats.epoch) == taken[2].client.since.load(Relaxed) {}
        taken[1].client.is_flushed();
        let fourth = seats.take().unwrap();
        assert!(taken[2].lost.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
        let still =
            |seat: &mut Seat| seat.lost.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        assert!(still(&mut taken[0]) && still(&mut taken[1]));

        fourth.client.has_asked(true);
        taken[1].client.has_asked(false);
        // Three are worked for; whose body does not come is waited for.
        assert_eq!(seats.take().unwrap_err(), NoSeat::AllBusy);
        fourth.client.is_waited_for();
        let mut fifth = seats.take().unwrap();
        assert!(still(&mut fifth));
        fifth.client.has_asked(false);
        assert_eq!(seats.take().unwrap_err(), NoSeat::AllBusy);
        drop(taken.remove(0));
        assert!(seats.take().is_ok());
    }

    #[test]
    fn who_gets_on_with_a_request_has_more_time() {
        let seats = Seats::new(1, Duration::ZERO);
        let seat = seats.take().unwrap();
        let client = &seat.client;
        let waits = |after: u64| {
            client.lets_wait(client.since.load(Relaxed) + after).map(|wait| client.weighed(wait))
        };
        assert_eq!(waits(800), Some(800));
        client.has_asked(true);
        assert_eq!(waits(800), None);
        client.is_waited_for();
        assert_eq!(waits(800), Some(100));
        let past = |micros| client.since.store(client.since.load(Relaxed) - micros, Relaxed);
        while micros_since(seats.epoch) < 1000 {}
        client.gets_on();
        past(900);
        let slow = client.since.load(Relaxed);
        (0..STEP - 1).for_each(|_| client.moves(1));
        assert_eq!(client.since.load(Relaxed), slow);
        client.moves(1);
        assert!(client.since.load(Relaxed) > slow);
        // The answer is there, but not taken; when it is, the client is idle.
        client.is_answered();
        assert_eq!(waits(800), Some(100));
        client.is_worked_for();
        assert_eq!(waits(800), None);
        client.is_flushed();
        assert_eq!(waits(800), Some(800));
    }

    #[test]
    fn nobody_gives_way_at_once() {
        let seats = Seats::new(1, Duration::from_secs(60));
        let first = seats.take().unwrap();
        let NoSeat::Within(rest) = seats.take().unwrap_err() else { panic!("it waits") };
        assert!(rest > Duration::from_secs(30) && rest <= seats.grace, "{rest:?}");
        drop(first);
        assert!(seats.take().is_ok());
    }

    #[test]
    fn a_seat_that_was_lost_is_not_given_up_again() {
        let seats = Seats::new(1, Duration::ZERO);
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        drop(first);
        assert_eq!(seats.taken().seats.len(), 1);
        drop(second);
        assert_eq!(seats.taken().seats.len(), 0);
    }
}
