//! The two ports, which are memory.

use crate::harness::{EXTERNAL_MAC, TUNNEL_MAC, VXLAN_PORT};
use gateway::{
    config::Config,
    datapath::{
        DatapathConfig, PortConfig,
        io::{PortStats, PortWatch},
    },
    wire::MacAddress,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

pub(super) fn datapath(config: &Config) -> DatapathConfig {
    let port = |mac, settings: &gateway::config::PortConfig| PortConfig {
        mac: MacAddress(mac),
        addresses: settings.addresses(),
        gateways: settings.gateways().collect(),
        mtu: 1500,
        vlan: 0,
    };
    let tunnel = port(TUNNEL_MAC, &config.tunnel.port);
    let external = port(EXTERNAL_MAC, &config.external.port);
    DatapathConfig::new(tunnel, external, VXLAN_PORT, 1000).unwrap()
}

/// What a device would count.
#[derive(Debug)]
pub(super) struct Watch(pub(super) Arc<AtomicBool>);

impl PortWatch for Watch {
    fn stats(&self) -> PortStats {
        PortStats {
            rx_packets: 1_000_001,
            rx_bytes: 64_000_002,
            tx_packets: 3,
            tx_bytes: 4,
            rx_missed: 5,
            rx_errors: 6,
            tx_errors: 7,
            rx_no_buffer: 8,
        }
    }

    fn link_is_up(&self) -> bool {
        self.0.load(SeqCst)
    }
}
