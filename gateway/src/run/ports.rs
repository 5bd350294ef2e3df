//! The two ports: found, started with a queue pair for each worker, handed out.

use crate::{
    config::{Config, OneArmed, PortConfig as ConfiguredPort},
    control::PortHandle,
    datapath::{
        DatapathConfig, PortConfig,
        config::NoAddress,
        idle::WaitBy,
        one_arm::{OneArm, SideRule},
        steering::ShardSeed,
    },
    dpdk::{
        DpdkIo, DpdkPortWatch, DpdkWire, Eal, Mempool, NoRss, Port, PortSettings, Rss, RxQueue,
        TxQueue,
    },
    verdict::Side,
};
use anyhow::Result;
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

/// The devices that were started: one for each side, or one for both.
pub(super) struct StartedPorts {
    pub(super) tunnel: StartedPort,
    /// `None` in a one-armed gateway.
    external: Option<StartedPort>,
    rule: Option<SideRule>,
}

impl StartedPorts {
    pub(super) fn external(&self) -> &StartedPort {
        self.external.as_ref().unwrap_or(&self.tunnel)
    }

    /// Each device once.
    pub(super) fn devices(&self) -> impl Iterator<Item = &StartedPort> {
        std::iter::once(&self.tunnel).chain(&self.external)
    }
}

/// What a worker receives from and sends to; made once, and never moved while packets flow.
#[expect(clippy::large_enum_variant, reason = "one per worker")]
pub(super) enum Io {
    TwoPorts(DpdkIo),
    OneArmed(OneArm<DpdkWire>),
}

impl Io {
    pub(super) fn wait_by(&self) -> WaitBy {
        match self {
            Io::TwoPorts(io) => io.wait_by(),
            Io::OneArmed(io) => io.wire().wait_by(),
        }
    }
}

pub(super) fn start_ports(eal: &Eal, config: &Config, seed: ShardSeed) -> Result<StartedPorts> {
    let [tunnel, external] = [&config.tunnel.port, &config.external.port];
    let tunnel_port = Port::probe(eal, &tunnel.device)?;
    let external_port = match config.one_armed() {
        Some(_) => None,
        None => Some(Port::probe(eal, &external.device)?),
    };
    let pool = Mempool::new(eal, buffers(config), buffer_room(config), tunnel_port.socket())?;
    let queues = config.workers.cores.len() as u16;
    let start = |port: Port, side, settings: &ConfiguredPort| -> Result<StartedPort> {
        let mac = port.mac();
        let wanted = PortSettings { queues, mtu: settings.mtu, rss_seed: seed.0 };
        let port = port.start(wanted, &pool)?;
        info!(%side, device = settings.device, %mac, mtu = settings.mtu, "port is up");
        let device = settings.device.clone();
        let handle = PortHandle { side, device, mac, watch: Box::new(port.watch.clone()) };
        Ok(StartedPort { queues: port.queues, handle, rss: port.rss, watch: port.watch, pool })
    };
    let rule = config.one_armed().map(|arrangement| match arrangement {
        OneArmed::ByVlan => SideRule::ByVlan(tunnel.vlan),
        OneArmed::ByAddress => SideRule::by_address(tunnel.addresses()),
    });
    if let Some(arrangement) = config.one_armed() {
        info!(device = tunnel.device, ?arrangement, "one device for both sides");
    }
    Ok(StartedPorts {
        tunnel: start(tunnel_port, Side::Tunnel, tunnel)?,
        external: external_port.map(|port| start(port, Side::External, external)).transpose()?,
        rule,
    })
}

pub(super) fn datapath_config(config: &Config, ports: &StartedPorts) -> Result<DatapathConfig> {
    let port = |settings: &ConfiguredPort, started: &StartedPort| PortConfig {
        mac: started.handle.mac,
        addresses: settings.addresses(),
        gateways: settings.gateways().collect(),
        mtu: usize::from(settings.mtu),
        vlan: settings.vlan,
    };
    let tunnel = port(&config.tunnel.port, &ports.tunnel);
    let external = port(&config.external.port, ports.external());
    let errors_per_second = config.limits.icmp_errors_per_second;
    DatapathConfig::new(tunnel, external, config.tunnel.vxlan_port, errors_per_second)
        .map_err(|NoAddress(side)| anyhow::anyhow!("ports.{side}.addresses: an address is needed"))
}

/// What the control side keeps of each side, and what each worker gets: a queue pair of each device.
pub(super) fn split(ports: StartedPorts) -> ([PortHandle; 2], Vec<Io>) {
    let StartedPorts { tunnel, external, rule } = ports;
    let pool = tunnel.pool;
    let Some(external) = external else {
        let PortHandle { device, mac, .. } = &tunnel.handle;
        let (device, mac) = (device.clone(), *mac);
        let watch = Box::new(tunnel.watch.clone());
        let external = PortHandle { side: Side::External, device, mac, watch };
        let wires = tunnel.queues.into_iter().map(|queue| DpdkWire::new(queue, pool));
        let rule = rule.unwrap_or(SideRule::ByVlan(0));
        let ios = wires.map(|wire| Io::OneArmed(OneArm::new(wire, rule.clone())));
        return ([tunnel.handle, external], ios.collect());
    };
    let pairs = tunnel.queues.into_iter().zip(external.queues);
    let ios = pairs.map(|(tunnel, external)| Io::TwoPorts(DpdkIo::new(tunnel, external, pool)));
    ([tunnel.handle, external.handle], ios.collect())
}
