//! A set of IPv4 addresses for one question a packet: is this one of ours?

use std::net::Ipv4Addr;

/// Open addressing at a load of at most one half, never changed after it was built. A handful of
/// addresses stays in the first-level cache.
#[derive(Clone, Debug)]
pub struct AddressSet {
    /// 0.0.0.0 marks an empty place, so it cannot be a member.
    places: Box<[u32]>,
    len: usize,
}

impl AddressSet {
    /// Whether `address` is a member.
    #[inline]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let wanted = address.to_bits();
        let mask = self.places.len() - 1;
        let mut at = place(wanted) & mask;
        loop {
            match self.places[at] {
                0 => return false,
                found if found == wanted => return true,
                _ => at = (at + 1) & mask,
            }
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first member whose place is this or a later one, with its place: to go through a large set a
    /// few members at a time.
    pub fn at_or_after(&self, place: usize) -> Option<(usize, Ipv4Addr)> {
        let places = self.places.iter().enumerate().skip(place);
        let (place, address) = places.into_iter().find(|(_, address)| **address != 0)?;
        Some((place, Ipv4Addr::from_bits(*address)))
    }

    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.places.iter().filter(|a| **a != 0).map(|a| Ipv4Addr::from_bits(*a))
    }
}

impl FromIterator<Ipv4Addr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(addresses: I) -> Self {
        let mut members: Vec<u32> =
            addresses.into_iter().map(Ipv4Addr::to_bits).filter(|a| *a != 0).collect();
        members.sort_unstable();
        members.dedup();
        let mut places = vec![0; (members.len() * 2).next_power_of_two().max(2)].into_boxed_slice();
        let mask = places.len() - 1;
        for member in &members {
            let mut at = place(*member) & mask;
            while places[at] != 0 {
                at = (at + 1) & mask;
            }
            places[at] = *member;
        }
        AddressSet { places, len: members.len() }
    }
}

impl Default for AddressSet {
    fn default() -> Self {
        [].into_iter().collect()
    }
}

/// Fibonacci hashing: neighbours of a prefix land apart.
#[inline]
fn place(address: u32) -> usize {
    (address.wrapping_mul(0x9e37_79b9) >> 12) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn agrees_with_a_hash_set(members: HashSet<u32>, others: Vec<u32>) {
            let set: AddressSet = members.iter().map(|a| Ipv4Addr::from_bits(*a)).collect();
            for address in members.iter().chain(&others).copied().filter(|a| *a != 0) {
                let known = members.contains(&address);
                prop_assert_eq!(set.contains(Ipv4Addr::from_bits(address)), known);
            }
            prop_assert!(!set.contains(Ipv4Addr::UNSPECIFIED));
            prop_assert_eq!(set.iter().count(), set.len());
            let next = |(place, _): &(usize, Ipv4Addr)| set.at_or_after(place + 1);
            let walked = std::iter::successors(set.at_or_after(0), next).map(|(_, address)| address);
            prop_assert!(walked.eq(set.iter()));
        }
    }
}
