//! A gateway whose ports are memory: a real worker polled by a thread, the real control side, and
//! the API on a real socket.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on should panic")]

pub mod client;
pub mod documents;
mod ports;
pub mod process;
pub mod program;

use crate::harness::{EXTERNAL_MAC, NODE, POD, REMOTE, TUNNEL_MAC, tunnelled, udp};
use client::{Address, Answer};
use crossbeam_channel::{Sender, unbounded};
pub use documents::*;
use gateway::{
    config::{Config, Listen},
    control::{
        Gateway, PolicyStore, PortHandle, SelfTest, TableRoom, Watchdog, WorkerHandle, http,
        listener::ApiListener,
        self_test::Check,
        state_dir::StateDir,
        steering::{PortSteering, SteeringMode, report as steering_report},
    },
    datapath::{
        Worker, WorkerCounters,
        handoff::Handoff,
        memory_io::MemoryIo,
        steering::{ShardSeed, Steering},
    },
    memory::Pages,
    nat::{Nat, NatConfig, Tick, Timeouts},
    verdict::Side,
    wire::{Both, MacAddress},
};
use ports::{Watch, datapath};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(10);
/// One worker, with so many sessions of each family.
const ONE_WORKER: (usize, u32) = (1, 10_000);

/// A gateway that ends with the value.
pub struct Running {
    pub gateway: Arc<Gateway>,
    pub address: Address,
    /// Of both ports.
    pub link: Arc<AtomicBool>,
    /// The worker does not poll while it is set; looked at under `turn`.
    stuck: Arc<AtomicBool>,
    /// Held by the worker for each turn of its loop.
    turn: Arc<Mutex<()>>,
    frames: Sender<(Side, Vec<u8>)>,
    sent: Arc<Mutex<[Vec<Vec<u8>>; 2]>>,
    opened: AtomicU64,
    end: Arc<AtomicBool>,
    stop_api: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    state: StateFolder,
}

/// Where the accepted set is kept.
pub enum StateFolder {
    Own(TempDir),
    Given(PathBuf),
}

impl StateFolder {
    fn path(&self) -> &Path {
        match self {
            StateFolder::Own(folder) => folder.path(),
            StateFolder::Given(path) => path,
        }
    }
}

impl Running {
    /// Without policies, on a TCP socket.
    pub fn empty() -> Self {
        let state = StateFolder::Own(tempfile::tempdir().unwrap());
        Self::start(state, &Listen::Tcp(([127, 0, 0, 1], 0).into()))
    }

    /// With the usual policies.
    pub fn usual() -> Self {
        let running = Self::empty();
        let answer = running.put(&documents());
        assert_eq!(answer.status, 200, "{answer:?}");
        running
    }

    /// With policies, on ports and for pods of both families.
    pub fn dual() -> Self {
        let state = StateFolder::Own(tempfile::tempdir().unwrap());
        let running =
            Self::with_config(DUAL_CONFIG, state, &Listen::Tcp(([127, 0, 0, 1], 0).into()));
        let answer = running.put(&dual_documents());
        assert_eq!(answer.status, 200, "{answer:?}");
        running
    }

    pub fn on_unix_socket(path: &Path) -> Self {
        let state = StateFolder::Own(tempfile::tempdir().unwrap());
        Self::start(state, &Listen::Unix(path.to_owned()))
    }

    /// With a state directory of another life.
    pub fn with_state(path: &Path) -> Self {
        let state = StateFolder::Given(path.to_owned());
        Self::start(state, &Listen::Tcp(([127, 0, 0, 1], 0).into()))
    }

    /// Without policies, with a self-test of these checks, which need not have ended.
    pub fn with_checks(checks: Vec<Check>) -> Self {
        let state = StateFolder::Own(tempfile::tempdir().unwrap());
        let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
        Self::start_with(CONFIG, state, &listen, checks, ONE_WORKER)
    }

    pub fn start(state: StateFolder, listen: &Listen) -> Self {
        let running = Self::start_with(CONFIG, state, listen, Vec::new(), ONE_WORKER);
        running.gateway.self_test.wait(PATIENCE);
        running
    }

