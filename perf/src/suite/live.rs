//! A system that runs, and the generator that it answers.

use super::{measure::Repeat, scenarios::Subject};
use crate::{
    child::Generator,
    job::Load,
    system::{Sample, System},
};
use anyhow::{Context, Result, bail};

/// A system that runs, and its generator.
pub(super) struct Live {
    pub(super) subject: Subject,
    pub(super) name: String,
    /// It ends before the system whose devices it holds.
    pub(super) generator: Generator,
    /// `None` where the generator holds it.
    pub(super) system: Option<Box<dyn System>>,
    /// All flows have sessions.
    pub(super) is_established: bool,
    /// There are sessions beside the flows.
    pub(super) has_others: bool,
    /// Packets per second that it took of a load.
    pub(super) throughputs: Vec<(Load, f64)>,
}

impl Live {
    pub(super) fn pause(&mut self) -> Result<()> {
        self.system.as_mut().map_or(Ok(()), |system| system.pause()).context("it cannot be paused")
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.system.as_mut().map_or(Ok(()), |system| system.resume()).context("it cannot go on")
    }

    pub(super) fn sample(&mut self) -> Result<Option<Sample>> {
        self.system.as_mut().map_or(Ok(None), |system| system.sample()).context("what it counted")
    }

    /// Seconds that it took; `None` where the system has no sessions or cannot end them.
    pub(super) fn flush(&mut self) -> Result<Option<f64>> {
        let flushed = self.system.as_mut().map_or(Ok(None), |system| system.flush());
        let seconds = flushed.context("its sessions cannot be ended")?;
        if seconds.is_some() {
            (self.is_established, self.has_others) = (false, false);
        }
        Ok(seconds)
    }

    pub(super) fn tear_down(&mut self) -> Result<Repeat> {
        let sessions = self.sample()?.map(|sample| sample.sessions);
        let (Some(sessions), Some(seconds)) = (sessions, self.flush()?) else {
            bail!("it does not tell of its sessions, or cannot end them");
        };
        Ok(Repeat {
            sessions: Some(sessions),
            sessions_per_second: (seconds > 0.0).then(|| sessions as f64 / seconds),
            ..Repeat::default()
        })
    }
}
