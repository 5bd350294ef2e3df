//! The way from one policy set to another in maps that do not have the room for both: through sets that differ little enough. Each pod has its set
//! before until it has its wanted one; each stage is brought about whole, as a set of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};

use crate::abi;
use crate::room::{RAISE, Room, of_family};
use crate::tables::{Set, Tables};

/// Ends with the set wanted, or with an error when there is no way.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    at: Option<Tables>,
    wanted: &'a Tables,
    room: &'a Room,
}

impl<'a> Stages<'a> {
    pub(crate) fn new(current: &Tables, wanted: &'a Tables, room: &'a Room) -> Self {
        Self { at: Some(current.clone()), wanted, room }
    }
}

impl Iterator for Stages<'_> {
    type Item = Result<Tables>;

    fn next(&mut self) -> Option<Result<Tables>> {
        let at = self.at.take()?;
        let wanted = with_kept_ids(&at, self.wanted);
        if wanted == at {
            return None;
        }
        let stage = match fits_beside(&at, &wanted, self.room) {
            true => Ok(wanted),
            false => self.room.check(&wanted).and_then(|()| stage(&at, &wanted, self.room)),
        };
        self.at = stage.as_ref().ok().cloned();
        Some(stage)
    }
}

/// `wanted` with each set under the id by which `current` has it, or else under one that `current` does not use.
fn with_kept_ids(current: &Tables, wanted: &Tables) -> Tables {
    let known: BTreeMap<&Set, u32> = current.sets.iter().map(|(id, set)| (set, *id)).collect();
    let mut fresh = (1..).filter(|id| !current.sets.contains_key(id));
    let mut ids: BTreeMap<u32, u32> = BTreeMap::new();
    let mut sets: BTreeMap<u32, Set> = BTreeMap::new();
    let mut by_content: BTreeMap<&Set, u32> = BTreeMap::new();
    for (id, set) in &wanted.sets {
        let kept = by_content.get(set).or_else(|| known.get(set)).copied();
        let new_id = kept.or_else(|| fresh.next()).unwrap_or(u32::MAX);
        by_content.insert(set, new_id);
        sets.insert(new_id, set.clone());
        ids.insert(*id, new_id);
    }
    let endpoints = wanted.endpoints.iter().filter_map(|(pod, id)| Some((*pod, *ids.get(id)?)));
    Tables {
        endpoints: endpoints.collect(),
        sets,
        policies: wanted.policies.clone(),
        exempt: wanted.exempt.clone(),
        vteps: wanted.vteps.clone(),
    }
}

/// Destinations of IPv4, and of IPv6.
type Destinations = [usize; 2];

fn destinations(set: &Set) -> Destinations {
    [false, true].map(|v6| of_family(set.keys(), v6))
}

fn sum<'a>(sets: impl Iterator<Item = &'a Set>) -> Destinations {
    sets.map(destinations).fold([0; 2], |sum, each| [sum[0] + each[0], sum[1] + each[1]])
}

/// What is left of `free`; none when it does not suffice.
fn less(free: Destinations, needed: Destinations) -> Option<Destinations> {
    Some([free[0].checked_sub(needed[0])?, free[1].checked_sub(needed[1])?])
}

fn fits_beside(at: &Tables, wanted: &Tables, room: &Room) -> bool {
    let added = wanted.sets.iter().filter(|(id, _)| !at.sets.contains_key(id));
    let sets = at.sets.values().chain(added.map(|(_, set)| set));
    less(room.destinations, sum(sets)).is_some()
        && wanted.endpoints.len() <= room.pods
        && do_policies_fit(at, wanted, room)
        && room.fits(&Tables {
            exempt: at.exempt.union(&wanted.exempt).copied().collect(),
            vteps: both_vteps(at, wanted),
            ..Tables::default()
        })
}

fn do_policies_fit(at: &Tables, wanted: &Tables, room: &Room) -> bool {
    let added = wanted.policies.keys().filter(|id| !at.policies.contains_key(id)).count();
    at.policies.len() + added <= room.policies
}

/// Who is a gateway in either is one meanwhile: what it still sends back is delivered.
fn both_vteps(at: &Tables, wanted: &Tables) -> BTreeMap<IpAddr, u32> {
    let mut vteps = wanted.vteps.clone();
    for (&address, &role) in &at.vteps {
        let entry = vteps.entry(address).or_insert(role);
        if role == abi::VTEP_GATEWAY {
            *entry = role;
        }
    }
    vteps
}

