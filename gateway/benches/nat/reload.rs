//! A worker with a million sessions while 10,000 policies of 100 CIDRs each are replaced, again and again.
//!
//! The control side is the real one (`PolicyStore`), on one CPU; the worker has the other, and bursts of 32 hits, in2out and out2in in turn.
//! Rounds without and with a reload alternate. What the machine itself does to a thread that only reads the clock is told beside.

mod parts;
mod turns;

use crate::{
    burst::Order,
    world::{BURST, Family, Flows, NODES, POLICY, World},
};
use arc_swap::ArcSwap;
use gateway::{
    control::{PolicyStore, TableRoom, WorkerHandle, policies::ApplyOptions, state_dir::StateDir},
    datapath::handoff::Handoff,
    nat::PolicyTable,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use parts::{Parts, Time};
use policy::{Format, GatewayLimits};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use turns::Turns;

const POLICIES: u32 = 10_000;
const CIDRS: u32 = 100;
const ROUNDS: usize = 8;
/// Of a round without a reload.
const QUIET: Duration = Duration::from_secs(2);
const CONTROL_CPU: usize = 0;
const WORKER_CPU: usize = 1;

/// What the worker's turns, or the clock readings in their place, are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No worker, no reload: the machine.
    Machine,
    /// No worker, but the control side does in the same process what a reload needs.
    Control,
    /// The worker without reloads.
    Quiet,
    /// The worker while a set is applied.
    Reloading,
}

/// In the order of the enum.
const PHASES: [(Phase, &str); END] = [
    (Phase::Machine, "clock only, no reload"),
    (Phase::Control, "clock only, control side busy"),
    (Phase::Quiet, "worker, no reload"),
    (Phase::Reloading, "worker, reloading"),
];
/// One more than the last phase: the worker's thread ends.
const END: usize = Phase::Reloading as usize + 1;

/// What the rounds found.
#[derive(Debug)]
pub(crate) struct Figures {
    flows: u32,
    bytes: usize,
    /// Of each round.
    apply: Vec<Time>,
    parts: Vec<Parts>,
    turns: [Turns; END],
    /// Hundredths of a second that the hypervisor took from the worker's CPU, in each phase.
    steal: [u64; END],
}

pub(crate) fn under_load(flows: u32) -> Figures {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let limits = GatewayLimits {
        egress_prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        ..GatewayLimits::default()
    };
    let state = StateDir::new(folder.path());
    let store = PolicyStore::new("gw-a", limits.clone(), Vec::new(), state);
    store.load_at_start(|| Ok(Some(documents(0, 0)))).unwrap();
    // in turn, so that each round changes something
    let sets = [documents(POLICIES, 0), documents(POLICIES, 1)];
    let phase = AtomicUsize::new(Phase::Machine as usize);
    let (ready, handles) = crossbeam_channel::bounded(1);
    let published = store.published();
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            pin(WORKER_CPU);
            let bench = Bench::new(flows, published);
            ready.send(bench.handle()).unwrap();
            bench.run(&phase)
        });
        let workers = [handles.recv().unwrap()];
        pin(CONTROL_CPU);
        let (mut apply, mut parts, mut steal) = (Vec::new(), Vec::new(), [0; END]);
        let mut during = |now: Phase, work: &mut dyn FnMut()| {
            let before = stolen();
            phase.store(now as usize, Ordering::SeqCst);
            work();
            steal[now as usize] += stolen() - before;
        };
        for round in 0..ROUNDS {
            let text = &sets[round % 2];
            during(Phase::Machine, &mut || thread::sleep(QUIET));
            during(Phase::Quiet, &mut || thread::sleep(QUIET));
            during(Phase::Reloading, &mut || {
                let options = ApplyOptions::default();
                let apply_set = || store.apply(text, Format::Yaml, options, &workers);
                let (applied, time) = Time::of(apply_set);
                applied.unwrap();
                apply.push(time);
                // until the worker has looked at all sessions once more
                thread::sleep(QUIET / 4);
            });
            during(Phase::Control, &mut || {
                parts.push(Parts::measure(text, &limits, folder.path()));
            });
        }
        phase.store(END, Ordering::SeqCst);
        let turns = worker.join().unwrap();
        Figures { flows, bytes: sets[0].len(), apply, parts, turns, steal }
    })
}

fn pin(core: usize) {
    let mut cpu = CpuSet::new();
    cpu.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).expect("two CPUs");
}

/// The worker's thread.
struct Bench {
    world: World,
    order: Order,
    in2out: bool,
}

impl Bench {
    fn new(flows: u32, policies: Arc<ArcSwap<PolicyTable>>) -> Self {
        let flows = Flows::Numbered(flows);
        let order = Order::new(true, flows.len());
        let world = World::controlled(Family::V4, flows, Handoff::alone(), policies);
        world.worker.settle();
        Bench { world, order, in2out: true }
    }

    fn handle(&self) -> WorkerHandle {
        let nat = self.world.worker.nat();
        WorkerHandle {
            id: 0,
            core: WORKER_CPU,
            table: TableRoom { sessions: nat.sessions().into(), bytes: nat.memory().bytes as u64 },
            counters: Arc::clone(&self.world.counters),
            policy_sessions: nat.policy_sessions(),
            requests: self.world.requests.clone(),
        }
    }

