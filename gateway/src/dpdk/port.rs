//! NIC ports: found by their device string, configured, started, and handed out as queues.

use super::{
    eal::Eal,
    error::DpdkError,
    mempool::Mempool,
    queue::{RxQueue, TxQueue},
    rss::{NoRss, Rss, RssPlan},
};
use crate::{
    datapath::io::{PortStats, PortWatch},
    wire::MacAddress,
};
use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_eth_stats, rte_ether_addr};
use std::{
    ffi::{CStr, CString},
    sync::Arc,
};

/// A device that was found, not yet configured.
#[derive(Debug)]
pub struct Port {
    open: Arc<OpenPort>,
    mac: MacAddress,
    socket: i32,
}

/// An open device; stopped and closed when the last queue and handle are gone.
#[derive(Debug)]
pub(super) struct OpenPort {
    id: u16,
    device: String,
}

/// Reads a port's state from any thread; keeps the port open.
#[derive(Clone, Debug)]
pub struct DpdkPortWatch(Arc<OpenPort>);

/// How a port is to run.
#[derive(Clone, Copy, Debug)]
pub struct PortSettings {
    /// Pairs of queues.
    pub queues: u16,
    /// The largest L3 packet.
    pub mtu: u16,
    /// What the RSS key is derived from.
    pub rss_seed: [u8; 16],
}

/// A port that runs.
#[derive(Debug)]
pub struct StartedPort {
    /// In the order of their numbers.
    pub queues: Vec<(RxQueue, TxQueue)>,
    pub watch: DpdkPortWatch,
    pub rss: Result<Rss, NoRss>,
}

const DESCRIPTORS: u16 = 1024;

impl Port {
    /// Finds the device: a vdev string (`net_af_packet0,iface=eth1`) or a PCI address.
    pub fn probe(_eal: &Eal, device: &str) -> Result<Self, DpdkError> {
        let bad = || DpdkError::returned("rte_dev_probe", libc::EINVAL, device);
        let name = device.split(',').next().unwrap_or(device);
        let (args, name) =
            (CString::new(device).map_err(|_| bad())?, CString::new(name).map_err(|_| bad())?);
        // SAFETY: the EAL runs (`_eal`) and the string is NUL-terminated; the call copies it.
        let code = unsafe { dpdk_sys::rte_dev_probe(args.as_ptr()) };
        match code {
            // Drivers answer -1 for whatever went wrong; taken for an errno it would mislead.
            -1 => {
                let what = format!("{device}: the driver's message above says why");
                return Err(DpdkError::returned("rte_dev_probe", 0, what));
            }
            // A PCI device that was allowed on the command line is there already.
            code if code == -libc::EEXIST => {}
            code => DpdkError::check("rte_dev_probe", code, device)?,
        }
        let mut id = 0;
        // SAFETY: the name is NUL-terminated, the number is ours to be written.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
        DpdkError::check("rte_eth_dev_get_port_by_name", code, device)?;
        let open = Arc::new(OpenPort { id, device: device.to_owned() });

        let mut mac = rte_ether_addr::default();
        // SAFETY: the port exists and the address is ours to be written.
        let code = unsafe { dpdk_sys::rte_eth_macaddr_get(id, &mut mac) };
        DpdkError::check("rte_eth_macaddr_get", code, device)?;
        // SAFETY: takes any number; answers -1 where the node is unknown.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) };
        Ok(Port { open, mac: MacAddress(mac.addr_bytes), socket })
    }

    pub fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The NUMA node; -1 where the device has none.
    pub fn socket(&self) -> i32 {
        self.socket
    }

