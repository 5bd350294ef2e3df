//! Large tables: in hugepages, on the NUMA node of whoever makes them.
//!
//! A table of a million sessions has tens of thousands of ordinary pages, far more than a core has TLB
//! entries, so that nearly each look-up would walk the page table too. Hugepages of 2 MiB end that.

#![allow(unsafe_code)]

use memmap2::{Advice, MmapMut, MmapOptions};
use std::{fmt, io, ops, ptr::NonNull};

const HUGE: usize = 2 << 20;
const HUGE_BITS: u8 = 21;

/// What pages a table is wanted in, and what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// Reserved 2 MiB pages (`vm.nr_hugepages`).
    Huge,
    /// Ordinary memory that the kernel may put into 2 MiB pages (`transparent_hugepage`).
    Transparent,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pages::Huge => "reserved 2 MiB pages",
            Pages::Transparent => {
                "ordinary memory (transparent hugepages where the kernel has them)"
            }
        })
    }
}

/// A slice in memory of its own, never resized. Aligned to 2 MiB.
pub struct HugeSlice<T> {
    // Owns the memory; `start` points into it.
    _map: MmapMut,
    start: NonNull<T>,
    len: usize,
    pages: Pages,
}

// SAFETY: like a Box<[T]>, it owns its elements and nothing else.
unsafe impl<T: Send> Send for HugeSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HugeSlice<T> {}

impl<T: Copy> HugeSlice<T> {
    /// `len` times `value`. Every page is written here, so it comes from the NUMA node of the calling
    /// thread (unless a policy says otherwise), and none is missing later. Where the wanted reserved
    /// pages are not to be had, ordinary memory is taken: see [`HugeSlice::pages`].
    pub fn new(len: usize, value: T, wanted: Pages) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= HUGE) };
        let bytes = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.max(1).checked_next_multiple_of(HUGE))
            .filter(|bytes| *bytes < isize::MAX as usize - HUGE)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let (mut map, pages) = map(bytes, wanted)?;
        let skip = map.as_ptr().align_offset(HUGE);
        // SAFETY: `map` has 2 MiB more than `bytes` where it is not aligned by itself.
        let start = unsafe { map.as_mut_ptr().add(skip) }.cast::<T>();
        for i in 0..len {
            // SAFETY: i < len, and len elements fit into `bytes`.
            let element = unsafe { start.add(i) };
            // SAFETY: in the map, aligned (to 2 MiB at the start), not yet seen by anybody.
            unsafe { element.write(value) };
        }
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(HugeSlice { _map: map, start, len, pages })
    }
}

impl<T> HugeSlice<T> {
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        (self.len * size_of::<T>()).max(1).next_multiple_of(HUGE)
    }
}

fn map(bytes: usize, wanted: Pages) -> io::Result<(MmapMut, Pages)> {
    if wanted == Pages::Huge {
        // The kernel sets the pages aside here, or says that it has too few.
        if let Ok(map) = MmapOptions::new().len(bytes).huge(Some(HUGE_BITS)).map_anon() {
            return Ok((map, Pages::Huge));
        }
    }
    let map = MmapOptions::new().len(bytes + HUGE).map_anon()?;
    // A kernel without transparent hugepages refuses, and the memory is good all the same.
    let _ = map.advise(Advice::HugePage);
    Ok((map, Pages::Transparent))
}

impl<T> ops::Deref for HugeSlice<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` has written `len` elements from `start` on, and the map lives as long as we.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> ops::DerefMut for HugeSlice<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> fmt::Debug for HugeSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HugeSlice({} × {} bytes, {})", self.len, size_of::<T>(), self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written_from_end_to_end() {
        for len in [0, 1, 1000, 70_000] {
            let mut slice = HugeSlice::new(len, [7u64; 8], Pages::Transparent).unwrap();
            assert_eq!(slice.len(), len);
            assert!(slice.iter().all(|line| *line == [7; 8]));
            if let Some(last) = slice.last_mut() {
                *last = [9; 8];
                assert_eq!(slice[len - 1], [9; 8]);
            }
            assert!(slice.as_ptr().addr().is_multiple_of(HUGE));
            assert_eq!(slice.bytes() % HUGE, 0);
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let error = HugeSlice::new(usize::MAX / 16, 0u64, Pages::Huge).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    /// Both kinds, whatever this machine has reserved.
    #[test]
    fn there_is_room_for_the_slice_wherever_its_aligned_start_is() {
        for wanted in [Pages::Huge, Pages::Transparent] {
            let (map, pages) = map(4 * HUGE, wanted).unwrap();
            let skipped = map.as_ptr().align_offset(HUGE);
            assert!(map.len() - skipped >= 4 * HUGE, "{skipped} of {} skipped", map.len());
            assert!(pages == Pages::Transparent || wanted == Pages::Huge && skipped == 0);
        }
    }
}
