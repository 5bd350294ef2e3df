//! Sessions of all workers, page by page.

use super::{WorkerHandle, workers::Silent};
use crate::{
    datapath::request::{Page, Request, SessionFilter},
    nat::SessionRecord,
};
use std::{fmt, str::FromStr};

/// The most sessions in one page.
pub const MAX_PAGE: usize = 10_000;

/// Where a list goes on: a worker and a slot of its table. Sessions that begin or end while a list is
/// read may be missed; none is shown twice unless it ended and began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    worker: usize,
    slot: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.worker, self.slot)
    }
}

/// Not of the form that a list gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: take the value of \"next\" from the page before")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (worker, slot) = text.split_once('-').ok_or(BadCursor)?;
        let worker = worker.parse().map_err(|_| BadCursor)?;
        Ok(Cursor { worker, slot: slot.parse().map_err(|_| BadCursor)? })
    }
}

/// Sessions with the id of their worker.
pub type Sessions = Vec<(usize, SessionRecord)>;

/// Up to `limit` sessions from `from` on. Blocks.
pub fn list(
    workers: &[WorkerHandle],
    filter: SessionFilter,
    limit: usize,
    from: Cursor,
) -> Result<(Sessions, Option<Cursor>), Silent> {
    let limit = limit.clamp(1, MAX_PAGE);
    let mut sessions = Sessions::new();
    let mut cursor = from;
    while let Some(worker) = workers.get(cursor.worker) {
        let room = limit - sessions.len();
        let page = Vec::with_capacity(room);
        let Page { sessions: found, next } = worker
            .ask(|reply| Request::List { filter, from: cursor.slot, limit: room, page, reply })?
            .wait()?;
        sessions.extend(found.into_iter().map(|session| (worker.id, session)));
        cursor = match next {
            Some(slot) => Cursor { slot, ..cursor },
            None => Cursor { worker: cursor.worker + 1, slot: 0 },
        };
        if sessions.len() >= limit {
            break;
        }
    }
    let more = cursor.worker < workers.len();
    Ok((sessions, more.then_some(cursor)))
}

/// Ends all sessions that fit; returns how many. Blocks.
pub fn flush(workers: &[WorkerHandle], filter: SessionFilter) -> Result<u64, Silent> {
    let mut flushed = 0;
    for worker in workers {
        flushed += worker.ask(|reply| Request::Flush { filter, reply })?.wait()?;
    }
    Ok(flushed)
}
