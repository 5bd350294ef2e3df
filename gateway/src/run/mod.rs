//! `egress-gateway run`: everything that is checked, then started, and in the end stopped.
//!
//! The order is: what can fail without a trace first (the API's socket, the policies, the devices'
//! names), then the EAL and the ports, then the workers, then the API. A failure at any step leaves
//! nothing behind.

mod cores;
mod devices;
mod policies;
mod ports;
mod steering;
mod workers;

use crate::{
    config::Config,
    control::{
        self, Gateway, Watchdog, WorkerHandle, http, listener::ApiListener, state_dir::StateDir,
    },
    datapath::{handoff::Handoff, steering::Steering},
    dpdk::{self, Eal},
};
use anyhow::{Context, Result};
use cores::Cores;
use ports::Io;
use std::{
    iter::zip,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use steering::Probed;
use tracing::info;

/// Runs until SIGINT or SIGTERM.
pub fn run(config: Config) -> Result<()> {
    let started = Instant::now();
    let cores = Cores::of(&config)?;
    devices::check_device("ports.tunnel.device", &config.tunnel.port.device)?;
    devices::check_device("ports.external.device", &config.external.port.device)?;
    let listener = ApiListener::bind(&config.api.listen)?;
    let _state = StateDir::new(&config.policy.state_dir).lock()?;
    let policies = policies::load_policies(&config)?;
    let seed = steering::shard_seed(&config.policy.state_dir)?;
    let steering = Steering::new(seed, cores.workers().len()).context("workers.cores")?;

    let eal = Eal::start(&cores.eal_options(&config)).map_err(devices::explain)?;
    info!(version = dpdk::version(), "EAL is up");
    let ports = ports::start_ports(&eal, &config, seed)?;
    let datapath = Arc::new(ports::datapath_config(&config, &ports)?);
    let port_steering: Vec<_> = ports.devices().map(steering::port_steering).collect();
    let Probed { steering, mode, reason, rules } =
        steering::probe(steering, ports.external(), &config);
    let steering = Arc::new(steering);
    let prediction = steering::prediction_check(&steering, mode, ports.external());
    let (port_handles, ios) = ports::split(ports);
    let idle = workers::idle_label(&config, &ios);

    let made: Vec<_> = Handoff::mesh(&steering)
        .into_iter()
        .map(|handoff| workers::new_worker(handoff, &eal, &config, &datapath, &policies))
        .collect::<Result<_>>()?;
    let (workers, loops): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let stop = Arc::new(AtomicBool::new(false));
    let mut lcores = Vec::new();
    for (WorkerHandle { id, core, .. }, (worker, io)) in workers.iter().zip(zip(loops, ios)) {
        let (stop, mode) = (Arc::clone(&stop), workers::idle_mode(&config));
        let lcore = eal.worker_lcores()[*id];
        lcores.push(match io {
            Io::TwoPorts(io) => {
                eal.launch(lcore, move || workers::work(worker, io, mode, started, &stop))?
            }
            Io::OneArmed(io) => {
                eal.launch(lcore, move || workers::work(worker, io, mode, started, &stop))?
            }
        });
        info!(worker = id, core, idle, "worker is polling");
    }

    let watchdog = Watchdog::start(&workers).context("cannot start the watchdog")?;
    let self_test = steering::self_test(&steering, &port_steering, prediction, &workers)?;
    let gateway = Arc::new(Gateway {
        config,
        datapath,
        watchdog,
        steering: control::steering::report(
            &steering,
            cores.workers(),
            port_steering,
            (mode, reason),
            idle,
        ),
        self_test,
        workers,
        ports: port_handles,
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
    drop(rules);
    served.context("the API ended")
}
