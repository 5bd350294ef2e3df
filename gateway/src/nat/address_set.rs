//! A set of addresses of one family, for one question a packet: is this one of ours?

use crate::wire::Address;
use std::net::Ipv4Addr;

/// Open addressing at a load of at most one half, never changed after it was built. A handful of
/// addresses stays in the first-level cache.
#[derive(Clone, Debug)]
pub struct AddressSet<A: Address = Ipv4Addr> {
    /// The unspecified address marks an empty place, so it cannot be a member.
    places: Box<[A]>,
    len: usize,
}

impl<A: Address> AddressSet<A> {
    /// Whether `address` is a member.
    #[inline]
    pub fn contains(&self, address: A) -> bool {
        self.place_of(address).is_some()
    }

    /// The place of a member, below [`AddressSet::places`].
    #[inline]
    pub fn place_of(&self, address: A) -> Option<usize> {
        let mask = self.places.len() - 1;
        let mut at = place(address, self.places.len());
        loop {
            let found = self.places[at & mask];
            if found == A::UNSPECIFIED {
                return None;
            }
            if found == address {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    /// Members and empty places.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first member whose place is this or a later one, with its place: to go through a large set a
    /// few members at a time.
    pub fn at_or_after(&self, place: usize) -> Option<(usize, A)> {
        let places = self.places.iter().copied().enumerate().skip(place);
        places.into_iter().find(|(_, address)| *address != A::UNSPECIFIED)
    }

    pub fn iter(&self) -> impl Iterator<Item = A> + '_ {
        self.places.iter().copied().filter(|address| *address != A::UNSPECIFIED)
    }
}

impl<A: Address> FromIterator<A> for AddressSet<A> {
    fn from_iter<I: IntoIterator<Item = A>>(addresses: I) -> Self {
        let mut members: Vec<A> =
            addresses.into_iter().filter(|address| *address != A::UNSPECIFIED).collect();
        members.sort_unstable();
        members.dedup();
        let places = (members.len() * 2).next_power_of_two().max(2);
        let mut places = vec![A::UNSPECIFIED; places].into_boxed_slice();
        let mask = places.len() - 1;
        for member in &members {
            let mut at = place(*member, mask + 1);
            while places[at] != A::UNSPECIFIED {
                at = (at + 1) & mask;
            }
            places[at] = *member;
        }
        AddressSet { places, len: members.len() }
    }
}

impl<A: Address> Default for AddressSet<A> {
    fn default() -> Self {
        [].into_iter().collect()
    }
}

/// Fibonacci hashing: the upper bits of the product, where neighbours of a prefix land apart. Else the
/// number of steps differs from member to member, and no branch predictor can know it.
#[inline]
fn place<A: Address>(address: A, places: usize) -> usize {
    let number = address.number();
    let folded = (number ^ number >> 64) as u64;
    let upper = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((upper * places as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::HashSet, net::Ipv6Addr};

    fn agrees<A: Address>(members: &HashSet<A>, others: &[A]) -> Result<(), TestCaseError> {
        let set: AddressSet<A> = members.iter().copied().collect();
        for address in members.iter().chain(others).copied().filter(|a| *a != A::UNSPECIFIED) {
            prop_assert_eq!(set.contains(address), members.contains(&address));
        }
        prop_assert!(!set.contains(A::UNSPECIFIED));
        prop_assert_eq!(set.iter().count(), set.len());
        let next = |(place, _): &(usize, A)| set.at_or_after(place + 1);
        let walked = std::iter::successors(set.at_or_after(0), next).map(|(_, address)| address);
        prop_assert!(walked.eq(set.iter()));
        Ok(())
    }

    proptest! {
        #[test]
        fn agrees_with_a_hash_set(members: HashSet<Ipv4Addr>, others: Vec<Ipv4Addr>) {
            agrees(&members, &others)?;
        }

        #[test]
        fn agrees_with_a_hash_set_of_ipv6(members: HashSet<Ipv6Addr>, others: Vec<Ipv6Addr>) {
            agrees(&members, &others)?;
        }
    }
}
