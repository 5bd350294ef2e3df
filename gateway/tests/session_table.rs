//! The session table against a naive model: a list of tuples with deadlines, searched from end to end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use gateway::{
    memory::Pages,
    nat::{
        Direction, Endpoint, ExternalEndpoint, FlowKey, Guess, InternalEndpoint, Protocol,
        RemoteEndpoint, SessionId, SessionState, TableHash,
        flow::Address,
        session::NewSession,
        table::{SessionTable, TableFull},
    },
};
use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::RngCore, rand_core::SeedableRng};
use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, Ipv6Addr},
};

/// An address of either family by number.
trait Numbered: Address {
    fn numbered(n: u32) -> Self;
}

impl Numbered for Ipv4Addr {
    fn numbered(n: u32) -> Self {
        Ipv4Addr::from_bits(0x0a00_0001 + n)
    }
}

impl Numbered for Ipv6Addr {
    fn numbered(n: u32) -> Self {
        // The upper half differs too, so that no word of the key goes unused.
        Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n % 7) << 64 | u128::from(n))
    }
}

fn table<A: Address>(capacity: u32, seed: u8) -> SessionTable<A> {
    let hash = TableHash::new(&mut ChaCha8Rng::from_seed([seed; 32]));
    SessionTable::new(capacity, hash, Pages::Transparent).unwrap()
}

/// (pod, l4_port), (egress IP, l4_port), (remote, l4_port), tenant, protocol: numbers, as a model
/// would note them.
type Tuple = (u32, u16, u32, u16, u32, u16, u16, u8);

fn new_session<A: Numbered>(t: Tuple, now: u32) -> NewSession<A> {
    let (pod, sport, egress, external, remote, dport, tenant, protocol) = t;
    let protocol = Protocol::ALL[usize::from(protocol)];
    NewSession {
        tenant,
        protocol,
        internal: InternalEndpoint(Endpoint::new(A::numbered(pod), sport)),
        external: ExternalEndpoint(Endpoint::new(A::numbered(1_000_000 + egress), external)),
        remote: RemoteEndpoint(Endpoint::new(A::numbered(2_000_000 + remote), dport)),
        state: SessionState::UdpUnreplied,
        policy: 1,
        vtep: Ipv4Addr::LOCALHOST.into(),
        epoch: 0,
        now,
    }
}

fn insert<A: Numbered>(
    table: &mut SessionTable<A>,
    new: &NewSession<A>,
    deadline: u32,
) -> Result<SessionId, TableFull> {
    let (in2out, out2in) = (table.hash().of(&new.in2out_key()), table.hash().of(&new.out2in_key()));
    table.insert(new, in2out, out2in, deadline)
}

/// By both keys, all at once and in stages.
fn find<A: Numbered>(table: &SessionTable<A>, new: &NewSession<A>) -> [Option<SessionId>; 2] {
    let keys = [(Direction::In2out, new.in2out_key()), (Direction::Out2in, new.out2in_key())];
    keys.map(|(direction, key)| {
        let hash = table.hash().of(&key);
        let found = table.find(direction, hash, &key);
        assert_eq!(staged(table, direction, &key), found, "{new:?}");
        found
    })
}

fn staged<A: Numbered>(
    table: &SessionTable<A>,
    direction: Direction,
    key: &FlowKey<A>,
) -> Option<SessionId> {
    let hash = table.hash().of(key);
    table.prefetch(direction, hash);
    let mut guess = table.locate(direction, hash);
    if guess == Guess::Further {
        guess = table.locate_further(direction, hash);
    }
    table.find_at(guess, direction, hash, key)
}

/// The model: each session's tuple, its deadline, and what the table called it.
#[derive(Default)]
struct Model {
    sessions: Vec<(Tuple, u32, SessionId)>,
    by_deadline: BTreeMap<(u32, SessionId), ()>,
}

impl Model {
    fn by_in2out(&self, t: Tuple) -> Option<usize> {
        let key = |t: Tuple| (t.0, t.1, t.4, t.5, t.6, t.7);
        self.sessions.iter().position(|(known, ..)| key(*known) == key(t))
    }

    fn by_out2in(&self, t: Tuple) -> Option<usize> {
        let key = |t: Tuple| (t.2, t.3, t.4, t.5, t.7);
        self.sessions.iter().position(|(known, ..)| key(*known) == key(t))
    }

    fn add(&mut self, t: Tuple, deadline: u32, id: SessionId) {
        self.sessions.push((t, deadline, id));
        self.by_deadline.insert((deadline, id), ());
    }

    fn remove(&mut self, at: usize) -> SessionId {
        let (_, deadline, id) = self.sessions.swap_remove(at);
        self.by_deadline.remove(&(deadline, id));
        id
    }
}

