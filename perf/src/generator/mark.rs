//! What a packet's payload says of it.

/// From the L3 packet's beginning: behind its IPv4 and UDP headers.
pub(super) const MARK: usize = 28;

const MAGIC: u16 = 0x6567;

/// 16 octets, little-endian: magic (2), window (2), flow (4), stamp (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// In which measurement it was sent.
    pub(super) window: u16,
    pub(super) flow: u32,
    /// TSC just before it was sent.
    pub(super) stamp: u64,
}

impl Mark {
    pub(super) const LEN: usize = 16;

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(MAGIC) | u64::from(self.window) << 16 | u64::from(self.flow) << 32
    }

    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; Mark::LEN] {
        (u128::from(self.word()) | u128::from(self.stamp) << 64).to_le_bytes()
    }

    /// What it adds to a UDP checksum, not folded (see `sum`).
    #[inline(always)]
    pub(super) fn sum(self) -> u64 {
        let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
        halves(self.word()) + halves(self.stamp)
    }

    /// Of an L3 packet that begins at `l3`; `None` where that is none of ours.
    #[inline(always)]
    pub(super) fn read(frame: &[u8], l3: usize) -> Option<Self> {
        let bytes: [u8; Mark::LEN] =
            frame.get(l3 + MARK..l3 + MARK + Mark::LEN)?.try_into().ok()?;
        let both = u128::from_le_bytes(bytes);
        (both as u16 == MAGIC).then_some(Mark {
            window: (both >> 16) as u16,
            flow: (both >> 32) as u32,
            stamp: (both >> 64) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_only_where_it_is() {
        let mark = Mark { window: 0xfffe, flow: 1_000_000_007, stamp: 0x0123_4567_89ab_cdef };
        let mut frame = [0; 60];
        frame[42..58].copy_from_slice(&mark.bytes());
        assert_eq!(Mark::read(&frame, 14), Some(mark));
        assert_eq!(Mark::read(&frame, 13), None);
        assert_eq!(Mark::read(&frame[..57], 14), None, "cut short");
        assert_eq!(Mark::read(&frame, usize::from(u16::MAX)), None);
    }
}
