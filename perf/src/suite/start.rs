//! Where the suite meets what it measures: how each system of the table is started.

use super::{Settings, group::Spec};
use crate::{child::Generator, job::Job, result::Results, system::System};
use anyhow::{Context, Result, bail};
use std::{process::Command, sync::atomic::AtomicBool};

/// Starts what a group needs.
pub trait Start {
    /// A system that runs. An error says why this machine cannot have it.
    fn system(&mut self, spec: &Spec) -> Result<Box<dyn System>>;

    /// A generator that is ready.
    fn generator(&mut self, job: &Job, stop: &AtomicBool) -> Result<Generator>;
}

/// The programs themselves.
#[derive(Debug)]
pub struct Programs<'s> {
    pub settings: &'s Settings,
}

impl Start for Programs<'_> {
    fn system(&mut self, spec: &Spec) -> Result<Box<dyn System>> {
        bail!("{:?} is not part of this build", spec.subject.kind)
    }

    fn generator(&mut self, job: &Job, stop: &AtomicBool) -> Result<Generator> {
        let mut command = Command::new(std::env::current_exe().context("this program's file")?);
        command.arg("generate");
        Generator::start(command, job, stop)
    }
}

/// `egress-perf generate`: serves a job and its steps on standard input and output.
pub fn generate() -> Result<()> {
    bail!("the generator is not part of this build")
}

/// `egress-perf router`: forwards between two devices until it is ended.
pub fn router(
    _tunnel: &str,
    _external: &str,
    _core: usize,
    _hugepages: bool,
    _eal_args: &[String],
) -> Result<()> {
    bail!("the twin is not part of this build")
}

/// Results for the eye, beside earlier ones.
pub fn html(_results: &Results, _earlier: Option<&Results>) -> Result<String> {
    bail!("the report is not part of this build")
}
