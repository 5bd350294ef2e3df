//! How much the maps take. It is decided when they are made, by the configuration.

use anyhow::{Result, bail};
use ipnet::IpNet;

use crate::config::MapSizes;
use crate::maps::Maps;
use crate::tables::Tables;

/// Entries, each a map's `max_entries`. Where there is a map for each address family: of IPv4, and of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub destinations: [usize; 2],
    pub policies: usize,
    pub pods: usize,
    pub exempt: [usize; 2],
    pub tunnel_addresses: usize,
}

/// What is counted, how much of it there is, and the key that says how much there may be.
type Use = (&'static str, usize, usize, &'static str);

impl Room {
    /// Of the maps as they were made.
    pub fn of(maps: &Maps) -> Self {
        Self {
            destinations: maps.destinations.capacities(),
            policies: maps.policies.capacity(),
            pods: maps.endpoints.capacity(),
            exempt: maps.exempt.capacities(),
            tunnel_addresses: maps.vteps.capacity(),
        }
    }

    /// Of maps that the configuration will make.
    pub fn configured(sizes: &MapSizes) -> Self {
        Self {
            destinations: [sizes.max_destinations as usize; 2],
            policies: sizes.max_policies as usize,
            pods: sizes.max_pods as usize,
            exempt: [sizes.max_exempt as usize; 2],
            tunnel_addresses: sizes.max_tunnel_addresses as usize,
        }
    }

    /// Everything of `tables` that does not fit, even in empty maps.
    pub fn check(&self, tables: &Tables) -> Result<()> {
        let too_many: Vec<String> = self
            .uses(tables)
            .iter()
            .filter(|(_, entries, room, _)| entries > room)
            .map(|(what, entries, room, key)| {
                format!("{entries} {what} on this node, and {key} is {room}: {RAISE}")
            })
            .collect();
        if too_many.is_empty() { Ok(()) } else { bail!("{}", too_many.join("\n")) }
    }

    fn uses(&self, tables: &Tables) -> [Use; 7] {
        let destinations = |v6| tables.sets.values().map(|set| of_family(set.keys(), v6)).sum();
        [
            ("IPv4 destinations", destinations(false), self.destinations[0], DESTINATIONS),
            ("IPv6 destinations", destinations(true), self.destinations[1], DESTINATIONS),
            ("policies", tables.policies.len(), self.policies, "bpf.max_policies"),
            ("pod addresses", tables.endpoints.len(), self.pods, "bpf.max_pods"),
            ("exempt IPv4 prefixes", of_family(&tables.exempt, false), self.exempt[0], EXEMPT),
            ("exempt IPv6 prefixes", of_family(&tables.exempt, true), self.exempt[1], EXEMPT),
            ("tunnel addresses", tables.vteps.len(), self.tunnel_addresses, TUNNEL_ADDRESSES),
        ]
    }

    pub(crate) fn fits(&self, tables: &Tables) -> bool {
        self.uses(tables).iter().all(|(_, entries, room, _)| entries <= room)
    }
}

const DESTINATIONS: &str = "bpf.max_destinations";
const EXEMPT: &str = "bpf.max_exempt";
const TUNNEL_ADDRESSES: &str = "bpf.max_tunnel_addresses";

/// Maps keep the size they were made with.
pub(crate) const RAISE: &str = "raise it in the configuration, then stop the agent, `node-redirect cleanup`, and start it again";

pub(crate) fn of_family<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>, v6: bool) -> usize {
    prefixes.into_iter().filter(|prefix| prefix.addr().is_ipv6() == v6).count()
}
