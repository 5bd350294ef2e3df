//! Neighbours of all workers: who is where on the links of both ports.

use super::{WorkerHandle, workers::Silent};
use crate::datapath::{
    neighbour_list::{NeighbourPlace, NeighbourRecord},
    request::{NeighbourPage, Request},
};

/// Neighbours that a worker is asked for at once.
const PAGE: usize = 1024;

/// All neighbours, each with the id of its worker. Every worker has its own: what one port's queue hears is
/// told to the others. Blocks.
pub fn list(workers: &[WorkerHandle]) -> Result<Vec<(usize, NeighbourRecord)>, Silent> {
    let mut all = Vec::new();
    for worker in workers {
        let mut from = Some(NeighbourPlace::default());
        while let Some(first) = from {
            let page = Vec::with_capacity(PAGE);
            let NeighbourPage { neighbours, next } = worker
                .ask(|reply| Request::Neighbours { from: first, limit: PAGE, page, reply })?
                .wait()?;
            all.extend(neighbours.into_iter().map(|neighbour| (worker.id, neighbour)));
            from = next;
        }
    }
    Ok(all)
}
