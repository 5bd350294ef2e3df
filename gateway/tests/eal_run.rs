//! `egress-gateway run` with several workers, which may share CPUs, on devices that swallow everything.
//! The EAL starts once per process: run this with cargo nextest.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use gateway::{
    config::Config,
    control::http::stats::{Cycles, Stats},
    datapath::laps::Stage,
};
use running::{client::Address, documents, wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The gateway in this process.
struct Run {
    api: Address,
    thread: JoinHandle<()>,
}

impl Run {
    /// On two `net_null`s that receive nothing, with these CPUs.
    fn start(folder: &Path, cores: &[u16], devices: [&str; 2]) -> Self {
        Self::start_with(folder, cores, devices, false)
    }

    fn start_with(folder: &Path, cores: &[u16], devices: [&str; 2], cycle_counters: bool) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "{}\n[eal]\nhugepages = false\n[nat]\nmax_sessions = 1000\n\
             [policy]\nfile = {:?}\nstate_dir = {:?}\n[api]\nlisten = \"unix:{}\"\n",
            running::CONFIG,
            path("policy.yaml"),
            path("state"),
            path("api.sock"),
        );
        let text = text.replace("net_null0", devices[0]).replace("net_null1", devices[1]);
        let (mut config, _) = Config::parse(&text).unwrap();
        // More workers than a machine for tests has CPUs.
        config.workers.cores = cores.to_vec();
        config.workers.cycle_counters = cycle_counters;
        fs::write(folder.join("policy.yaml"), documents()).unwrap();
        let thread = thread::spawn(|| gateway::run::run(config).unwrap());
        let socket = folder.join("api.sock");
        wait_until("the API is there", || socket.exists() || thread.is_finished());
        let api = Address::Unix(socket);
        wait_until("it answers", || api.ask("GET", "/healthz", &[], b"").status == 200);
        Run { api, thread }
    }

    fn get(&self, path: &str) -> Value {
        self.api.ask("GET", path, &[], b"").json()
    }

    fn stop(self) {
        let id = process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.thread.join().unwrap();
    }
}

const SILENT: [&str; 2] = ["net_null0,no-rx=1", "net_null1,no-rx=1"];

#[test]
fn several_workers_start_fit_together_and_are_shown_apart() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path(), &[0, 1, 0], SILENT);
    assert_eq!(run.get("/readyz"), json!({"ready": true, "reasons": []}));
    let steering = run.get("/v1/steering");
    assert_eq!(
        steering["workers"],
        json!([
            {"id": 0, "core": 0, "queue": 0},
            {"id": 1, "core": 1, "queue": 1},
            {"id": 2, "core": 0, "queue": 2},
        ])
    );
    let numbers = |value: &Value| -> BTreeSet<u64> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
    };
    for map in [&steering["shard"]["map"], &steering["l4Ports"]["map"]] {
        assert_eq!(numbers(map), BTreeSet::from([0, 1, 2]));
    }
    for port in 0..2 {
        let rss = &steering["ports"][port]["rss"];
        assert_eq!(numbers(&rss["reta"]), BTreeSet::from([0, 1, 2]), "{rss}");
        assert_eq!(rss["key"].as_str().unwrap().len(), 80, "{rss}");
    }
    // What comes from the world is brought by the RSS that net_null says it has.
    assert_eq!(steering["mode"], "toeplitz");
    let reason = steering["reason"].as_str().unwrap();
    let foretold =
        "the external port's RSS is foretold by its key of 40 octets and its table of 128 entries";
    assert!(reason.starts_with(foretold), "{reason}");
    assert!(
        reason.contains("no flow rules: rule 1 of 256 (ipv4 tcp dst & 0x003f == 0"),
        "{reason}"
    );
    assert_eq!(steering["l4Ports"]["map"], steering["ports"][1]["rss"]["reta"]);
    let test = &steering["selfTest"];
    assert_eq!(test["state"], "passed", "{test}");
    let checks = test["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let wanted =
        ["shards", "l4Ports", "queues", "handoff", "prediction", "rss.tunnel", "rss.external"];
    assert_eq!(names, wanted);

    let stats: Stats = serde_json::from_value(run.get("/v1/stats")).unwrap();
    let places: Vec<_> = stats.workers.iter().map(|w| (w.worker, w.core)).collect();
    assert_eq!(places, [(0, 0), (1, 1), (2, 0)]);
    assert!(stats.workers.iter().all(|w| w.polls > 1 && w.generation == 1), "{stats:?}");
    let metrics = run.api.ask("GET", "/metrics", &[], b"");
    let mode = "\negress_gateway_steering_mode{mode=\"toeplitz\"} 1\n";
    assert!(metrics.text().contains(mode), "{}", metrics.text());
    for worker in 0..3 {
        for family in ["worker_stalled", "worker_polls_total", "worker_policy_generation"] {
            let sample = format!("\negress_gateway_{family}{{worker=\"{worker}\"}} ");
            assert!(metrics.text().contains(&sample), "{sample}");
        }
    }
    let program = Command::new(env!("CARGO_BIN_EXE_egress-gateway"))
        .args(["stats", "--api", &run.api.url()])
        .output()
        .unwrap();
    let table = String::from_utf8(program.stdout).unwrap();
    let cores: Vec<Vec<&str>> = table
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("WORKER  CORE"))
        .skip(1)
        .take(3)
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    assert_eq!(cores, [["0", "0"], ["1", "1"], ["2", "0"]], "{table}");
    run.stop();
}

