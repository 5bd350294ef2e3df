//! How packets come to their workers, in the form that `/v1/steering` shows. Fixed when the gateway has
//! started.

use crate::datapath::steering::Steering;
pub use ::steering::report::*;

/// `cores`: of the workers in their order. Ports: tunnel, external.
pub fn report(
    steering: &Steering,
    cores: &[usize],
    ports: Vec<PortSteering>,
    (mode, reason): (SteeringMode, String),
    idle: &str,
) -> SteeringReport {
    let place = |(id, core): (usize, &usize)| WorkerPlace { id, core: *core, queue: id };
    let residues = steering.residue_map();
    SteeringReport {
        workers: cores.iter().enumerate().map(place).collect(),
        shard: ShardMap {
            seed: steering.seed().to_string(),
            hash: SHARD_HASH.to_owned(),
            map: steering.shard_map().to_vec(),
        },
        l4_ports: L4PortMap { residues: residues.len(), map: residues.to_vec() },
        ports,
        mode,
        reason,
        idle: idle.to_owned(),
    }
}
