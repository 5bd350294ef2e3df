//! The session table against a naive one: a list of sessions and two maps of plain tuples, with time as
//! a number. And what only a large or an unlucky table meets: keys that collide, the last free slot.

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
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

/// Addresses by number.
trait Family: Address {
    fn nth(network: u8, n: u32) -> Self;
}

impl Family for Ipv4Addr {
    fn nth(network: u8, n: u32) -> Self {
        Ipv4Addr::from_bits(u32::from(network) << 24 | n)
    }
}

impl Family for Ipv6Addr {
    fn nth(network: u8, n: u32) -> Self {
        // The number is in both halves of the address.
        Ipv6Addr::from_bits(0xfd << 120 | u128::from(n) << 64 | u128::from(network) << 32)
            | Ipv6Addr::from_bits(u128::from(n))
    }
}

/// A session's endpoints, all in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    tenant: u16,
    /// Of [`Protocol::ALL`].
    protocol: u8,
    pod: u32,
    l4_port: u16,
    egress_ip: u32,
    external_l4_port: u16,
    remote: u32,
    remote_l4_port: u16,
}

/// What must not be twice in a table, as the model knows it.
type In2out = (u16, u8, u32, u16, u32, u16);
type Out2in = (u8, u32, u16, u32, u16);

impl Flow {
    fn in2out(&self) -> In2out {
        let Flow { tenant, protocol, pod, l4_port, remote, remote_l4_port, .. } = *self;
        (tenant, protocol, pod, l4_port, remote, remote_l4_port)
    }

    fn out2in(&self) -> Out2in {
        let Flow { protocol, egress_ip, external_l4_port, remote, remote_l4_port, .. } = *self;
        (protocol, egress_ip, external_l4_port, remote, remote_l4_port)
    }

    fn protocol(&self) -> Protocol {
        Protocol::ALL[usize::from(self.protocol)]
    }

    fn internal<A: Family>(&self) -> Endpoint<A> {
        Endpoint::new(A::nth(10, self.pod), self.l4_port)
    }

    fn external<A: Family>(&self) -> Endpoint<A> {
        Endpoint::new(A::nth(203, self.egress_ip), self.external_l4_port)
    }

    fn remote<A: Family>(&self) -> Endpoint<A> {
        Endpoint::new(A::nth(198, self.remote), self.remote_l4_port)
    }

    fn key<A: Family>(&self, direction: Direction) -> FlowKey<A> {
        let (protocol, remote) = (self.protocol(), RemoteEndpoint(self.remote()));
        match direction {
            Direction::In2out => {
                FlowKey::in2out(self.tenant, protocol, InternalEndpoint(self.internal()), remote)
            }
            Direction::Out2in => {
                FlowKey::out2in(protocol, ExternalEndpoint(self.external()), remote)
            }
        }
    }

    fn session<A: Family>(&self, policy: u32, now: u32) -> NewSession<A> {
        NewSession {
            tenant: self.tenant,
            protocol: self.protocol(),
            internal: InternalEndpoint(self.internal()),
            external: ExternalEndpoint(self.external()),
            remote: RemoteEndpoint(self.remote()),
            state: SessionState::UdpUnreplied,
            policy,
            vtep: Ipv4Addr::LOCALHOST,
            epoch: 1,
            now,
        }
    }

    /// The n-th of a row of flows that share no key.
    fn nth(n: u32) -> Self {
        Flow {
            tenant: 0,
            protocol: 1,
            pod: n >> 16,
            l4_port: n as u16,
            egress_ip: n / 60_000,
            external_l4_port: 1024 + (n % 60_000) as u16,
            remote: 7,
            remote_l4_port: 443,
        }
    }
}

const BOTH: [Direction; 2] = [Direction::In2out, Direction::Out2in];

fn table<A: Family>(capacity: u32, seed: u8) -> SessionTable<A> {
    let hash = TableHash::new(&mut ChaCha8Rng::from_seed([seed; 32]));
    SessionTable::new(capacity, hash, Pages::Transparent).unwrap()
}

fn hash_of<A: Family>(table: &SessionTable<A>, flow: &Flow, direction: Direction) -> u64 {
    table.hash().of(&flow.key::<A>(direction))
}

