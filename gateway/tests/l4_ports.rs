//! The choice of l4_ports against a naive model, a set of those that are taken: refused only when none
//! of the share is free, unpredictable, and at a bounded price.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use gateway::{
    datapath::steering::{ShardSeed, Steering},
    nat::{
        Endpoint, ExternalEndpoint, FlowKey, Protocol, RemoteEndpoint,
        flow::Address,
        l4_port::{Allotment, BATCH, L4PortShare, L4Ports},
    },
};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    collections::HashSet,
    iter,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The key of a pool by number.
trait Pool: Address {
    fn pool(n: u32) -> FlowKey<Self>;
}

fn pool<A: Address>(egress: A, remote: A, remote_l4_port: u16) -> FlowKey<A> {
    let external = ExternalEndpoint(Endpoint::new(egress, 0));
    let remote = RemoteEndpoint(Endpoint::new(remote, remote_l4_port));
    FlowKey::out2in(Protocol::Udp, external, remote)
}

impl Pool for Ipv4Addr {
    fn pool(n: u32) -> FlowKey {
        pool(
            Ipv4Addr::from_bits(0xcb00_7110 + n % 2),
            Ipv4Addr::from_bits(0xc633_640a + n / 2),
            443,
        )
    }
}

impl Pool for Ipv6Addr {
    fn pool(n: u32) -> FlowKey<Self> {
        let egress = Ipv6Addr::from_bits(0x2001_0db8_0113 << 80 | u128::from(n % 2));
        pool(egress, Ipv6Addr::from_bits(0x2001_0db8_0100 << 80 | u128::from(n / 2)), 443)
    }
}

/// The l4_ports under test beside the model, which holds what a session table would.
struct Run<A: Address> {
    l4_ports: L4Ports<A>,
    /// By pool: which l4_ports are taken, and the same as a list to choose from.
    taken: Vec<(HashSet<u16>, Vec<u16>)>,
    random: ChaCha8Rng,
    /// Look-ups of the last pick, and the most of any.
    look_ups: usize,
    most_look_ups: usize,
}

impl<A: Pool> Run<A> {
    fn new(allotment: impl Into<Allotment>, max_sessions: u32, seed: u8) -> Self {
        Run {
            l4_ports: L4Ports::new(
                ChaCha8Rng::from_seed([seed; 32]),
                allotment.into(),
                max_sessions,
            ),
            taken: vec![Default::default(); 64],
            random: ChaCha8Rng::from_seed([seed ^ 0xff; 32]),
            look_ups: 0,
            most_look_ups: 0,
        }
    }

    fn share_len(&self) -> usize {
        self.l4_ports.len() as usize
    }

    fn taken(&self, n: u32) -> usize {
        self.taken[n as usize].1.len()
    }

    /// Without reserving it.
    fn pick(&mut self, n: u32) -> Option<u16> {
        let (taken, list) = &self.taken[n as usize];
        self.look_ups = 0;
        let picked = self.l4_ports.pick(&A::pool(n), |l4_ports| {
            assert!((1..=BATCH).contains(&l4_ports.len()));
            self.look_ups += l4_ports.len();
            let bit = |(i, l4_port): (usize, &u16)| u64::from(taken.contains(l4_port)) << i;
            l4_ports.iter().enumerate().map(bit).sum()
        });
        self.most_look_ups = self.most_look_ups.max(self.look_ups);
        match picked {
            Some(l4_port) => {
                let share = self.l4_ports.share_of(&A::pool(n));
                assert!(share.contains(l4_port), "{l4_port} is another worker's");
                assert!(!taken.contains(&l4_port), "{l4_port} is taken");
            }
            None => assert_eq!(list.len(), self.share_len(), "refused, and there are free ones"),
        }
        picked
    }

    fn open(&mut self, n: u32) -> Option<u16> {
        let l4_port = self.pick(n)?;
        self.l4_ports.took(&A::pool(n), l4_port);
        let (taken, list) = &mut self.taken[n as usize];
        taken.insert(l4_port);
        list.push(l4_port);
        Some(l4_port)
    }

    fn fill(&mut self, n: u32, up_to: usize) {
        while self.taken(n) < up_to {
            self.open(n).unwrap();
        }
    }

    /// Ends a random session.
    fn end_one(&mut self, n: u32) -> Option<u16> {
        let (taken, list) = &mut self.taken[n as usize];
        let at = self.random.next_u32() as usize % list.len().max(1);
        let l4_port = (at < list.len()).then(|| list.swap_remove(at))?;
        taken.remove(&l4_port);
        self.l4_ports.gave_back(&A::pool(n), l4_port);
        Some(l4_port)
    }

