//! Systems under test come up, stop, go on, and leave nothing behind, however they or we end. They want
//! root, two CPUs and `dpdk-testpmd`, which stands in for a generator, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod traces;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use perf::system::{Hugepages, Io, Place, System, gateway, kernel, peer, testpmd};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use traces::{GATEWAY, Traces};

fn place(hugepages: bool) -> Place {
    Place { cores: vec![1], generator_core: 0, hugepages, tsc_hz: 1_000_000_000 }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Holds the other ends of a system's devices, and sends nothing.
struct OtherEnds(Child);

impl OtherEnds {
    fn of(system: &dyn System, hugepages: bool) -> Self {
        let (devices, more) = system.devices();
        let mut command = Command::new("taskset");
        // Its output is a pipe; each line is wanted when it is written.
        command.args([
            "--cpu-list",
            "0",
            "stdbuf",
            "-oL",
            "dpdk-testpmd",
            "--lcores=0@0,1@0",
            "--no-pci",
        ]);
        match hugepages {
            true => command.args(["--in-memory", "--single-file-segments"]),
            false => command.args(["--no-huge", "--no-shconf", "-m", "128"]),
        };
        command.args(more);
        for device in &devices {
            command.args(["--vdev", device]);
        }
        // It does not poll: the driver may crash when another comes while it does.
        command.args(["--", "--interactive", "--disable-link-check"]);
        command.args(["--total-num-mbufs=8192", "--no-mlockall"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().unwrap();
        // A memif takes connections when its port has started; who comes before stays without a link.
        let mut said = Vec::new();
        let output = BufReader::new(child.stdout.as_mut().unwrap());
        let mut output = output.bytes().map_while(Result::ok);
        while !said.ends_with(b"testpmd>") {
            said.push(output.next().expect("testpmd ended"));
        }
        OtherEnds(child)
    }
}

impl Drop for OtherEnds {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Ticks of CPU time of all processes whose command line has the word.
fn cpu_time(word: &str) -> u64 {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = |stat: String| {
        let after = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        let field = |number: usize| after.split(' ').nth(number)?.parse::<u64>().ok();
        field(11).unwrap_or(0) + field(12).unwrap_or(0)
    };
    traces::children(word).into_iter().map(|pid| ticks(stat(pid))).sum()
}

/// Pauses it, sees that it uses no CPU, and resumes it.
fn rests(system: &mut dyn System, word: &str) {
    until("it spins", || {
        let before = cpu_time(word);
        thread::sleep(Duration::from_millis(50));
        cpu_time(word) > before
    });
    system.pause().unwrap();
    // The kernel books a process's last ticks when it comes to.
    until("it stops", || {
        let before = cpu_time(word);
        thread::sleep(Duration::from_millis(200));
        cpu_time(word) == before
    });
    let before = cpu_time(word);
    system.resume().unwrap();
    until("it spins again", || cpu_time(word) > before + 1);
}

fn with_hugepages(work: impl FnOnce(bool)) {
    match Hugepages::allow() {
        Ok(_allowance) => work(true),
        Err(error) => {
            eprintln!("without hugepages: {error:#}");
            work(false);
        }
    }
}

fn gateway_over(io: Io) {
    let before = Traces::now();
    with_hugepages(|hugepages| {
        let options =
            gateway::Options { io, cycle_counters: true, ..gateway::Options::for_flows(10_000, 1) };
        let mut system = gateway::start(&options, &place(hugepages)).unwrap();
        let is_first = io == Io::MemifZeroCopy;
        if is_first {
            let error = system.ready().unwrap_err().to_string();
            assert!(error.contains("no generator"), "{error}");
        }
        for _ in 0..if is_first { 1 } else { 2 } {
            let _ends = OtherEnds::of(&system, hugepages);
            system.ready().unwrap();
            let sample = system.sample().unwrap().unwrap();
            assert_eq!(sample.sessions, 0);
            assert!(sample.session_bytes > 2 << 20, "{sample:?}");
            assert!(system.flush().unwrap().unwrap() < 10.0);
        }
        rests(&mut system, GATEWAY);
        assert_ne!(Traces::now(), before, "traces are seen");
    });
    traces::gone(&before);
}

#[test]
fn a_gateway_over_memif() {
    gateway_over(Io::Memif);
}

#[test]
fn a_gateway_over_memif_without_copying() {
    gateway_over(Io::MemifZeroCopy);
}

#[test]
fn a_gateway_over_packet_sockets() {
    gateway_over(Io::AfPacket);
}

#[test]
fn a_gateway_over_xdp_sockets() {
    gateway_over(Io::AfXdp);
}

#[test]
fn a_gateway_that_does_not_come_up_says_why() {
    let before = Traces::now();
    let options = gateway::Options { sessions_per_worker: 0, ..gateway::Options::for_flows(1, 1) };
    let error = format!("{:#}", gateway::start(&options, &place(false)).unwrap_err());
    assert!(error.contains("max_sessions") && error.contains("exit status: 2"), "{error}");
    traces::gone(&before);
}

fn testpmd_over(io: Io) {
    let before = Traces::now();
    with_hugepages(|hugepages| {
        let mut system = testpmd::start(io, &place(hugepages)).unwrap();
        let _ends = OtherEnds::of(&system, hugepages);
        system.ready().unwrap();
        assert_eq!(system.sample().unwrap(), None);
        rests(&mut system, "--forward-mode=io");
    });
    traces::gone(&before);
}

#[test]
fn testpmd_over_memif() {
    testpmd_over(Io::Memif);
}

#[test]
fn testpmd_over_packet_sockets() {
    testpmd_over(Io::AfPacket);
}

#[test]
fn hugepages_are_given_back() {
    const SURPLUS: &str = "/proc/sys/vm/nr_overcommit_hugepages";
    let pages = || fs::read_to_string(SURPLUS).unwrap().trim().parse::<u64>().unwrap();
    let before = pages();
    let Ok(allowance) = Hugepages::allow() else { return };
    assert!(pages() > before);
    drop(allowance);
    assert_eq!(pages(), before);
}

#[test]
fn the_kernel() {
    let before = Traces::now();
    // More than any machine has room for by itself.
    let options = kernel::Options::for_flows(3_000_000, 64);
    let mut system = kernel::start(&options, &place(false)).unwrap();
    system.ready().unwrap();
    let sample = system.sample().unwrap().unwrap();
    assert_eq!(sample.sessions, 0);
    system.pause().unwrap();
    system.resume().unwrap();
    assert!(system.flush().unwrap().unwrap() < 10.0);
    assert_ne!(Traces::now(), before, "traces are seen");
    drop(system);
    traces::gone(&before);
}

const HOLD: &str = "HOLD_SYSTEMS_UNTIL_KILLED";

/// Runs this test again in a process of its own, which holds systems of every kind, and ends that by the
/// signal.
fn ended_by(test: &str, signal: Signal) {
    if std::env::var_os(HOLD).is_some() {
        hold();
    }
    let before = Traces::of(0);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(HOLD, "1");
    let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("all are there")), "it did not start them");
    let pid = holder.id();
    let there = format!("{:?}", Traces::of(pid));
    let gateway = format!(": {GATEWAY}");
    for kind in ["interface", "table netdev", "folder", &gateway, "dpdk-testpmd"] {
        assert!(there.contains(kind), "{kind}: {there}");
    }
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    holder.wait().unwrap();
    traces::gone_of(pid, &before);
}

fn hold() -> ! {
    let hugepages = Hugepages::allow();
    let place = place(hugepages.is_ok());
    let options = gateway::Options { io: Io::AfPacket, ..gateway::Options::for_flows(10_000, 1) };
    let _gateway = gateway::start(&options, &place).unwrap();
    let mut testpmd = testpmd::start(Io::Memif, &place).unwrap();
    // One that rests, too.
    testpmd.pause().unwrap();
    let _kernel = kernel::start(&kernel::Options::for_flows(3_000_000, 1), &place).unwrap();
    let _peer = peer::start(&peer(STRANGER), &place).unwrap();
    println!("all are there");
    loop {
        thread::park();
    }
}

#[test]
fn nothing_is_left_by_one_who_is_told_to_end() {
    ended_by("nothing_is_left_by_one_who_is_told_to_end", Signal::SIGTERM);
}

#[test]
fn nothing_is_left_by_one_who_is_killed() {
    ended_by("nothing_is_left_by_one_who_is_killed", Signal::SIGKILL);
}

fn peer(command: &str) -> peer::Options {
    peer::Options { command: command.to_owned(), flows: 1000, nodes: 4, udp_timeout: 86_400 }
}

/// testpmd again, as a stranger would start it: with a child that has to go with it.
const STRANGER: &str = "sleep infinity & \
    exec dpdk-testpmd --lcores 0@$EGRESS_PERF_CORE,1@$EGRESS_PERF_CORE --no-pci --no-huge \
    --no-shconf -m 128 --no-telemetry \
    --vdev net_memif0,role=server,socket-abstract=no,socket=$EGRESS_PERF_TUNNEL_SOCKET \
    --vdev net_memif1,role=server,socket-abstract=no,socket=$EGRESS_PERF_EXTERNAL_SOCKET \
    -- --forward-mode=io --auto-start --disable-link-check --total-num-mbufs=8192 --no-mlockall";

#[test]
fn a_peer() {
    let before = Traces::now();
    let mut system = peer::start(&peer(STRANGER), &place(false)).unwrap();
    let ends = OtherEnds::of(&system, false);
    system.ready().unwrap();
    assert_eq!(system.sample().unwrap(), None);
    rests(&mut system, "--forward-mode=io");
    drop(system);
    drop(ends);
    traces::gone(&before);
}

#[test]
fn a_peer_that_fails_says_why() {
    let before = Traces::now();
    let error = peer::start(&peer("echo no licence; false"), &place(false)).unwrap_err();
    assert!(format!("{error:#}").contains("no licence"), "{error:#}");
    traces::gone(&before);
}
