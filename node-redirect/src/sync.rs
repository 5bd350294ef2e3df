//! Brings the maps from one policy set to the next without a moment at which a packet sees neither, or half of each:
//!
//! 1. what the new set adds is written beside the old: policies, gateways, and destinations under set ids that nobody uses;
//! 2. each pod's endpoint is flipped to its new set, in one write;
//! 3. the generation is raised, so that remembered flows are decided anew;
//! 4. when no program can be using the old set any more, what is stale goes.
//!
//! A set whose destinations are the same keeps its id, so a small change writes little.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use tracing::{info, warn};

use crate::abi;
use crate::maps::Maps;
use crate::tables::{Set, Tables};
use crate::tcx::wait_for_running_programs;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    add_policies: Vec<(u32, abi::Policy)>,
    add_vteps: Vec<(IpAddr, u32)>,
    add_exempt: Vec<IpNet>,
    add_sets: Vec<(u32, Set)>,
    flip: Vec<(IpAddr, u32)>,
    unselect: Vec<IpAddr>,
    drop_sets: Vec<(u32, Set)>,
    drop_policies: Vec<u32>,
    drop_vteps: Vec<IpAddr>,
    drop_exempt: Vec<IpNet>,
}

/// `wanted` numbers its sets as it likes; the result is `wanted` with the ids that the plan gives them.
pub fn plan(current: &Tables, wanted: &Tables) -> (Plan, Tables) {
    let wanted = with_kept_ids(current, wanted);
    let plan = Plan {
        add_policies: added(&current.policies, &wanted.policies),
        add_vteps: added(&current.vteps, &wanted.vteps),
        add_exempt: wanted.exempt.difference(&current.exempt).copied().collect(),
        add_sets: added(&current.sets, &wanted.sets),
        flip: added(&current.endpoints, &wanted.endpoints),
        unselect: removed(&current.endpoints, &wanted.endpoints),
        drop_sets: current
            .sets
            .iter()
            .filter(|(id, _)| !wanted.sets.contains_key(id))
            .map(|(id, set)| (*id, set.clone()))
            .collect(),
        drop_policies: removed(&current.policies, &wanted.policies),
        drop_vteps: removed(&current.vteps, &wanted.vteps),
        drop_exempt: current.exempt.difference(&wanted.exempt).copied().collect(),
    };
    (plan, wanted)
}

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
    Tables { endpoints: endpoints.collect(), sets, ..wanted.clone() }
}

fn added<K: Ord + Clone, V: PartialEq + Clone>(
    current: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    let news = wanted.iter().filter(|(key, value)| current.get(key) != Some(value));
    news.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn removed<K: Ord + Clone, V>(current: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Vec<K> {
    current.keys().filter(|key| !wanted.contains_key(key)).cloned().collect()
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refused before anything is written: old and new set must fit side by side.
    fn check_room(&self, maps: &Maps, current: &Tables) -> Result<()> {
        let [room4, room6] = maps.destinations.capacities();
        let [exempt4, exempt6] = maps.exempt.capacities();
        let sets = || current.sets.values().chain(self.add_sets.iter().map(|(_, set)| set));
        let destinations = |v6: bool| sets().flat_map(BTreeMap::keys).filter(of_family(v6)).count();
        let exempt =
            |v6: bool| current.exempt.iter().chain(&self.add_exempt).filter(of_family(v6)).count();
        for (what, entries, capacity) in [
            ("IPv4 destinations", destinations(false), room4),
            ("IPv6 destinations", destinations(true), room6),
            (
                "policies",
                current.policies.len() + self.add_policies.len(),
                maps.policies.capacity(),
            ),
            ("pods", current.endpoints.len() + self.flip.len(), maps.endpoints.capacity()),
            ("exempt IPv4 prefixes", exempt(false), exempt4),
            ("exempt IPv6 prefixes", exempt(true), exempt6),
            ("tunnel addresses", current.vteps.len() + self.add_vteps.len(), maps.vteps.capacity()),
        ] {
            ensure!(
                entries <= capacity,
                "{entries} {what} (old and new together) do not fit in {capacity}"
            );
        }
        Ok(())
    }

    pub fn apply(&self, maps: &Maps, current: &Tables) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.check_room(maps, current)?;
        self.write_beside(maps)?;
        self.flip(maps)?;
        raise_generation(maps)?;
        wait_for_readers();
        self.drop_stale(maps)?;
        info!(
            policies = self.add_policies.len(),
            pods = self.flip.len(),
            unselected = self.unselect.len(),
            sets = self.add_sets.len(),
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

    fn flip(&self, maps: &Maps) -> Result<()> {
        maps.endpoints.set_many(&keyed(&self.flip, |set_id| abi::Endpoint { set_id }))?;
        for pod in &self.unselect {
            maps.endpoints.remove(&abi::address(*pod))?;
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

fn of_family<'a>(v6: bool) -> impl Fn(&&'a IpNet) -> bool {
    move |prefix| prefix.addr().is_ipv6() == v6
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
fn wait_for_readers() {
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

    #[test]
    fn the_same_set_under_another_number_changes_nothing() {
        let current = tables(&[(1, 7)], &[(7, &[("0.0.0.0/0", 5)])]);
        let wanted = tables(&[(1, 1)], &[(1, &[("0.0.0.0/0", 5)])]);
        let (plan, result) = plan(&current, &wanted);
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(result, current);
    }

    #[test]
    fn a_changed_set_gets_an_id_that_nobody_uses() {
        let current =
            tables(&[(1, 1), (2, 2)], &[(1, &[("0.0.0.0/0", 5)]), (2, &[("8.0.0.0/8", 6)])]);
        let wanted =
            tables(&[(1, 1), (2, 2)], &[(1, &[("9.0.0.0/8", 5)]), (2, &[("8.0.0.0/8", 6)])]);
        let (plan, result) = plan(&current, &wanted);
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
            let (plan, next) = plan(&current, &sets(shift));
            for (id, _) in &plan.add_sets {
                assert!(!current.endpoints.values().any(|used| used == id), "set {id} is in use");
            }
            current = next;
        }
    }

    #[test]
    fn a_pod_that_no_policy_selects_any_more_is_removed() {
        let current = tables(&[(1, 1)], &[(1, &[("0.0.0.0/0", 5)])]);
        let (plan, _) = plan(&current, &Tables::default());
        assert_eq!(plan.unselect, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(plan.drop_sets.len(), 1);
    }
}
