//! Waiting for a condition. Nothing in the lab sleeps for a time that is hoped to be long enough.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const PAUSE: Duration = Duration::from_millis(10);

/// Long enough for a machine that builds something else meanwhile; a wait that succeeds never takes as long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Tries again until `attempt` succeeds. After `limit` its last error is the reason.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| format!("waited {limit:?} until {what}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
