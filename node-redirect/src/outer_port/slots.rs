//! Who has which slot of the map `steerings`. A slot is written only while nobody can be reading it: what a packet sees is always whole.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::abi::{self, STEERING_SLOTS, Steering};
use crate::maps::Maps;
use crate::sync::wait_for_readers;
use crate::tables::Tables;

/// Each has a slot, and where all change at once a second one.
pub const MAX_STEERED: usize = (STEERING_SLOTS - 1) / 2;

/// Tunnel address of a gateway → its slot and what is there.
pub type Slots = BTreeMap<IpAddr, (u8, Steering)>;

/// What an agent before this one left.
pub fn held(maps: &Maps, tables: &Tables) -> Result<Slots> {
    let mut slots = Slots::new();
    for (gateway, slot) in tables.policies.values().flat_map(named) {
        if let Some(steering) = maps.steerings.get(&slot.into())? {
            slots.insert(gateway, (slot, steering));
        }
    }
    Ok(slots)
}

fn named(policy: &abi::Policy) -> impl Iterator<Item = (IpAddr, u8)> {
    let slots = policy.gateways().map(|(i, gateway)| (gateway, policy.steering[i]));
    slots.filter(|(_, slot)| *slot != 0)
}

/// `wanted` with a slot each, and written there: what is as before stays where it is, what is not goes into a slot that `tables`, which are in force,
/// do not name. When policies have been made to name it, and flows are decided anew, the slot before is free.
pub fn write(
    maps: &Maps,
    tables: &Tables,
    before: &Slots,
    wanted: BTreeMap<IpAddr, Steering>,
) -> Result<Slots> {
    let (slots, added) = assign(tables, before, wanted)?;
    if !added.is_empty() {
        wait_for_readers();
    }
    for gateway in added {
        let (slot, steering) = &slots[&gateway];
        maps.steerings.set(&u32::from(*slot), steering)?;
    }
    Ok(slots)
}

/// The slots, and whose are to be written.
fn assign(
    tables: &Tables,
    before: &Slots,
    wanted: BTreeMap<IpAddr, Steering>,
) -> Result<(Slots, Vec<IpAddr>)> {
    let mut slots: Slots = before.clone();
    slots.retain(|gateway, (_, steering)| wanted.get(gateway) == Some(steering));
    let in_force = tables.policies.values().flat_map(named).map(|(_, slot)| slot);
    let taken: BTreeSet<u8> = in_force.chain(slots.values().map(|(slot, _)| *slot)).collect();
    let mut free = (1..STEERING_SLOTS as u8).filter(|slot| !taken.contains(slot));
    let mut added = Vec::new();
    for (gateway, steering) in wanted {
        if let Entry::Vacant(place) = slots.entry(gateway) {
            let slot = free.next().context("the map has no room for so many gateways' steering")?;
            place.insert((slot, steering));
            added.push(gateway);
        }
    }
    Ok((slots, added))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steering(key: u64) -> Steering {
        let hashes = [[0; abi::PORTS_PER_WORKER]; abi::MAX_WORKERS];
        Steering { keys: [key, 0], worker_of: [0; abi::SHARDS], hashes }
    }

    fn gateway(n: usize) -> IpAddr {
        [192, 0, 2, n as u8].into()
    }

    fn all(key: u64) -> BTreeMap<IpAddr, Steering> {
        (0..MAX_STEERED).map(|n| (gateway(n), steering(key))).collect()
    }

    /// A policy for each gateway.
    fn in_force(slots: &Slots) -> Tables {
        let mut tables = Tables::default();
        for (id, (gateway, (slot, _))) in (1..).zip(slots) {
            let mut policy = abi::Policy { gateway_count: 1, ..abi::Policy::default() };
            (policy.gateways[0], policy.steering[0]) = (abi::address(*gateway), *slot);
            tables.policies.insert(id, policy);
        }
        tables
    }

    fn numbers(slots: &Slots) -> BTreeSet<u8> {
        slots.values().map(|(slot, _)| *slot).collect()
    }

    #[test]
    fn what_is_in_force_is_never_written_to_and_there_is_always_room() {
        let (mut tables, mut slots) = (Tables::default(), Slots::new());
        let mut numbers_in_force = BTreeSet::new();
        for key in 1..20 {
            let (next, added) = assign(&tables, &slots, all(key)).unwrap();
            let used = numbers(&next);
            assert_eq!((added.len(), used.len()), (MAX_STEERED, MAX_STEERED));
            assert!(used.is_disjoint(&numbers_in_force) && !used.contains(&0));
            // Now and then what was written does not come into force.
            if key % 3 != 0 {
                (tables, numbers_in_force) = (in_force(&next), used);
            }
            slots = next;
        }
    }

    #[test]
    fn what_did_not_change_stays_and_what_went_leaves_its_slot() {
        let (before, _) = assign(&Tables::default(), &Slots::new(), all(1)).unwrap();
        let mut wanted = all(1);
        wanted.insert(gateway(3), steering(2));
        wanted.remove(&gateway(4));
        let (slots, added) = assign(&in_force(&before), &before, wanted).unwrap();
        assert_eq!(added, [gateway(3)]);
        assert!(!slots.contains_key(&gateway(4)));
        for n in (0..MAX_STEERED).filter(|n| ![3, 4].contains(n)) {
            assert_eq!(slots[&gateway(n)], before[&gateway(n)]);
        }
    }
}
