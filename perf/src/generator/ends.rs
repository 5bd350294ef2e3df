//! The devices that the generator sends and receives with, as its job names them.

use super::{
    ring_gateway::{self, Pulse},
    seconds::Published,
};
use crate::job::{self, Job};
use anyhow::{Context, Result, bail};
use gateway::{
    datapath::io::PortWatch,
    dpdk::{DpdkPortWatch, Eal, EalOptions, Mempool, Port, PortSettings, RxQueue, TxQueue},
    wire::MacAddress,
};
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

pub(super) type Queues = (RxQueue, TxQueue);

/// The devices, started.
#[derive(Debug)]
pub(super) struct Ends {
    /// Tunnel, external; handed out once.
    pub(super) queues: Option<[Queues; 2]>,
    pub(super) pool: Mempool,
    /// The kernel sends and receives, in the generator's own time.
    pub(super) is_kernels: bool,
    pub(super) published: Arc<Published>,
    pub(super) pulse: Option<Arc<Pulse>>,
    watches: Vec<(String, DpdkPortWatch)>,
}

/// A power of two minus one wastes no memory. Both devices' descriptors twice, and what is under way: the
/// fewer there are, the more of them stay in the cache.
pub(super) const BUFFERS: u32 = 8191;
pub(super) const BUFFER_ROOM: u16 = 2048;
pub(super) const MTU: u16 = 1500;
/// Other ends may be made after ours.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// Starts the EAL: the generator's loop is its first worker lcore. All else runs on the same CPU, where
/// it sleeps: the others are for what is measured.
pub(super) fn start_eal(job: &Job) -> Result<Eal> {
    let mut cores = vec![job.core];
    let mut args = job.eal_args.clone();
    match &job.ends {
        job::Ends::Ring { worker_core, .. } => cores.push(*worker_core),
        // Each worker is its own generator.
        job::Ends::Memory { worker_cores, .. } => cores.clone_from(worker_cores),
        job::Ends::Devices { tunnel, external } => {
            // memif sends from the other side's memory only where that is one file.
            let zero_copy =
                [tunnel, external].iter().any(|device| device.contains("zero-copy=yes"));
            let single = "--single-file-segments".to_owned();
            if zero_copy && !args.contains(&single) {
                args.push(single);
            }
        }
    }
    let options = EalOptions {
        worker_cores: cores,
        control_cores: vec![job.core],
        hugepages: job.hugepages,
        memory_mib: 256,
        pci_devices: Vec::new(),
        extra_args: args,
    };
    Eal::start(&options).context("the EAL does not start")
}

impl Ends {
    pub(super) fn open(eal: &Eal, job: &Job) -> Result<Self> {
        let pool = Mempool::new(eal, BUFFERS, BUFFER_ROOM, -1)?;
        let (queues, watches, pulse, is_kernels) = match &job.ends {
            job::Ends::Devices { tunnel, external } => {
                let names = [tunnel, external];
                let is_kernels = names.iter().any(|device| device.starts_with("net_af_"));
                let tunnel = open_device(eal, tunnel, &pool)?;
                let external = open_device(eal, external, &pool)?;
                let watches = names.into_iter().cloned().zip([tunnel.watch, external.watch]);
                ([tunnel.queues, external.queues], watches.collect(), None, is_kernels)
            }
            job::Ends::Ring { max_sessions, .. } => {
                let (queues, pulse) = ring_gateway::start(eal, job, *max_sessions, pool)?;
                (queues, Vec::new(), Some(pulse), false)
            }
            job::Ends::Memory { .. } => bail!("ports in memory have no devices"),
        };
        let published = Arc::new(Published::default());
        Ok(Ends { queues: Some(queues), pool, is_kernels, published, pulse, watches })
    }

    /// Waits until both links are up: a memif's is when somebody holds its other end. Asking makes a
    /// memif's client try again.
    pub(super) fn wait_for_links(&self) -> Result<()> {
        let deadline = Instant::now() + LINK_PATIENCE;
        for (device, watch) in &self.watches {
            while !watch.link_is_up() {
                if Instant::now() > deadline {
                    bail!("the link of {device} does not come up: who holds its other end?");
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

/// A device with one pair of queues, started.
pub(super) struct Device {
    pub(super) mac: MacAddress,
    pub(super) queues: Queues,
    watch: DpdkPortWatch,
}

pub(super) fn open_device(eal: &Eal, device: &str, pool: &Mempool) -> Result<Device> {
    if let Some(socket) = client_socket(device) {
        wait_for_server(device, &socket)?;
    }
    let settings = PortSettings { queues: 1, mtu: MTU, rss_seed: [7; 16] };
    let port = Port::probe(eal, device)?;
    let mac = port.mac();
    let mut started = port.start(settings, pool)?;
    let queues = started.queues.pop().with_context(|| format!("{device} has no queues"))?;
    Ok(Device { mac, queues, watch: started.watch })
}

/// The socket file of a memif's client: it looks once whether somebody serves it.
fn client_socket(device: &str) -> Option<PathBuf> {
    let mut words = device.split(',');
    let is_memif = words.next()?.starts_with("net_memif");
    let value = |key: &str| {
        let mut pairs = device.split(',').filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let is_client = value("role").is_none_or(|role| matches!(role, "client" | "slave"));
    let is_file = value("socket-abstract") == Some("no");
    (is_memif && is_client && is_file).then(|| value("socket").map(PathBuf::from)).flatten()
}

fn wait_for_server(device: &str, socket: &Path) -> Result<()> {
    let deadline = Instant::now() + LINK_PATIENCE;
    // memif's sockets are of another type: to be told so is to be told that one is there, and it hears
    // nothing of it.
    let is_there = || match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32),
    };
    while !is_there() {
        if Instant::now() > deadline {
            bail!("{device}: nobody serves the socket: the process with role=server comes first");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_memifs_client_has_a_socket_to_wait_for() {
        for (device, socket) in [
            ("net_memif0,role=client,socket-abstract=no,socket=/t/0.sock", Some("/t/0.sock")),
            ("net_memif0,socket=/t/0.sock,socket-abstract=no", Some("/t/0.sock")),
            ("net_memif0,role=server,socket-abstract=no,socket=/t/0.sock", None),
            ("net_memif0,role=client,socket=name", None),
            ("net_af_packet0,iface=tun0,socket-abstract=no,socket=/t/0.sock", None),
            ("net_ring0", None),
        ] {
            assert_eq!(client_socket(device), socket.map(PathBuf::from), "{device}");
        }
    }
}
