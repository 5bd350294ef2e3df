//! Comparing many short values at once.

#![allow(unsafe_code)]

/// One bit per lane that is equal to `wanted`, the first lane's lowest.
#[inline(always)]
pub(crate) fn equal_lanes(lanes: &[u16; 16], wanted: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE2.
    return unsafe { equal_lanes_sse2(lanes, wanted) };
    #[cfg(not(target_arch = "x86_64"))]
    equal_lanes_portable(lanes, wanted)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_lanes_portable(lanes: &[u16; 16], wanted: u16) -> u32 {
    let bit = |(i, lane): (usize, &u16)| u32::from(*lane == wanted) << i;
    lanes.iter().enumerate().map(bit).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn equal_lanes_sse2(lanes: &[u16; 16], wanted: u16) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
    };
    let [first, second]: [__m128i; 2] = zerocopy::transmute!(*lanes);
    let wanted = _mm_set1_epi16(wanted.cast_signed());
    let (first, second) = (_mm_cmpeq_epi16(first, wanted), _mm_cmpeq_epi16(second, wanted));
    _mm_movemask_epi8(_mm_packs_epi16(first, second)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_way_gives_the_same(lanes: [u16; 16], wanted: u16, equal: u16) {
            let pick = |i: usize| if equal >> i & 1 == 1 { wanted } else { lanes[i] };
            let lanes = std::array::from_fn(pick);
            let found = equal_lanes_portable(&lanes, wanted);
            prop_assert_eq!(found & u32::from(equal), u32::from(equal));
            prop_assert_eq!(equal_lanes(&lanes, wanted), found);
        }
    }
}