    fn drain(&mut self, n: u32, down_to: usize) {
        while self.taken(n) > down_to {
            self.end_one(n).unwrap();
        }
    }

    fn bitmaps(&self) -> usize {
        self.l4_ports.bitmaps().0
    }
}

fn share_of_one_in(workers: usize) -> Allotment {
    Steering::new(ShardSeed([3; 16]), workers).unwrap().allotment(workers - 1)
}

/// By residues; and by a NIC's RSS with a table of 128 entries, so that each pool has l4_ports of its own.
fn both_of_one_in(workers: usize) -> [Allotment; 2] {
    let steering = Steering::new(ShardSeed([3; 16]), workers).unwrap();
    let reta: Vec<u16> = (0..128).map(|entry| entry % workers as u16).collect();
    let mut random = ChaCha8Rng::from_seed([8; 32]);
    let predicted = iter::repeat_with(|| {
        let mut key = [0; 40];
        random.fill_bytes(&mut key);
        steering.clone().with_rss(&key, &reta)
    });
    // One key of four fits.
    let predicted = predicted.take(100).find_map(Result::ok).unwrap();
    [steering, predicted].map(|steering| steering.allotment(workers - 1))
}

fn fills_to_the_last<A: Pool>() {
    for (workers, share) in
        [1, 2, 3, 4, 8, 64].into_iter().flat_map(|n| both_of_one_in(n).map(|share| (n, share)))
    {
        let mut run = Run::<A>::new(share.clone(), 3 * share.len(), workers as u8);
        let len = run.share_len();
        run.fill(0, len);
        // No session had to wait for the whole share to be searched.
        assert!(run.most_look_ups <= 32 + 2 * 512, "{workers}: {}", run.most_look_ups);
        assert_eq!((run.open(0), run.look_ups, run.bitmaps()), (None, 0, 1), "{workers} workers");
        // Each that comes free is found, without a look-up, and nothing else is.
        for _ in 0..2000 {
            let freed = run.end_one(0);
            assert_eq!((run.open(0), run.look_ups), (freed, 0));
            assert_eq!(run.open(0), None);
        }
        // Another pool does not notice.
        assert!(run.open(1).is_some());
        run.drain(0, len - 500);
        run.fill(0, len);
        assert_eq!((run.open(0), run.look_ups), (None, 0));
        run.drain(0, 0);
        assert_eq!(run.bitmaps(), 0);
        run.fill(0, len / 4);
        assert_eq!(run.bitmaps(), 0);
    }
}

#[test]
fn every_l4_port_of_a_share_is_found_v4() {
    fills_to_the_last::<Ipv4Addr>();
}

#[test]
fn every_l4_port_of_a_share_is_found_v6() {
    fills_to_the_last::<Ipv6Addr>();
}

#[test]
fn an_empty_share_has_none() {
    let share = L4PortShare::new(64, &[]).unwrap();
    let mut run = Run::<Ipv4Addr>::new(share, 1000, 1);
    assert_eq!((run.open(0), run.look_ups), (None, 0));
}

#[test]
fn a_pool_that_was_full_before_its_first_bitmap_is_searched_once() {
    let mut run = Run::<Ipv4Addr>::new(L4PortShare::all(), 200_000, 2);
    let all: Vec<u16> = (1024..=u16::MAX).collect();
    run.taken[0] = (all.iter().copied().collect(), all);
    assert_eq!((run.open(0), run.look_ups), (None, 32 + 64_512));
    assert_eq!((run.open(0), run.look_ups), (None, 0));
    let freed = run.end_one(0);
    assert_eq!((run.open(0), run.look_ups), (freed, 0));
}

/// A bitmap begins at 3/4 or more and ends below 1/2.
#[test]
fn a_bitmap_stays_while_half_of_the_share_is_taken() {
    let mut run = Run::<Ipv4Addr>::new(share_of_one_in(4), 100_000, 4);
    let len = run.share_len();
    run.fill(0, len * 65 / 100);
    assert_eq!(run.bitmaps(), 0);
    run.fill(0, len * 97 / 100);
    assert_eq!((run.bitmaps(), run.pick(0).is_some(), run.look_ups), (1, true, 0));
    run.drain(0, len / 2);
    assert_eq!((run.bitmaps(), run.pick(0).is_some(), run.look_ups), (1, true, 0));
    run.end_one(0);
    assert_eq!(run.bitmaps(), 0);
    run.pick(0);
    assert_ne!(run.look_ups, 0);
}

