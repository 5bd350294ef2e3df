//! VXLAN (RFC 7348).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U32 as NetU32,
};

/// The I flag: the VNI is valid. RFC 7348 section 5: "MUST be set to 1"; the other seven bits are
/// reserved: zero when sent, ignored when received.
const FLAG_VNI: u8 = 0x08;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VxlanHeader {
    flags: u8,
    reserved: [u8; 3],
    /// The VNI and eight reserved bits.
    vni: NetU32,
}

pub const VXLAN_LEN: usize = size_of::<VxlanHeader>();
const _: () = assert!(VXLAN_LEN == 8);

impl VxlanHeader {
    /// `vni`: 24 bits; the upper eight are ignored.
    pub fn new(vni: u32) -> Self {
        VxlanHeader { flags: FLAG_VNI, reserved: [0; 3], vni: NetU32::new(vni << 8) }
    }

    /// The VNI, where the header says that it has one.
    pub fn vni(&self) -> Option<u32> {
        (self.flags & FLAG_VNI != 0).then(|| self.vni.get() >> 8)
    }
}