    fn run(mut self, phase: &AtomicUsize) -> [Turns; END] {
        let mut turns = [(); END].map(|()| Turns::new());
        loop {
            let now = phase.load(Ordering::SeqCst);
            let Some(turns) = turns.get_mut(now) else { break };
            if now < Phase::Quiet as usize {
                turns.watch_clock();
            } else {
                self.receive_burst();
                turns.time(|| self.world.timed_turn());
                self.world.take_back();
            }
        }
        assert_eq!(self.world.drops(), [], "all packets must be hits");
        assert_eq!(self.world.worker.nat().sessions(), self.world.flows.len());
        turns
    }

    fn receive_burst(&mut self) {
        self.in2out = !self.in2out;
        for _ in 0..BURST {
            let i = self.order.next();
            match self.in2out {
                true => self.world.receive_in2out(&self.world.flows.get(i)),
                false => self.world.receive_out2in(i),
            }
        }
    }
}

/// `policies` of 100 CIDRs each, beside the one that all sessions are of.
fn documents(policies: u32, variant: u32) -> String {
    let version = "apiVersion: egress-gateway.io/v1alpha1";
    let mut text = format!(
        "{version}\nkind: EgressGateway\nmetadata: {{name: gw-a}}\nspec: {{tunnelAddress: 192.0.2.200}}\n"
    );
    for node in 0..NODES {
        let last = node + 1;
        writeln!(
            text,
            "---\n{version}\nkind: EgressNode\nmetadata: {{name: node{node}}}\nspec: {{tunnelAddress: 192.0.2.{last}, \
             sourceCheck: ClusterCIDR, clusterCIDRs: [10.0.0.0/8]}}"
        )
        .unwrap();
    }
    let pool: Vec<String> = (16..32).map(|last| format!("203.0.113.{last}")).collect();
    let mut policy = |name: &str, id: u32, cidrs: &[String], pool: &[String]| {
        write!(
            text,
            "---\n{version}\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  policyID: {id}\n  selectors:\n  \
             - podSelector: {{matchLabels: {{app: {name}}}}}\n  destinationCIDRs: [{}]\n  egress:\n  - gateway: gw-a\n    \
             egressIPs: [{}]\n",
            cidrs.join(", "),
            pool.join(", ")
        )
        .unwrap();
    };
    policy("bench", POLICY, &["0.0.0.0/0".to_owned()], &pool);
    for i in 0..policies {
        let cidr = |j: u32| {
            let number = i * CIDRS + j;
            let (a, b, c) = (20 + (number >> 18), number >> 10 & 255, number >> 2 & 255);
            format!("{a}.{b}.{c}.{}/26", (number & 3) * 64)
        };
        let cidrs: Vec<String> = (0..CIDRS).map(cidr).collect();
        // every tenth policy has another egress IP in the other variant
        let ip = 16 + (i + if i % 10 == 0 { variant } else { 0 }) % 16;
        policy(&format!("team-{i}"), 100_000 + i, &cidrs, &[format!("203.0.113.{ip}")]);
    }
    text
}

/// Of the worker's CPU, in hundredths of a second.
fn stolen() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let name = format!("cpu{WORKER_CPU} ");
    let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
    line.split(' ').nth(8).unwrap().parse().unwrap()
}

impl Figures {
    pub(crate) fn text(&self) -> String {
        let Figures { flows, bytes, .. } = self;
        let mut text = format!(
            "reload: {POLICIES} policies of {CIDRS} CIDRs ({:.1} MB of YAML), {flows} sessions, {ROUNDS} rounds\n",
            *bytes as f64 / 1e6
        );
        writeln!(text, "  {:<32} {}", "PolicyStore::apply", spread(&self.apply)).unwrap();
        for (name, part) in Parts::NAMES {
            let times: Vec<Time> = self.parts.iter().map(part).collect();
            writeln!(text, "    {name:<30} {}", spread(&times)).unwrap();
        }
        for ((_, name), (turns, steal)) in PHASES.iter().zip(self.turns.iter().zip(self.steal)) {
            writeln!(text, "  {name}: {}; {} ms stolen", turns.text(), steal * 10).unwrap();
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let seconds = |times: Vec<Time>| -> Value {
            let times = times.iter().map(|time| json!({ "wall": time.wall, "cpu": time.cpu }));
            times.collect()
        };
        let parts = Parts::NAMES
            .map(|(name, part)| (name.to_owned(), seconds(self.parts.iter().map(part).collect())));
        let turns = PHASES.iter().zip(&self.turns).map(|((_, name), turns)| (*name, turns.json()));
        json!({
            "bench": "reload",
            "flows": self.flows,
            "apply_seconds": seconds(self.apply.clone()),
            "parts_seconds": serde_json::Map::from_iter(parts),
            "turns": turns.collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

/// Median, and the smallest and largest.
fn spread(times: &[Time]) -> String {
    let text = |part: fn(&Time) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(part).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        format!("{:.3} ({min:.3}–{max:.3})", sorted[sorted.len() / 2])
    };
    format!("{} s, of which on the CPU {} s", text(|time| time.wall), text(|time| time.cpu))
}
