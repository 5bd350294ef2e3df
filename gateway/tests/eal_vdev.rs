//! The DPDK wrapper on DPDK's own virtual devices. The EAL starts once per process, so these run
//! under `cargo nextest`, which gives each test a process of its own.
//!
//! Every test that takes packets from a pool ends by counting that all are back.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

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
fn limits_of_a_device_are_told_before_it_is_configured() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let error = Port::probe(&eal, "net_ring0").unwrap().start(settings(99), &pool).unwrap_err();
    assert!(error.to_string().contains("99 queue pairs"), "{error}");
    let tiny = PortSettings { mtu: 9, ..settings(1) };
    let error = Port::probe(&eal, "net_null0").unwrap().start(tiny, &pool).unwrap_err();
    assert!(error.to_string().contains("mtu 9"), "{error}");
}

/// Queue pairs that a device does not have; the error says how it gets them.
#[test]
fn too_few_queues_are_told_with_the_way_to_more() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    for (device, queues, has, more) in [
        ("net_af_packet0,iface=lo".to_owned(), 2, "has 1", "add ,qpairs=2 to the device"),
        (format!("net_pcap0,rx_iface=lo,tx_pcap={out}"), 2, "has 1", "one rx_pcap= and tx_pcap="),
        ("net_tap0,iface=egtest0".to_owned(), 17, "has 16", "at most 16"),
    ] {
        let error = Port::probe(&eal, &device).unwrap().start(settings(queues), &pool).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(has) && error.contains(more), "{error}");
    }
    let device = "net_af_packet1,iface=lo,qpairs=2";
    assert_eq!(started(&eal, device, 2, &pool).queues.len(), 2);
}

/// `net_null` keeps a key and a table as a NIC does; they are read back from it, not remembered.
#[test]
fn rss_is_set_up_where_the_driver_has_it() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let rss = started(&eal, "net_null0", 3, &pool).rss.unwrap();
    assert_eq!(rss.key.len(), 40);
    assert!(rss.key.iter().any(|byte| *byte != 0));
    assert!(["ipv4-udp", "ipv4-tcp", "ipv6-udp"].iter().all(|t| rss.types.contains(t)), "{rss:?}");
    assert!(rss.reta.len() >= 64);
    let share = |queue| rss.reta.iter().filter(|entry| **entry == queue).count();
    let shares = [share(0), share(1), share(2)];
    assert_eq!(shares.iter().sum::<usize>(), rss.reta.len(), "{:?}", rss.reta);
    assert!(shares.iter().all(|n| n.abs_diff(shares[0]) <= 1), "{shares:?}");

    let same = started(&eal, "net_null1", 2, &pool).rss.unwrap();
    assert_eq!(same.key, rss.key, "the same seed, the same key");
    let other = PortSettings { rss_seed: [8; 16], ..settings(2) };
    let other = Port::probe(&eal, "net_null2").unwrap().start(other, &pool).unwrap();
    assert_ne!(other.rss.unwrap().key, rss.key);
}

#[test]
fn a_driver_without_rss_says_so() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    for (device, queues, reason) in [
        ("net_ring0", 1, "the port has one queue"),
        ("net_af_packet0,iface=lo,qpairs=2", 2, "the driver net_af_packet has no RSS"),
        (
            "net_memif0,role=server,socket-abstract=no,socket=SOCKET",
            2,
            "the driver net_memif has no RSS",
        ),
        ("net_tap0,iface=egtest1", 2, "not supported"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("memif").display().to_string();
        let rss = started(&eal, &device.replace("SOCKET", &socket), queues, &pool).rss;
        let said = rss.unwrap_err();
        assert!(said.contains(reason), "{device}: {said}");
    }
}

#[test]
fn a_driver_without_flow_rules_refuses_the_first_one_and_says_so() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let devices = ["net_null0", "net_af_packet0,iface=lo,qpairs=2"];
    for device in devices {
        let port = started(&eal, device, 2, &pool);
        let refused = FlowRules::install(&port.watch, &[0, 1], false).unwrap_err();
        let rule = "rule 1 of 8 (ipv4 tcp dst & 0x0001 == 0 → queue 0) was refused";
        assert!(refused.contains(rule) && refused.contains("rte_flow_validate"), "{refused}");
        assert!(refused.contains("not implemented"), "{refused}");
    }
}

