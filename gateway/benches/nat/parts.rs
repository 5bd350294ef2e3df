//! The stages one by one: parse, look-up, rewrite, insert; and other tables with the same keys.

use crate::{
    burst::{Order, bytes_per_session},
    suite::{Case, Suite},
    world::{BURST, Family, Flow, Flows, World},
};
use arrayvec::ArrayVec;
use gateway::{
    memory::Pages,
    nat::{
        Direction, Endpoint, ExternalEndpoint, FlowPacket, Guess, InternalEndpoint, Lookup,
        Protocol, RemoteEndpoint, SessionId, SessionState, TableHash, in2out::In2out,
        session::NewSession, table::SessionTable,
    },
    tsc::cycles,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{hint::black_box, net::Ipv4Addr};

const FRAMES: usize = 16_384;

/// Parsing out of the tunnel, both IP headers checked, and rewriting with a session that is in the
/// cache.
pub(crate) fn parse_and_rewrite(suite: &mut Suite, world: &mut World) {
    let flow = Flow::number(0);
    let frame = world.in2out_frame(&flow).to_vec();
    let mut frames = vec![frame; FRAMES];
    for (cold, count) in [(false, BURST), (true, FRAMES)] {
        let case = Case { bench: "parse", flows: 1, random: false, cold, bytes_per_session: None };
        let config = &world.config;
        suite.bursts(case, |times| {
            for burst in frames[..count].chunks_exact_mut(BURST) {
                let start = cycles();
                for frame in burst {
                    let parsed = config.usual_frames().from_tunnel(black_box(frame));
                    let _ = black_box(parsed);
                }
                times.push(cycles() - start);
            }
        });
        let case = Case { bench: "rewrite", ..case };
        let policies = world.policies.load_full();
        let (nat, now) = (world.worker.nat_mut(), world.now);
        let parsed = config.usual_frames().from_tunnel(&frames[0]);
        let input: In2out = parsed.expect("a good frame");
        let mut lookup: Lookup = nat.of::<Ipv4Addr>().look_up(Direction::In2out, input.key());
        nat.of::<Ipv4Addr>().locate(Direction::In2out, &mut lookup);
        let original = frames[0].clone();
        suite.bursts(case, |times| {
            for burst in frames[..count].chunks_exact_mut(BURST) {
                let start = cycles();
                for frame in burst.iter_mut() {
                    let done = nat.of_mut::<Ipv4Addr>().in2out(
                        black_box(frame),
                        &input,
                        lookup,
                        &policies,
                        now,
                    );
                    debug_assert!(done.is_ok());
                }
                times.push(cycles() - start);
            }
            // The TTL must not run out.
            frames[..count].iter_mut().for_each(|frame| frame.copy_from_slice(&original));
        });
    }
}

/// Hash and look-up of a burst in stages, up to the comparison with the session's key.
pub(crate) fn look_up(suite: &mut Suite, table: &SessionTable, flows: u32, bytes: Option<f64>) {
    for random in [false, true] {
        let bench = "lookup";
        let case = Case { bench, flows, random, cold: false, bytes_per_session: bytes };
        let mut order = Order::new(random, flows);
        suite.bursts(case, |times| {
            let keys: ArrayVec<_, BURST> =
                (0..BURST).map(|_| Flow::number(order.next()).key()).collect();
            let start = cycles();
            let mut staged: ArrayVec<(u64, Guess), BURST> = ArrayVec::new();
            for key in &keys {
                let hash = table.hash().of(key);
                table.prefetch(Direction::In2out, hash);
                staged.push((hash, Guess::Further));
            }
            for (hash, guess) in &mut staged {
                *guess = table.locate(Direction::In2out, *hash);
            }
            for (hash, guess) in &mut staged {
                if *guess == Guess::Further {
                    *guess = table.locate_further(Direction::In2out, *hash);
                }
            }
            let mut found = 0;
            for ((hash, guess), key) in staged.iter().zip(&keys) {
                found +=
                    usize::from(table.find_at(*guess, Direction::In2out, *hash, key).is_some());
            }
            times.push(cycles() - start);
            assert_eq!(found, BURST);
        });
    }
}

/// A table alone, filled with the numbered flows, each with an external endpoint of its own.
pub(crate) fn table(flows: u32, spare: u32) -> SessionTable {
    let hash = TableHash::new(&mut ChaCha8Rng::from_seed([9; 32]));
    let mut table = SessionTable::new(flows + spare, hash, Pages::Huge).expect("memory");
    (0..flows).for_each(|i| {
        insert_one(&mut table, &new_session(i));
    });
    table
}

fn new_session(i: u32) -> NewSession {
    let key = Flow::number(i).key();
    let external = Endpoint::new(Ipv4Addr::from_bits(0xcb00_7110 + i / 64_512), 0);
    NewSession {
        tenant: 0,
        protocol: Protocol::Udp,
        internal: InternalEndpoint(key.ours()),
        external: ExternalEndpoint(Endpoint { l4_port: (1024 + i % 64_512) as u16, ..external }),
        remote: RemoteEndpoint(key.remote().0),
        state: SessionState::UdpReplied,
        policy: 1,
        vtep: Ipv4Addr::LOCALHOST.into(),
        epoch: 0,
        now: 1,
    }
}

#[inline]
fn insert_one(table: &mut SessionTable, new: &NewSession) -> SessionId {
    let (in2out, out2in) = (table.hash().of(&new.in2out_key()), table.hash().of(&new.out2in_key()));
    table.insert(new, in2out, out2in, new.now + 300).expect("room")
}

/// Inserting sessions, hashes included, one after the other.
pub(crate) fn insert(suite: &mut Suite, table: &mut SessionTable, flows: u32, bytes: Option<f64>) {
    let case = Case { bench: "insert", flows, random: true, cold: false, bytes_per_session: bytes };
    let mut next = flows;
    suite.bursts(case, |times| {
        let new: Vec<_> = (next..next + 4096).map(new_session).collect();
        next = if next + 8192 > 1 << 24 { flows } else { next + 4096 };
        let mut ids = Vec::with_capacity(new.len());
        for burst in new.chunks_exact(BURST) {
            let start = cycles();
            ids.extend(burst.iter().map(|new| insert_one(table, new)));
            times.push(cycles() - start);
        }
        ids.into_iter().for_each(|id| table.remove(id));
    });
}

/// hashbrown with its own hasher, on the same keys.
pub(crate) fn hashbrown(suite: &mut Suite, flows: u32) {
    let mut map = hashbrown::HashMap::with_capacity(flows as usize);
    map.extend((0..flows).map(|i| (Flow::number(i).key_bytes(), i)));
    for random in [false, true] {
        let bench = "lookup_hashbrown";
        let bytes = map.allocation_size() as f64 / f64::from(flows);
        let bytes_per_session = (flows >= 100_000).then_some(bytes);
        let case = Case { bench, flows, random, cold: false, bytes_per_session };
        let mut order = Order::new(random, flows);
        suite.bursts(case, |times| {
            let wanted: ArrayVec<u32, BURST> = (0..BURST).map(|_| order.next()).collect();
            let keys = wanted.iter().map(|i| Flow::number(*i).key_bytes());
            let keys: ArrayVec<_, BURST> = keys.collect();
            let start = cycles();
            let found: ArrayVec<_, BURST> = keys.iter().map(|key| map.get(key).copied()).collect();
            times.push(cycles() - start);
            assert!(found.iter().zip(&wanted).all(|(found, i)| *found == Some(*i)));
        });
    }
}

/// DPDK's rte_hash, looked up in bulk, on the same keys.
#[cfg(feature = "dpdk")]
pub(crate) fn rte_hash(suite: &mut Suite, eal: &gateway::dpdk::Eal, flows: u32) {
    use gateway::dpdk::rte_hash::RteHash;
    let mut table = RteHash::new(eal, flows.max(64)).expect("memory for rte_hash");
    // A cuckoo table may refuse a key before it is full; such keys are not asked for.
    let known: Vec<u32> =
        (0..flows).filter(|i| table.insert(&Flow::number(*i).key_bytes(), *i).is_ok()).collect();
    for random in [false, true] {
        let case =
            Case { bench: "lookup_rte_hash", flows, random, cold: false, bytes_per_session: None };
        let mut order = Order::new(random, known.len() as u32);
        suite.bursts(case, |times| {
            let wanted: ArrayVec<u32, BURST> =
                (0..BURST).map(|_| known[order.next() as usize]).collect();
            let keys = wanted.iter().map(|i| Flow::number(*i).key_bytes());
            let keys: ArrayVec<_, BURST> = keys.collect();
            let start = cycles();
            let (hits, found) = table.look_up(&keys);
            times.push(cycles() - start);
            assert_eq!(hits.count_ones(), BURST as u32);
            assert_eq!(found.as_slice(), wanted.as_slice());
        });
    }
}

pub(crate) fn tables(suite: &mut Suite, flows: u32) {
    if suite.wants(&["lookup", "insert"]) {
        const SPARE: u32 = 8192;
        let mut table = table(flows, SPARE);
        let bytes = table.memory().bytes as f64 / f64::from(flows + SPARE);
        let bytes = (flows >= 100_000).then_some(bytes);
        look_up(suite, &table, flows, bytes);
        insert(suite, &mut table, flows, bytes);
    }
    if suite.wants(&["lookup_hashbrown"]) {
        hashbrown(suite, flows);
    }
}

/// Everything that needs a worker with these flows.
pub(crate) fn worker(suite: &mut Suite, flows: u32) {
    const BENCHES: [&str; 7] =
        ["in2out", "out2in", "new_session", "expire", "no_session", "parse", "rewrite"];
    if !suite.wants(&BENCHES) {
        return;
    }
    let mut world = World::new(Flows::Numbered(flows));
    debug_assert!(bytes_per_session(&world).is_none_or(|bytes| bytes <= 128.0));
    if flows == 1 {
        parse_and_rewrite(suite, &mut world);
    }
    crate::burst::hits(suite, &mut world, ["in2out", "out2in"], &[false, true]);
    crate::burst::new_sessions(suite, &mut world);
    crate::burst::expire(suite, &mut world);
    crate::burst::strangers(suite, &mut world);
}

/// The whole way of a burst whose packets are IPv6, over the same underlay as IPv4's.
pub(crate) fn ipv6(suite: &mut Suite, flows: u32) {
    let names = ["in2out_ipv6", "out2in_ipv6"];
    if suite.wants(&names) {
        let mut world = World::of(Family::V6, Flows::Numbered(flows));
        crate::burst::hits(suite, &mut world, names, &[false]);
    }
}
