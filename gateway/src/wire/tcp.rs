//! TCP (RFC 9293): the fixed header, its flags, and the one option a translator touches.

use super::checksum::{Checksum, Delta};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16 as NetU16, U32 as NetU32},
};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    pub source: NetU16,
    pub destination: NetU16,
    pub sequence: NetU32,
    pub acknowledgment: NetU32,
    pub data_offset: u8,
    pub flags: u8,
    pub window: NetU16,
    pub checksum: Checksum,
    pub urgent: NetU16,
}

pub const TCP_LEN: usize = size_of::<TcpHeader>();
const _: () = assert!(TCP_LEN == 20);

impl TcpHeader {
    /// Header with options, in bytes.
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Lowers the MSS option of a SYN to at most `limit` bytes; `segment` starts at the TCP header,
/// whose length the parser has checked. A SYN without the option is left alone: RFC 9293 section
/// 3.7.1 makes the peer assume 536, which always fits.
///
/// The end that sends the SYN does not know of the tunnel, and path MTU discovery fails wherever
/// ICMP is filtered, so the handshake itself is where the tunnel's cost becomes known.
pub fn clamp_mss(segment: &mut [u8], limit: u16) {
    let Ok((header, _)) = TcpHeader::mut_from_prefix(segment) else { return };
    let end = header.header_len();
    let Some(at) = find_mss(segment, end) else { return };
    let old = [segment[at], segment[at + 1]];
    if u16::from_be_bytes(old) <= limit {
        return;
    }
    let new = limit.to_be_bytes();
    // The two bytes may start at an odd offset of the segment; then they straddle two checksum
    // words and count with their bytes exchanged (RFC 1071 section 2 B).
    let delta = if at % 2 == 0 {
        Delta::replace_u16(old, new)
    } else {
        Delta::replace_u16([old[1], old[0]], [new[1], new[0]])
    };
    segment[at..at + 2].copy_from_slice(&new);
    if let Ok((header, _)) = TcpHeader::mut_from_prefix(segment) {
        header.checksum = header.checksum.apply(delta);
    }
}

/// Where the two MSS bytes are. The walk is bounded by the header's 40 option bytes.
fn find_mss(segment: &[u8], end: usize) -> Option<usize> {
    let mut at = TCP_LEN;
    while at < end {
        match *segment.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 || at + len > end || at + len > segment.len() {
                    return None;
                }
                if kind == OPTION_MSS && len == 4 {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
    None
}
