//! From the seed to every packet's worker: maps, what the NICs do for them, and the test that all fit.

use super::ports::StartedPort;
use crate::{
    config::Config,
    control::{
        WorkerHandle,
        self_test::{self, Check, SelfTest},
        state_dir::StateDir,
        steering::{PortRss, PortSteering, SteeringMode},
    },
    datapath::steering::{ShardSeed, Steering},
    dpdk::{FlowRules, Rss},
};
use anyhow::{Context, Result};
use std::{path::Path, time::Duration};
use tracing::{error, info};

/// How long the API waits for the self-test, so that its first answers are those that stay.
const SELF_TEST: Duration = Duration::from_secs(2);

/// The seed of `state_dir`, drawn at the first start.
pub(super) fn shard_seed(state_dir: &Path) -> Result<ShardSeed> {
    let draw = || super::workers::draw().context("cannot draw a seed from /dev/urandom");
    let (kept, refused) = StateDir::new(state_dir).shard_seed()?;
    if let Some(aside) = refused {
        error!("{aside}. Another one is drawn");
    }
    Ok(match kept {
        Some(seed) => seed,
        None => {
            let seed = ShardSeed(draw()?);
            StateDir::new(state_dir).keep_shard_seed(seed)?;
            info!(%seed, "drew the shard seed of this gateway");
            seed
        }
    })
}

/// What each port's NIC does, told in one line each.
pub(super) fn port_steering(port: &StartedPort) -> PortSteering {
    let side = port.handle.side;
    match &port.rss {
        Ok(Rss { key, reta, types }) => {
            info!(%side, entries = reta.len(), types = types.join(" "), "RSS is set up");
            let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let types = types.iter().map(|name| (*name).to_owned()).collect();
            let rss = PortRss { key, reta: reta.clone(), types };
            PortSteering { side: side.label().to_owned(), rss: Some(rss), reason: None }
        }
        Err(reason) => {
            info!(%side, "no RSS: {reason}");
            PortSteering { side: side.label().to_owned(), rss: None, reason: Some(reason.clone()) }
        }
    }
}

/// Who brings packets from the world to their worker, and why. The NIC of the external port is asked at
/// each start; what it agreed to holds as long as the rules do.
pub(super) fn probe(
    steering: &Steering,
    external: &StartedPort,
    config: &Config,
) -> (SteeringMode, String, Option<FlowRules>) {
    let (mode, reason, rules) = if steering.workers() == 1 {
        (SteeringMode::Single, "there is one worker".to_owned(), None)
    } else if config.one_armed().is_some() {
        // All of the tunnel's packets have one destination l4_port, and would come to one worker.
        let reason = "the sides share a device, whose rules would take the tunnel's packets too";
        (SteeringMode::Handoff, reason.to_owned(), None)
    } else {
        let has_vlan = config.external.port.vlan != 0;
        match FlowRules::install(&external.watch, steering.residue_map(), has_vlan) {
            Ok(rules) => {
                let reason = format!("the external port took {} flow rules", rules.len());
                (SteeringMode::PortMask, reason, Some(rules))
            }
            Err(refused) => (SteeringMode::Handoff, refused, None),
        }
    };
    info!(mode = mode.label(), "steering: {reason}");
    (mode, reason, rules)
}

/// Begins the self-test, and gives it the time that it usually takes.
pub(super) fn self_test(
    steering: &Steering,
    ports: &[PortSteering],
    workers: &[WorkerHandle],
) -> Result<SelfTest> {
    let count = workers.len();
    let (shards, l4_ports) = (steering.clone(), steering.clone());
    let (polled, greeted) = (workers.to_vec(), workers.to_vec());
    let shares: Vec<_> = (0..count).map(|worker| steering.share(worker)).collect();
    let mut checks = vec![
        Check::new("shards", move || self_test::shards(shards.shard_map(), count)),
        Check::new("l4Ports", move || {
            self_test::l4_ports(&shares, |l4_port| l4_ports.of_out2in(l4_port))
        }),
        Check::new("queues", move || self_test::turns(&polled)),
        Check::new("handoff", move || self_test::handoff(&greeted)),
    ];
    for PortSteering { side, rss, .. } in ports {
        if let Some(PortRss { reta, .. }) = rss.clone() {
            let check = move || self_test::reta(&reta, count);
            checks.push(Check::new(format!("rss.{side}"), check));
        }
    }
    let test = SelfTest::start(checks).context("cannot start the self-test")?;
    test.wait(SELF_TEST);
    Ok(test)
}
