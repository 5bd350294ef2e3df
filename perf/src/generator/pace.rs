//! How many packets are due: tokens that the time stamp counter brings.

/// A rate, or as fast as possible.
#[derive(Debug)]
pub(super) struct Pace {
    /// `None`: no limit.
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    /// Packets per cycle, times 2^64.
    rate: u64,
    start: u64,
    /// Taken, or given up.
    taken: u64,
    most: u64,
}

/// Packets that may be due at once, however late the caller is: a sender that was off its CPU does not
/// send afterwards what it missed, for that would be a burst at a rate that nobody asked for.
const MOST_DUE: u64 = 64;

impl Pace {
    pub(super) fn unlimited() -> Self {
        Pace { limit: None }
    }

    /// From `now` on. A rate at or above the counter's own is none.
    pub(super) fn per_second(packets: f64, hz: u64, now: u64) -> Self {
        let rate = packets.max(0.0) / hz as f64 * 2f64.powi(64);
        if rate >= u64::MAX as f64 {
            return Self::unlimited();
        }
        Pace { limit: Some(Limit { rate: rate as u64, start: now, taken: 0, most: MOST_DUE }) }
    }

    /// Packets that may be sent at `now`, at most `room`; they count as sent.
    #[inline(always)]
    pub(super) fn take(&mut self, now: u64, room: usize) -> usize {
        let Some(limit) = &mut self.limit else { return room };
        let elapsed = now.saturating_sub(limit.start);
        let due = ((u128::from(elapsed) * u128::from(limit.rate)) >> 64) as u64;
        let late = due.saturating_sub(limit.taken);
        if late > limit.most {
            limit.taken = due - limit.most;
        }
        let taken = late.min(limit.most).min(room as u64);
        limit.taken += taken;
        taken as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_300_000_000;

    /// Asks every `every` cycles for a second; returns how many it may send, and how many at once.
    fn second(packets: f64, every: u64) -> (u64, usize) {
        let mut pace = Pace::per_second(packets, HZ, 77);
        let (mut sent, mut largest) = (0, 0);
        for now in (77..=77 + HZ).step_by(every as usize) {
            let taken = pace.take(now, 32);
            sent += taken as u64;
            largest = largest.max(taken);
        }
        (sent, largest)
    }

    #[test]
    fn a_second_brings_the_rate_in_bursts_as_small_as_the_loop_is_fast() {
        for (packets, every, largest) in
            [(1.0, 1000, 1), (1e3, 5000, 1), (1e6, 5000, 3), (5e6, 2000, 5), (20e6, 2000, 18)]
        {
            let (sent, burst) = second(packets, every);
            assert!((sent as f64 - packets).abs() <= 32.0, "{packets}: {sent}");
            assert!(burst <= largest, "{packets}: bursts of {burst}");
        }
    }

    #[test]
    fn who_was_away_sends_one_small_burst_and_goes_on_at_its_rate() {
        let mut pace = Pace::per_second(1e6, HZ, 0);
        assert_eq!(pace.take(HZ, 1000), 64);
        assert_eq!(pace.take(HZ, 1000), 0);
        assert_eq!(pace.take(HZ + HZ / 1_000_000 * 10, 1000), 10);
    }

    #[test]
    fn what_there_is_no_room_for_stays_due() {
        let mut pace = Pace::per_second(1e6, HZ, 0);
        assert_eq!(pace.take(HZ / 1000, 5), 5);
        assert_eq!(pace.take(HZ / 1000, 100), 59);
    }

    #[test]
    fn without_a_limit_there_is_always_room_for_a_burst() {
        assert_eq!(Pace::unlimited().take(0, 32), 32);
        assert_eq!(Pace::per_second(1e12, HZ, 0).take(0, 32), 32);
        assert_eq!(Pace::per_second(0.0, HZ, 0).take(u64::MAX, 32), 0);
    }
}