/// A seed of an earlier life.
#[test]
fn the_seed_of_the_state_dir_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let seed = "00112233445566778899aabbccddeeff";
    fs::create_dir(folder.path().join("state")).unwrap();
    let kept = format!(r#"{{"version":1,"seed":"{seed}"}}"#);
    fs::write(folder.path().join("state/shard-seed.json"), &kept).unwrap();
    let run = Run::start(folder.path(), &[0, 1], SILENT);
    let steering = run.get("/v1/steering");
    assert_eq!(steering["shard"]["seed"], seed);
    run.stop();
    let after = fs::read_to_string(folder.path().join("state/shard-seed.json")).unwrap();
    assert_eq!(after, kept);
}

/// The first start draws a seed and keeps it; it is what it then works with.
#[test]
fn a_seed_is_drawn_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path(), &[0], SILENT);
    let steering = run.get("/v1/steering");
    run.stop();
    let kept = fs::read(folder.path().join("state/shard-seed.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["seed"], steering["shard"]["seed"]);
    assert_ne!(kept["seed"], "0".repeat(32));
    assert_eq!(steering["mode"], "single");
    assert_eq!(steering["ports"][0]["reason"], "the port has one queue");
}

/// A device without RSS, whose kernel side spreads by itself: the gateway says so and starts.
#[test]
fn several_workers_start_on_a_kernel_interface() {
    let folder = tempfile::tempdir().unwrap();
    let devices = ["net_null0,no-rx=1", "net_af_packet0,iface=lo,qpairs=2"];
    let run = Run::start(folder.path(), &[0, 1], devices);
    let steering = run.get("/v1/steering");
    let external = json!({
        "side": "external", "rss": null, "reason": "the driver net_af_packet has no RSS",
    });
    assert_eq!(steering["ports"][1], external);
    assert_eq!(steering["ports"][0]["rss"]["types"][0], "ipv4");
    assert_eq!(steering["mode"], "handoff");
    let reason = steering["reason"].as_str().unwrap();
    let no_help = "and the external port's RSS is no help: the driver net_af_packet has no RSS";
    assert!(reason.ends_with(no_help), "{reason}");
    assert_eq!(steering["selfTest"]["state"], "passed", "{steering}");
    run.stop();
}

/// A rule for the world's packets would also match the tunnel's, all of which go to one l4_port; RSS tells them
/// apart.
#[test]
fn a_nic_that_both_sides_share_is_not_asked_to_steer_by_l4_port() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path(), &[0, 1], [SILENT[0]; 2]);
    let steering = run.get("/v1/steering");
    assert_eq!(steering["mode"], "toeplitz");
    let reason = steering["reason"].as_str().unwrap();
    assert!(reason.contains("no flow rules: the sides share a device"), "{reason}");
    assert_eq!(steering["selfTest"]["state"], "passed", "{steering}");
    run.stop();
}