    /// Without policies, with a configuration of its own, and so many workers with so many sessions of each
    /// family each.
    pub fn with_workers(text: &str, workers: usize, max_sessions: u32) -> Self {
        let state = StateFolder::Own(tempfile::tempdir().unwrap());
        let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let running = Self::start_with(text, state, &listen, Vec::new(), (workers, max_sessions));
        running.gateway.self_test.wait(PATIENCE);
        running
    }

    fn with_config(text: &str, state: StateFolder, listen: &Listen) -> Self {
        let running = Self::start_with(text, state, listen, Vec::new(), ONE_WORKER);
        running.gateway.self_test.wait(PATIENCE);
        running
    }

    fn start_with(
        text: &str,
        state: StateFolder,
        listen: &Listen,
        checks: Vec<Check>,
        (count, max_sessions): (usize, u32),
    ) -> Self {
        let (config, _) = Config::parse(text).unwrap();
        let own = [&config.tunnel.port, &config.external.port];
        let own: Vec<IpAddr> = own.into_iter().flat_map(|port| port.own_addresses()).collect();
        let store = StateDir::new(state.path());
        let policies = PolicyStore::new("gw-a", config.policy_limits(), own, store);
        policies.load_at_start(|| Ok(None)).unwrap();

        let datapath = Arc::new(datapath(&config));
        let (link, stuck, end) = (flag(true), flag(false), flag(false));
        let turn = Arc::new(Mutex::new(()));
        let (frames, receiver) = unbounded::<(Side, Vec<u8>)>();
        let steering = Arc::new(Steering::new(ShardSeed([7; 16]), count).unwrap());
        let handoffs = match count {
            1 => vec![Handoff::alone()],
            _ => Handoff::mesh(&steering),
        };
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        let sent = Arc::<Mutex<[Vec<Vec<u8>>; 2]>>::default();
        for (id, handoff) in handoffs.into_iter().enumerate() {
            let (requests, questions) = crossbeam_channel::bounded(64);
            let counters = Arc::new(WorkerCounters::new(count));
            let (tell, told) = crossbeam_channel::bounded(1);
            let (datapath, published) = (Arc::clone(&datapath), policies.published());
            let (of_worker, stuck, end, turn, sent) = (
                Arc::clone(&counters),
                Arc::clone(&stuck),
                Arc::clone(&end),
                Arc::clone(&turn),
                Arc::clone(&sent),
            );
            // All frames arrive at the first worker's queue.
            let receiver = (id == 0).then(|| receiver.clone());
            threads.push(thread::spawn(move || {
                let nat = Nat::new(&NatConfig {
                    max_sessions: Both { v4: max_sessions, v6: max_sessions },
                    pages: Pages::Transparent,
                    timeouts: Timeouts::default(),
                    mss_limit: datapath.mss_limits(),
                    l4_ports: handoff.l4_ports(),
                    secret: [7; 32],
                });
                // Made here, so that its table is near.
                let mut worker =
                    Worker::new(datapath, nat.unwrap(), published, of_worker, questions, handoff);
                let table = TableRoom {
                    sessions: 2 * u64::from(max_sessions),
                    bytes: worker.nat().memory().bytes as u64,
                };
                tell.send((table, worker.nat().policy_sessions())).unwrap();
                let mut io = MemoryIo::default();
                let started = Instant::now();
                while !end.load(SeqCst) {
                    let one = turn.lock().unwrap();
                    if !stuck.load(SeqCst) {
                        for (side, frame) in receiver.iter().flat_map(|r| r.try_iter().take(256)) {
                            io.receive(side, &frame);
                        }
                        let millis = started.elapsed().as_millis() as u64;
                        worker.poll_once(&mut io, Tick::from_millis(millis));
                        let mut sent = sent.lock().unwrap();
                        for side in Side::ALL {
                            io.take_back(side, |frame| sent[side.index()].push(frame.to_vec()));
                        }
                    }
                    drop(one);
                    thread::yield_now();
                }
            }));
            let (table, policy_sessions) = told.recv().unwrap();
            let core = id + 1;
            workers.push(WorkerHandle { id, core, table, counters, policy_sessions, requests });
        }
        let port = |side, mac, device: &str| PortHandle {
            side,
            device: device.to_owned(),
            mac: MacAddress(mac),
            watch: Box::new(Watch(Arc::clone(&link))),
        };
        let ports = [
            port(Side::Tunnel, TUNNEL_MAC, "net_null0"),
            port(Side::External, EXTERNAL_MAC, "net_null1"),
        ];
        let (started, packet_io) = (Instant::now(), "memory".to_owned());
        let of_port = |side: Side| PortSteering {
            side: side.label().to_owned(),
            rss: None,
            reason: Some("memory".to_owned()),
        };
        let gateway = Arc::new(Gateway {
            config,
            datapath,
            watchdog: Watchdog::start(&workers).unwrap(),
            steering: steering_report(
                &steering,
                &(1..=count).collect::<Vec<_>>(),
                Side::ALL.map(of_port).into(),
                (SteeringMode::Single, "there is one worker".to_owned()),
                "spin",
            ),
            self_test: SelfTest::start(checks).unwrap(),
            workers,
            ports,
            policies,
            packet_io,
            started,
        });

        let listener = ApiListener::bind(listen).unwrap();
        let address = match (&listener, listen) {
            (ApiListener::Tcp(socket), _) => Address::Tcp(socket.local_addr().unwrap()),
            (ApiListener::Unix(..), Listen::Unix(path)) => Address::Unix(path.clone()),
            (ApiListener::Unix(..), Listen::Tcp(_)) => panic!("{listener:?}"),
        };
        let (stop_api, stopped) = oneshot::channel();
        let api = {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                runtime.block_on(http::serve(&gateway, listener, stop)).unwrap();
                runtime.shutdown_background();
            })
        };
        threads.push(api);
        Running {
            gateway,
            address,
            link,
            stuck,
            turn,
            frames,
            sent,
            opened: AtomicU64::new(0),
            end,
            stop_api: Some(stop_api),
            threads,
            state,
        }
    }

    /// The worker stops polling: when this returns, its last turn is over.
    pub fn stick(&self) {
        self.stuck.store(true, SeqCst);
        drop(self.turn.lock().unwrap());
    }

    pub fn go_on(&self) {
        self.stuck.store(false, SeqCst);
    }

    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    pub fn counters(&self) -> &WorkerCounters {
        &self.gateway.workers[0].counters
    }

    pub fn get(&self, path: &str) -> Answer {
        self.address.ask("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.address.ask("DELETE", path, &[], b"")
    }

    /// Puts YAML documents.
    pub fn put(&self, documents: &str) -> Answer {
        self.put_with("/v1/policies", &[("Content-Type", "application/yaml")], documents)
    }

    pub fn put_with(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.address.ask("PUT", path, headers, body.as_ref())
    }

    /// A frame that arrives at a port.
    pub fn receive(&self, side: Side, frame: Vec<u8>) {
        self.frames.send((side, frame)).unwrap();
    }

    /// The frames that left through a port since the last call.
    pub fn take_sent(&self, side: Side) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent.lock().unwrap()[side.index()])
    }

    /// Opens a UDP session of the pod `POD` from that port to `REMOTE`:53 under a policy.
    pub fn open(&self, policy: u32, sport: u16) {
        let inner = udp((POD, sport), (REMOTE, 53), 64, b"hello");
        self.receive(Side::Tunnel, tunnelled(NODE, policy, &inner));
        let opened = self.opened.fetch_add(1, SeqCst) + 1;
        wait_until("the session is open", || self.counters().sessions_created.get() == opened);
    }

    /// Ends the API, and waits for it.
    pub fn stop(&mut self) {
        self.end.store(true, SeqCst);
        if let Some(stop) = self.stop_api.take() {
            let _ = stop.send(());
        }
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a thread of the gateway panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn flag(value: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(value))
}
