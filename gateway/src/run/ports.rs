//! The two ports: found, started with a queue pair for each worker, handed out.

use crate::{
    config::{Config, PortConfig as ConfiguredPort},
    control::PortHandle,
    datapath::{DatapathConfig, PortConfig, config::NoAddress, steering::ShardSeed},
    dpdk::{DpdkIo, DpdkPortWatch, Eal, Mempool, NoRss, Port, PortSettings, Rss, RxQueue, TxQueue},
    verdict::Side,
};
use anyhow::{Result, bail};
use tracing::info;

/// Packet buffers for each worker: its descriptors twice over, packets that wait for a neighbour, and
/// what is in flight.
const BUFFERS: u32 = 16_384;
/// Behind the headroom: a full Ethernet frame, and the size that drivers like.
const SMALLEST_BUFFER: u16 = 2048;

/// A port that runs: its queues, one pair per worker, and what the control side keeps.
pub(super) struct StartedPort {
    queues: Vec<(RxQueue, TxQueue)>,
    pub(super) handle: PortHandle,
    pub(super) rss: Result<Rss, NoRss>,
    pub(super) watch: DpdkPortWatch,
    pool: Mempool,
}

/// A power of two minus one, which wastes no memory.
fn buffers(config: &Config) -> u32 {
    (config.workers.cores.len() as u32 * BUFFERS).next_power_of_two() - 1
}

/// A frame with its L2 header in one buffer, whatever the MTU.
fn buffer_room(config: &Config) -> u16 {
    let mtu = config.tunnel.port.mtu.max(config.external.port.mtu);
    SMALLEST_BUFFER.max(mtu.saturating_add(128))
}

/// What the packet buffers need, and room for the EAL and the drivers.
pub(super) fn memory_mib(config: &Config) -> u32 {
    const OTHERS: u64 = 448;
    // An mbuf, its headroom, and the pool's own words.
    const AROUND: u64 = 128 + 128 + 64;
    let bytes = u64::from(buffers(config)) * (u64::from(buffer_room(config)) + AROUND);
    (OTHERS + (bytes >> 20)) as u32
}

pub(super) fn start_ports(eal: &Eal, config: &Config, seed: ShardSeed) -> Result<[StartedPort; 2]> {
    let [tunnel, external] = [&config.tunnel.port, &config.external.port];
    let ports = [Port::probe(eal, &tunnel.device)?, Port::probe(eal, &external.device)?];
    let pool = Mempool::new(eal, buffers(config), buffer_room(config), ports[0].socket())?;
    let queues = config.workers.cores.len() as u16;
    let mut started = ports
        .into_iter()
        .zip([(Side::Tunnel, tunnel), (Side::External, external)])
        .map(|(port, (side, settings))| -> Result<StartedPort> {
            let mac = port.mac();
            let wanted = PortSettings { queues, mtu: settings.mtu, rss_seed: seed.0 };
            let port = port.start(wanted, &pool)?;
            info!(%side, device = settings.device, %mac, mtu = settings.mtu, "port is up");
            let device = settings.device.clone();
            let handle = PortHandle { side, device, mac, watch: Box::new(port.watch.clone()) };
            Ok(StartedPort { queues: port.queues, handle, rss: port.rss, watch: port.watch, pool })
        });
    match (started.next(), started.next()) {
        (Some(tunnel), Some(external)) => Ok([tunnel?, external?]),
        _ => bail!("there are two ports"),
    }
}

pub(super) fn datapath_config(config: &Config, ports: &[StartedPort; 2]) -> Result<DatapathConfig> {
    let port = |settings: &ConfiguredPort, started: &StartedPort| PortConfig {
        mac: started.handle.mac,
        addresses: settings.addresses(),
        gateways: settings.gateways().collect(),
        mtu: usize::from(settings.mtu),
        vlan: settings.vlan,
    };
    let tunnel = port(&config.tunnel.port, &ports[0]);
    let external = port(&config.external.port, &ports[1]);
    let errors_per_second = config.limits.icmp_errors_per_second;
    DatapathConfig::new(tunnel, external, config.tunnel.vxlan_port, errors_per_second)
        .map_err(|NoAddress(side)| anyhow::anyhow!("ports.{side}.addresses: an address is needed"))
}

/// One [`DpdkIo`] per worker, of a queue pair of each port.
pub(super) fn split(ports: [StartedPort; 2], config: &Config) -> ([PortHandle; 2], Vec<DpdkIo>) {
    let [tunnel, external] = ports;
    let pool = tunnel.pool;
    let pairs = tunnel.queues.into_iter().zip(external.queues).take(config.workers.cores.len());
    let ios = pairs.map(|(tunnel, external)| DpdkIo::new(tunnel, external, pool)).collect();
    ([tunnel.handle, external.handle], ios)
}