fn insert<A: Family>(
    table: &mut SessionTable<A>,
    flow: &Flow,
    now: u32,
    deadline: u32,
) -> Result<SessionId, TableFull> {
    let [in2out, out2in] = BOTH.map(|direction| hash_of(table, flow, direction));
    table.insert(&flow.session(flow.pod, now), in2out, out2in, deadline)
}

fn find<A: Family>(
    table: &SessionTable<A>,
    flow: &Flow,
    direction: Direction,
) -> Option<SessionId> {
    table.find(direction, hash_of(table, flow, direction), &flow.key(direction))
}

/// The look-up in the stages of a burst, up to where other packets come in between.
fn guess<A: Family>(table: &SessionTable<A>, flow: &Flow, direction: Direction) -> Guess {
    let hash = hash_of(table, flow, direction);
    table.prefetch(direction, hash);
    match table.locate(direction, hash) {
        Guess::Further => table.locate_further(direction, hash),
        guess => guess,
    }
}

fn find_at<A: Family>(
    table: &SessionTable<A>,
    guess: Guess,
    flow: &Flow,
    direction: Direction,
) -> Option<SessionId> {
    table.find_at(guess, direction, hash_of(table, flow, direction), &flow.key(direction))
}

/// Found in both ways by both keys, or in no way by either.
fn assert_found<A: Family>(table: &SessionTable<A>, flow: &Flow, expected: Option<SessionId>) {
    for direction in BOTH {
        assert_eq!(find(table, flow, direction), expected, "{direction:?} {flow:?}");
        let staged = find_at(table, guess(table, flow, direction), flow, direction);
        assert_eq!(staged, expected, "in stages, {direction:?} {flow:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// To be armed for `now` and this, or long ago (`None`).
    Insert(Flow, Option<u32>),
    Find(Flow),
    /// The n-th of the live ones.
    Remove(u32),
    Arm(u32, Option<u32>),
    Wait(u32),
    /// Takes so many due sessions at most. Of the bits that count them, one that is set means that its
    /// session is armed again with this delay, else it is removed.
    Due {
        most: u32,
        rearm: u32,
        delay: u32,
    },
    /// A guess that is not used at once.
    Guess(Flow, Direction),
    UseGuesses,
    CheckInvariants,
}

/// Of the wheel: how far ahead a timer is kept as it was set.
const WHEEL: u32 = 8192;

struct Known {
    flow: Flow,
    id: SessionId,
    created: u32,
    /// What was asked for.
    deadline: u32,
    /// It may fire from here on: the deadline, if that was not too far ahead.
    earliest: u32,
}

/// A table and what it should hold.
struct Run<A: Family> {
    table: SessionTable<A>,
    capacity: u32,
    now: u32,
    /// All timers up to here have fired.
    drained: u32,
    known: Vec<Known>,
    by_in2out: HashMap<In2out, usize>,
    by_out2in: HashMap<Out2in, usize>,
    by_id: HashMap<SessionId, usize>,
    guesses: Vec<(Flow, Direction, Guess)>,
    /// How often something worth it was met.
    met: Met,
}

#[derive(Debug, Default)]
struct Met {
    inserted: u32,
    found: u32,
    full: u32,
    taken_keys: u32,
    fired: u32,
    fired_early: u32,
    further: u32,
    outdated: u32,
}

impl<A: Family> Run<A> {
    fn new(capacity: u32, seed: u8) -> Self {
        Run {
            table: table(capacity, seed),
            capacity,
            now: 0,
            drained: 0,
            known: Vec::new(),
            by_in2out: HashMap::new(),
            by_out2in: HashMap::new(),
            by_id: HashMap::new(),
            guesses: Vec::new(),
            met: Met::default(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(flow, delay) => self.insert(flow, self.deadline(delay)),
            Step::Find(flow) => self.find(&flow),
            Step::Remove(n) => {
                if let Some(at) = self.nth(n) {
                    self.table.remove(self.known[at].id);
                    self.forget(at);
                }
            }
            Step::Arm(n, delay) => {
                if let Some(at) = self.nth(n) {
                    self.arm(at, self.deadline(delay));
                }
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Due { most, rearm, delay } => self.due(most, rearm, delay),
            Step::Guess(flow, direction) => {
                let guess = guess(&self.table, &flow, direction);
                self.met.further += u32::from(guess == Guess::Further);
                self.guesses.push((flow, direction, guess));
            }
            Step::UseGuesses => self.use_guesses(),
            Step::CheckInvariants => self.table.check_invariants(),
        }
        assert_eq!(self.table.len() as usize, self.known.len());
        assert_eq!(self.table.is_empty(), self.known.is_empty());
        assert_eq!(self.table.is_full(), self.known.len() == self.capacity as usize);
    }

    fn nth(&self, n: u32) -> Option<usize> {
        (n as usize).checked_rem(self.known.len())
    }

    fn deadline(&self, delay: Option<u32>) -> u32 {
        delay.map_or(self.now / 2, |delay| self.now + delay)
    }

    fn expected(&self, flow: &Flow, direction: Direction) -> Option<usize> {
        match direction {
            Direction::In2out => self.by_in2out.get(&flow.in2out()).copied(),
            Direction::Out2in => self.by_out2in.get(&flow.out2in()).copied(),
        }
    }

    fn find(&mut self, flow: &Flow) {
        for direction in BOTH {
            let expected = self.expected(flow, direction).map(|at| self.known[at].id);
            assert_eq!(find(&self.table, flow, direction), expected, "{direction:?} {flow:?}");
            let guess = guess(&self.table, flow, direction);
            self.met.further += u32::from(guess == Guess::Further);
            assert!(guess != Guess::Absent || expected.is_none(), "{direction:?} {flow:?}");
            let staged = find_at(&self.table, guess, flow, direction);
            assert_eq!(staged, expected, "in stages, {direction:?} {flow:?}");
            self.met.found += u32::from(expected.is_some());
        }
        if let Some(at) = self.expected(flow, Direction::In2out) {
            self.look_at(at);
        }
    }

    /// The session says of itself what it was made of.
    fn look_at(&self, at: usize) {
        let Known { flow, id, created, .. } = &self.known[at];
        assert!(self.table.is_live(*id));
        let record = self.table.view(*id).record(self.now);
        assert_eq!(record.internal, flow.internal::<A>().any());
        assert_eq!(record.external, flow.external::<A>().any());
        assert_eq!(record.remote, flow.remote::<A>().any());
        assert_eq!((record.tenant, record.protocol), (flow.tenant, flow.protocol()));
        assert_eq!((record.policy, record.age_seconds), (flow.pod, self.now - created));
    }

    fn insert(&mut self, flow: Flow, deadline: u32) {
        let taken = BOTH.iter().any(|direction| self.expected(&flow, *direction).is_some());
        if taken {
            self.met.taken_keys += 1;
            return self.find(&flow);
        }
        let inserted = insert(&mut self.table, &flow, self.now, deadline);
        if self.known.len() == self.capacity as usize {
            self.met.full += 1;
            assert_eq!(inserted, Err(TableFull));
            return self.find(&flow);
        }
        let id = inserted.unwrap();
        let at = self.known.len();
        let (created, earliest) = (self.now, self.earliest(deadline));
        self.known.push(Known { flow, id, created, deadline, earliest });
        self.by_in2out.insert(flow.in2out(), at);
        self.by_out2in.insert(flow.out2in(), at);
        assert_eq!(self.by_id.insert(id, at), None, "the slot of a live session");
        self.met.inserted += 1;
        self.find(&flow);
    }

    fn forget(&mut self, at: usize) {
        let Known { flow, id, .. } = self.known.swap_remove(at);
        self.by_in2out.remove(&flow.in2out());
        self.by_out2in.remove(&flow.out2in());
        self.by_id.remove(&id);
        if let Some(moved) = self.known.get(at) {
            self.by_in2out.insert(moved.flow.in2out(), at);
            self.by_out2in.insert(moved.flow.out2in(), at);
            self.by_id.insert(moved.id, at);
        }
        assert!(!self.table.is_live(id));
        self.find(&flow);
    }

    fn earliest(&self, deadline: u32) -> u32 {
        deadline.min(self.drained + WHEEL - 1)
    }

    fn arm(&mut self, at: usize, deadline: u32) {
        self.table.arm(self.known[at].id, deadline);
        let earliest = self.earliest(deadline);
        let known = &mut self.known[at];
        (known.deadline, known.earliest) = (deadline, earliest);
    }

    fn due(&mut self, most: u32, rearm: u32, delay: u32) {
        for n in 0..most {
            // However far the clock jumped: more than a whole wheel is not looked at.
            self.drained = self.drained.max(self.now.saturating_sub(WHEEL));
            let Some(id) = self.table.next_due(self.now) else {
                let late = self.known.iter().find(|known| known.deadline <= self.now);
                assert!(late.is_none(), "{:?} is due and did not fire", late.unwrap().flow);
                self.drained = self.now;
                return;
            };
            let at = self.by_id[&id];
            let Known { deadline, earliest, .. } = self.known[at];
            assert!(earliest <= self.now, "fired at {}, set for {deadline}", self.now);
            self.met.fired += 1;
            self.met.fired_early += u32::from(deadline > self.now);
            if rearm >> (n % 32) & 1 == 1 {
                self.arm(at, self.now + delay);
            } else {
                self.table.prefetch_removal(id);
                self.table.remove(id);
                self.forget(at);
            }
        }
    }

    fn use_guesses(&mut self) {
        for (flow, direction, guess) in std::mem::take(&mut self.guesses) {
            let expected = self.expected(&flow, direction).map(|at| self.known[at].id);
            let found = find_at(&self.table, guess, &flow, direction);
            assert_eq!(found, expected, "guessed {guess:?}, {direction:?} {flow:?}");
            let outdated = match guess {
                Guess::Session(id) => expected != Some(id),
                Guess::Further | Guess::Absent => expected.is_some(),
            };
            self.met.outdated += u32::from(outdated);
        }
    }

    /// Removes all that is left, by time alone.
    fn finish(mut self) -> Met {
        self.use_guesses();
        self.table.check_invariants();
        // Twice: what was set beyond the wheel may have fired before.
        for _ in 0..2 {
            self.now += 1_000_000;
            self.due(u32::MAX, 0, 0);
        }
        assert_eq!((self.table.len(), self.known.len()), (0, 0));
        self.table.check_invariants();
        self.met
    }
}

/// How many there are of each number in a [`Flow`], so that keys meet more or less often.
#[derive(Clone, Copy, Debug)]
struct Space {
    l4_ports: u16,
    external_l4_ports: u16,
}

const NARROW: Space = Space { l4_ports: 4, external_l4_ports: 12 };

impl Space {
    /// `draw` gives a number below its argument.
    fn flow(self, mut draw: impl FnMut(u32) -> u32) -> Flow {
        Flow {
            tenant: draw(2) as u16,
            protocol: draw(3) as u8,
            pod: draw(3),
            l4_port: 1 + draw(self.l4_ports.into()) as u16,
            egress_ip: draw(2),
            external_l4_port: 1024 + draw(self.external_l4_ports.into()) as u16,
            remote: draw(2),
            remote_l4_port: 1 + draw(2) as u16,
        }
    }

    /// A step out of a hundred, in the proportions of a table that is mostly full.
    fn step(self, mut draw: impl FnMut(u32) -> u32) -> Step {
        let delay = |draw: &mut dyn FnMut(u32) -> u32| match draw(100) {
            0 => None,
            1..20 => Some(draw(4)),
            20..90 => Some(draw(400)),
            90..98 => Some(draw(WHEEL)),
            _ => Some(WHEEL - 5 + draw(20_000)),
        };
        match draw(1000) {
            0..480 => Step::Insert(self.flow(&mut draw), delay(&mut draw)),
            480..650 => Step::Find(self.flow(&mut draw)),
            650..730 => Step::Remove(draw(u32::MAX)),
            730..800 => Step::Arm(draw(u32::MAX), delay(&mut draw)),
            800..860 => Step::Wait(draw(3)),
            860..862 => Step::Wait(draw(100)),
            862 if draw(20) == 0 => Step::Wait(WHEEL - 3 + draw(6)),
            863 if draw(20) == 0 => Step::Wait(draw(100_000)),
            864..884 => {
                let most = if draw(3) == 0 { u32::MAX } else { draw(4) };
                Step::Due { most, rearm: draw(u32::MAX), delay: 1 + draw(300) }
            }
            884..980 => Step::Guess(self.flow(&mut draw), BOTH[draw(2) as usize]),
            980..1000 => Step::UseGuesses,
            _ => Step::Find(self.flow(&mut draw)),
        }
    }
}

/// Numbers below what is asked for, of a generator.
fn drawing(random: &mut impl RngCore) -> impl FnMut(u32) -> u32 {
    |below| (u64::from(random.next_u32()) * u64::from(below) >> 32) as u32
}

/// Steps that proptest can leave out and make smaller.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flow = || {
        let ours = (0u16..2, 0u8..3, 0u32..3, 1..=NARROW.l4_ports);
        let theirs = (0u32..2, 1024..1024 + NARROW.external_l4_ports, 0u32..2, 1u16..3);
        (ours, theirs).prop_map(
            |(
                (tenant, protocol, pod, l4_port),
                (egress_ip, external_l4_port, remote, remote_l4_port),
            )| Flow {
                tenant,
                protocol,
                pod,
                l4_port,
                egress_ip,
                external_l4_port,
                remote,
                remote_l4_port,
            },
        )
    };
    let delay = || {
        let some = prop_oneof![0u32..400, 0..WHEEL, WHEEL - 5..3 * WHEEL];
        prop::option::weighted(0.95, some)
    };
    let direction = prop::sample::select(&BOTH[..]);
    let wait = prop_oneof![8 => 0u32..300, 1 => WHEEL - 3..WHEEL + 3, 1 => 0u32..100_000];
    let most = prop_oneof![1u32..5, Just(u32::MAX)];
    let step = prop_oneof![
        10 => (flow(), delay()).prop_map(|(flow, delay)| Step::Insert(flow, delay)),
        3 => flow().prop_map(Step::Find),
        3 => any::<u32>().prop_map(Step::Remove),
        2 => (any::<u32>(), delay()).prop_map(|(n, delay)| Step::Arm(n, delay)),
        2 => wait.prop_map(Step::Wait),
        2 => (most, any::<u32>(), 1u32..3 * WHEEL)
            .prop_map(|(most, rearm, delay)| Step::Due { most, rearm, delay }),
        4 => (flow(), direction).prop_map(|(flow, direction)| Step::Guess(flow, direction)),
        2 => Just(Step::UseGuesses),
        1 => Just(Step::CheckInvariants),
    ];
    prop::collection::vec(step, 1..300)
}

fn run<A: Family>(capacity: u32, seed: u8, steps: &[Step]) {
    let mut run = Run::<A>::new(capacity, seed);
    steps.iter().for_each(|step| run.step(step.clone()));
    run.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_table_of_ipv4_agrees_with_a_list(
        capacity in 1u32..40, seed in any::<u8>(), steps in steps(),
    ) {
        run::<Ipv4Addr>(capacity, seed, &steps);
    }

    #[test]
    fn a_table_of_ipv6_agrees_with_a_list(
        capacity in 1u32..40, seed in any::<u8>(), steps in steps(),
    ) {
        run::<Ipv6Addr>(capacity, seed, &steps);
    }
}

/// Two tables: one where most keys are taken, and one whose index is as full as it gets.
fn long_run<A: Family>() {
    const STEPS: u32 = 1_100_000;
    let wide = Space { l4_ports: 64, external_l4_ports: 200 };
    for (space, capacity, seed) in [(NARROW, 100, 1), (wide, 1200, 2)] {
        let mut random = ChaCha8Rng::from_seed([seed; 32]);
        let mut draw = drawing(&mut random);
        let mut run = Run::<A>::new(capacity, seed);
        for n in 0..STEPS {
            run.step(space.step(&mut draw));
            if n % (STEPS / 10) == 0 {
                run.table.check_invariants();
            }
        }
        let met = run.finish();
        println!("{space:?}, {capacity} sessions: {met:?}");
        let Met { inserted, found, full, taken_keys, fired, fired_early, outdated, .. } = met;
        let all = [inserted, found, full, taken_keys, fired, fired_early, outdated];
        assert!(all.iter().all(|times| *times > 100), "{met:?}");
    }
}

#[test]
fn a_table_of_ipv4_agrees_with_a_list_for_two_million_steps() {
    long_run::<Ipv4Addr>();
}

#[test]
fn a_table_of_ipv6_agrees_with_a_list_for_two_million_steps() {
    long_run::<Ipv6Addr>();
}

/// Flows of which both keys have a tag out of `tags`: 16 bits of the hash, which is all that a bucket
/// knows of a key. There are few buckets, so many of them have the same first one as well.
fn flows_with_tags<A: Family>(
    table: &SessionTable<A>,
    tags: Range<u16>,
    count: usize,
) -> Vec<Flow> {
    let candidates = |direction| {
        let tags = tags.clone();
        let all = (0..u32::MAX).map(|n| Flow {
            egress_ip: n >> 16,
            external_l4_port: n as u16,
            ..Flow::nth(n)
        });
        all.filter(move |flow| tags.contains(&(hash_of(table, flow, direction) as u16)))
    };
    let internal: Vec<_> = candidates(Direction::In2out).take(count).collect();
    let external: Vec<_> = candidates(Direction::Out2in).take(count).collect();
    let both = |(internal, external): (&Flow, &Flow)| {
        let Flow { egress_ip, external_l4_port, .. } = *external;
        Flow { egress_ip, external_l4_port, ..*internal }
    };
    internal.iter().zip(&external).map(both).collect()
}

fn shuffle<T>(items: &mut [T], random: &mut impl RngCore) {
    let mut draw = drawing(random);
    for last in (1..items.len()).rev() {
        items.swap(last, draw(last as u32 + 1) as usize);
    }
}

fn colliding<A: Family>() {
    const N: usize = 120;
    const OTHERS: u32 = 400;
    // The tag 0 says that a place is empty, so keys that have it are given 1.
    for tags in [0..2u16, 0xbeef..0xbef0] {
        let mut table = table::<A>(OTHERS + N as u32, 9);
        let mut flows = flows_with_tags(&table, tags, N + 1);
        // They fill most buckets, so that those that collide are further on in their walks.
        for n in 0..OTHERS {
            insert(&mut table, &Flow { remote: 8, ..Flow::nth(n) }, 0, 100).unwrap();
        }
        let absent = flows.pop().unwrap();
        let mut random = ChaCha8Rng::from_seed([3; 32]);
        for _ in 0..3 {
            let mut live: Vec<_> = flows
                .iter()
                .map(|flow| (*flow, insert(&mut table, flow, 0, 100).unwrap()))
                .collect();
            assert!(table.is_full());
            table.check_invariants();
            shuffle(&mut live, &mut random);
            while let Some((flow, id)) = live.pop() {
                let guesses = BOTH.map(|direction| guess(&table, &flow, direction));
                assert_found(&table, &flow, Some(id));
                table.remove(id);
                assert_found(&table, &flow, None);
                assert_found(&table, &absent, None);
                for (guess, direction) in guesses.into_iter().zip(BOTH) {
                    assert_eq!(find_at(&table, guess, &flow, direction), None);
                }
                live.iter().for_each(|(flow, id)| assert_found(&table, flow, Some(*id)));
            }
            table.check_invariants();
            assert_eq!(table.len(), OTHERS);
        }
    }
}

#[test]
fn keys_of_ipv4_whose_tags_collide_are_told_apart() {
    colliding::<Ipv4Addr>();
}

#[test]
fn keys_of_ipv6_whose_tags_collide_are_told_apart() {
    colliding::<Ipv6Addr>();
}

/// Between the stages of a burst other packets end sessions and begin new ones.
fn outdated_guesses<A: Family>() {
    let mut table = table::<A>(4, 5);
    let [first, second, third] = [1, 2, 3].map(Flow::nth);
    let id = insert(&mut table, &first, 0, 100).unwrap();
    let hits = BOTH.map(|direction| guess(&table, &first, direction));
    let misses = BOTH.map(|direction| guess(&table, &second, direction));
    assert_eq!((hits, misses), ([Guess::Session(id); 2], [Guess::Absent; 2]));
    let assert_all = |table: &SessionTable<A>, one, other, description| {
        for (at, direction) in BOTH.into_iter().enumerate() {
            let found = [
                find_at(table, hits[at], &first, direction),
                find_at(table, misses[at], &second, direction),
                // A guess about another key is no more than a guess.
                find_at(table, hits[at], &second, direction),
                find_at(table, hits[at], &third, direction),
            ];
            assert_eq!(found, [one, other, other, None], "{description}, {direction:?}");
        }
    };
    assert_all(&table, Some(id), None, "nothing happened");
    table.remove(id);
    assert_all(&table, None, None, "it was removed");
    assert_eq!(insert(&mut table, &second, 0, 100), Ok(id), "the slot is used again");
    assert_all(&table, None, Some(id), "another has its slot");
    let elsewhere = insert(&mut table, &first, 0, 100).unwrap();
    assert_ne!(elsewhere, id);
    assert_all(&table, Some(elsewhere), Some(id), "it began anew in another slot");
    table.check_invariants();
}

#[test]
fn a_guess_that_is_outdated_misleads_nobody() {
    outdated_guesses::<Ipv4Addr>();
    outdated_guesses::<Ipv6Addr>();
}

fn to_the_last_slot<A: Family>() {
    const N: u32 = 100_000;
    for seed in 0..4 {
        let mut table = table::<A>(N, seed);
        for n in 0..N {
            assert!(insert(&mut table, &Flow::nth(n), 0, n).is_ok(), "session {n}, seed {seed}");
        }
        let one_more = Flow::nth(N);
        for _ in 0..3 {
            assert_eq!(insert(&mut table, &one_more, 0, 0), Err(TableFull));
        }
        assert_eq!((table.len(), table.is_full()), (N, true));
        assert_found(&table, &one_more, None);
        table.check_invariants();

        let mut all: Vec<u32> = (0..N).collect();
        shuffle(&mut all, &mut ChaCha8Rng::from_seed([seed; 32]));
        let (removed, kept) = all.split_at(N as usize / 2);
        for n in removed {
            let id = find(&table, &Flow::nth(*n), Direction::Out2in).unwrap();
            table.remove(id);
        }
        removed.iter().for_each(|n| assert_found(&table, &Flow::nth(*n), None));
        table.check_invariants();
        for n in N..N + N / 2 {
            assert!(insert(&mut table, &Flow::nth(n), 0, n).is_ok(), "session {n}, seed {seed}");
        }
        assert_eq!(insert(&mut table, &Flow::nth(2 * N), 0, 0), Err(TableFull));
        for n in kept {
            let id = find(&table, &Flow::nth(*n), Direction::In2out);
            assert!(id.is_some());
            assert_found(&table, &Flow::nth(*n), id);
        }
        table.check_invariants();
    }
}

#[test]
fn a_table_of_ipv4_takes_as_many_sessions_as_it_has_slots() {
    to_the_last_slot::<Ipv4Addr>();
}

#[test]
fn a_table_of_ipv6_takes_as_many_sessions_as_it_has_slots() {
    to_the_last_slot::<Ipv6Addr>();
}

fn bytes_per_session(table: &SessionTable<Ipv4Addr>, capacity: u32) -> f64 {
    table.memory().bytes as f64 / f64::from(capacity)
}

#[test]
fn a_session_costs_at_most_two_cache_lines() {
    const N: u32 = 1_000_000;
    let bytes = bytes_per_session(&table(N, 0), N);
    println!("{bytes:.1} bytes per session");
    assert!(bytes <= 128.0, "{bytes}");
}

#[test]
#[ignore = "takes 1 GiB"]
fn ten_million_sessions() {
    const N: u32 = 10_000_000;
    let mut table = table(N, 0);
    let bytes = bytes_per_session(&table, N);
    println!("{bytes:.1} bytes per session");
    assert!(bytes <= 128.0, "{bytes}");
    for n in 0..N {
        assert_eq!(insert(&mut table, &Flow::nth(n), 0, n % 7440), Ok(SessionId(n)));
    }
    assert_eq!(insert(&mut table, &Flow::nth(N), 0, 0), Err(TableFull));
    (0..N).for_each(|n| assert_found(&table, &Flow::nth(n), Some(SessionId(n))));
    let mut due = 0;
    while let Some(id) = table.next_due(7440) {
        table.remove(id);
        due += 1;
    }
    assert_eq!((due, table.len()), (N, 0));
    table.check_invariants();
}
