//! `egress-gateway run`: everything that is checked, then started, and in the end stopped.
//!
//! The order is: what can fail without a trace first (the API's socket, the policies, the devices'
//! names), then the EAL and the ports, then the workers, then the API. A failure at any step leaves
//! nothing behind.

use crate::{
    config::{Config, Idle as ConfiguredIdle, PortConfig as ConfiguredPort},
    control::{
        ApplyError, Gateway, PolicyStore, PortHandle, WorkerHandle, http, listener::ApiListener,
        state_dir::StateDir,
    },
    datapath::{
        DatapathConfig, PortConfig, Worker, WorkerCounters,
        config::NoAddress,
        idle::{Idle, IdleMode},
        io::PacketIo,
    },
    dpdk::{self, DpdkError, DpdkIo, Eal, EalOptions, Mempool, Port, RxQueue, TxQueue},
    memory::Pages,
    nat::{Nat, NatConfig, TableMemory, Tick, Timeouts, timeouts::TimeoutSettings},
    verdict::Side,
    wire::{Both, Each},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tracing::{info, warn};

/// Packet buffers of the process: both ports' descriptors twice over, packets that wait for a
/// neighbour, and what is in flight. A power of two minus one.
const BUFFERS: u32 = 16_383;
/// Behind the headroom: a full Ethernet frame, and the size that drivers like.
const SMALLEST_BUFFER: u16 = 2048;
/// Requests of the control side that may wait for a worker.
const REQUESTS: usize = 64;

/// Runs until SIGINT or SIGTERM.
pub fn run(config: Config) -> Result<()> {
    let started = Instant::now();
    let cores = Cores::of(&config)?;
    check_device("ports.tunnel.device", &config.tunnel.port.device)?;
    check_device("ports.external.device", &config.external.port.device)?;
    let listener = ApiListener::bind(&config.api.listen)?;
    let policies = load_policies(&config)?;

    let eal = Eal::start(&cores.eal_options(&config)).map_err(explain)?;
    info!(version = dpdk::version(), "EAL is up");
    let ports = start_ports(&eal, &config)?;
    let datapath = Arc::new(datapath_config(&config, &ports)?);
    let stop = Arc::new(AtomicBool::new(false));
    let (handles, ios) = split(ports, &config);

    let mut workers = Vec::new();
    let mut lcores = Vec::new();
    for (id, io) in ios.into_iter().enumerate() {
        let core = usize::from(config.workers.cores[id]);
        let (handle, worker) = new_worker(id, &eal, &config, &datapath, &policies)?;
        let work = {
            let (stop, mode) = (Arc::clone(&stop), idle_mode(&config));
            move || work(worker, io, mode, started, &stop)
        };
        lcores.push(eal.launch(eal.worker_lcores()[id], work)?);
        info!(worker = id, core, "worker is polling");
        workers.push(handle);
    }

    let gateway = Arc::new(Gateway {
        config,
        datapath,
        workers,
        ports: handles,
        policies,
        packet_io: dpdk::version(),
        started,
    });
    let served = http::run_until_signal(&gateway, listener);
    info!("stopping");
    stop.store(true, Ordering::Relaxed);
    for lcore in lcores {
        lcore.join();
    }
    served.context("the API ended")
}

/// The loop of one lcore.
fn work<I: PacketIo>(
    mut worker: Worker<I::Buf>,
    mut io: I,
    mode: IdleMode,
    started: Instant,
    stop: &AtomicBool,
) {
    let mut idle = Idle::new(mode);
    worker.settle();
    while !stop.load(Ordering::Relaxed) {
        let now = Tick::from_millis(started.elapsed().as_millis() as u64);
        let received = worker.poll_once(&mut io, now);
        idle.after_turn(received);
    }
}

/// Which CPUs workers have, and which are left for everything else.
struct Cores {
    workers: Vec<usize>,
    control: Vec<usize>,
}

impl Cores {
    fn of(config: &Config) -> Result<Self> {
        let allowed = allowed_cpus().context("cannot read which CPUs this process may use")?;
        let workers: Vec<usize> = config.workers.cores.iter().copied().map(usize::from).collect();
        if let Some(missing) = workers.iter().find(|core| !allowed.contains(core)) {
            bail!("workers.cores: CPU {missing} is not one this process may use ({allowed:?})");
        }
        // On a machine with no CPU to spare the control side shares the workers' ones.
        let control = allowed.iter().copied().filter(|core| !workers.contains(core)).collect();
        Ok(Cores { workers, control })
    }

    fn eal_options(&self, config: &Config) -> EalOptions {
        let devices = [&config.tunnel.port.device, &config.external.port.device];
        let pci = devices.into_iter().filter(|device| is_pci(device)).cloned().collect();
        EalOptions {
            worker_cores: self.workers.clone(),
            control_cores: self.control.clone(),
            hugepages: config.eal.hugepages,
            pci_devices: pci,
            extra_args: config.eal.extra_args.clone(),
            ..EalOptions::default()
        }
    }
}

/// From `Cpus_allowed_list: 0-3,8` of this thread's status.
fn allowed_cpus() -> Result<BTreeSet<usize>> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .context("no Cpus_allowed_list in /proc/thread-self/status")?;
    let mut cpus = BTreeSet::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// `0000:01:00.0`, with or without the domain.
fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    address.contains(':') && address.contains('.')
}

