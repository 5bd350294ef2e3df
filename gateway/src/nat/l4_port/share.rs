//! Which external l4_ports one worker may give out.
//!
//! The l4_ports are dealt out by their low bits, so that whoever receives a return packet, a NIC by a
//! masked rule or a worker, knows its owner from the l4_port alone. Where a NIC's RSS is foretold, what is
//! dealt out by the low bits are the names of l4_ports: see [`super::prediction`].

use super::{COUNT, FIRST};

/// The largest modulus. The first l4_port and their number are multiples of it, so all residues have
/// equally many l4_ports.
pub(super) const MAX_MODULUS: u16 = 1024;
const _: () =
    assert!(FIRST.is_multiple_of(MAX_MODULUS) && COUNT.is_multiple_of(MAX_MODULUS as u32));

const NOT_OURS: u16 = u16::MAX;

/// The l4_ports from 1024 to 65535 whose remainder modulo a power of two is one of a list; numbered
/// from 0 in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4PortShare {
    modulus: u16,
    /// Ascending.
    residues: Box<[u16]>,
    /// By residue: its place in `residues`, or [`NOT_OURS`].
    places: Box<[u16]>,
}

/// What a share cannot be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShare {
    #[error("the modulus {0} is not a power of two from 1 to {MAX_MODULUS}")]
    Modulus(u16),
    #[error("the residue {0} does not ascend, or is not below the modulus")]
    Residue(u16),
}

impl L4PortShare {
    /// Every l4_port: the share of an only worker.
    pub fn all() -> Self {
        Self::of(1, &[0])
    }

    /// `residues`: ascending, each below `modulus`, which is a power of two up to 1024.
    /// An empty list makes an empty share.
    pub fn new(modulus: u16, residues: &[u16]) -> Result<Self, InvalidShare> {
        if !modulus.is_power_of_two() || modulus > MAX_MODULUS {
            return Err(InvalidShare::Modulus(modulus));
        }
        if let Some(pair) = residues.array_windows().find(|[a, b]| a >= b) {
            return Err(InvalidShare::Residue(pair[1]));
        }
        match residues.last() {
            Some(last) if *last >= modulus => Err(InvalidShare::Residue(*last)),
            _ => Ok(Self::of(modulus, residues)),
        }
    }

    fn of(modulus: u16, residues: &[u16]) -> Self {
        let mut places = vec![NOT_OURS; modulus.into()];
        for (place, residue) in residues.iter().enumerate() {
            places[usize::from(*residue)] = place as u16;
        }
        L4PortShare { modulus, residues: residues.into(), places: places.into() }
    }

    pub fn len(&self) -> u32 {
        COUNT / u32::from(self.modulus) * self.residues.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.residues.is_empty()
    }

    pub fn contains(&self, l4_port: u16) -> bool {
        self.index_of(l4_port).is_some()
    }

    /// The l4_port with this number; `None` from [`L4PortShare::len`] on.
    #[inline]
    pub fn nth(&self, index: u32) -> Option<u16> {
        if index >= self.len() {
            return None;
        }
        let row = index / self.residues.len() as u32;
        let residue = self.residues[index as usize % self.residues.len()];
        Some(FIRST + row as u16 * self.modulus + residue)
    }

    /// The number of an l4_port of this share.
    #[inline]
    pub fn index_of(&self, l4_port: u16) -> Option<u32> {
        let above = l4_port.checked_sub(FIRST)?;
        let place = self.places[usize::from(above & (self.modulus - 1))];
        let row = u32::from(above >> self.modulus.trailing_zeros());
        (place != NOT_OURS).then(|| row * self.residues.len() as u32 + u32::from(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_every_l4_port_in_order() {
        let all = L4PortShare::all();
        assert_eq!(all.len(), 64_512);
        assert_eq!(
            (all.nth(0), all.nth(64_511), all.nth(64_512)),
            (Some(1024), Some(65_535), None)
        );
        assert_eq!(
            (all.index_of(1023), all.index_of(1024), all.index_of(65_535)),
            (None, Some(0), Some(64_511))
        );
    }

    #[test]
    fn numbers_and_l4_ports_belong_together() {
        for (modulus, residues) in
            [(1, vec![0]), (8, vec![5]), (64, vec![0, 3, 63]), (1024, vec![1023])]
        {
            let share = L4PortShare::new(modulus, &residues).unwrap();
            let ours: Vec<u16> = (1024..=u16::MAX)
                .filter(|l4_port| residues.contains(&(l4_port % modulus)))
                .collect();
            assert_eq!(share.len() as usize, ours.len());
            for (index, l4_port) in (0..).zip(&ours) {
                assert_eq!(share.nth(index), Some(*l4_port));
                assert_eq!(share.index_of(*l4_port), Some(index));
            }
            let contained = (0..=u16::MAX).filter(|l4_port| share.contains(*l4_port));
            assert!(contained.eq(ours));
        }
    }

    #[test]
    fn an_empty_share_has_nothing_and_a_wrong_one_is_an_error() {
        let none = L4PortShare::new(4, &[]).unwrap();
        assert!(none.is_empty());
        assert_eq!(none.len(), 0);
        assert_eq!((none.nth(0), none.contains(2000)), (None, false));
        for modulus in [0, 3, 2048] {
            assert_eq!(L4PortShare::new(modulus, &[0]), Err(InvalidShare::Modulus(modulus)));
        }
        for (residues, wrong) in [(vec![0, 4], 4), (vec![2, 1], 1), (vec![1, 1], 1)] {
            assert_eq!(L4PortShare::new(4, &residues), Err(InvalidShare::Residue(wrong)));
        }
    }
}
