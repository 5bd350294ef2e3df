//! A longest-prefix map as one, though each address family has its own: in one map `::/0` would also match IPv4.

use std::path::Path;

use anyhow::Result;
use ipnet::IpNet;

use crate::maps::{Bytes, Table};

/// A key of one of the two maps. `Scope` is what the key holds beside its prefix.
pub trait Key: Bytes {
    type Scope: Copy;
    /// None when the prefix is of the other family.
    fn new(scope: Self::Scope, prefix: IpNet) -> Option<Self>;
    fn scope(&self) -> Self::Scope;
    fn prefix(&self) -> IpNet;
}

#[derive(Debug)]
pub struct Prefixes<K4, K6> {
    v4: Table<K4, u32>,
    v6: Table<K6, u32>,
}

/// An entry, and what it leads to.
pub type Entry<S> = (S, IpNet, u32);

impl<S: Copy, K4: Key<Scope = S>, K6: Key<Scope = S>> Prefixes<K4, K6> {
    pub(crate) fn open(pin_path: &Path, v4: &'static str, v6: &'static str) -> Result<Self> {
        Ok(Self { v4: Table::open(pin_path, v4)?, v6: Table::open(pin_path, v6)? })
    }

    /// Of IPv4, and of IPv6.
    pub fn capacities(&self) -> [usize; 2] {
        [self.v4.capacity(), self.v6.capacity()]
    }

    pub fn set_many(&self, entries: &[Entry<S>]) -> Result<()> {
        self.v4.set_many(&keyed(entries))?;
        self.v6.set_many(&keyed(entries))
    }

    pub fn remove(&self, scope: S, prefix: IpNet) -> Result<()> {
        if let Some(key) = K4::new(scope, prefix) {
            self.v4.remove(&key)?;
        } else if let Some(key) = K6::new(scope, prefix) {
            self.v6.remove(&key)?;
        }
        Ok(())
    }

    pub fn entries(&self) -> Result<Vec<Entry<S>>> {
        let mut entries = unkeyed(&self.v4.entries()?);
        entries.extend(unkeyed(&self.v6.entries()?));
        Ok(entries)
    }
}

fn keyed<K: Key>(entries: &[Entry<K::Scope>]) -> Vec<(K, u32)> {
    let own = entries.iter().filter_map(|&(scope, prefix, value)| {
        let key = K::new(scope, prefix)?;
        Some((key, value))
    });
    own.collect()
}

fn unkeyed<K: Key>(entries: &[(K, u32)]) -> Vec<Entry<K::Scope>> {
    entries.iter().map(|(key, value)| (key.scope(), key.prefix(), *value)).collect()
}
