//! What the world saw of each flow. The demo and the tests count here, not where they sent.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The newest are kept.
pub const LIMIT: usize = 100_000;

/// One request, datagram, connection or echo request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub protocol: Protocol,
    /// For ICMP the identifier stands in for the port.
    pub source: SocketAddr,
    pub destination: IpAddr,
    /// Which flow of the test it was: the marker's sequence, over HTTP `?flow=`.
    pub flow: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<VecDeque<Sighting>>>);

impl Seen {
    pub(super) fn add(&self, sighting: Sighting) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() == LIMIT {
            list.pop_front();
        }
        list.push_back(sighting);
    }

    pub(super) fn list(&self) -> Vec<Sighting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