/// What DPDK says of a missing kernel interface or PCI device is in its log only.
fn check_device(key: &str, device: &str) -> Result<()> {
    if is_pci(device) {
        let address = device.split(',').next().unwrap_or_default();
        let full = if address.matches(':').count() == 1 {
            format!("0000:{address}")
        } else {
            address.into()
        };
        if !Path::new("/sys/bus/pci/devices").join(&full).exists() {
            bail!("{key}: there is no PCI device {full} (list them: dpdk-devbind.py --status)");
        }
        return Ok(());
    }
    let is_kernel_interface =
        device.starts_with("net_af_packet") || device.starts_with("net_af_xdp");
    let interface = device.split(',').find_map(|argument| argument.strip_prefix("iface="));
    match interface {
        Some(interface) if is_kernel_interface => {
            if !Path::new("/sys/class/net").join(interface).exists() {
                bail!("{key}: there is no interface {interface} here (list them: ip link)");
            }
            if !has_capability(CAP_NET_RAW)? {
                bail!("{key}: {device} needs root, or CAP_NET_RAW and CAP_NET_ADMIN");
            }
            Ok(())
        }
        None if is_kernel_interface => bail!("{key}: {device} needs iface=NAME"),
        _ => Ok(()),
    }
}

/// Of `linux/capability.h`.
const CAP_NET_RAW: u32 = 13;

/// Whether this process may use the capability of that number.
fn has_capability(number: u32) -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.context("no CapEff in /proc/self/status")?;
    Ok(u64::from_str_radix(effective.trim(), 16)? >> number & 1 == 1)
}

/// A start that failed for lack of rights says so.
fn explain(error: DpdkError) -> anyhow::Error {
    let errno = error.errno;
    let error = anyhow::Error::new(error);
    if matches!(errno, libc::EACCES | libc::EPERM) {
        return error.context("DPDK needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK");
    }
    error
}

fn load_policies(config: &Config) -> Result<PolicyStore> {
    let own = [&config.tunnel.port, &config.external.port];
    let own = own.into_iter().flat_map(ConfiguredPort::own_addresses).collect();
    let state = StateDir::new(&config.policy.state_dir);
    let store = PolicyStore::new(&config.name, config.policy_limits(), own, state);
    let file = &config.policy.file;
    let read = || match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
    };
    let applied = store.load_at_start(read).map_err(|error| {
        if let ApplyError::Store(error) = error {
            return anyhow::Error::new(error);
        }
        let place = format!("policies of {} or the set kept in state_dir", file.display());
        anyhow::Error::new(error).context(place)
    })?;
    for warning in &applied.warnings {
        warn!("{warning}");
    }
    if applied.generation == 0 {
        warn!(file = %file.display(), "no policies: everything is dropped until some are applied");
    } else {
        info!(generation = applied.generation, policies = applied.added.len(), "policies loaded");
    }
    Ok(store)
}

/// A port that runs: its queues, one pair per worker, and what the control side keeps.
struct StartedPort {
    queues: Vec<(RxQueue, TxQueue)>,
    handle: PortHandle,
    pool: Mempool,
}

