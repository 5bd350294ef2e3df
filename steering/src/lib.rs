//! How packets come to a gateway's workers, as the gateway tells it and nodes use it: [`report`] is what
//! `/v1/steering` answers, [`toeplitz`] the hash by which a NIC chooses the queue.

pub mod report;
pub mod toeplitz;
