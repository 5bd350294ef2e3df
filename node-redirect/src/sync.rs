//! Brings the maps from one policy set to the next without a moment at which a packet sees neither, or half of each:
//!
//! 1. what the wanted set adds is written beside what is there: policies, gateways, and destinations under set ids that nobody uses;
//! 2. each pod's endpoint is flipped to its wanted set, in one write;
//! 3. when no program can be using the set before any more, policies get what would have been wrong under it;
//! 4. the generation is raised, so that remembered flows are decided anew;
//! 5. what is stale goes.
//!
//! A set whose destinations are the same keeps its id, so a small change writes little. Where the two do not fit side by side,
//! `stages` leads through sets that do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use tracing::{info, warn};

use crate::abi;
use crate::maps::Maps;
use crate::room::Room;
use crate::stages::Stages;
use crate::tables::{Set, Tables};
use crate::tcx::wait_for_running_programs;

#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    add_policies: Vec<(u32, abi::Policy)>,
    add_vteps: Vec<(IpAddr, u32)>,
    add_exempt: Vec<IpNet>,
    add_sets: Vec<(u32, Set)>,
    patch_sets: Vec<(u32, Patch)>,
    flip: Vec<(IpAddr, u32)>,
    unselect: Vec<IpAddr>,
    late_policies: Vec<(u32, abi::Policy)>,
    late_vteps: Vec<(IpAddr, u32)>,
    drop_sets: Vec<(u32, Set)>,
    drop_policies: Vec<u32>,
    drop_vteps: Vec<IpAddr>,
    drop_exempt: Vec<IpNet>,
}

/// A set that changes while pods use it. A packet looks one destination up, once; in this order the answer is always that of the set before or
/// of the set wanted. Longest first, an entry is written when those inside it are there. Shortest first, one is removed when whatever
/// it uncovers is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Patch {
    write: Vec<(IpNet, u32)>,
    remove: Vec<IpNet>,
}

/// From what the maps hold to what they shall hold, found to its end before anything is written.
#[derive(Debug)]
pub struct Way<'a> {
    current: &'a Tables,
    wanted: &'a Tables,
    room: Room,
}

impl<'a> Way<'a> {
    /// `wanted` numbers its sets as it likes. An error says why there is no way; the maps are as they were.
    pub fn find(maps: &Maps, current: &'a Tables, wanted: &'a Tables) -> Result<Self> {
        let room = Room::of(maps);
        for stage in Stages::new(current, wanted, &room) {
            stage?;
        }
        Ok(Self { current, wanted, room })
    }

    /// The result is `wanted` with the set ids it has got. After an error, [`Tables::read`] tells what the maps hold.
    pub fn go(self, maps: &Maps) -> Result<Tables> {
        let mut reached = self.current.clone();
        for stage in Stages::new(self.current, self.wanted, &self.room) {
            let stage = stage?;
            plan(&reached, &stage).apply(maps)?;
            reached = stage;
        }
        Ok(reached)
    }
}

/// A set id that both have is the same set, perhaps with other destinations.
fn plan(current: &Tables, next: &Tables) -> Plan {
    let mut plan = Plan {
        add_exempt: next.exempt.difference(&current.exempt).copied().collect(),
        flip: changed(&current.endpoints, &next.endpoints),
        unselect: removed(&current.endpoints, &next.endpoints),
        drop_sets: only_in(&current.sets, &next.sets),
        drop_policies: removed(&current.policies, &next.policies),
        drop_vteps: removed(&current.vteps, &next.vteps),
        drop_exempt: current.exempt.difference(&next.exempt).copied().collect(),
        ..Plan::default()
    };
    for (id, set) in &next.sets {
        match current.sets.get(id) {
            None => plan.add_sets.push((*id, set.clone())),
            Some(before) if before != set => plan.patch_sets.push((*id, patch(before, set))),
            Some(_) => {}
        }
    }
    for (id, policy) in changed(&current.policies, &next.policies) {
        let early = current.policies.get(&id).map_or(policy, |before| before.between(&policy));
        plan.add_policies.push((id, early));
        if early != policy {
            plan.late_policies.push((id, policy));
        }
    }
    for (address, role) in changed(&current.vteps, &next.vteps) {
        // What a gateway still sends back is delivered for as long as anything goes to it.
        let was_gateway = current.vteps.get(&address) == Some(&abi::VTEP_GATEWAY);
        let when = if was_gateway { &mut plan.late_vteps } else { &mut plan.add_vteps };
        when.push((address, role));
    }
    plan
}

