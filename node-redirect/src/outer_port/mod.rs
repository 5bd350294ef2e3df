//! Which outer UDP source port a packet gets. A gateway's NIC chooses the queue by it, so the right one brings a packet straight to the
//! worker that owns its flow. What is needed for that the gateway tells at `/v1/steering`.
//!
//! [`source`] reads that, [`told`] keeps it, [`choice`] finds the ports for each worker, [`slots`] is who has which slot of the map, [`follow`] is the agent's part, and
//! `bpf/steering.h` takes the ports packet by packet. Without it ports are only spread, and the gateway hands packets over to their owners: nothing else depends on it.

pub mod choice;
pub mod follow;
pub mod slots;
pub mod source;
pub mod told;

pub use choice::SourcePorts;
