//! What the loop tells while it runs: totals of both devices, read once a second by another thread.

use crate::job::Second;
use gateway::{datapath::counters::Counter, verdict::Side};
use std::sync::Arc;

/// Of one device since start; octets with frame check sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) tx_packets: u64,
    pub(super) tx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
}

/// The same for other threads to read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Published {
    sides: [[Counter; 4]; 2],
}

impl Published {
    #[inline(always)]
    pub(super) fn set(&self, side: Side, totals: &Totals) {
        let [tx_packets, tx_bytes, rx_packets, rx_bytes] = &self.sides[side.index()];
        tx_packets.set(totals.tx_packets);
        tx_bytes.set(totals.tx_bytes);
        rx_packets.set(totals.rx_packets);
        rx_bytes.set(totals.rx_bytes);
    }

    /// Since start.
    fn totals(&self) -> Second {
        let of = |i: usize| [self.sides[0][i].get(), self.sides[1][i].get()];
        Second { tx_packets: of(0), tx_bytes: of(1), rx_packets: of(2), rx_bytes: of(3) }
    }
}

/// Of several loops together.
pub(super) fn totals(all: &[Arc<Published>]) -> Second {
    let add = |a: [u64; 2], b: [u64; 2]| [0, 1].map(|i| a[i] + b[i]);
    all.iter().map(|published| published.totals()).fold(Second::default(), |sum, of| Second {
        tx_packets: add(sum.tx_packets, of.tx_packets),
        tx_bytes: add(sum.tx_bytes, of.tx_bytes),
        rx_packets: add(sum.rx_packets, of.rx_packets),
        rx_bytes: add(sum.rx_bytes, of.rx_bytes),
    })
}

/// What was between two looks.
pub(super) fn between(before: &Second, after: &Second) -> Second {
    let less = |a: [u64; 2], b: [u64; 2]| [0, 1].map(|i| a[i].wrapping_sub(b[i]));
    Second {
        tx_packets: less(after.tx_packets, before.tx_packets),
        tx_bytes: less(after.tx_bytes, before.tx_bytes),
        rx_packets: less(after.rx_packets, before.rx_packets),
        rx_bytes: less(after.rx_bytes, before.rx_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_what_was_counted_in_it() {
        let all = [(); 2].map(|()| Arc::new(Published::default()));
        let [published, other] = &all;
        let counted =
            |n| Totals { tx_packets: n, tx_bytes: 2 * n, rx_packets: 3 * n, rx_bytes: 4 * n };
        published.set(Side::Tunnel, &counted(10));
        let before = totals(&all);
        published.set(Side::Tunnel, &counted(14));
        other.set(Side::Tunnel, &counted(1));
        published.set(Side::External, &counted(7));
        let second = between(&before, &totals(&all));
        assert_eq!(second.tx_packets, [5, 7]);
        assert_eq!(second.tx_bytes, [10, 14]);
        assert_eq!(second.rx_packets, [15, 21]);
        assert_eq!(second.rx_bytes, [20, 28]);
    }
}