struct Run<A: Numbered> {
    table: SessionTable<A>,
    capacity: usize,
    model: Model,
    now: u32,
}

impl<A: Numbered> Run<A> {
    fn new(capacity: u32) -> Self {
        Run {
            table: table(capacity, 3),
            capacity: capacity as usize,
            model: Model::default(),
            now: 0,
        }
    }

    /// One operation; all numbers are free to be anything.
    fn step(&mut self, operation: u8, t: Tuple, number: u32) {
        let new = new_session::<A>(t, self.now);
        let known = self.model.by_in2out(t);
        let taken = self.model.by_out2in(t);
        let [in2out, out2in] = find(&self.table, &new);
        assert_eq!(in2out, known.map(|at| self.model.sessions[at].2));
        assert_eq!(out2in, taken.map(|at| self.model.sessions[at].2));
        match operation {
            0..=5 if known.is_none() && taken.is_none() => {
                let deadline = self.now + 1 + number % 300;
                let inserted = insert(&mut self.table, &new, deadline);
                if self.model.sessions.len() == self.capacity {
                    assert_eq!(inserted, Err(TableFull));
                } else {
                    self.model.add(t, deadline, inserted.unwrap());
                }
            }
            6..=7 => {
                if let Some(at) = known {
                    self.table.remove(self.model.remove(at));
                    assert_eq!(find(&self.table, &new)[0], None);
                }
            }
            8 => {
                if let Some(at) = known {
                    let deadline = self.now + 1 + number % 9000;
                    let (t, ..) = self.model.sessions[at];
                    let id = self.model.remove(at);
                    self.model.add(t, deadline, id);
                    self.table.arm(id, deadline);
                }
            }
            9 => self.pass(match number % 50 {
                // Now and then far beyond the wheel.
                0 => number % 30_000,
                _ => number % 20,
            }),
            _ => {}
        }
    }

    /// Time passes, and what is due ends. A timer beyond the wheel's end may fire early: then it is set
    /// again, as the product does.
    fn pass(&mut self, seconds: u32) {
        self.now += seconds;
        while let Some(id) = self.table.next_due(self.now) {
            let at = self.model.sessions.iter().position(|(.., known)| *known == id).unwrap();
            let (_, deadline, _) = self.model.sessions[at];
            if deadline <= self.now {
                self.model.remove(at);
                self.table.remove(id);
            } else {
                self.table.arm(id, deadline);
            }
        }
        let overdue = self.model.by_deadline.range(..=(self.now, SessionId(u32::MAX))).next();
        assert_eq!(overdue, None, "at {}", self.now);
    }

    fn check(&self) {
        self.table.check_invariants();
        assert_eq!(self.table.len() as usize, self.model.sessions.len());
    }
}

/// Few of each, so that they meet.
fn tuple(random: u64) -> Tuple {
    let part = |shift: u32, of: u64| (random >> shift) % of;
    (
        part(0, 6) as u32,
        part(8, 6) as u16,
        part(16, 2) as u32,
        1024 + part(24, 40) as u16,
        part(32, 4) as u32,
        part(40, 2) as u16 * 80,
        part(48, 2) as u16,
        part(56, 3) as u8,
    )
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec((0u8..11, any::<u64>(), any::<u32>()), 1..400), capacity in 1u32..200) {
        let (mut v4, mut v6) = (Run::<Ipv4Addr>::new(capacity), Run::<Ipv6Addr>::new(capacity));
        for (operation, random, number) in steps {
            v4.step(operation, tuple(random), number);
            v6.step(operation, tuple(random), number);
        }
        v4.check();
        v6.check();
    }
}

fn millions_of_operations<A: Numbered>() {
    let mut random = ChaCha8Rng::from_seed([5; 32]);
    let mut run = Run::<A>::new(150);
    for i in 0..2_000_000u32 {
        run.step((random.next_u32() % 11) as u8, tuple(random.next_u64()), random.next_u32());
        if i % 100_000 == 0 {
            run.check();
        }
    }
    run.check();
}

#[test]
fn millions_of_operations_v4() {
    millions_of_operations::<Ipv4Addr>();
}

#[test]
fn millions_of_operations_v6() {
    millions_of_operations::<Ipv6Addr>();
}

/// The n-th session of a large table; external endpoints are unique.
fn nth(n: u32) -> Tuple {
    (n / 64, (n % 64) as u16, n / 60_000, 1024 + (n % 60_000) as u16, n % 1000, 443, 0, 1)
}

