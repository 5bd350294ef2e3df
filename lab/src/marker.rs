//! What a test's payload starts with, so that every packet can be judged alone, wherever it is seen.

use std::net::Ipv4Addr;

/// Of `struct marker` in bpf/oracle.h: which pod sent it, under which policy (0: none), in which generation of the test, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub pod: Ipv4Addr,
    pub policy: u32,
    pub generation: u8,
    pub sequence: u32,
}

const MAGIC: [u8; 4] = *b"EGW1";

impl Marker {
    pub const LENGTH: usize = 16;

    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.pod.octets());
        // 24 bits, as the VNI
        bytes[8..12]
            .copy_from_slice(&(self.policy << 8 | u32::from(self.generation)).to_be_bytes());
        bytes[12..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The marker that `payload` starts with.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (magic, rest) = payload.split_first_chunk::<4>()?;
        let (pod, rest) = rest.split_first_chunk::<4>()?;
        let (policy, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, _) = rest.split_first_chunk::<4>()?;
        let policy = u32::from_be_bytes(*policy);
        (*magic == MAGIC).then(|| Self {
            pod: Ipv4Addr::from(*pod),
            policy: policy >> 8,
            generation: (policy & 0xff) as u8,
            sequence: u32::from_be_bytes(*sequence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let marker = Marker {
            pod: Ipv4Addr::new(10, 244, 1, 10),
            policy: 0x00ab_cdef,
            generation: 7,
            sequence: 0x0102_0304,
        };
        let mut payload = marker.to_bytes().to_vec();
        payload.extend_from_slice(b"and more");
        assert_eq!(Marker::read(&payload), Some(marker));
        assert_eq!(Marker::read(&payload[..15]), None);
        assert_eq!(Marker::read(b"GET /source HTTP/1.1"), None);
    }
}
