//! DPDK's own testpmd: frames that come in at one port go out at the other as they are. What it costs to
//! move them, and so the floor under all others.

use super::{Io, Place, Sample, System, cable::Cable, folder, keeper::Keeper, process::Process};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);
/// Without hugepages, in MiB, and how many buffers fit into it.
const MEMORY: u32 = 256;
const BUFFERS: u32 = 32_768;

/// A testpmd that runs.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
    cable: Cable,
    _keeper: Keeper,
}

/// Starts `dpdk-testpmd` (of Debian's package dpdk-dev), or what the environment variable `DPDK_TESTPMD`
/// says, in its io mode.
///
/// # Errors
/// When it is not installed, or does not come up: the message ends with its last lines.
pub fn start(io: Io, place: &Place) -> Result<Testpmd> {
    ensure!(
        io != Io::MemifZeroCopy,
        "testpmd is measured as memif's server, which has no zero-copy"
    );
    let program = std::env::var_os("DPDK_TESTPMD").unwrap_or_else(|| "dpdk-testpmd".into());
    let mut keeper = Keeper::start()?;
    let folder = folder("testpmd", &mut keeper)?;
    let cable = Cable::make(io, place, 1, &folder, &mut keeper)?;
    let mut command = cable.command(place)?;
    // It would keep what it says to itself until its buffer is full.
    command.args(["stdbuf", "--output=L"]);
    command.arg(&program).args(place.eal_arguments(MEMORY)?).args(cable.eal_arguments());
    for device in cable.system() {
        command.args(["--vdev", device]);
    }
    command.args(["--", "--forward-mode=io", "--auto-start", "--nb-cores=1", "--rxd=1024"]);
    command.args(["--txd=1024", "--burst=32", "--disable-link-check", "--no-mlockall"]);
    command.arg(format!("--total-num-mbufs={BUFFERS}"));
    let mut process = Process::start("testpmd", command, &folder, &mut keeper)?;
    // It says so when it forwards, and does until its standard input ends.
    let forwards = |it: &mut Process| Ok(it.said().contains("Press enter to exit"));
    let why = "dpdk-testpmd (apt-get install dpdk-dev)";
    process.wait_until("forwarding", START, forwards).context(why)?;
    ensure!(
        !process.said().contains("Not all ports were started"),
        "testpmd could not start its ports. {}",
        process.last_words()
    );
    Ok(Testpmd { process, cable, _keeper: keeper })
}

impl System for Testpmd {
    fn name(&self) -> &str {
        "testpmd"
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