fn start_ports(eal: &Eal, config: &Config) -> Result<[StartedPort; 2]> {
    let [tunnel, external] = [&config.tunnel.port, &config.external.port];
    let ports = [Port::probe(eal, &tunnel.device)?, Port::probe(eal, &external.device)?];
    let mtu = tunnel.mtu.max(external.mtu);
    // A frame with its L2 header in one buffer, whatever the MTU.
    let room = SMALLEST_BUFFER.max(mtu + 128);
    let pool = Mempool::new(eal, BUFFERS, room, ports[0].socket())?;
    let workers = config.workers.cores.len() as u16;
    let mut started = ports
        .into_iter()
        .zip([(Side::Tunnel, tunnel), (Side::External, external)])
        .map(|(port, (side, settings))| -> Result<StartedPort> {
            let mac = port.mac();
            let (queues, watch) = port.start(workers, &pool, settings.mtu)?;
            info!(%side, device = settings.device, %mac, mtu = settings.mtu, "port is up");
            let device = settings.device.clone();
            let handle = PortHandle { side, device, mac, watch: Box::new(watch) };
            Ok(StartedPort { queues, handle, pool })
        });
    match (started.next(), started.next()) {
        (Some(tunnel), Some(external)) => Ok([tunnel?, external?]),
        _ => bail!("there are two ports"),
    }
}

fn datapath_config(config: &Config, ports: &[StartedPort; 2]) -> Result<DatapathConfig> {
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
fn split(ports: [StartedPort; 2], config: &Config) -> ([PortHandle; 2], Vec<DpdkIo>) {
    let [tunnel, external] = ports;
    let pool = tunnel.pool;
    let pairs = tunnel.queues.into_iter().zip(external.queues).take(config.workers.cores.len());
    let ios = pairs.map(|(tunnel, external)| DpdkIo::new(tunnel, external, pool)).collect();
    ([tunnel.handle, external.handle], ios)
}

fn new_worker<B: crate::datapath::PacketBuf>(
    id: usize,
    eal: &Eal,
    config: &Config,
    datapath: &Arc<DatapathConfig>,
    policies: &PolicyStore,
) -> Result<(WorkerHandle, Worker<B>)> {
    let nat = NatConfig {
        max_sessions: max_sessions(config),
        pages: if config.eal.hugepages { Pages::Huge } else { Pages::Transparent },
        timeouts: timeouts(config),
        mss_limit: datapath.mss_limits(),
        secret: draw_secret().context("cannot draw a secret from /dev/urandom")?,
    };
    // Where the worker will run, so that its table is near.
    let nat = eal.run_on(eal.worker_lcores()[id], move || Nat::new(&nat))?.with_context(|| {
        format!("nat.max_sessions = {}: no memory for the session table", config.nat.max_sessions)
    })?;
    let TableMemory { bytes, pages } = nat.memory();
    let (sessions, mib) = (config.nat.max_sessions, bytes >> 20);
    info!(worker = id, sessions, mib, %pages, "session table");
    if config.eal.hugepages && pages != Pages::Huge {
        warn!(
            worker = id,
            mib, "too few free hugepages for the session table: large tables will be slower"
        );
    }
    let core = usize::from(config.workers.cores[id]);
    let counters = Arc::new(WorkerCounters::default());
    let (requests, receiver) = crossbeam_channel::bounded(REQUESTS);
    let (datapath, published) = (Arc::clone(datapath), policies.published());
    let worker = Worker::new(datapath, nat, published, Arc::clone(&counters), receiver);
    let policy_sessions = worker.nat().policy_sessions();
    Ok((WorkerHandle { id, core, counters, policy_sessions, requests }, worker))
}

/// A family without egress prefixes has no sessions, and its table takes no memory.
fn max_sessions(config: &Config) -> Each<u32> {
    let most = config.nat.max_sessions;
    let of_family = |is_empty: bool| if is_empty { 0 } else { most };
    Both {
        v4: of_family(config.external.egress_prefixes_v4.is_empty()),
        v6: of_family(config.external.egress_prefixes_v6.is_empty()),
    }
}

fn timeouts(config: &Config) -> Timeouts {
    let seconds = |duration: std::time::Duration| duration.as_secs() as u32;
    let nat = &config.nat;
    Timeouts::new(&TimeoutSettings {
        udp: seconds(nat.udp_timeout),
        udp_dns: seconds(nat.udp_dns_timeout),
        udp_unreplied: seconds(nat.udp_unreplied_timeout),
        tcp_established: seconds(nat.tcp_established_timeout),
        tcp_transitory: seconds(nat.tcp_transitory_timeout),
        tcp_time_wait: seconds(nat.tcp_time_wait_timeout),
        icmp: seconds(nat.icmp_timeout),
    })
}

fn idle_mode(config: &Config) -> IdleMode {
    match config.workers.idle {
        ConfiguredIdle::Adaptive => IdleMode::Adaptive,
        ConfiguredIdle::Spin => IdleMode::Spin,
    }
}

fn draw_secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}
