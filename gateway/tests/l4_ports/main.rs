//! The choice of l4_ports against a naive model, a set of those that are taken: refused only when none
//! of the share is free, unpredictable, and at a bounded price.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod bitmaps;
mod spread;

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
