//! The pinned maps with their types on. Whoever has the pins has the state: the agent, and `list`, `trace` and `status` without it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi;
use crate::counters::{EVENTS, Reason};
use crate::prefixes::Prefixes;

/// What a key or value of a map must be: bytes, and nothing but.
pub trait Bytes: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Bytes for T {}

#[derive(Debug)]
pub struct Table<K, V> {
    handle: MapHandle,
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

/// Few enough to keep the copy small, many enough that the system calls do not matter.
const WRITE_BATCH: usize = 4096;

impl<K: Bytes, V: Bytes> Table<K, V> {
    pub(crate) fn open(pin_path: &Path, name: &'static str) -> Result<Self> {
        let path = pin_path.join(name);
        let handle = MapHandle::from_pinned_path(&path)
            .with_context(|| format!("cannot open the map {}", path.display()))?;
        let sizes = (handle.key_size() as usize, handle.value_size() as usize);
        ensure!(
            sizes == (size_of::<K>(), size_of::<V>()),
            "{} was made by another version: run `node-redirect cleanup`",
            path.display()
        );
        Ok(Self { handle, name, types: PhantomData })
    }

    pub fn capacity(&self) -> usize {
        self.handle.max_entries() as usize
    }

    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let value = self.handle.lookup(key.as_bytes(), MapFlags::ANY);
        let value = value.with_context(|| format!("cannot read map {}", self.name))?;
        Ok(value.and_then(|bytes| V::read_from_bytes(&bytes).ok()))
    }

    pub fn set(&self, key: &K, value: &V) -> Result<()> {
        self.handle
            .update(key.as_bytes(), value.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot write map {}", self.name))
    }

    pub fn set_many(&self, entries: &[(K, V)]) -> Result<()> {
        for batch in entries.chunks(WRITE_BATCH) {
            let keys: Vec<u8> = batch.iter().flat_map(|(key, _)| key.as_bytes()).copied().collect();
            let values: Vec<u8> =
                batch.iter().flat_map(|(_, value)| value.as_bytes()).copied().collect();
            let count = batch.len() as u32;
            self.handle
                .update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY)
                .with_context(|| format!("cannot write {count} entries of map {}", self.name))?;
        }
        Ok(())
    }

    /// False when it was gone already.
    pub fn remove(&self, key: &K) -> Result<bool> {
        match self.handle.delete(key.as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("cannot remove from map {}", self.name))
            }
        }
    }

    /// For maps that only the agent writes: while a program inserts and removes, a walk by keys may start over.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        for key in self.handle.keys() {
            let Ok(key) = K::read_from_bytes(&key) else { continue };
            if let Some(value) = self.get(&key)? {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    /// For maps that programs write. The batch is as large as the map, because the library takes a short one for the last.
    pub fn snapshot(&self) -> Result<Vec<(K, V)>> {
        let batches = self
            .handle
            .lookup_batch(self.handle.max_entries(), MapFlags::ANY, MapFlags::ANY)
            .with_context(|| format!("cannot read map {}", self.name))?;
        Ok(batches
            .filter_map(|(key, value)| {
                Some((K::read_from_bytes(&key).ok()?, V::read_from_bytes(&value).ok()?))
            })
            .collect())
    }
}

/// A counter that every CPU has a copy of.
#[derive(Debug)]
pub struct PerCpu<K> {
    handle: MapHandle,
    name: &'static str,
    types: PhantomData<fn() -> K>,
}

impl<K: Bytes + Ord> PerCpu<K> {
    fn open(pin_path: &Path, name: &'static str) -> Result<Self> {
        let path = pin_path.join(name);
        let handle = MapHandle::from_pinned_path(&path)
            .with_context(|| format!("cannot open the map {}", path.display()))?;
        Ok(Self { handle, name, types: PhantomData })
    }

    /// One value of each CPU that the machine may have.
    fn values<V: Bytes>(&self, key: &K) -> Result<Vec<V>> {
        let values = self
            .handle
            .lookup_percpu(key.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot read map {}", self.name))?;
        let values = values.unwrap_or_default();
        Ok(values.iter().filter_map(|bytes| V::read_from_bytes(bytes).ok()).collect())
    }
}

#[derive(Debug)]
pub struct Maps {
    pub settings: Table<u32, abi::Settings>,
    pub endpoints: Table<abi::Address, abi::Endpoint>,
    pub destinations: Prefixes<abi::DestinationKey, abi::DestinationKey6>,
    pub policies: Table<u32, abi::Policy>,
    pub steerings: Table<u32, abi::Steering>,
    pub exempt: Prefixes<abi::PrefixKey, abi::PrefixKey6>,
    pub vteps: Table<abi::Address, u32>,
    pub flows: Table<abi::FlowKey, abi::Flow>,
    reasons: PerCpu<u32>,
    events: PerCpu<u32>,
    traffic: PerCpu<abi::TrafficKey>,
}

impl Maps {
    pub fn exist(pin_path: &Path) -> bool {
        pin_path.join("settings").exists()
    }

    pub fn open(pin_path: &Path) -> Result<Self> {
        if !Self::exist(pin_path) {
            bail!(
                "no maps under {} (bpf.pin_path): start `node-redirect run` first",
                pin_path.display()
            );
        }
        let maps = Self {
            settings: Table::open(pin_path, "settings")?,
            endpoints: Table::open(pin_path, "endpoints")?,
            destinations: Prefixes::open(pin_path, "destinations", "destinations6")?,
            policies: Table::open(pin_path, "policies")?,
            steerings: Table::open(pin_path, "steerings")?,
            exempt: Prefixes::open(pin_path, "exempt", "exempt6")?,
            vteps: Table::open(pin_path, "vteps")?,
            flows: Table::open(pin_path, "flows")?,
            reasons: PerCpu::open(pin_path, "reasons")?,
            events: PerCpu::open(pin_path, "events")?,
            traffic: PerCpu::open(pin_path, "traffic")?,
        };
        let version = maps.settings()?.abi_version;
        ensure!(
            version == 0 || version == abi::VERSION,
            "the maps under {} are of version {version}, this is version {}: run `node-redirect cleanup`",
            pin_path.display(),
            abi::VERSION
        );
        Ok(maps)
    }

    pub fn settings(&self) -> Result<abi::Settings> {
        Ok(self.settings.get(&0)?.unwrap_or_default())
    }

    pub fn reason(&self, reason: Reason) -> Result<u64> {
        Ok(self.reasons.values::<u64>(&(reason as u32))?.iter().sum())
    }

    pub fn event(&self, index: usize) -> Result<u64> {
        debug_assert!(index < EVENTS.len());
        Ok(self.events.values::<u64>(&(index as u32))?.iter().sum())
    }

    pub fn traffic(&self) -> Result<BTreeMap<abi::TrafficKey, abi::Traffic>> {
        let mut sums = BTreeMap::new();
        for key in self.traffic.handle.keys() {
            let Ok(key) = abi::TrafficKey::read_from_bytes(&key) else { continue };
            let mut sum = abi::Traffic::default();
            for cpu in self.traffic.values::<abi::Traffic>(&key)? {
                sum.packets += cpu.packets;
                sum.bytes += cpu.bytes;
            }
            sums.insert(key, sum);
        }
        Ok(sums)
    }

    pub fn forget_traffic(&self, key: &abi::TrafficKey) -> Result<()> {
        match self.traffic.handle.delete(key.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