/// One batch of random tries is smaller than one of a search, so this can make all of them fail.
#[test]
fn bad_luck_alone_begins_no_bitmap() {
    let mut run = Run::<Ipv4Addr>::new(share_of_one_in(4), 100_000, 5);
    run.fill(0, run.share_len() * 6 / 10);
    let taken = &run.taken[0].0;
    let picked = run.l4_ports.pick(&Ipv4Addr::pool(0), |l4_ports| {
        let bit =
            |(i, p): (usize, &u16)| u64::from(l4_ports.len() < BATCH || taken.contains(p)) << i;
        l4_ports.iter().enumerate().map(bit).sum()
    });
    assert!(!taken.contains(&picked.unwrap()));
    assert_eq!(run.bitmaps(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        pool: u32,
        times: u32,
    },
    End {
        pool: u32,
        times: u32,
    },
    /// To the given number of thousandths of the share.
    Fill {
        pool: u32,
        up_to: usize,
    },
    Drain {
        pool: u32,
        down_to: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let pool = 0u32..5;
    prop_oneof![
        (pool.clone(), 1u32..40).prop_map(|(pool, times)| Step::Open { pool, times }),
        (pool.clone(), 1u32..40).prop_map(|(pool, times)| Step::End { pool, times }),
        (pool.clone(), 800usize..=1000).prop_map(|(pool, up_to)| Step::Fill { pool, up_to }),
        (pool, 0usize..=1000).prop_map(|(pool, down_to)| Step::Drain { pool, down_to }),
    ]
}

fn agrees_with_the_model<A: Pool>(share: &Allotment, max_sessions: u32, seed: u8, steps: &[Step]) {
    let mut run = Run::<A>::new(share.clone(), max_sessions, seed);
    let len = run.share_len();
    for step in steps {
        match *step {
            Step::Open { pool, times } => (0..times).for_each(|_| {
                run.open(pool);
            }),
            Step::End { pool, times } => (0..times).for_each(|_| {
                run.end_one(pool);
            }),
            Step::Fill { pool, up_to } => run.fill(pool, len * up_to / 1000),
            Step::Drain { pool, down_to } => run.drain(pool, len * down_to / 1000),
        }
        let (bitmaps, room) = run.l4_ports.bitmaps();
        assert!(bitmaps <= room);
    }
    (0..5).for_each(|pool| run.drain(pool, 0));
    assert_eq!(run.bitmaps(), 0, "nothing is taken, so nothing is kept");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Up to five heavy pools; bitmaps for all of them, for some, and for one (more sessions than were said).
    #[test]
    fn refuses_only_when_none_is_free(
        steps in prop::collection::vec(step(), 1..60),
        workers in prop::sample::select(vec![8usize, 12, 48, 64]),
        shares in prop::sample::select(vec![0u32, 1, 5]),
        seed: u8,
        predicted: bool,
    ) {
        let share = both_of_one_in(workers)[usize::from(predicted)].clone();
        let max_sessions = shares * share.len();
        agrees_with_the_model::<Ipv4Addr>(&share, max_sessions, seed, &steps);
        agrees_with_the_model::<Ipv6Addr>(&share, max_sessions, seed, &steps);
    }
}

/// Every pool heavy that can be: filled, emptied to a little above a half so that its bitmap stays, then the
/// next, until the sessions are all used. Then one more pool.
#[test]
fn there_are_bitmaps_for_as_many_pools_as_can_be_heavy() {
    let share = share_of_one_in(64);
    let (len, half) = (share.len() as usize, share.len() as usize / 2);
    let pools = 20;
    let mut run = Run::<Ipv6Addr>::new(share, (pools as usize * half + half) as u32, 7);
    for pool in 0..pools {
        run.fill(pool, len);
        run.drain(pool, half);
        assert_eq!(run.bitmaps(), pool as usize + 1);
    }
    for pool in 0..pools {
        assert_eq!((run.pick(pool).is_some(), run.look_ups), (true, 0), "pool {pool}");
    }
    assert_eq!(run.l4_ports.bitmaps().1, pools as usize + 2);
}

/// Bitmaps that were begun and left take no room from one that is needed.
#[test]
fn an_incomplete_bitmap_gives_way() {
    let share = share_of_one_in(2);
    let mut run = Run::<Ipv4Addr>::new(share.clone(), share.len() / 2, 9);
    let len = run.share_len();
    assert_eq!(run.l4_ports.bitmaps(), (0, 2));
    for pool in 0..12 {
        // Until its bitmap begins; then nothing more of it.
        let mut most = 0;
        while most < 512 {
            run.open(pool).unwrap();
            most = run.look_ups;
        }
        assert!(run.bitmaps() <= 2);
    }
    run.fill(12, len);
    assert_eq!((run.open(12), run.look_ups), (None, 0));
    assert_eq!(run.bitmaps(), 2);
    // And comes again when it is needed again.
    run.fill(0, len);
    assert_eq!((run.open(0), run.look_ups), (None, 0));
    // A complete one does not give way.
    run.fill(1, len);
    for pool in [0, 12] {
        assert_eq!((run.open(pool), run.look_ups), (None, 0));
    }
}

#[test]
fn memory_is_half_a_byte_for_each_session_and_taken_at_start() {
    for (workers, max_sessions) in
        [(1, 1_000_000), (2, 1_000_000), (8, 10_000_000), (64, 1_000_000)]
    {
        let share = share_of_one_in(workers);
        let random = || ChaCha8Rng::from_seed([1; 32]);
        let v4 = L4Ports::<Ipv4Addr>::new(random(), share.clone(), max_sessions).bytes();
        let v6 = L4Ports::<Ipv6Addr>::new(random(), share, max_sessions).bytes();
        assert!(v4 <= v6 && v6 <= max_sessions as usize / 2, "{workers} workers: {v4}, {v6} bytes");
    }
    let mut ports =
        L4Ports::<Ipv4Addr>::new(ChaCha8Rng::from_seed([1; 32]), share_of_one_in(2), 100_000);
    let mut taken = vec![false; 65_536];
    let allocations = allocation_counter::measure(|| {
        for round in 0..3 {
            let pool = Ipv4Addr::pool(round);
            taken.fill(false);
            while let Some(l4_port) = ports.pick(&pool, |l4_ports| {
                let bit = |(i, p): (usize, &u16)| u64::from(taken[usize::from(*p)]) << i;
                l4_ports.iter().enumerate().map(bit).sum()
            }) {
                taken[usize::from(l4_port)] = true;
                ports.took(&pool, l4_port);
            }
        }
    });
    assert_eq!((allocations.count_total, ports.bitmaps().0), (0, 3));
}

/// Pearson's chi-square of picks over equal parts of the free l4_ports, less its mean, in standard deviations.
fn unevenness(run: &mut Run<Ipv4Addr>) -> f64 {
    const PARTS: usize = 64;
    const PICKS: usize = 64_000;
    let taken = &run.taken[0].0;
    let share = run.l4_ports.share_of(&Ipv4Addr::pool(0));
    let mut free: Vec<u16> =
        (0..share.len()).map(|i| share.nth(i).unwrap()).filter(|p| !taken.contains(p)).collect();
    free.sort_unstable();
    let part = |rank: usize| rank * PARTS / free.len();
    let (mut counts, mut sizes) = ([0u32; PARTS], [0u32; PARTS]);
    (0..free.len()).for_each(|rank| sizes[part(rank)] += 1);
    for _ in 0..PICKS {
        let l4_port = run.pick(0).unwrap();
        counts[part(free.binary_search(&l4_port).unwrap())] += 1;
    }
    let chi2: f64 = (counts.iter().zip(sizes))
        .map(|(n, size)| (f64::from(*n), PICKS as f64 * f64::from(size) / free.len() as f64))
        .map(|(n, expected)| (n - expected).powi(2) / expected)
        .sum();
    let freedom = (PARTS - 1) as f64;
    (chi2 - freedom) / (2.0 * freedom).sqrt()
}

/// By random tries, and by a bitmap.
#[test]
fn picks_are_spread_over_all_that_are_free() {
    both_of_one_in(2).into_iter().for_each(picks_are_spread);
}

fn picks_are_spread(share: Allotment) {
    let mut run = Run::<Ipv4Addr>::new(share, 100_000, 11);
    let len = run.share_len();
    for (thousandths, with_bitmap) in
        [(0, false), (500, false), (990, true), (700, true), (510, true)]
    {
        let wanted = len * thousandths / 1000;
        run.fill(0, wanted);
        run.drain(0, wanted);
        assert_eq!(run.bitmaps() == 1, with_bitmap, "{thousandths}");
        let unevenness = unevenness(&mut run);
        assert!(unevenness < 5.0, "{thousandths} thousandths taken: {unevenness}");
    }
}

/// Who knows what was picked before cannot say what comes next: other secrets pick others.
#[test]
fn another_secret_picks_others() {
    let mut runs = [1, 2].map(|seed| Run::<Ipv4Addr>::new(L4PortShare::all(), 1000, seed));
    let [one, other] =
        runs.each_mut().map(|run| (0..200).map(|_| run.open(0)).collect::<HashSet<_>>());
    assert!(one.intersection(&other).count() < 10);
}