fn exhaustion<A: Numbered>() {
    const N: u32 = 100_000;
    let mut table = table::<A>(N, 1);
    let ids: Vec<_> =
        (0..N).map(|n| insert(&mut table, &new_session(nth(n), 1), 300).unwrap()).collect();
    table.check_invariants();
    assert!(table.is_full());
    assert_eq!(insert(&mut table, &new_session(nth(N), 1), 300), Err(TableFull));
    table.check_invariants();
    assert_eq!(find(&table, &new_session(nth(N), 1)), [None, None]);
    (0..N).step_by(2).for_each(|n| table.remove(ids[n as usize]));
    (N..N + N / 2).for_each(|n| {
        insert(&mut table, &new_session(nth(n), 2), 300).unwrap();
    });
    assert!(table.is_full());
    table.check_invariants();
    // Emptied, it is as it was made: no look-up goes on to a second bucket.
    (0..N).map(SessionId).for_each(|id| table.remove(id));
    for n in 0..N {
        let key = new_session::<A>(nth(n), 1).in2out_key();
        assert_eq!(table.locate(Direction::In2out, table.hash().of(&key)), Guess::Absent);
    }
}

#[test]
fn a_table_takes_as_many_as_it_says_and_one_more_changes_nothing() {
    exhaustion::<Ipv4Addr>();
    exhaustion::<Ipv6Addr>();
}

#[test]
fn sessions_whose_tags_and_buckets_collide_are_told_apart() {
    let mut table = table::<Ipv4Addr>(400, 8);
    // A table of 400 has 48 buckets: with equal tags too, their look-ups meet in the same lines.
    let mut by_tag: HashMap<u16, Vec<u32>> = HashMap::new();
    for n in 0..5_000_000 {
        let hash = table.hash().of(&new_session::<Ipv4Addr>(nth(n), 1).in2out_key());
        let same = by_tag.entry(hash as u16).or_default();
        same.push(n);
        if same.len() == 60 {
            break;
        }
    }
    let colliding = by_tag.into_values().max_by_key(Vec::len).unwrap();
    assert_eq!(colliding.len(), 60);
    let mut ids: Vec<_> = colliding
        .iter()
        .map(|n| (*n, insert(&mut table, &new_session(nth(*n), 1), 300).unwrap()))
        .collect();
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    while !ids.is_empty() {
        for (n, id) in &ids {
            assert_eq!(find(&table, &new_session(nth(*n), 1)), [Some(*id); 2]);
        }
        let (n, id) = ids.swap_remove(random.next_u32() as usize % ids.len());
        table.remove(id);
        assert_eq!(find(&table, &new_session(nth(n), 1)), [None; 2]);
    }
    table.check_invariants();
}

#[test]
fn a_guess_that_was_overtaken_is_not_believed() {
    let mut table = table::<Ipv4Addr>(100, 2);
    let (one, other) = (new_session::<Ipv4Addr>(nth(1), 1), new_session(nth(2), 1));
    let id = insert(&mut table, &one, 300).unwrap();
    let (key, direction) = (one.in2out_key(), Direction::In2out);
    let hash = table.hash().of(&key);
    let guess = table.locate(direction, hash);
    assert_eq!(guess, Guess::Session(id));
    table.remove(id);
    assert_eq!(table.find_at(guess, direction, hash, &key), None, "its session ended");
    assert_eq!(insert(&mut table, &other, 300), Ok(id), "the slot is used again");
    assert_eq!(table.find_at(guess, direction, hash, &key), None, "another's session");
    let id = insert(&mut table, &one, 300).unwrap();
    assert_eq!(table.find_at(guess, direction, hash, &key), Some(id), "a new one of its own");
    assert_eq!(table.find_at(Guess::Absent, direction, hash, &key), Some(id));
}

#[test]
fn a_million_sessions_take_128_bytes_each_at_most() {
    let memory = table::<Ipv4Addr>(1_000_000, 1).memory();
    assert!(memory.bytes <= 128 * 1_000_000, "{memory:?}");
}

#[test]
#[ignore = "takes 1 GiB"]
fn ten_million_sessions() {
    const N: u32 = 10_000_000;
    let mut table = table::<Ipv4Addr>(N, 1);
    assert!(table.memory().bytes <= 128 * N as usize, "{:?}", table.memory());
    for n in 0..N {
        insert(&mut table, &new_session(nth(n), 1), 300).unwrap();
    }
    assert!(table.is_full());
    for n in 0..N {
        assert_eq!(find(&table, &new_session(nth(n), 1)), [Some(SessionId(n)); 2]);
    }
    while let Some(id) = table.next_due(300) {
        table.remove(id);
    }
    assert!(table.is_empty());
    table.check_invariants();
}
