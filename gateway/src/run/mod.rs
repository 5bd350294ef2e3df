//! `egress-gateway run`: everything that is checked, then started, and in the end stopped.
//!
//! The order is: what can fail without a trace first (the API's socket, the policies, the devices'
//! names), then the EAL and the ports, then the workers, then the API. A failure at any step leaves
//! nothing behind.

mod cores;
mod devices;
mod policies;
mod ports;
mod workers;

use crate::{
    config::Config,
    control::{Gateway, Watchdog, http, listener::ApiListener},
    datapath::handoff::Handoff,
    dpdk::{self, Eal},
};
use anyhow::{Context, Result};
use cores::Cores;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tracing::info;

/// Runs until SIGINT or SIGTERM.
pub fn run(config: Config) -> Result<()> {
    let started = Instant::now();
    let cores = Cores::of(&config)?;
    devices::check_device("ports.tunnel.device", &config.tunnel.port.device)?;
    devices::check_device("ports.external.device", &config.external.port.device)?;
    let listener = ApiListener::bind(&config.api.listen)?;
    let policies = policies::load_policies(&config)?;

    let eal = Eal::start(&cores.eal_options(&config)).map_err(devices::explain)?;
    info!(version = dpdk::version(), "EAL is up");
    let ports = ports::start_ports(&eal, &config)?;
    let datapath = Arc::new(ports::datapath_config(&config, &ports)?);
    let stop = Arc::new(AtomicBool::new(false));
    let (handles, ios) = ports::split(ports, &config);

    let mut workers = Vec::new();
    let mut lcores = Vec::new();
    for (id, io) in ios.into_iter().enumerate() {
        let core = usize::from(config.workers.cores[id]);
        let (handle, worker) =
            workers::new_worker(id, &eal, &config, &datapath, &policies, Handoff::alone())?;
        let idle = workers::idle_label(&config, &io);
        let work = {
            let (stop, mode) = (Arc::clone(&stop), workers::idle_mode(&config));
            move || workers::work(worker, io, mode, started, &stop)
        };
        lcores.push(eal.launch(eal.worker_lcores()[id], work)?);
        info!(worker = id, core, idle, "worker is polling");
        workers.push(handle);
    }

    let watchdog = Watchdog::start(&workers).context("cannot start the watchdog")?;
    let gateway = Arc::new(Gateway {
        config,
        datapath,
        workers,
        watchdog,
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