/// Time on the CPU of the threads that DPDK made for workers, in ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let of_thread = |path: PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        // 123 (name) S …: utime and stime are the 14th and 15th fields, the name may have spaces.
        let (head, tail) = stat.rsplit_once(") ")?;
        let is_wanted = head.contains("-worker");
        let fields: Vec<u64> = tail.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        is_wanted.then(|| fields[11] + fields[12])
    };
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads.filter_map(|thread| of_thread(thread.unwrap().path())).sum()
}

/// On a quiet machine it is 1 to 3 %, and the promise is 5; a machine that is busy with other tests makes
/// each wake-up dearer.
#[test]
fn a_worker_without_packets_leaves_its_core_alone() {
    const TURNS: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path(), &[1], SILENT);
    let polls = || run.get("/v1/stats")["workers"][0]["polls"].as_u64().unwrap();
    // By then it has gone all the steps from spinning to its longest wait, and announced its addresses.
    let settled = polls() + 1000;
    wait_until("it waits long", || polls() > settled);
    let (began, ticks, first) = (Instant::now(), cpu_ticks(), polls());
    wait_until("it turned often enough", || polls() >= first + TURNS);
    let (passed, busy) = (began.elapsed(), cpu_ticks() - ticks);
    let share = busy as f64 / 100.0 / passed.as_secs_f64();
    assert!(share < 0.10, "{share:.3} of a core in {passed:?}");
    assert!(
        passed > Duration::from_millis(900) * (TURNS as u32) / 1000,
        "{passed:?}: it does not wait"
    );
    // The counter of ticks is no fiction: the whole process has used some.
    assert!(cpu_ticks() > 0);
    run.stop();
}

#[test]
fn cycles_are_counted_by_stage_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // The tunnel's device receives without end what is no frame.
    let run = Run::start_with(folder.path(), &[1], ["net_null0", SILENT[1]], true);
    let cycles = || -> Option<Cycles> {
        let stats: Stats = serde_json::from_value(run.get("/v1/stats")).unwrap();
        stats.workers[0].cycles.clone()
    };
    wait_until("bursts came", || cycles().is_some_and(|cycles| cycles.turns > 10_000));
    let cycles = cycles().unwrap();
    let names: Vec<&str> = cycles.stages.keys().map(String::as_str).collect();
    let mut stages = Stage::ALL.map(Stage::label);
    stages.sort_unstable();
    assert_eq!(names, stages);
    let spent = |stage: Stage| cycles.stages[stage.label()];
    for stage in [Stage::Receive, Stage::Classify, Stage::Transmit, Stage::Upkeep] {
        assert!(spent(stage) > 0, "{cycles:?}");
    }
    assert_eq!((spent(Stage::Locate), spent(Stage::Translate)), (0, 0), "no flow: {cycles:?}");
    let turns: u64 = cycles.turn_histogram.iter().map(|(_, turns)| turns).sum();
    assert!(turns >= cycles.turns && cycles.packets >= 32 * cycles.turns, "{cycles:?}");
    assert!(cycles.turn_histogram.is_sorted_by(|a, b| a.0 < b.0), "{cycles:?}");
    let program = Command::new(env!("CARGO_BIN_EXE_egress-gateway"))
        .args(["stats", "--api", &run.api.url()])
        .output()
        .unwrap();
    let table = String::from_utf8(program.stdout).unwrap();
    let mut rows = table.lines().skip_while(|line| !line.contains("CYCLES/PACKET"));
    assert!(rows.next().unwrap().contains("UPKEEP"), "{table}");
    let row: Vec<&str> = rows.next().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), ("0", "32.0"), "{table}");
    run.stop();
}