/// As far towards `wanted` as there is room for, and never nowhere.
fn stage(at: &Tables, wanted: &Tables, room: &Room) -> Result<Tables> {
    if !do_policies_fit(at, wanted, room) {
        return without_stale_policies(at, wanted);
    }
    let stage = move_sets(at, wanted, room);
    // What uses most maps' room is what both have together, so this is all that can be done about them.
    room.check(&stage)?;
    if stage.sets == at.sets && stage.endpoints == at.endpoints {
        bail!(
            "there is no way to this set that keeps the one in force meanwhile: {} do not fit in beside it, in none of the orders that \
             packets may see. Change the policies in two steps, first to fewer destinations; or, as bpf.max_destinations is {:?} (IPv4, IPv6), \
             {RAISE}",
            in_words(wanted, at),
            room.destinations,
        );
    }
    Ok(stage)
}

fn in_words(wanted: &Tables, at: &Tables) -> String {
    let added = wanted.sets.iter().filter(|(id, _)| !at.sets.contains_key(id));
    let [v4, v6] = sum(added.map(|(_, set)| set));
    format!("{v4} IPv4 and {v6} IPv6 destinations")
}

/// Makes room for policies by those that are in no pod's set. Which of the pods they had selected are not selected any more goes with them.
fn without_stale_policies(at: &Tables, wanted: &Tables) -> Result<Tables> {
    let mut stage = at.clone();
    stage.endpoints.retain(|pod, _| wanted.endpoints.contains_key(pod));
    drop_unused_sets(&mut stage);
    let used = policies_in(&stage);
    stage.policies.retain(|id, _| used.contains(id) || wanted.policies.contains_key(id));
    if stage == *at {
        return Err(anyhow!(
            "{} policies are in force and {} wanted, and while pods go from one to the other there is no room for both: {RAISE} \
             (bpf.max_policies), or change the policies in two steps",
            at.policies.len(),
            wanted.policies.len()
        ));
    }
    Ok(stage)
}

fn move_sets(at: &Tables, wanted: &Tables, room: &Room) -> Tables {
    let mut free = less(room.destinations, sum(at.sets.values())).unwrap_or([0; 2]);
    let mut sets = at.sets.clone();
    let mut added: Vec<_> = wanted.sets.iter().filter(|(id, _)| !sets.contains_key(id)).collect();
    added.sort_by_key(|(_, set)| set.len());
    for (id, set) in added {
        if let Some(left) = less(free, destinations(set)) {
            free = left;
            sets.insert(*id, set.clone());
        }
    }
    // A pod whose wanted set is not there stays with the one it has, or without any.
    let endpoints = wanted.endpoints.iter().filter_map(|(pod, id)| {
        let before = at.endpoints.get(pod).copied();
        Some((*pod, if sets.contains_key(id) { *id } else { before? }))
    });
    let mut stage = Tables {
        endpoints: endpoints.collect(),
        sets,
        policies: wanted.policies.clone(),
        exempt: at.exempt.union(&wanted.exempt).copied().collect(),
        vteps: both_vteps(at, wanted),
    };
    drop_unused_sets(&mut stage);
    if stage.sets == at.sets {
        patch_sets(&mut stage, wanted, free);
    }
    let used = policies_in(&stage);
    for (&id, before) in &at.policies {
        match stage.policies.get_mut(&id) {
            Some(policy) => *policy = before.between(policy),
            None if used.contains(&id) => drop(stage.policies.insert(id, *before)),
            None => {}
        }
    }
    stage
}

/// Where no whole set fits beside: changed in place, when all its pods want the same.
fn patch_sets(stage: &mut Tables, wanted: &Tables, mut free: Destinations) {
    let mut wishes: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (pod, id) in &stage.endpoints {
        wishes.entry(*id).or_default().extend(wanted.endpoints.get(pod));
    }
    for (id, wishes) in wishes {
        let [Some(set), None] =
            [wishes.first(), wishes.iter().nth(1)].map(|id| wanted.sets.get(id?))
        else {
            continue;
        };
        let Some(before) = stage.sets.get_mut(&id) else { continue };
        let added: Set =
            set.iter().filter(|(p, _)| !before.contains_key(p)).map(|(p, a)| (*p, *a)).collect();
        if let Some(left) = less(free, destinations(&added)) {
            free = left;
            before.clone_from(set);
        }
    }
}

fn drop_unused_sets(tables: &mut Tables) {
    let used: BTreeSet<u32> = tables.endpoints.values().copied().collect();
    tables.sets.retain(|id, _| used.contains(id));
}