    /// Sets up the pairs of queues, fed from `pool`, starts the port and hands the queues out. Whatever is
    /// sent through them has to be of that pool.
    pub fn start(self, settings: PortSettings, pool: &Mempool) -> Result<StartedPort, DpdkError> {
        let OpenPort { id, device } = &*self.open;
        let (id, PortSettings { queues, mtu, rss_seed }) = (*id, settings);
        let info = self.info()?;
        self.check_limits(&info, settings)?;
        let mut plan = RssPlan::new(&info, &driver_name(&info), queues, rss_seed);
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(mtu);
        // All that is sent comes from one pool and has one owner, which spares the driver to look.
        conf.txmode.offloads = info.tx_offload_capa & dpdk_sys::TX_FAST_FREE;
        if let Ok(plan) = &mut plan {
            plan.configure(&mut conf);
        }
        // SAFETY: the port exists and is stopped; conf is read only, and so is the key in `plan`.
        let code = unsafe { dpdk_sys::rte_eth_dev_configure(id, queues, queues, &conf) };
        DpdkError::check("rte_eth_dev_configure", code, device)?;

        let (mut rx_descriptors, mut tx_descriptors) = (DESCRIPTORS, DESCRIPTORS);
        // SAFETY: the port exists; both numbers are ours to be written.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
        };
        DpdkError::check("rte_eth_dev_adjust_nb_rx_tx_desc", code, device)?;
        let socket = self.socket.max(0) as u32;
        for queue in 0..queues {
            // SAFETY: the port is configured with this many queues and stopped; NULL asks for the
            // driver's default settings; the pool lives as long as the process.
            let code = unsafe {
                let (defaults, pool) = (std::ptr::null(), pool.as_ptr());
                dpdk_sys::rte_eth_rx_queue_setup(id, queue, rx_descriptors, socket, defaults, pool)
            };
            DpdkError::check("rte_eth_rx_queue_setup", code, device)?;
            // SAFETY: as above.
            let code = unsafe {
                let defaults = std::ptr::null();
                dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, defaults)
            };
            DpdkError::check("rte_eth_tx_queue_setup", code, device)?;
        }
        // SAFETY: all queues are set up.
        let code = unsafe { dpdk_sys::rte_eth_dev_start(id) };
        DpdkError::check("rte_eth_dev_start", code, device)?;

        // Neighbor Discovery comes to groups, which a NIC filters by itself. The loop drops what is not for
        // an address of ours.
        // SAFETY: the port runs.
        let code = unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) };
        if code != 0 {
            let reason = DpdkError::returned("rte_eth_allmulticast_enable", -code, device);
            tracing::info!("{reason}: IPv6 needs a driver that delivers multicast anyway");
        }

        // SAFETY: the port runs, and `self.open` keeps it so.
        let rss = plan.and_then(|plan| unsafe { plan.apply(id) });
        let pair = |queue| {
            (
                RxQueue::new(Arc::clone(&self.open), queue),
                TxQueue::new(Arc::clone(&self.open), queue),
            )
        };
        let queues = (0..queues).map(pair).collect();
        Ok(StartedPort { queues, watch: DpdkPortWatch(Arc::clone(&self.open)), rss })
    }

    fn info(&self) -> Result<rte_eth_dev_info, DpdkError> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port exists and info is ours to be written.
        let code = unsafe { dpdk_sys::rte_eth_dev_info_get(self.open.id, &mut info) };
        DpdkError::check("rte_eth_dev_info_get", code, &self.open.device)?;
        Ok(info)
    }

    /// An error that says which limit of the device is passed; DPDK's own says only that one is.
    fn check_limits(
        &self,
        info: &rte_eth_dev_info,
        settings: PortSettings,
    ) -> Result<(), DpdkError> {
        let PortSettings { queues, mtu, .. } = settings;
        let device = &self.open.device;
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if queues > most {
            let more = more_queues(&driver_name(info), queues);
            let what = format!("{device}: {queues} queue pairs wanted, it has {most} ({more})");
            return Err(DpdkError::returned("rte_eth_dev_configure", libc::EINVAL, what));
        }
        if mtu < info.min_mtu || mtu > info.max_mtu {
            let range = format!("{}–{}", info.min_mtu, info.max_mtu);
            let what = format!("{device}: mtu {mtu} is outside of what it can do ({range})");
            return Err(DpdkError::returned("rte_eth_dev_configure", libc::EINVAL, what));
        }
        Ok(())
    }
}

fn driver_name(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return "of this device".to_owned();
    }
    // SAFETY: a driver's name is a static NUL-terminated string.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

/// How a device of that driver comes to as many queue pairs.
fn more_queues(driver: &str, queues: u16) -> String {
    match driver {
        "net_af_packet" => format!("add ,qpairs={queues} to the device"),
        "net_af_xdp" => {
            format!("add ,queue_count={queues} to the device; its interface needs as many channels")
        }
        "net_virtio_user" | "net_vhost" => format!("add ,queues={queues} to the device"),
        "net_pcap" => "give it one rx_pcap= and tx_pcap= for each".to_owned(),
        "net_tap" => "a tap has at most 16: take fewer workers.cores".to_owned(),
        "net_memif" => "a memif has at most 255: take fewer workers.cores".to_owned(),
        _ => "take fewer workers.cores, or another device".to_owned(),
    }
}

impl OpenPort {
    pub(super) fn id(&self) -> u16 {
        self.id
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        // SAFETY: no queue handle is left, so nobody polls the port. Stopping a port that was never
        // started, and closing it, are allowed; errors leave nothing to be done.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        // SAFETY: as above; after this nobody knows the id.
        unsafe { dpdk_sys::rte_eth_dev_close(self.id) };
    }
}

impl DpdkPortWatch {
    pub(super) fn open(&self) -> Arc<OpenPort> {
        Arc::clone(&self.0)
    }
}

impl PortWatch for DpdkPortWatch {
    fn stats(&self) -> PortStats {
        let mut raw = rte_eth_stats::default();
        // SAFETY: the port is open while `self` is; the numbers are ours to be written. Reading
        // counters beside polling lcores is allowed.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.0.id, &mut raw) };
        if code != 0 {
            return PortStats::default();
        }
        PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffer: raw.rx_nombuf,
        }
    }

    fn link_is_up(&self) -> bool {
        let mut link = rte_eth_link::default();
        // SAFETY: the port is open while `self` is; link is ours to be written.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.0.id, &mut link) };
        code == 0 && link.link_status() != 0
    }
}
