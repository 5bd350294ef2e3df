//! The Internet checksum (RFC 1071) in parts. All sums are of little-endian words: section 2 (B) says that
//! the order does not matter, as long as the result is stored in the same.

/// Sum of the 16-bit words, not folded; an odd last octet has a zero behind it.
pub(super) fn words(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2);
    pairs.map(|pair| u64::from(pair[0]) | u64::from(*pair.get(1).unwrap_or(&0)) << 8).sum()
}

/// What four octets add that are this number in network order.
#[inline(always)]
pub(super) fn word32(number: u32) -> u64 {
    u64::from(number.swap_bytes())
}

/// The checksum, to be stored little-endian.
#[inline(always)]
pub(super) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// RFC 1624 equation 3, little-endian: the checksum after a word has become another one.
#[inline(always)]
pub(super) fn update(checksum: u16, from: u16, to: u16) -> u16 {
    fold(u64::from(!checksum) + u64::from(!from) + u64::from(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3.
    #[test]
    fn the_example_of_rfc_1071() {
        let sum = words(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((!fold(sum)).to_le_bytes(), [0xdd, 0xf2]);
        assert_eq!(
            fold(words(&[0xff])).to_le_bytes(),
            [0x00, 0xff],
            "an odd octet is the first of two"
        );
    }

    proptest! {
        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 8..64), number in any::<u32>()) {
            let mut all = number.to_be_bytes().to_vec();
            all.extend(&bytes);
            prop_assert_eq!(fold(words(&all)), fold(words(&bytes) + word32(number)));
        }

        #[test]
        fn a_change_of_one_word_is_a_change_of_the_sum(mut bytes in any::<[u8; 20]>(), to in any::<u16>()) {
            // Not all zeros: there a sum has two zeros, and no header is so.
            bytes[0] = 0x45;
            let before = fold(words(&bytes));
            let from = u16::from_le_bytes([bytes[8], bytes[9]]);
            bytes[8..10].copy_from_slice(&to.to_le_bytes());
            prop_assert_eq!(update(before, from, to), fold(words(&bytes)));
        }
    }
}
