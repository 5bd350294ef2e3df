//! Where the suite meets what it measures: how each system of the table is started.

use super::{
    Settings,
    group::Spec,
    scenarios::{Io, Kind},
};
use crate::{
    child::Generator,
    distance,
    job::Job,
    system::{self, Hugepages, Place, System, gateway, kernel, peer},
};
use anyhow::{Context, Result};
use std::{process::Command, sync::atomic::AtomicBool};

/// Starts what a group needs.
pub trait Start {
    /// A system that runs. An error says why this machine cannot have it.
    fn system(&mut self, spec: &Spec) -> Result<Box<dyn System>>;

    /// A generator that is ready.
    fn generator(&mut self, job: &Job, stop: &AtomicBool) -> Result<Generator>;

    /// Of the generator's CPU and the systems', at this moment, in cycles; `None` where that is not known.
    fn distance(&mut self) -> Option<f64>;
}

/// The programs themselves.
#[derive(Debug)]
pub struct Programs<'s> {
    settings: &'s Settings,
    /// For systems and generators.
    _hugepages: Option<Hugepages>,
}

impl Programs<'_> {
    fn peer(&self, spec: &Spec) -> Result<peer::Options> {
        Ok(peer::Options {
            command: self.settings.peer.clone().context("there is no --peer")?,
            flows: spec.flows,
            nodes: spec.nodes,
            udp_timeout: spec.idle_timeout,
        })
    }
}

impl<'s> Programs<'s> {
    /// Lends them the hugepages that they need, where they are to have any.
    pub fn new(settings: &'s Settings) -> Result<Self> {
        let hugepages = settings.hugepages.then(Hugepages::allow).transpose();
        let _hugepages = hugepages.context("no hugepages (--no-hugepages goes without)")?;
        Ok(Programs { settings, _hugepages })
    }

    fn place(&self) -> Place {
        let Settings { generator_core, system_core, hugepages, tsc_hz, .. } = *self.settings;
        Place { cores: vec![system_core], generator_core, hugepages, tsc_hz }
    }

    fn gateway(&self, spec: &Spec, io: system::Io) -> Result<Box<dyn System>> {
        let options = gateway::Options {
            program: self.settings.gateway.clone(),
            io,
            sessions_per_worker: spec.max_sessions,
            udp_timeout: spec.idle_timeout,
            udp_unreplied_timeout: spec.unreplied_timeout,
            idle: gateway::Idle::Spin,
            cycle_counters: true,
        };
        Ok(Box::new(gateway::start(&options, &self.place())?))
    }
}

fn kernel(spec: &Spec) -> kernel::Options {
    kernel::Options {
        flows: spec.flows,
        nodes: spec.nodes,
        sessions: spec.max_sessions,
        udp_timeout: spec.idle_timeout,
        udp_unreplied_timeout: spec.unreplied_timeout,
    }
}

impl Start for Programs<'_> {
    fn system(&mut self, spec: &Spec) -> Result<Box<dyn System>> {
        let io = match (spec.subject.kind, spec.subject.io) {
            (Kind::ZeroCopy, _) => system::Io::MemifZeroCopy,
            (_, Io::Memif | Io::Ring | Io::None) => system::Io::Memif,
            (_, Io::AfPacket | Io::Veth) => system::Io::AfPacket,
            (_, Io::AfXdp) => system::Io::AfXdp,
        };
        match spec.subject.kind {
            Kind::Gateway | Kind::ZeroCopy => self.gateway(spec, io),
            Kind::Testpmd => Ok(Box::new(system::testpmd::start(io, &self.place())?)),
            Kind::Router => Ok(Box::new(system::router::start(io, &self.place())?)),
            Kind::Kernel => Ok(Box::new(system::kernel::start(&kernel(spec), &self.place())?)),
            Kind::Peer => Ok(Box::new(system::peer::start(&self.peer(spec)?, &self.place())?)),
        }
    }

    fn generator(&mut self, job: &Job, stop: &AtomicBool) -> Result<Generator> {
        let mut command = Command::new(std::env::current_exe().context("this program's file")?);
        command.arg("generate");
        Generator::start(command, job, stop)
    }

    fn distance(&mut self) -> Option<f64> {
        distance::between([self.settings.generator_core, self.settings.system_core])
    }
}
