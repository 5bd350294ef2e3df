//! DPDK's own hash table: the benches' yardstick for the session table.

use super::{eal::Eal, error::DpdkError};
use std::{ffi::c_void, mem, ptr, ptr::NonNull};

pub type Key = [u8; 16];

/// Keys of one bulk look-up.
pub const BULK: usize = 32;

/// A table of 16-byte keys with a number for each, used by one thread.
#[derive(Debug)]
pub struct RteHash(NonNull<dpdk_sys::rte_hash>);

impl RteHash {
    /// Room for `entries` keys, on any NUMA node, with DPDK's default hash function.
    pub fn new(_eal: &Eal, entries: u32) -> Result<Self, DpdkError> {
        // SAFETY: all fields are numbers, pointers or optional functions, for which zero is valid.
        let mut parameters: dpdk_sys::rte_hash_parameters = unsafe { mem::zeroed() };
        parameters.name = c"bench".as_ptr();
        parameters.entries = entries;
        parameters.key_len = size_of::<Key>() as u32;
        parameters.socket_id = dpdk_sys::SOCKET_ID_ANY;
        // SAFETY: the EAL runs (`_eal`); the parameters are read during the call only.
        let table = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        NonNull::new(table)
            .map(RteHash)
            .ok_or_else(|| DpdkError::last("rte_hash_create", format!("{entries} entries")))
    }

    pub fn insert(&mut self, key: &Key, value: u32) -> Result<(), DpdkError> {
        let data = ptr::without_provenance_mut::<c_void>(value as usize);
        // SAFETY: the table is ours, the key has its length; the data is a number and never followed.
        let code = unsafe {
            dpdk_sys::rte_hash_add_key_data(self.0.as_ptr(), ptr::from_ref(key).cast(), data)
        };
        match code {
            0 => Ok(()),
            code => Err(DpdkError::returned("rte_hash_add_key_data", code, "a key")),
        }
    }

    /// Looks up to [`BULK`] keys up together; one bit per key that is there, and the values of these.
    #[inline]
    pub fn look_up(&self, keys: &[Key]) -> (u64, [u32; BULK]) {
        let keys = &keys[..keys.len().min(BULK)];
        let mut pointers = [ptr::null::<c_void>(); BULK];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = ptr::from_ref(key).cast();
        }
        let (mut hits, mut data) = (0u64, [ptr::null_mut::<c_void>(); BULK]);
        // SAFETY: as many pointers as said, each to a key that lives as long as the call, and room for
        // as many data; not more than RTE_HASH_LOOKUP_BULK_MAX (64).
        unsafe {
            dpdk_sys::rte_hash_lookup_bulk_data(
                self.0.as_ptr(),
                pointers.as_mut_ptr(),
                keys.len() as u32,
                &raw mut hits,
                data.as_mut_ptr(),
            )
        };
        (hits, data.map(|pointer| pointer.addr() as u32))
    }
}

impl Drop for RteHash {
    fn drop(&mut self) {
        // SAFETY: we own it, and nothing of it is in use.
        unsafe { dpdk_sys::rte_hash_free(self.0.as_ptr()) }
    }
}
