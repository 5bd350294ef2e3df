//! The product: its real program, configured for what [`crate::plan`] says.

mod api;
mod config;
mod stats;

use super::{
    Io, Place, Sample, System, cable::Cable, folder, keeper::Keeper, process::Process, program,
};
use anyhow::{Context, Result, bail, ensure};
use api::{Api, Readiness};
use serde::{Deserialize, Serialize};
use stats::Stats;
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

const START: Duration = Duration::from_secs(60);
/// Of a gateway that connects to the generator. Now and then, on a busy machine, the handshake of DPDK 22.11
/// fails (the other side maps a region: ENODEV), and the driver does not try again: another gateway does.
const CONNECT: Duration = Duration::from_secs(3);
const CONNECTS: usize = 10;
const FLUSH: Duration = Duration::from_secs(120);
/// A link that is down stands for a memif whose other end is not there yet.
const LINK: &str = "the link of the ";

/// How the gateway is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `egress-gateway`. `None`: what the environment variable `EGRESS_GATEWAY` says, else the one beside
    /// this program.
    pub program: Option<PathBuf>,
    pub io: Io,
    /// The size of each worker's session table.
    pub sessions_per_worker: u32,
    /// Seconds.
    pub udp_timeout: u32,
    pub udp_unreplied_timeout: u32,
    pub idle: Idle,
    /// Whether it counts cycles, which costs it a few per packet.
    pub cycle_counters: bool,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    #[default]
    Spin,
    Adaptive,
}

impl Options {
    /// Over memif, with room for so many flows and an eighth more (they are not spread evenly over the
    /// workers), none of which ends while it is measured.
    pub fn for_flows(flows: u32, workers: usize) -> Self {
        const A_DAY: u32 = 86_400;
        let each = flows / workers.max(1) as u32;
        Options {
            program: None,
            io: Io::Memif,
            sessions_per_worker: each + each / 8 + 16_384,
            udp_timeout: A_DAY,
            udp_unreplied_timeout: A_DAY,
            idle: Idle::Spin,
            cycle_counters: false,
        }
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    io: Io,
    /// `None` until [`System::ready`] where the generator has to be there first.
    process: Option<Process>,
    api: Api,
    program: PathBuf,
    place: Place,
    cable: Cable,
    folder: PathBuf,
    /// Last: it undoes what the others made.
    keeper: Keeper,
}

/// Starts a gateway with a worker on each of the place's cores, and waits until it would forward if its
/// links were up: see [`System::ready`].
///
/// # Errors
/// When it does not come up: the message ends with the last lines of its log.
pub fn start(options: &Options, place: &Place) -> Result<Gateway> {
    let program = program("egress-gateway", "EGRESS_GATEWAY", options.program.as_deref())?;
    ensure!(!place.cores.is_empty(), "a gateway needs a CPU");
    ensure!(
        place.hugepages || options.io != Io::MemifZeroCopy,
        "memif without copying needs hugepages, which are not to be used here"
    );
    let mut keeper = Keeper::start()?;
    let folder = folder("gateway", &mut keeper)?;
    let cable = Cable::make(options.io, place, place.cores.len(), &folder, &mut keeper)?;
    let text = config::gateway(options, place, &cable, &folder);
    fs::write(folder.join(config::CONFIG), text)?;
    fs::write(folder.join(config::POLICY), config::policies())?;
    let api = Api::new(folder.join(config::SOCKET))?;
    let (io, place) = (options.io, place.clone());
    let mut gateway = Gateway { io, process: None, api, program, place, cable, folder, keeper };
    if !gateway.cable.generator_is_first() {
        gateway.start()?;
        let links = |reasons: &[String]| reasons.iter().all(|reason| reason.starts_with(LINK));
        gateway.wait(START, |it| it.ready || links(&it.reasons))?;
    }
    Ok(gateway)
}

impl Gateway {
    fn start(&mut self) -> Result<()> {
        let mut command = self.cable.command(&self.place)?;
        command.arg(&self.program).args(["run", "--config"]).arg(self.folder.join(config::CONFIG));
        command.env_remove("RUST_LOG");
        let process = Process::start("gateway", command, &self.folder, &mut self.keeper)?;
        self.process = Some(process);
        Ok(())
    }

    /// To a generator that is there and does not poll yet: its driver does not bear a peer that goes while
    /// it does.
    fn connect(&mut self) -> Result<()> {
        ensure!(self.cable.has_sockets(), "there is no generator that it could connect to");
        let mut outcome = Ok(());
        for _ in 0..CONNECTS {
            self.start()?;
            outcome = self.wait(CONNECT, |it| it.ready);
            if outcome.is_ok() {
                break;
            }
            self.process = None;
        }
        outcome
    }

    fn wait(&mut self, within: Duration, is_enough: impl Fn(&Readiness) -> bool) -> Result<()> {
        let mut reasons = Vec::new();
        let (api, process) = (&self.api, self.process.as_mut().context(NOT_STARTED)?);
        let outcome = process.wait_until("readiness", within, |_| {
            let Some(readiness) = api.readiness()? else { return Ok(false) };
            let enough = is_enough(&readiness);
            reasons = readiness.reasons;
            Ok(enough)
        });
        match reasons.as_slice() {
            [] => outcome,
            reasons => outcome.with_context(|| format!("not ready: {}", reasons.join("; "))),
        }
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context(NOT_STARTED)
    }
}

const NOT_STARTED: &str = "it starts when the generator is there: see System::ready";

impl System for Gateway {
    fn name(&self) -> &str {
        match self.io {
            Io::MemifZeroCopy => "gateway zero-copy",
            Io::Memif | Io::AfPacket | Io::AfXdp => "gateway",
        }
    }

    fn devices(&self) -> ([String; 2], Vec<String>) {
        (self.cable.generator().clone(), Vec::new())
    }

    fn ready(&mut self) -> Result<()> {
        match self.process {
            None => self.connect(),
            Some(_) => self.wait(START, |it| it.ready),
        }
    }

    fn sample(&mut self) -> Result<Option<Sample>> {
        self.process()?.is_alive()?;
        Ok(Some(self.api.get::<Stats>("/v1/stats")?.sample()))
    }

    fn pause(&mut self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::pause)
    }

    fn resume(&mut self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::resume)
    }

    fn flush(&mut self) -> Result<Option<f64>> {
        self.process()?.is_alive()?;
        let began = Instant::now();
        let _: serde_json::Value = self.api.delete("/v1/sessions?all=true")?;
        while self.api.get::<Stats>("/v1/stats")?.sessions() > 0 {
            if began.elapsed() > FLUSH {
                bail!("sessions are left {} s after all were to end", FLUSH.as_secs());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Some(began.elapsed().as_secs_f64()))
    }
}
