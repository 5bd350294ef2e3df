//! What may differ from lab to lab: the gateway's workers and cables, and what nodes and gateway tunnel over. Pods and world always speak both
//! families.

use std::fmt;

use crate::family::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub workers: usize,
    /// Of the tunnel addresses of gateway and nodes.
    pub underlay: Family,
    pub arrangement: Arrangement,
}

/// How the gateway's two sides are cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// A device for each.
    TwoPorts,
    /// One device, and the VLAN of each side; 0 is the untagged one.
    OneArmedByVlan { tunnel: u16, external: u16 },
    /// One device without VLANs.
    OneArmedByAddress,
}

impl Arrangement {
    pub const BY_VLAN: Self = Self::OneArmedByVlan { tunnel: 10, external: 20 };

    /// Of the tunnel side and the external one; 0: untagged.
    #[must_use]
    pub fn vlans(self) -> [u16; 2] {
        match self {
            Self::OneArmedByVlan { tunnel, external } => [tunnel, external],
            Self::TwoPorts | Self::OneArmedByAddress => [0, 0],
        }
    }
}

impl fmt::Display for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoPorts => write!(f, "two ports"),
            Self::OneArmedByVlan { tunnel, external } => {
                write!(f, "one-armed by VLAN ({tunnel} and {external})")
            }
            Self::OneArmedByAddress => write!(f, "one-armed by address"),
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self { workers: 1, underlay: Family::V4, arrangement: Arrangement::TwoPorts }
    }
}

impl Site {
    /// The one that the demo shows: with two workers, packets change hands.
    #[must_use]
    pub fn of_the_demo() -> Self {
        Self { workers: 2, ..Self::default() }
    }

    /// One file of several documents: the gateway and the nodes by their tunnel addresses, the pods, and these policies.
    #[must_use]
    pub fn documents(self, policies: &[&str]) -> String {
        let hosts = match self.underlay {
            Family::V4 => include_str!("../policies/hosts-v4.yaml"),
            Family::V6 => include_str!("../policies/hosts-v6.yaml"),
        };
        let pods = include_str!("../policies/pods.yaml");
        [&[hosts, pods], policies].concat().join("---\n")
    }
}

pub const PAYMENTS: &str = include_str!("../policies/payments.yaml");
pub const CRAWLER: &str = include_str!("../policies/crawler.yaml");

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.workers == 1 { "" } else { "s" };
        let Self { workers, underlay, arrangement } = self;
        write!(f, "{workers} worker{plural}, tunnels over {underlay}, {arrangement}")
    }
}
