//! What is measured.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// Counted since start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the time stamp counter: turns of the loop that found packets.
    pub busy_cycles: u64,
    /// Packets of these turns.
    pub packets: u64,
    pub turns: u64,
    /// Cycles by stage, where the system tells them.
    pub stages: BTreeMap<String, u64>,
    /// Duration of busy turns: (upper bound in cycles, number), ascending.
    pub turn_cycles: Vec<(u64, u64)>,
    pub sessions: u64,
    pub sessions_created: u64,
    pub sessions_ended: u64,
    /// Memory of the session table.
    pub session_bytes: u64,
    pub drops: BTreeMap<String, u64>,
}
