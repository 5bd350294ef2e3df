//! One packet buffer. The only file that touches the fields of an `rte_mbuf`.

use crate::{
    datapath::{
        PacketBuf,
        io::{prefetch_headers, prefetch_room},
    },
    prefetch::prefetch_address,
    verdict::Side,
    wire::{ethernet::ETHERTYPE_VLAN, vlan::VLAN_LEN},
};
use dpdk_sys::rte_mbuf;
use std::{fmt, ops::Range, ptr::NonNull};

/// An owned mbuf: the first segment of a packet of which nobody else holds a part. Dropping it gives
/// all its segments back to their pool.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf has one owner, and freeing it on another lcore than the one that allocated it is
// allowed: pools are multi-producer. It is not Sync: its methods use plain loads and stores.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `raw` is NULL or an mbuf that the caller owns: reference count 1, not in any queue or pool.
    pub(super) unsafe fn from_raw(raw: *mut rte_mbuf) -> Option<Self> {
        NonNull::new(raw).map(Mbuf)
    }

    /// A copy of the field at `offset`.
    ///
    /// # Safety
    /// A field of type `T` is at `offset` of `rte_mbuf`.
    #[inline(always)]
    unsafe fn get<T: Copy>(&self, offset: dpdk_sys::mbuf_offset) -> T {
        // SAFETY: the offset is one of the mbuf's own fields.
        let field = unsafe { self.0.byte_add(offset as usize) };
        // SAFETY: we own the mbuf, and it is aligned to a cache line, so that its fields are aligned
        // too; the caller vouches for the type.
        unsafe { field.cast::<T>().read() }
    }

    /// # Safety
    /// As for [`Mbuf::get`].
    #[inline(always)]
    unsafe fn set<T: Copy>(&mut self, offset: dpdk_sys::mbuf_offset, value: T) {
        // SAFETY: as in `get`.
        let field = unsafe { self.0.byte_add(offset as usize) };
        // SAFETY: as in `get`; `&mut self` makes it the only access.
        unsafe { field.cast::<T>().write(value) }
    }

    #[inline(always)]
    fn data_off(&self) -> u16 {
        // SAFETY: data_off is a u16.
        unsafe { self.get(dpdk_sys::MBUF_DATA_OFF) }
    }

    #[inline(always)]
    fn data_len(&self) -> u16 {
        // SAFETY: data_len is a u16.
        unsafe { self.get(dpdk_sys::MBUF_DATA_LEN) }
    }

    #[inline(always)]
    fn buf_len(&self) -> u16 {
        // SAFETY: buf_len is a u16.
        unsafe { self.get(dpdk_sys::MBUF_BUF_LEN) }
    }

    #[inline(always)]
    fn segments(&self) -> u16 {
        // SAFETY: nb_segs is a u16.
        unsafe { self.get(dpdk_sys::MBUF_NB_SEGS) }
    }

    /// Where the data of the first segment begins.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // SAFETY: buf_addr is a pointer.
        let buffer: *mut u8 = unsafe { self.get(dpdk_sys::MBUF_BUF_ADDR) };
        // SAFETY: DPDK keeps data_off ≤ buf_len, and so do the methods below: still inside the
        // buffer, or one past its end.
        unsafe { buffer.add(usize::from(self.data_off())) }
    }

    /// Data of the first segment: `offset` into the buffer, `len` bytes. For a packet of one segment
    /// that is all of it.
    #[inline(always)]
    fn place(&mut self, offset: u16, len: u16) {
        debug_assert!(u32::from(offset) + u32::from(len) <= u32::from(self.buf_len()));
        let others = self.packet_len().saturating_sub(u32::from(self.data_len()));
        // SAFETY: data_off is a u16.
        unsafe { self.set(dpdk_sys::MBUF_DATA_OFF, offset) };
        // SAFETY: data_len is a u16.
        unsafe { self.set(dpdk_sys::MBUF_DATA_LEN, len) };
        // SAFETY: pkt_len is a u32.
        unsafe { self.set(dpdk_sys::MBUF_PKT_LEN, u32::from(len) + others) };
    }

    #[inline(always)]
    fn packet_len(&self) -> u32 {
        // SAFETY: pkt_len is a u32.
        unsafe { self.get(dpdk_sys::MBUF_PKT_LEN) }
    }

    /// Makes a packet of one segment `len` bytes long, from where it begins; what these are is whatever the
    /// buffer held. False, and no change, where there is no room.
    #[inline(always)]
    #[must_use]
    pub fn resize(&mut self, len: usize) -> bool {
        let room = len <= usize::from(self.buf_len() - self.data_off());
        if room {
            self.place(self.data_off(), len as u16);
        }
        room
    }

    /// Starts loading the packet's first cache line.
    #[inline(always)]
    pub fn prefetch_data(&self) {
        prefetch_address(self.start());
    }

    /// Puts a VLAN tag that the driver took off back into the frame, so that the parser sees what was
    /// on the wire. Some drivers (af_packet) cannot leave it there.
    #[inline]
    pub(super) fn restore_vlan(&mut self) {
        // SAFETY: ol_flags is a u64.
        let flags: u64 = unsafe { self.get(dpdk_sys::MBUF_OL_FLAGS) };
        if flags & dpdk_sys::MBUF_RX_VLAN_STRIPPED != 0 {
            self.insert_vlan();
        }
    }

    #[cold]
    fn insert_vlan(&mut self) {
        const ADDRESSES: usize = 12;
        // SAFETY: vlan_tci is a u16.
        let control: u16 = unsafe { self.get(dpdk_sys::MBUF_VLAN_TCI) };
        if usize::from(self.data_len()) < ADDRESSES || !self.prepend(VLAN_LEN) {
            return;
        }
        let frame = self.data_mut();
        frame.copy_within(VLAN_LEN..VLAN_LEN + ADDRESSES, 0);
        frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
        frame[ADDRESSES + 2..ADDRESSES + 4].copy_from_slice(&control.to_be_bytes());
        // SAFETY: ol_flags is a u64.
        let flags: u64 = unsafe { self.get(dpdk_sys::MBUF_OL_FLAGS) };
        // SAFETY: as above.
        unsafe { self.set(dpdk_sys::MBUF_OL_FLAGS, flags & !dpdk_sys::MBUF_RX_VLAN_STRIPPED) };
    }
}

