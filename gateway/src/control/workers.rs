//! What the control side holds of a worker and of a port.

use crate::{
    datapath::{WorkerCounters, io::PortWatch, request::Request},
    nat::PolicySessions,
    verdict::Side,
    wire::MacAddress,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A worker polls every few microseconds, and sleeps well under a millisecond when idle. One that did
/// not turn its loop for so long is stuck.
pub const TURN: Duration = Duration::from_secs(2);
/// A worker with ten million sessions looks at all of them in well under this.
const ANSWER: Duration = Duration::from_secs(30);

/// A running worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// 0, 1, …; the metric label.
    pub id: usize,
    /// The CPU that it is pinned to.
    pub core: usize,
    /// Its session table, as it was made.
    pub table: TableRoom,
    pub counters: Arc<WorkerCounters>,
    pub policy_sessions: Arc<PolicySessions>,
    pub requests: Sender<Request>,
}

/// What a session table has room for, and the memory that it takes.
#[derive(Clone, Copy, Debug)]
pub struct TableRoom {
    /// Of both families.
    pub sessions: u64,
    pub bytes: u64,
}

/// A worker did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} does not answer: it may be stuck")]
pub struct Silent(pub usize);

impl WorkerHandle {
    /// Asks the worker; the answer is waited for apart, so that many workers can be asked at once.
    pub fn ask<T>(
        &self,
        request: impl FnOnce(Sender<T>) -> Request,
    ) -> Result<Question<'_, T>, Silent> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let sent = self.requests.send_timeout(request(reply), TURN);
        sent.map_err(|_| Silent(self.id))?;
        Ok(Question { worker: self, answer })
    }
}

/// A request that a worker has.
#[derive(Debug)]
pub struct Question<'a, T> {
    worker: &'a WorkerHandle,
    answer: Receiver<T>,
}

impl<T> Question<'_, T> {
    /// Blocks until the worker answers, is found stuck, or takes too long.
    pub fn wait(self) -> Result<T, Silent> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let polls = self.worker.counters.polls.get();
            match self.answer.recv_timeout(TURN) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout)
                    if polls != self.worker.counters.polls.get() && Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(Silent(self.worker.id));
                }
            }
        }
    }
}

/// A started port.
#[derive(Debug)]
pub struct PortHandle {
    pub side: Side,
    /// The DPDK device string of the config.
    pub device: String,
    pub mac: MacAddress,
    pub watch: Box<dyn PortWatch>,
}
