//! What is measured.
//!
//! - [`gateway`]: the product; [`testpmd`]: the floor under it; [`kernel`]: Linux' own NAT; [`router`]: our own
//!   forwarding without NAT; [`peer`]: anybody else's
//! - [`place`]: on which CPUs; `cable`: by which devices, with a `namespace` where these are veths
//! - [`Sample`]: what a system counts
//! - `process`: a program that runs, stops, ends; `keeper`: why nothing is left behind, however we end
//! - [`hugepages`]: for all of them

mod cable;
pub mod gateway;
pub mod hugepages;
mod keeper;
pub mod kernel;
mod namespace;
pub mod peer;
pub mod place;
mod process;
pub mod router;
mod sample;
pub mod testpmd;

pub use cable::Io;
pub use hugepages::Hugepages;
pub use place::Place;
pub use sample::Sample;

use anyhow::{Context, Result, ensure};
use keeper::{Keeper, quoted};
use std::path::{Path, PathBuf};

/// One system under test that runs. It ends, with all that was made for it, when it is dropped.
pub trait System: Send {
    /// `gateway`, `testpmd`, `kernel`, `router`, or the peer's name.
    fn name(&self) -> &str;

    /// The generator's ends of its devices, tunnel and external, in DPDK's words; and further words for
    /// the generator's EAL.
    fn devices(&self) -> ([String; 2], Vec<String>);

    /// To be called when the generator has its devices, each generator anew: waits until the system
    /// forwards, or says why it does not.
    fn ready(&mut self) -> Result<()>;

    /// What it counted since it started; `None` where it tells nothing.
    fn sample(&mut self) -> Result<Option<Sample>>;

    /// Stops it from using its CPU until [`System::resume`]: others are measured meanwhile.
    fn pause(&mut self) -> Result<()>;

    fn resume(&mut self) -> Result<()>;

    /// Ends all sessions; seconds that it took, `None` where it has none.
    fn flush(&mut self) -> Result<Option<f64>>;
}

/// A fresh folder for one system's files and sockets.
fn folder(name: &str, keeper: &mut Keeper) -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix(&format!("egress-perf-{name}-")).tempdir()?.keep();
    keeper.finally(&format!("rm -rf {}", quoted(&folder.display().to_string())))?;
    Ok(folder)
}

/// A program: as it was given, else as the environment says, else the one beside us.
fn program(name: &str, variable: &str, given: Option<&Path>) -> Result<PathBuf> {
    let from_environment = || std::env::var_os(variable).map(PathBuf::from);
    if let Some(path) = given.map(Path::to_owned).or_else(from_environment) {
        ensure!(path.exists(), "{} is missing (see {variable})", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("no folder")?;
    // Tests are in deps/, the programs one level up.
    if folder.ends_with("deps") {
        folder = folder.parent().context("no folder")?;
    }
    let path = folder.join(name);
    let hint = format!("build it, or say where it is in {variable}");
    ensure!(path.exists(), "{} is missing: {hint}", path.display());
    Ok(path)
}
