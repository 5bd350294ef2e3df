//! Our own forwarding without NAT, as a process of its own: `egress-perf router`. It takes packets out of the
//! tunnel and puts answers into it, and translates nothing. What it forwards, the generator can send and
//! receive.

use super::{
    Io, Place, Sample, System, cable::Cable, folder, keeper::Keeper, process::Process, program,
};
use anyhow::{Result, ensure};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// A router that runs.
#[derive(Debug)]
pub struct Router {
    process: Process,
    cable: Cable,
    _keeper: Keeper,
}

/// Starts `egress-perf router --tunnel DEVICE --external DEVICE --core N [--no-huge]`, of the program that the
/// environment variable `EGRESS_PERF` names, else of the one beside this one, and waits until it holds its
/// devices.
///
/// # Errors
/// When it does not come up: the message ends with its last lines.
pub fn start(io: Io, place: &Place) -> Result<Router> {
    ensure!(io != Io::MemifZeroCopy, "the router is measured as memif's server");
    let program = program("egress-perf", "EGRESS_PERF", None)?;
    let mut keeper = Keeper::start()?;
    let folder = folder("router", &mut keeper)?;
    let cable = Cable::make(io, place, 1, &folder, &mut keeper)?;
    let [tunnel, external] = cable.system();
    let mut command = cable.command(place)?;
    command.arg(program).args(["router", "--tunnel", tunnel, "--external", external]);
    command.args(["--core", &place.core()?.to_string()]);
    if !place.hugepages {
        command.arg("--no-huge");
    }
    for word in cable.eal_arguments() {
        command.arg(format!("--eal-arg={word}"));
    }
    let mut process = Process::start("router", command, &folder, &mut keeper)?;
    process.wait_until("its hold of its devices", START, |_| cable.is_held())?;
    Ok(Router { process, cable, _keeper: keeper })
}

impl System for Router {
    fn name(&self) -> &str {
        "router"
    }

    fn devices(&self) -> ([String; 2], Vec<String>) {
        (self.cable.generator().clone(), Vec::new())
    }

    fn ready(&mut self) -> Result<()> {
        self.process.is_alive()
    }

    fn sample(&mut self) -> Result<Option<Sample>> {
        self.process.is_alive()?;
        Ok(None)
    }

    fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    fn flush(&mut self) -> Result<Option<f64>> {
        Ok(None)
    }
}
