//! Neighbours as they leave their worker: a few at a time, for whoever asks.

use super::{
    PacketBuf,
    neighbour::{CAPACITY, NeighbourView, Neighbours},
    next_hop::Output,
};
use crate::{
    nat::Tick,
    verdict::Side,
    wire::{Address, MacAddress},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A neighbour of either family at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourRecord {
    pub side: Side,
    pub neighbour: NeighbourView<IpAddr>,
}

/// Where a list of a worker's neighbours goes on: the tables of both families of both sides, one behind the
/// other.
pub type NeighbourPlace = u32;

/// Where a packet leaves the external port to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub address: IpAddr,
    /// `None`: it was never asked for.
    pub neighbour: Option<NeighbourView<IpAddr>>,
    /// Whether a packet could wait for its MAC.
    pub may_wait: bool,
}

impl NextHop {
    pub fn mac(&self) -> Option<MacAddress> {
        self.neighbour?.mac
    }
}

fn any<A: Address>(view: NeighbourView<A>) -> NeighbourView<IpAddr> {
    let NeighbourView { address, mac, state, age_millis, waiting } = view;
    NeighbourView { address: address.into(), mac, state, age_millis, waiting }
}

impl<B: PacketBuf> Output<B> {
    /// Shows up to `most` neighbours from `first` on, until `show` returns false. Returns where to go on,
    /// or `None` after the last.
    pub fn list_neighbours(
        &self,
        first: NeighbourPlace,
        most: usize,
        now: Tick,
        mut show: impl FnMut(NeighbourRecord) -> bool,
    ) -> Option<NeighbourPlace> {
        let mut place = first as usize;
        for _ in 0..most {
            let (table, number) = (place / CAPACITY, place % CAPACITY);
            let side = *Side::ALL.get(table / 2)?;
            let neighbour = match table % 2 {
                0 => nth::<Ipv4Addr, B>(self.neighbours(side), number, now),
                _ => nth::<Ipv6Addr, B>(self.neighbours(side), number, now),
            };
            match neighbour {
                Some(neighbour) => {
                    place += 1;
                    if !show(NeighbourRecord { side, neighbour }) {
                        break;
                    }
                }
                None => place = (table + 1) * CAPACITY,
            }
        }
        (place < 2 * Side::ALL.len() * CAPACITY).then_some(place as u32)
    }

    /// Who would get a packet for `destination` from the external port, as [`Output::forward`] chooses;
    /// nothing is asked for.
    pub fn next_hop_of(&self, destination: IpAddr, now: Tick) -> Option<NextHop> {
        match destination {
            IpAddr::V4(destination) => self.next_hop_in_family(destination, now),
            IpAddr::V6(destination) => self.next_hop_in_family(destination, now),
        }
    }

    fn next_hop_in_family<A: Address>(&self, destination: A, now: Tick) -> Option<NextHop> {
        let address = self.config.next_hop(Side::External, destination)?;
        let neighbours = self.neighbours::<A>(Side::External);
        Some(NextHop {
            address: address.into(),
            neighbour: neighbours.view(address, now).map(any),
            may_wait: neighbours.may_wait(address),
        })
    }
}

fn nth<A: Address, B>(
    neighbours: &Neighbours<A, B>,
    number: usize,
    now: Tick,
) -> Option<NeighbourView<IpAddr>> {
    neighbours.nth(number, now).map(any)
}