fn policies_in(tables: &Tables) -> BTreeSet<u32> {
    tables.sets.values().flat_map(BTreeMap::values).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapSizes;

    fn set(prefixes: impl IntoIterator<Item = u8>, policy: u32) -> Set {
        prefixes.into_iter().map(|n| (format!("{n}.0.0.0/8").parse().unwrap(), policy)).collect()
    }

    /// Pod n is under set n.
    fn tables(sets: &[Set], policies: std::ops::Range<u32>) -> Tables {
        let numbered = || (1..).zip(sets);
        Tables {
            endpoints: numbered().map(|(id, _)| ([10, 0, 0, id as u8].into(), id)).collect(),
            sets: numbered().map(|(id, set)| (id, set.clone())).collect(),
            policies: policies.map(|id| (id, abi::Policy::default())).collect(),
            ..Tables::default()
        }
    }

    fn room(max_destinations: u32, max_policies: u32) -> Room {
        Room::configured(&MapSizes { max_destinations, max_policies, ..MapSizes::default() })
    }

    /// The stages, each of which fits with the one before it, or why there is no way.
    fn way(current: &Tables, wanted: &Tables, room: &Room) -> Result<Vec<Tables>> {
        let mut at = current.clone();
        let mut stages = Vec::new();
        for stage in Stages::new(current, wanted, room) {
            let stage = stage?;
            let mut destinations = BTreeSet::new();
            for tables in [&at, &stage] {
                for (id, set) in &tables.sets {
                    destinations.extend(set.keys().map(|prefix| (*id, *prefix)));
                }
            }
            assert!(destinations.len() <= room.destinations[0]);
            let policies: BTreeSet<&u32> =
                at.policies.keys().chain(stage.policies.keys()).collect();
            assert!(policies.len() <= room.policies);
            at = stage.clone();
            stages.push(stage);
        }
        assert_eq!(with_kept_ids(&at, wanted), at, "the last is the one wanted");
        Ok(stages)
    }

    #[test]
    fn where_there_is_room_it_is_one_stage() {
        let (current, wanted) = (tables(&[set(1..4, 5)], 5..6), tables(&[set(4..7, 5)], 5..6));
        assert_eq!(way(&current, &wanted, &room(6, 1)).unwrap().len(), 1);
        assert!(way(&wanted, &wanted, &room(3, 1)).unwrap().is_empty());
    }

    #[test]
    fn sets_go_one_after_the_other() {
        let current = tables(&[set(1..4, 5), set(11..14, 5), set(21..24, 5)], 5..6);
        let wanted = tables(&[set(31..34, 5), set(41..44, 5), set(51..54, 5)], 5..6);
        let stages = way(&current, &wanted, &room(12, 1)).unwrap();
        assert_eq!(stages.len(), 3);
        for stage in &stages {
            assert_eq!(stage.endpoints.len(), 3, "no pod is without a set meanwhile");
        }
    }

    #[test]
    fn a_set_for_which_there_is_no_room_changes_in_place_if_at_all() {
        let (current, wanted) = (tables(&[set(1..11, 5)], 5..6), tables(&[set(3..13, 5)], 5..6));
        let stages = way(&current, &wanted, &room(12, 1)).unwrap();
        assert_eq!(stages.len(), 1);
        assert_eq!(stages[0].sets.keys().copied().collect::<Vec<_>>(), [1]);

        let error = way(&current, &wanted, &room(11, 1)).unwrap_err().to_string();
        assert!(error.contains("bpf.max_destinations") && error.contains("two steps"), "{error}");
        let error = way(&current, &wanted, &room(9, 1)).unwrap_err().to_string();
        assert!(error.contains("10 IPv4 destinations"), "{error}");
    }

    #[test]
    fn pods_that_share_a_set_and_want_two_keep_it_until_there_is_room() {
        let mut current = tables(&[set(1..11, 5), set(1..11, 5)], 5..6);
        current.endpoints.values_mut().for_each(|id| *id = 1);
        current.sets.remove(&2);
        let wanted = tables(&[set(1..10, 5), set(2..5, 5)], 5..6);
        let stages = way(&current, &wanted, &room(13, 1)).unwrap();
        assert_eq!(stages.len(), 2);
        assert!(
            way(&current, &wanted, &room(12, 1)).is_err(),
            "neither may change under the other"
        );
    }

    #[test]
    fn policies_of_no_pod_make_room_first() {
        let (current, wanted) =
            (tables(&[set(1..4, 5)], 1..9), tables(&[set(1..4, 105)], 100..107));
        let stages = way(&current, &wanted, &room(100, 8)).unwrap();
        assert_eq!(stages[0].policies.keys().copied().collect::<Vec<_>>(), [5], "what is in use");
        assert_eq!(stages.len(), 2);
        let wanted = tables(&[set(1..4, 105)], 100..108);
        let error = way(&current, &wanted, &room(100, 8)).unwrap_err().to_string();
        assert!(error.contains("bpf.max_policies"), "{error}");
    }
}