impl PacketBuf for Mbuf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        // SAFETY: data_len bytes from start() on are inside the buffer (see `place`; drivers keep the
        // same rule), initialised when the pool was made, and ours while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `data`; `&mut self` makes the slice the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start(), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn prefetch_buffer(&self) {
        prefetch_address(self.0.as_ptr().cast());
    }

    #[inline(always)]
    fn prefetch(&self, side: Side) {
        prefetch_headers(self.start(), side);
    }

    #[inline(always)]
    fn prefetch_room(&self) {
        prefetch_room(self.start());
    }

    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        self.segments() == 1
    }

    #[inline(always)]
    fn prepend(&mut self, len: usize) -> bool {
        let room = len <= usize::from(self.data_off());
        if room {
            self.place(self.data_off() - len as u16, self.data_len() + len as u16);
        }
        room
    }

    #[inline(always)]
    fn keep(&mut self, range: Range<usize>) {
        let end = range.end.min(usize::from(self.data_len()));
        let start = range.start.min(end);
        self.place(self.data_off() + start as u16, (end - start) as u16);
    }

    fn fill(&mut self, bytes: &[u8]) -> bool {
        let room = bytes.len() <= usize::from(self.buf_len() - self.data_off());
        if room {
            self.place(self.data_off(), bytes.len() as u16);
            self.data_mut().copy_from_slice(bytes);
        }
        room
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: we own it, so it is in no queue; its pool lives as long as the process.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes, {} segments)", self.packet_len(), self.segments())
    }
}
