//! The policy id: a policy's name on the wire.

use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

/// A policy's id, 1..=16777215. It is the VXLAN network identifier of the policy's packets, which
/// has 24 bits, and 0 stays free to mean "no policy".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicyId(NonZeroU32);

impl PolicyId {
    /// The largest id.
    pub const MAX: u32 = (1 << 24) - 1;

    /// `None` when `id` is 0 or does not fit in 24 bits.
    pub fn new(id: u32) -> Option<PolicyId> {
        NonZeroU32::new(id).filter(|id| id.get() <= Self::MAX).map(PolicyId)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The id of a policy that sets none. Nodes and gateways of different versions compute it on
    /// their own and must agree, so this function never changes: FNV-1a of the name, 64 bits,
    /// reduced to the range.
    pub fn from_name(name: &str) -> PolicyId {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = name
            .bytes()
            .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        let id = (hash % u64::from(Self::MAX)) as u32;
        PolicyId(NonZeroU32::MIN.saturating_add(id))
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_24_bits_without_zero() {
        assert_eq!(PolicyId::new(0), None);
        assert_eq!(PolicyId::new(1).map(PolicyId::get), Some(1));
        assert_eq!(PolicyId::new(PolicyId::MAX).map(PolicyId::get), Some(0xff_ffff));
        assert_eq!(PolicyId::new(PolicyId::MAX + 1), None);
    }
}
