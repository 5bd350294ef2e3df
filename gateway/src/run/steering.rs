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
    dpdk::{FlowRules, Rss, SoftRss},
    nat::{Endpoint, ExternalEndpoint, FlowKey, Protocol, RemoteEndpoint},
    wire::Address,
};
use anyhow::{Context, Result};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tracing::{error, info};

/// How long the API waits for the self-test, so that its first answers are those that stay.
const SELF_TEST: Duration = Duration::from_secs(2);

/// Kinds of packets whose l4_ports RSS has to look at, by the names that [`Rss::types`] has.
const V4_TYPES: [&str; 2] = ["ipv4-tcp", "ipv4-udp"];
const V6_TYPES: [&str; 2] = ["ipv6-tcp", "ipv6-udp"];

/// Pools of each family that the self-test tries, and every how many of their l4_ports.
const POOLS: u8 = 16;
const STEP: usize = 97;

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

/// Who brings packets from the world to their worker.
pub(super) struct Probed {
    pub(super) steering: Steering,
    pub(super) mode: SteeringMode,
    /// Why it is that mode.
    pub(super) reason: String,
    /// They hold as long as this lives.
    pub(super) rules: Option<FlowRules>,
}

/// Asks the NIC of the external port, at each start, in this order: rules for l4_ports; RSS that can be
/// foretold; neither.
pub(super) fn probe(steering: Steering, external: &StartedPort, config: &Config) -> Probed {
    let probed = if steering.workers() == 1 {
        let reason = "there is one worker".to_owned();
        Probed { steering, mode: SteeringMode::Single, reason, rules: None }
    } else {
        match install_rules(&steering, external, config) {
            Ok(rules) => {
                let reason = format!("the external port took {} flow rules", rules.len());
                Probed { steering, mode: SteeringMode::PortMask, reason, rules: Some(rules) }
            }
            Err(no_rules) => foretell(steering, external, config, &no_rules),
        }
    };
    info!(mode = probed.mode.label(), "steering: {}", probed.reason);
    probed
}

fn install_rules(
    steering: &Steering,
    external: &StartedPort,
    config: &Config,
) -> Result<FlowRules, String> {
    if config.one_armed().is_some() {
        // All of the tunnel's packets have one destination l4_port, and would come to one worker.
        return Err(
            "the sides share a device, whose rules would take the tunnel's packets too".to_owned()
        );
    }
    let has_vlan = config.external.port.vlan != 0;
    FlowRules::install(&external.watch, steering.residue_map(), has_vlan)
}

/// Without rules: by the RSS of the port, if that is known and fit for it.
fn foretell(steering: Steering, external: &StartedPort, config: &Config, no_rules: &str) -> Probed {
    let fit = external.rss.as_ref().map_err(String::clone).and_then(|rss| {
        looks_at_l4_ports(rss, config)?;
        let steering = steering.clone().with_rss(&rss.key, &rss.reta);
        steering.map(|steering| (steering, rss)).map_err(|unfit| unfit.to_string())
    });
    match fit {
        Ok((steering, Rss { key, reta, types })) => {
            let (octets, entries, types) = (key.len(), reta.len(), types.join(" "));
            let reason = format!(
                "the external port's RSS is foretold by its key of {octets} octets and its table of \
                 {entries} entries, for {types}; no flow rules: {no_rules}"
            );
            Probed { steering, mode: SteeringMode::Toeplitz, reason, rules: None }
        }
        Err(unfit) => {
            let reason = format!("{no_rules}; and the external port's RSS is no help: {unfit}");
            Probed { steering, mode: SteeringMode::Handoff, reason, rules: None }
        }
    }
}

/// Whether RSS hashes l4_ports of the families that sessions can have.
fn looks_at_l4_ports(rss: &Rss, config: &Config) -> Result<(), String> {
    let external = &config.external;
    let v4: &[&str] = if external.egress_prefixes_v4.is_empty() { &[] } else { &V4_TYPES };
    let v6: &[&str] = if external.egress_prefixes_v6.is_empty() { &[] } else { &V6_TYPES };
    match [v4, v6].concat().into_iter().find(|wanted| !rss.types.contains(wanted)) {
        Some(missing) => Err(format!("it does not spread {missing}")),
        None => Ok(()),
    }
}

/// In mode [`SteeringMode::Toeplitz`]: what workers foretell is what DPDK computes.
pub(super) fn prediction_check(
    steering: &Steering,
    mode: SteeringMode,
    external: &StartedPort,
) -> Option<Check> {
    let rss = external.rss.as_ref().ok().filter(|_| mode == SteeringMode::Toeplitz)?;
    let (steering, Rss { key, reta, .. }) = (steering.clone(), rss.clone());
    Some(Check::new("prediction", move || {
        let nic = SoftRss::new(&key);
        let queue = |source, destination| {
            let hash = nic.hash(source, destination).unwrap_or_default() as usize;
            usize::from(reta[hash & (reta.len() - 1)])
        };
        let mut tried = 0;
        for n in 1..=POOLS {
            let (egress, remote) = (Ipv4Addr::new(203, 0, 113, n), Ipv4Addr::new(198, 51, 100, n));
            tried += foretold(&steering, egress, (remote, 443 + u16::from(n)), queue)?;
            let [egress, remote] =
                [0x113, 0x100].map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, n.into()));
            tried += foretold(&steering, egress, (remote, 443 + u16::from(n)), queue)?;
        }
        Ok(format!("{tried} answers come to the queue of their worker, as DPDK computes it"))
    }))
}

/// Whether the answers to some l4_ports that each worker may give out come to its queue. Returns how many were
/// tried.
fn foretold<A: Address>(
    steering: &Steering,
    egress_ip: A,
    remote: (A, u16),
    queue: impl Fn(SocketAddr, SocketAddr) -> usize,
) -> Result<usize, String> {
    let external = ExternalEndpoint(Endpoint::new(egress_ip, 0));
    let remote_endpoint = RemoteEndpoint(Endpoint::new(remote.0, remote.1));
    let pool = FlowKey::out2in(Protocol::Udp, external, remote_endpoint);
    let source = SocketAddr::new(remote.0.into(), remote.1);
    let mut tried = 0;
    for worker in 0..steering.workers() {
        let allotment = steering.allotment(worker);
        let share = allotment.of(&pool);
        for l4_port in (0..share.len()).step_by(STEP).filter_map(|number| share.nth(number)) {
            let destination = SocketAddr::new(egress_ip.into(), l4_port);
            let to = queue(source, destination);
            if to != worker {
                return Err(format!(
                    "worker {worker} gives {destination}, and answers of {source} go to queue {to}"
                ));
            }
            tried += 1;
        }
    }
    Ok(tried)
}

/// Begins the self-test, and gives it the time that it usually takes.
pub(super) fn self_test(
    steering: &Steering,
    ports: &[PortSteering],
    prediction: Option<Check>,
    workers: &[WorkerHandle],
) -> Result<SelfTest> {
    let count = workers.len();
    let (shards, l4_ports) = (steering.clone(), steering.clone());
    let (polled, greeted) = (workers.to_vec(), workers.to_vec());
    let shares: Vec<_> = (0..count).map(|worker| steering.share(worker)).collect();
    let mut checks = vec![
        Check::new("shards", move || self_test::shards(shards.shard_map(), count)),
        Check::new("l4Ports", move || {
            self_test::l4_ports(&shares, |l4_port| l4_ports.of_residue(l4_port))
        }),
        Check::new("queues", move || self_test::turns(&polled)),
        Check::new("handoff", move || self_test::handoff(&greeted)),
    ];
    checks.extend(prediction);
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