fn patch(before: &Set, wanted: &Set) -> Patch {
    let mut write = changed(before, wanted);
    write.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
    let mut remove = removed(before, wanted);
    remove.sort_by_key(IpNet::prefix_len);
    Patch { write, remove }
}

/// Entries that are not there, or have another value.
fn changed<K: Ord + Clone, V: PartialEq + Clone>(
    current: &BTreeMap<K, V>,
    next: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    let news = next.iter().filter(|(key, value)| current.get(key) != Some(value));
    news.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn only_in<K: Ord + Clone, V: Clone>(
    current: &BTreeMap<K, V>,
    next: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    let gone = current.iter().filter(|(key, _)| !next.contains_key(key));
    gone.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn removed<K: Ord + Clone, V>(current: &BTreeMap<K, V>, next: &BTreeMap<K, V>) -> Vec<K> {
    current.keys().filter(|key| !next.contains_key(key)).cloned().collect()
}

impl Plan {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn apply(&self, maps: &Maps) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.write_beside(maps)?;
        self.flip(maps)?;
        wait_for_readers();
        maps.policies.set_many(&self.late_policies)?;
        maps.vteps.set_many(&keyed(&self.late_vteps, |role| role))?;
        raise_generation(maps)?;
        self.drop_stale(maps)?;
        info!(
            policies = self.add_policies.len(),
            pods = self.flip.len(),
            unselected = self.unselect.len(),
            sets = self.add_sets.len() + self.patch_sets.len(),
            "policy maps updated"
        );
        Ok(())
    }

    fn write_beside(&self, maps: &Maps) -> Result<()> {
        maps.policies.set_many(&self.add_policies)?;
        maps.vteps.set_many(&keyed(&self.add_vteps, |role| role))?;
        let exempt: Vec<_> = self.add_exempt.iter().map(|&prefix| ((), prefix, 1)).collect();
        maps.exempt.set_many(&exempt)?;
        for (id, set) in &self.add_sets {
            let entries: Vec<_> =
                set.iter().map(|(&prefix, &action)| (*id, prefix, action)).collect();
            maps.destinations.set_many(&entries)?;
        }
        Ok(())
    }

    /// A pod more may need the room of one less.
    fn flip(&self, maps: &Maps) -> Result<()> {
        for pod in &self.unselect {
            maps.endpoints.remove(&abi::address(*pod))?;
        }
        maps.endpoints.set_many(&keyed(&self.flip, |set_id| abi::Endpoint { set_id }))?;
        for (id, patch) in &self.patch_sets {
            let entries: Vec<_> =
                patch.write.iter().map(|&(prefix, action)| (*id, prefix, action)).collect();
            maps.destinations.set_many(&entries)?;
            for &prefix in &patch.remove {
                maps.destinations.remove(*id, prefix)?;
            }
        }
        Ok(())
    }

    fn drop_stale(&self, maps: &Maps) -> Result<()> {
        for (id, set) in &self.drop_sets {
            for &prefix in set.keys() {
                maps.destinations.remove(*id, prefix)?;
            }
        }
        for id in &self.drop_policies {
            maps.policies.remove(id)?;
        }
        for address in &self.drop_vteps {
            maps.vteps.remove(&abi::address(*address))?;
        }
        for &prefix in &self.drop_exempt {
            maps.exempt.remove((), prefix)?;
        }
        Ok(())
    }
}

fn keyed<V: Copy, W>(entries: &[(IpAddr, V)], value: impl Fn(V) -> W) -> Vec<(abi::Address, W)> {
    entries.iter().map(|(address, v)| (abi::address(*address), value(*v))).collect()
}

/// Every flow that the pod opened is decided anew with its next packet.
pub fn raise_generation(maps: &Maps) -> Result<()> {
    let settings = maps.settings()?;
    let generation = settings.generation.wrapping_add(1);
    maps.settings.set(&0, &abi::Settings { generation, ..settings })
}

/// A packet that had read its pod's old set must still find that set's destinations: a missing one reads as "no policy", and would let it out.
pub(crate) fn wait_for_readers() {
    if let Err(error) = wait_for_running_programs() {
        // Kernels with nohz_full have no such call. A program runs for microseconds.
        warn!(%error, "membarrier failed; waiting a second instead");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Sums of pods and policies that are no more.
pub fn forget_stale_traffic(maps: &Maps, tables: &Tables) -> Result<()> {
    let mut policies_of: BTreeMap<IpAddr, BTreeSet<u32>> = BTreeMap::new();
    for key in maps.traffic()?.into_keys() {
        let pod = abi::ip(key.pod);
        let current = policies_of.entry(pod).or_insert_with(|| tables.policies_of(pod));
        if !current.contains(&key.policy_id) {
            maps.forget_traffic(&key)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapSizes;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn tables(pods: &[(u8, u32)], sets: &[(u32, &[(&str, u32)])]) -> Tables {
        let set = |entries: &[(&str, u32)]| entries.iter().map(|(p, a)| (net(p), *a)).collect();
        Tables {
            endpoints: pods.iter().map(|&(pod, id)| ([10, 0, 0, pod].into(), id)).collect(),
            sets: sets.iter().map(|(id, entries)| (*id, set(entries))).collect(),
            ..Tables::default()
        }
    }

    fn next(current: &Tables, wanted: &Tables) -> (Plan, Tables) {
        let room = Room::configured(&MapSizes::default());
        let stages: Vec<Tables> =
            Stages::new(current, wanted, &room).map(|stage| stage.unwrap()).collect();
        assert!(stages.len() <= 1, "there is room for both");
        let reached = stages.into_iter().next().unwrap_or_else(|| current.clone());
        (plan(current, &reached), reached)
    }

    #[test]
    fn the_same_set_under_another_number_changes_nothing() {
        let current = tables(&[(1, 7)], &[(7, &[("0.0.0.0/0", 5)])]);
        let wanted = tables(&[(1, 1)], &[(1, &[("0.0.0.0/0", 5)])]);
        let (plan, result) = next(&current, &wanted);
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(result, current);
    }

    #[test]
    fn a_changed_set_gets_an_id_that_nobody_uses() {
        let current =
            tables(&[(1, 1), (2, 2)], &[(1, &[("0.0.0.0/0", 5)]), (2, &[("8.0.0.0/8", 6)])]);
        let wanted =
            tables(&[(1, 1), (2, 2)], &[(1, &[("9.0.0.0/8", 5)]), (2, &[("8.0.0.0/8", 6)])]);
        let (plan, result) = next(&current, &wanted);
        assert_eq!(plan.add_sets.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3]);
        assert_eq!(plan.flip, [([10, 0, 0, 1].into(), 3)]);
        assert_eq!(plan.drop_sets.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
        assert_eq!(result.endpoints.values().copied().collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn a_set_that_is_in_use_is_never_written_to() {
        let numbers = [(1, 5), (2, 6), (3, 7)];
        let prefixes = ["0.0.0.0/0", "8.0.0.0/8", "9.0.0.0/8"];
        let sets = |shift: usize| {
            let entries = numbers
                .map(|(id, a)| (id, Set::from([(net(prefixes[(id as usize + shift) % 3]), a)])));
            Tables {
                endpoints: numbers
                    .iter()
                    .map(|&(id, _)| ([10, 0, 0, id as u8].into(), id))
                    .collect(),
                sets: entries.into(),
                ..Tables::default()
            }
        };
        let mut current = Tables::default();
        for shift in 0..6 {
            let (plan, reached) = next(&current, &sets(shift));
            for (id, _) in &plan.add_sets {
                assert!(!current.endpoints.values().any(|used| used == id), "set {id} is in use");
            }
            current = reached;
        }
    }

    #[test]
    fn a_pod_that_no_policy_selects_any_more_is_removed() {
        let current = tables(&[(1, 1)], &[(1, &[("0.0.0.0/0", 5)])]);
        let (plan, _) = next(&current, &Tables::default());
        assert_eq!(plan.unselect, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(plan.drop_sets.len(), 1);
    }
}
