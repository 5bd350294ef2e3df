//! The DPDK wrapper on DPDK's own virtual devices. The EAL starts once per process, so these run
//! under `cargo nextest`, which gives each test a process of its own.
//!
//! Every test that takes packets from a pool ends by counting that all are back.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod buffers;
#[path = "../harness/mod.rs"]
mod harness;
mod ports;
mod traffic;

use arrayvec::ArrayVec;
use gateway::{
    datapath::{
        BURST, Burst, PacketBuf, PacketIo,
        idle::{Wait, WaitBy},
        io::PortWatch,
    },
    dpdk::{
        DpdkIo, Eal, EalOptions, FlowRules, LcoreHandle, Mbuf, Mempool, Port, PortSettings,
        RxQueue, StartedPort, TxQueue,
    },
    nat::Tick,
};
use harness::*;
use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const BUFFERS: u32 = 2047;

fn start(worker_cores: Vec<usize>) -> Eal {
    let options =
        EalOptions { worker_cores, hugepages: false, memory_mib: 256, ..EalOptions::default() };
    Eal::start(&options).expect("one EAL per process: run this with cargo nextest")
}

fn pool(eal: &Eal) -> Mempool {
    Mempool::new(eal, BUFFERS, 2048, -1).unwrap()
}

fn port(eal: &Eal, device: &str, pool: &Mempool) -> ((RxQueue, TxQueue), impl PortWatch + use<>) {
    let mut port = started(eal, device, 1, pool);
    (port.queues.pop().unwrap(), port.watch)
}

fn started(eal: &Eal, device: &str, queues: u16, pool: &Mempool) -> StartedPort {
    Port::probe(eal, device).unwrap().start(settings(queues), pool).unwrap()
}

fn settings(queues: u16) -> PortSettings {
    PortSettings { queues, mtu: 1500, rss_seed: [7; 16] }
}

fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.alloc().unwrap();
    assert!(packet.fill(bytes));
    packet
}

#[test]
fn the_eal_starts_once() {
    let _eal = start(vec![]);
    let options = EalOptions { hugepages: false, ..EalOptions::default() };
    let error = Eal::start(&options).unwrap_err();
    assert_eq!((error.call, error.errno), ("rte_eal_init", libc_ealready()));
}

fn libc_ealready() -> i32 {
    114
}

#[test]
fn a_wrong_eal_argument_is_an_error_that_names_the_call() {
    let options = EalOptions {
        hugepages: false,
        extra_args: vec!["--no-such-option".into()],
        ..EalOptions::default()
    };
    let error = Eal::start(&options).unwrap_err();
    assert_eq!(error.call, "rte_eal_init");
    assert!(error.to_string().contains("--no-such-option"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_names_it() {
    let eal = start(vec![]);
    for device in ["net_nonsense0", "net_af_packet0,iface=not-there", "0000:ff:1f.7"] {
        let error = Port::probe(&eal, device).unwrap_err();
        assert!(error.to_string().contains(device), "{error}");
    }
}

#[test]
fn work_runs_on_its_lcore_and_only_there() {
    let cores = thread::available_parallelism().unwrap().get();
    let eal = start(vec![cores - 1]);
    let lcore = eal.worker_lcores()[0];
    let (done, result) = mpsc::channel();
    let status = move || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        done.send(status).unwrap();
    };
    eal.launch(lcore, status).unwrap().join();
    let status = result.recv().unwrap();
    assert!(status.contains(&format!("Cpus_allowed_list:\t{}", cores - 1)), "{status}");

    let runs = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let runs = Arc::clone(&runs);
        eal.launch(lcore, move || {
            runs.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap()
        .join();
    }
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    let error = eal.launch(77, || {}).unwrap_err();
    assert!(error.to_string().contains("lcore 77"), "{error}");
}

/// Neither this machine's virtual devices nor, as a rule, its CPU can wait for a packet by themselves.
#[test]
fn a_worker_waits_by_sleeping_where_there_is_nothing_better_and_wakes_in_time() {
    let eal = start(vec![0]);
    let pool = pool(&eal);
    let [tunnel, external] = ["net_ring0", "net_ring1"].map(|device| port(&eal, device, &pool).0);
    let mut io = DpdkIo::new(tunnel, external, pool);
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
    let has_waitpkg = flags.split_whitespace().any(|flag| flag == "waitpkg");
    assert_eq!(io.wait_by(), if has_waitpkg { WaitBy::Pause } else { WaitBy::Sleep });

    let work = move || {
        let began = Instant::now();
        io.wait(Duration::from_millis(2));
        // The link names the thread: 123/task/456.
        let thread = fs::read_link("/proc/thread-self").unwrap();
        let id = thread.file_name().unwrap().to_str().unwrap().to_owned();
        let slack = fs::read_to_string(format!("/proc/{id}/timerslack_ns")).unwrap();
        (began.elapsed(), slack)
    };
    let (waited, slack) = eal.run_on(eal.worker_lcores()[0], work).unwrap();
    assert_eq!(slack.trim(), "1");
    assert!(has_waitpkg || waited >= Duration::from_millis(2), "{waited:?}");
}

/// More workers than CPUs: for tests, and for a machine that has no more.
#[test]
fn lcores_may_share_a_cpu() {
    let eal = start(vec![0, 0, 0]);
    let (say, heard) = mpsc::channel();
    let meet = Arc::new(Barrier::new(3));
    let lcores: Vec<_> = (0..3)
        .map(|worker| {
            let (say, meet) = (say.clone(), Arc::clone(&meet));
            let work = move || {
                // All three run at the same time, or this never ends.
                meet.wait();
                say.send(worker).unwrap();
            };
            eal.launch(eal.worker_lcores()[worker], work).unwrap()
        })
        .collect();
    lcores.into_iter().for_each(LcoreHandle::join);
    drop(say);
    let mut workers: Vec<usize> = heard.iter().collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 1, 2]);
}