/// The only virtual device with flow rules; it wants the kernel's multiq qdisc for them, and without it
/// finds every rule good and then makes none.
#[test]
fn a_tap_takes_all_rules_or_refuses_when_they_are_made() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let port = started(&eal, "net_tap0,iface=egtest2", 2, &pool);
    match FlowRules::install(&port.watch, &[0, 1], false) {
        Ok(rules) => assert_eq!(rules.len(), 8),
        Err(refused) => {
            assert!(refused.contains("of 8 (ipv"), "{refused}");
            assert!(refused.contains("rte_flow_create"), "{refused}");
        }
    }
}

#[test]
fn a_pool_gives_out_what_it_has_and_gets_it_back() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    assert_eq!(pool.available(), BUFFERS);
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len() as u32, pool.available()), (BUFFERS, 0));
    held.truncate(100);
    assert_eq!(pool.available(), BUFFERS - 100);
    drop(held);
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn an_impossible_pool_is_an_error() {
    let eal = start(vec![]);
    let error = Mempool::new(&eal, u32::MAX, 2048, -1).unwrap_err();
    assert_eq!(error.call, "rte_pktmbuf_pool_create");
    assert!(error.to_string().contains("4294967295"), "{error}");
}

/// The methods of the buffer, each against what the in-memory double does.
#[test]
fn an_mbuf_behaves_as_the_double_does() {
    use gateway::datapath::memory_io::MemoryIo;
    let eal = start(vec![]);
    let pool = pool(&eal);
    let mut io = MemoryIo::default();
    let mut mbuf = packet(&pool, b"0123456789");
    let mut double = io.alloc().unwrap();
    assert!(double.fill(b"0123456789"));
    type Step = fn(&mut dyn Steps) -> bool;
    let steps: &[(&str, Step)] = &[
        ("trim 3", |p| p.step_trim(3)),
        ("prepend 2", |p| p.step_prepend(2)),
        ("truncate 5", |p| p.step_truncate(5)),
        ("truncate beyond", |p| p.step_truncate(500)),
        ("prepend all of the headroom", |p| p.step_prepend(129)),
        ("one byte too many", |p| p.step_prepend(1)),
        ("trim beyond", |p| p.step_trim(5000)),
        ("fill", |p| p.step_fill(&[7; 1500])),
        ("fill beyond", |p| p.step_fill(&[7; 5000])),
    ];
    for (description, step) in steps {
        assert_eq!(step(&mut mbuf), step(&mut double), "{description}");
        assert_eq!(mbuf.data().len(), double.data().len(), "{description}");
        assert!(mbuf.is_contiguous());
        let end = mbuf.data().len().min(3);
        let tail = |data: &[u8]| data[data.len() - end..].to_vec();
        assert_eq!(tail(mbuf.data()), tail(double.data()), "{description}");
    }
    drop(mbuf);
    assert_eq!(pool.available(), BUFFERS);
}

/// [`PacketBuf`] without its self type, so that one table drives both.
trait Steps {
    fn step_trim(&mut self, len: usize) -> bool;
    fn step_prepend(&mut self, len: usize) -> bool;
    fn step_truncate(&mut self, len: usize) -> bool;
    fn step_fill(&mut self, bytes: &[u8]) -> bool;
}

impl<B: PacketBuf> Steps for B {
    fn step_trim(&mut self, len: usize) -> bool {
        self.keep(len..usize::MAX);
        true
    }
    fn step_prepend(&mut self, len: usize) -> bool {
        let done = self.prepend(len);
        // New bytes in front are of any content.
        let zeroes = if done { len } else { 0 };
        self.data_mut()[..zeroes].fill(0);
        done
    }
    fn step_truncate(&mut self, len: usize) -> bool {
        self.keep(0..len);
        true
    }
    fn step_fill(&mut self, bytes: &[u8]) -> bool {
        self.fill(bytes)
    }
}

