//! Pools that are heavy enough for a bitmap: when it begins, stays and gives way, and what it costs.

use super::*;

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
