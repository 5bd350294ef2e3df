//! IEEE 802.1Q tag: the four bytes between the Ethernet addresses' ethertype 0x8100 and the payload.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16 as NetU16,
};

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub control: NetU16,
    pub ethertype: NetU16,
}

pub const VLAN_LEN: usize = size_of::<VlanTag>();

impl VlanTag {
    pub fn id(&self) -> u16 {
        self.control.get() & 0x0fff
    }
}
