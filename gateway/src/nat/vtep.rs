//! Tunnel addresses of nodes in 32 bits, so that a session has room for one whatever its family.

use super::AddressSet;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The tunnel address of a node: an IPv4 address as it is, an IPv6 address as the number that
/// [`VtepNumbers`] gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vtep(u32);

/// Numbers are in 240.0.0.0/4, which holds no host's address.
const NUMBERED: u32 = 0xf000_0000;

impl Vtep {
    pub const NONE: Vtep = Vtep(0);
}

impl From<Ipv4Addr> for Vtep {
    #[inline(always)]
    fn from(address: Ipv4Addr) -> Self {
        // Who claims to be in the range of the numbers is no node, least of all a numbered one.
        let bits = address.to_bits();
        Vtep(if bits < NUMBERED { bits } else { Vtep::NONE.0 })
    }
}

/// The numbers of IPv6 tunnel addresses. One that was given stays for as long as the process lives, so
/// that sessions need not be told of a reload.
#[derive(Clone, Debug, Default)]
pub struct VtepNumbers {
    by_number: Vec<Ipv6Addr>,
    by_address: BTreeMap<Ipv6Addr, u32>,
}

impl VtepNumbers {
    /// The number of `address`, a new one where it has none.
    pub fn number(&mut self, address: IpAddr) -> Vtep {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let next = self.by_number.len() as u32;
                let number = *self.by_address.entry(address).or_insert(next);
                if number == next {
                    self.by_number.push(address);
                }
                Vtep(NUMBERED | number)
            }
        }
    }

    /// The address of a VTEP that was given out here.
    #[inline]
    pub fn address(&self, vtep: Vtep) -> IpAddr {
        if vtep.0 < NUMBERED {
            return Ipv4Addr::from_bits(vtep.0).into();
        }
        let address = self.by_number.get((vtep.0 & !NUMBERED) as usize);
        address.copied().unwrap_or(Ipv6Addr::UNSPECIFIED).into()
    }
}

/// From IPv6 tunnel addresses to their numbers, as packets ask.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownVteps {
    addresses: AddressSet<Ipv6Addr>,
    /// By the place of the address in the set.
    vteps: Box<[Vtep]>,
}

impl KnownVteps {
    /// Of all `vteps` that are numbered.
    pub(super) fn new(vteps: impl Iterator<Item = Vtep>, numbers: &VtepNumbers) -> Self {
        let v6: BTreeMap<Ipv6Addr, Vtep> = vteps
            .filter_map(|vtep| match numbers.address(vtep) {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some((address, vtep)),
            })
            .collect();
        let addresses: AddressSet<Ipv6Addr> = v6.keys().copied().collect();
        let mut vteps = vec![Vtep::NONE; addresses.places()].into_boxed_slice();
        for (address, vtep) in v6 {
            if let Some(place) = addresses.place_of(address) {
                vteps[place] = vtep;
            }
        }
        KnownVteps { addresses, vteps }
    }

    #[inline]
    pub(super) fn find(&self, address: Ipv6Addr) -> Option<Vtep> {
        self.addresses.place_of(address).map(|place| self.vteps[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_lead_back_to_their_addresses() {
        let mut numbers = VtepNumbers::default();
        let addresses: Vec<IpAddr> =
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "::2"].map(|a| a.parse().unwrap()).into();
        let vteps: Vec<Vtep> = addresses.iter().map(|address| numbers.number(*address)).collect();
        for (address, vtep) in addresses.iter().zip(&vteps) {
            assert_eq!(numbers.number(*address), *vtep);
            assert_eq!(numbers.address(*vtep), *address);
        }
        let known = KnownVteps::new(vteps.iter().copied(), &numbers);
        assert_eq!(known.find("::2".parse().unwrap()), Some(vteps[3]));
        assert_eq!(known.find("::3".parse().unwrap()), None);
    }
}
