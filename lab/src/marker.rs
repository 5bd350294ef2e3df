//! What a test's payload starts with, so that every packet can be judged alone, wherever it is seen.

use std::net::IpAddr;

/// Of `struct marker` in bpf/oracle.h: which pod sent it, under which policy (0: none), in which generation of the test, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub pod: PodTag,
    pub policy: u32,
    pub generation: u8,
    pub sequence: u32,
}

/// A pod's address, short enough for the pattern of `ping`: of IPv4 the address, of IPv6 its four words, xored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodTag([u8; 4]);

impl From<IpAddr> for PodTag {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => {
                let octets = address.octets();
                let (words, _) = octets.as_chunks::<4>();
                words.iter().fold(0, |tag, word| tag ^ u32::from_be_bytes(*word)).to_be_bytes()
            }
        })
    }
}

const MAGIC: [u8; 4] = *b"EGW1";

impl Marker {
    pub const LENGTH: usize = 16;

    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.pod.0);
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
            pod: PodTag(*pod),
            policy: policy >> 8,
            generation: (policy & 0xff) as u8,
            sequence: u32::from_be_bytes(*sequence),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::topology::PODS;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        for pod in PODS[0].address.both() {
            let marker = Marker {
                pod: pod.into(),
                policy: 0x00ab_cdef,
                generation: 7,
                sequence: 0x0102_0304,
            };
            let mut payload = marker.to_bytes().to_vec();
            payload.extend_from_slice(b"and more");
            assert_eq!(Marker::read(&payload), Some(marker));
            assert_eq!(Marker::read(&payload[..15]), None);
        }
        assert_eq!(Marker::read(b"GET /source HTTP/1.1"), None);
    }

    #[test]
    fn each_address_of_each_pod_has_a_tag_of_its_own() {
        let tags = PODS.iter().flat_map(|pod| pod.address.both()).map(|ip| PodTag::from(ip).0);
        assert_eq!(tags.collect::<BTreeSet<_>>().len(), 2 * PODS.len());
    }
}