/// A ring device gives back what is sent to it, in order; what it has no room for stays with the
/// caller.
#[test]
fn bursts_go_through_a_port_and_the_unsent_stay() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let ((mut rx, mut tx), watch) = port(&eal, "net_ring0", &pool);

    let mut next = 0u32;
    let mut stuck = loop {
        let mut burst: Burst<Mbuf> =
            (0..BURST as u32).map(|i| packet(&pool, &(next + i).to_be_bytes())).collect();
        let sent = tx.tx(&mut burst) as u32;
        next += sent;
        if !burst.is_empty() {
            break burst;
        }
        assert!(next < BUFFERS, "the ring never filled up");
    };
    assert_eq!(stuck[0].data(), next.to_be_bytes(), "the first of the unsent is the next one");
    stuck.clear();

    let mut expected = 0u32;
    let mut burst = ArrayVec::<Mbuf, 7>::new();
    while rx.rx(&mut burst) > 0 {
        for packet in burst.drain(..) {
            assert_eq!(packet.data(), expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!(expected, next);
    assert_eq!(watch.stats().rx_packets, u64::from(next));
    drop((rx, tx, watch));
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn a_burst_is_filled_behind_what_it_holds() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let ((mut rx, mut tx), _watch) = port(&eal, "net_ring0", &pool);
    let mut burst: Burst<Mbuf> = [1u8, 2, 3].iter().map(|b| packet(&pool, &[*b])).collect();
    assert_eq!(tx.tx(&mut burst), 3);
    burst.push(packet(&pool, &[0]));
    assert_eq!(rx.rx(&mut burst), 3);
    let bytes: Vec<u8> = burst.iter().map(|p| p.data()[0]).collect();
    assert_eq!(bytes, [0, 1, 2, 3]);
    drop(burst);
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn packets_left_in_a_device_go_back_when_it_closes() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    // net_null hands out empty packets from the pool, without end.
    let ((mut rx, tx), watch) = port(&eal, "net_null0,size=64", &pool);
    let mut burst = Burst::new();
    assert_eq!(rx.rx(&mut burst), BURST);
    assert!(burst.iter().all(|p| p.data().len() == 64));
    assert_eq!(pool.available(), BUFFERS - BURST as u32);
    drop((burst, rx, tx, watch));
    assert_eq!(pool.available(), BUFFERS);
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

/// The whole worker on two pcap devices: a pod's question in, and what left in the other's file.
#[test]
fn a_worker_translates_between_two_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // The driver's own MACs: 02:'p':'c':'a':'p':index.
    let [tunnel_mac, external_mac] = [0, 1].map(|index| [2, 0x70, 0x63, 0x61, 0x70, index]);
    let question = udp((POD, 4000), (REMOTE, 53), 64, b"question");
    let mut from_node = tunnelled(NODE, POLICY, &question);
    from_node[..6].copy_from_slice(&tunnel_mac);
    // The router asks for us: it is answered, and known from then on.
    let from_router = arp_frame(1, [0xff; 6], (ROUTER_MAC, ROUTER), ([0; 6], EXTERNAL));
    write_pcap(&path("tunnel-in"), &[from_node]);
    write_pcap(&path("external-in"), &[from_router]);

    let eal = start(vec![]);
    let pool = pool(&eal);
    let start = |index: u8, side: &str, mac: [u8; 6]| {
        let (rx, tx) = (path(&format!("{side}-in")), path(&format!("{side}-out")));
        let device = format!("net_pcap{index},rx_pcap={rx},tx_pcap={tx}");
        let port = Port::probe(&eal, &device).unwrap();
        assert_eq!(port.mac().0, mac);
        port.start(settings(1), &pool).unwrap().queues.pop().unwrap()
    };
    let tunnel = start(0, "tunnel", tunnel_mac);
    let mut io = DpdkIo::new(tunnel, start(1, "external", external_mac), pool);
    let setup = Setup { tunnel_mac, external_mac, ..Setup::default() };
    let mut worker = Parts::<Mbuf>::new(setup).worker;
    assert_eq!(worker.poll_once(&mut io, Tick::from_secs(1)), 2);
    drop((worker, io));
    assert_eq!(pool.available(), BUFFERS);

    let out = read_pcap(&path("external-out"));
    let answer = arp_frame(2, ROUTER_MAC, (external_mac, EXTERNAL), (ROUTER_MAC, ROUTER));
    assert!(out.contains(&answer), "{out:02x?}");
    let translated: Vec<_> =
        out.iter().filter(|f| f[12..14] == [8, 0]).map(|f| Seen::of(f)).collect();
    assert_eq!(translated.len(), 1);
    assert_eq!((translated[0].source, &translated[0].payload[..]), (EGRESS, &b"question"[..]));
    assert!(translated[0].l4_checksum_ok);
}

fn write_pcap(path: &str, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4u32.to_ne_bytes());
    file.extend([2u16, 4].map(u16::to_ne_bytes).concat());
    file.extend([0u32, 0, 65_535, 1].map(u32::to_ne_bytes).concat());
    for frame in frames {
        let len = frame.len() as u32;
        file.extend([0, 0, len, len].map(u32::to_ne_bytes).concat());
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

fn read_pcap(path: &str) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        frames.push(behind[..len].to_vec());
        rest = &behind[len..];
    }
    frames
}
