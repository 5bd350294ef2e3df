//! Picks are spread over all that are free, and nobody foretells them.

use super::*;

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
