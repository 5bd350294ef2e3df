//! Outer source ports that bring each packet to the worker which owns its flow. What a gateway would do is computed by the gateway's own
//! code; frames come from the pod's interface and are judged as they are on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gateway::control::steering::report;
use gateway::datapath::steering::{Embedded, ShardSeed, Steering};
use gateway::nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint};
use steering::report::{PortRss, PortSteering, SteeringMode, SteeringReport};
use steering::toeplitz::Toeplitz;

use crate::common::frame::{self, MORE_FRAGMENTS, Outer, Packet};
use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};
use crate::{POD, WORLD};

const POD6: &str = "fd00:244:1::10";
const FILE: &str = "/run/gw-a.steering.json";
const FROM_FILE: &str = "[steering]\nsources = {gw-a = '/run/gw-a.steering.json'}";
/// Fewer than the tap's buffer holds.
const BATCH: usize = 60;

/// A gateway with a NIC, as `/v1/steering` tells of it.
struct Gateway {
    steering: Steering,
    report: SteeringReport,
}

/// xorshift64: the same stream from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 56) as u8).collect()
    }

    fn port(&mut self) -> u16 {
        1024 + (self.next() >> 48) as u16 % 60000
    }
}

impl Gateway {
    fn new(random: &mut Random, workers: usize, reta: usize) -> Self {
        let seed = ShardSeed(random.octets(16).try_into().unwrap());
        let steering = Steering::new(seed, workers).unwrap();
        let key = random.octets(52).iter().map(|octet| format!("{octet:02x}")).collect();
        let queues: Vec<u16> = (0..reta).map(|entry| (entry * 7 % workers) as u16).collect();
        let types = ["ipv4-udp", "ipv6-udp"].map(str::to_owned).to_vec();
        let ports = ["external", "tunnel"].map(|side| PortSteering {
            side: side.to_owned(),
            rss: Some(PortRss {
                key: String::clone(&key),
                reta: queues.clone(),
                types: types.clone(),
            }),
            reason: None,
        });
        let cores: Vec<usize> = (0..workers).collect();
        let mode = (SteeringMode::Handoff, "a test".to_owned());
        let mut report = report(&steering, &cores, ports.to_vec(), mode, "spin");
        // No gateway does that so far, and none is bound not to.
        report.workers.iter_mut().for_each(|each| each.queue = workers - 1 - each.id);
        Self { steering, report }
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(&self.report).unwrap()
    }

    /// The worker whose queue the NIC brings a packet to.
    fn receiver_of(&self, outer: &Outer) -> usize {
        let rss = self.report.ports.iter().find(|port| port.side == "tunnel");
        let queue = queue_of(rss.unwrap().rss.as_ref().unwrap(), outer);
        let worker = self.report.workers.iter().find(|each| each.queue == usize::from(queue));
        worker.unwrap().id
    }

    fn owner_of(&self, sent: &Sent) -> usize {
        match (sent.packet.src, sent.packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => sent.owner(&self.steering, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => sent.owner(&self.steering, src, dst),
            _ => panic!("two families in one packet"),
        }
    }
}

/// The NIC: RSS over the outer addresses and UDP ports.
fn queue_of(rss: &PortRss, outer: &Outer) -> u16 {
    let digits: Vec<char> = rss.key.chars().collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    let toeplitz = Toeplitz::new(&digits.chunks(2).map(octet).collect::<Vec<u8>>()).unwrap();
    let hash = toeplitz.of_addresses(outer.src, outer.dst).unwrap()
        ^ toeplitz.of_l4_ports(outer.src, outer.sport, VXLAN_PORT);
    rss.reta[hash as usize % rss.reta.len()]
}

/// What the gateway's shard hash takes of a packet.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Flow(Protocol, u16, u16),
    Fragment(u8, u32),
    /// About a packet from the remote to the pod, with these l4_ports.
    Error(Protocol, u16, u16),
}

#[derive(Debug)]
struct Sent {
    packet: Packet,
    kind: Kind,
}

impl Sent {
    fn owner<A: gateway::wire::Address>(&self, steering: &Steering, src: A, dst: A) -> usize {
        match self.kind {
            Kind::Flow(protocol, sport, dport) => {
                let internal = InternalEndpoint(Endpoint::new(src, sport));
                let remote = RemoteEndpoint(Endpoint::new(dst, dport));
                steering.of_in2out(&FlowKey::in2out(0, protocol, internal, remote))
            }
            Kind::Fragment(protocol, id) => steering.of_fragment(src, dst, protocol, id),
            Kind::Error(protocol, sport, dport) => {
                let (source, destination) = (Endpoint::new(dst, sport), Endpoint::new(src, dport));
                steering.of_icmp_error_in2out(0, &Embedded { protocol, source, destination })
            }
        }
    }
}

fn remote(random: &mut Random, v6: bool) -> String {
    let n = random.next();
    if v6 {
        return format!("2001:db8:100::{:x}:{:x}", n >> 48, n & 0xffff);
    }
    format!("198.18.{}.{}", n >> 56, 1 + n % 254)
}

/// One of each kind, with other addresses and l4_ports every time.
fn packets(random: &mut Random, v6: bool) -> Vec<Sent> {
    use frame::{ACK, SYN, TCP, UDP, icmp, icmp_error, packet, tcp, udp};
    let pod = if v6 { POD6 } else { POD };
    let world = &remote(random, v6);
    let (sport, dport) = (random.port(), random.port());
    let id = random.port();
    let (request, answer, error, icmp_number) =
        if v6 { (128, 129, 1, frame::ICMPV6) } else { (8, 0, 3, frame::ICMP) };
    let mut sent = Vec::new();
    let mut add = |packet: Packet, kind: Kind| sent.push(Sent { packet, kind });
    let (of_tcp, of_udp) = (Protocol::Tcp, Protocol::Udp);
    add(tcp(pod, world, sport, dport, SYN), Kind::Flow(of_tcp, sport, dport));
    add(tcp(pod, world, sport, dport, ACK).payload(100), Kind::Flow(of_tcp, sport, dport));
    add(udp(pod, world, sport, dport), Kind::Flow(of_udp, sport, dport));
    add(icmp(pod, world, request, id), Kind::Flow(Protocol::Icmp, id, 0));
    let first = udp(pod, world, sport, dport).payload(12).fragment(id, MORE_FRAGMENTS);
    add(first, Kind::Fragment(UDP, id.into()));
    for later in [
        packet(pod, world, UDP, vec![1; 24]).fragment(id, MORE_FRAGMENTS | 3),
        packet(pod, world, UDP, vec![2; 8]).fragment(id, 6),
    ] {
        add(later, Kind::Fragment(UDP, id.into()));
    }
    // Of datagrams whose first fragment is late.
    let orphan = packet(pod, world, TCP, vec![3; 16]).fragment(id ^ 1, 4);
    add(orphan, Kind::Fragment(TCP, (id ^ 1).into()));
    let orphan = packet(pod, world, icmp_number, vec![4; 16]).fragment(id ^ 2, 4);
    add(orphan, Kind::Fragment(icmp_number, (id ^ 2).into()));
    if v6 {
        // The fragment header names the options behind it, in the first fragment and in all.
        let mut options = vec![UDP, 0, 1, 4, 0, 0, 0, 0];
        options.extend(udp(pod, world, sport, dport).payload(12).l4);
        let number = frame::DESTINATION_OPTIONS;
        let kind = Kind::Fragment(number, (id ^ 3).into());
        add(packet(pod, world, number, options).fragment(id ^ 3, MORE_FRAGMENTS), kind);
        add(packet(pod, world, number, vec![5; 16]).fragment(id ^ 3, 4), kind);
    }
    for (quoted, protocol, dport, sport) in [
        (udp(world, pod, dport, sport), of_udp, dport, sport),
        (tcp(world, pod, dport, sport, ACK), of_tcp, dport, sport),
        (icmp(world, pod, answer, id), Protocol::Icmp, id, id),
    ] {
        add(icmp_error(pod, world, error, &quoted), Kind::Error(protocol, dport, sport));
    }
    sent
}

/// Through the node, and each with its outer packet.
fn send<'a>(wire: &Wire, sent: &'a [Sent]) -> Vec<(&'a Sent, Outer)> {
    let mut pairs = Vec::new();
    for batch in sent.chunks(BATCH) {
        let frames: Vec<Vec<u8>> = batch.iter().map(|sent| sent.packet.frame()).collect();
        send_frames("pod", "eth0", &frames);
        for (sent, frame) in batch.iter().zip(frames) {
            let outer = wire.next_tunnelled();
            assert_eq!(outer.inner, frame, "{sent:?}");
            pairs.push((sent, outer));
        }
    }
    pairs
}

fn put(text: &str) {
    fs::write(format!("{FILE}.new"), text).unwrap();
    fs::rename(format!("{FILE}.new"), FILE).unwrap();
}

fn generation() -> u32 {
    maps().settings().unwrap().generation
}

/// The agent's own view of the first gateway.
fn state() -> serde_json::Value {
    let answer = get("/v1/status").unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    status["steering"][0].clone()
}

fn wait_for(reason: &str) {
    wait_until(&format!("it is told why ports are spread: {reason}"), || {
        state()["reason"].as_str().is_some_and(|told| told.contains(reason))
    });
    assert_eq!(state()["portsChosen"], false);
}

fn metrics() -> [i64; 2] {
    let text = get("/metrics").unwrap();
    ["steering", "steering_source_valid"].map(|name| {
        let name = format!("node_redirect_{name}{{gateway=\"gw-a\"}} ");
        let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
        line[name.len()..].parse().unwrap()
    })
}

fn every_packet_comes_to_its_owner(underlay: Underlay) {
    in_private_namespaces(|| {
        let mut node = Node::dual("auto", underlay);
        write_config_at(underlay.node(), "", FROM_FILE);
        let mut random = Random(0x5eed);
        node.start();
        wait_for("cannot read /run/gw-a.steering.json");
        let wire = Wire::tap("gateway");
        for (workers, reta) in [(2, 128), (3, 512), (8, 64), (64, 512)] {
            let gateway = Gateway::new(&mut random, workers, reta);
            let before = generation();
            put(&gateway.json());
            wait_until("it is in force", || generation() != before);
            let sent: Vec<Sent> = (0..24).flat_map(|n| packets(&mut random, n % 2 == 1)).collect();
            let pairs = send(&wire, &sent);
            let mut reached = BTreeSet::new();
            let mut ports_of_datagrams: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
            for (sent, outer) in &pairs {
                let owner = gateway.owner_of(sent);
                assert_eq!(gateway.receiver_of(outer), owner, "of {workers} workers: {sent:?}");
                reached.insert(owner);
                if let Kind::Fragment(protocol, id) = sent.kind {
                    let datagram = (sent.packet.src, sent.packet.dst, protocol, id);
                    ports_of_datagrams.entry(datagram).or_default().insert(outer.sport);
                }
            }
            assert!(reached.len() > workers / 2, "{reached:?} of {workers} workers");
            assert!(ports_of_datagrams.values().all(|ports| ports.len() == 1));
            let ports: BTreeSet<u16> = pairs.iter().map(|(_, outer)| outer.sport).collect();
            assert!(ports.len() > 16, "{} ports: equal paths want several a worker", ports.len());
        }
        assert_eq!((state()["portsChosen"].as_bool(), metrics()), (Some(true), [1, 1]));
    });
}

#[test]
fn every_packet_comes_to_its_owner_over_ipv4() {
    every_packet_comes_to_its_owner(Underlay::V4);
}

#[test]
fn every_packet_comes_to_its_owner_over_ipv6() {
    every_packet_comes_to_its_owner(Underlay::V6);
}

/// A device of somebody else's making has no range of its own: the node's counts, and it may change.
#[test]
fn the_range_that_the_kernel_uses_is_followed() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        sh("sysctl -qw net.ipv4.ip_local_port_range='20000 29999'");
        sh("ip link add egw type vxlan external dstport 4790 udp6zerocsumrx");
        write_config("", FROM_FILE);
        let mut random = Random(0x5eed_0002);
        let gateway = Gateway::new(&mut random, 4, 128);
        put(&gateway.json());
        node.start();
        let wire = Wire::tap("gateway");
        let come = |random: &mut Random, range: std::ops::Range<u16>| {
            let sent: Vec<Sent> = (0..8).flat_map(|_| packets(random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                assert!(range.contains(&outer.sport), "{} is not in {range:?}", outer.sport);
                assert_eq!(gateway.receiver_of(&outer), gateway.owner_of(sent), "{sent:?}");
            }
        };
        come(&mut random, 20000..29999);
        let before = generation();
        sh("sysctl -qw net.ipv4.ip_local_port_range='40000 50001'");
        wait_until("upkeep sees it", || generation() != before);
        come(&mut random, 40000..50001);
        let before = generation();
        sh("ip link del egw");
        wait_until("another device has its own range", || generation() != before);
        wait_until("and is there", || sh("ip -d link show").contains("srcport 49152 65535"));
        come(&mut random, 49152..65535);
    });
}

#[test]
fn steering_comes_changes_and_goes_while_a_flow_lives() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        node.start();
        let wire = Wire::tap("gateway");
        let pod = udp_socket("pod", "10.244.1.10:4000");
        let kind = Kind::Flow(Protocol::Udp, 4000, 53);
        let flow = Sent { packet: frame::udp(POD, WORLD, 4000, 53), kind };
        let port = || {
            let twice = [0; 2].map(|_| {
                pod.send_to(b"data", (WORLD, 53)).unwrap();
                wire.next_tunnelled()
            });
            assert_eq!(twice[0].sport, twice[1].sport, "one flow, one source port");
            twice[0].clone()
        };
        let spread = port().sport;
        assert_eq!(metrics(), [0, 0]);
        let mut random = Random(0x5eed_0003);
        let mut seen = BTreeSet::from([spread]);
        let mut put_and_wait = |text: &str| {
            let before = generation();
            put(text);
            wait_until("it is in force", || generation() != before);
        };
        for _ in 0..4 {
            let gateway = Gateway::new(&mut random, 8, 128);
            put_and_wait(&gateway.json());
            assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow));
            seen.insert(port().sport);
            assert_eq!(metrics(), [1, 1]);
        }
        assert!(seen.len() > 3, "{seen:?}");
        let status = node_redirect_ok(&["status"]);
        assert!(status.contains("steering     gw-a: outer source ports are chosen\n"), "{status}");

        put_and_wait("{ \"workers\": [");
        wait_for("gw-a.steering.json is not what a gateway answers at /v1/steering: EOF");
        assert_eq!((port().sport, metrics()), (spread, [0, 0]), "as without");
        put_and_wait(&Gateway::new(&mut random, 2, 128).json());
        put_and_wait(&Gateway::new(&mut random, 1, 128).json());
        wait_for("it has one worker");
        assert_eq!((port().sport, metrics()), (spread, [0, 1]), "nothing is wrong with that");
        let status = node_redirect_ok(&["status"]);
        assert!(status.contains("gw-a: outer source ports are spread: it has one"), "{status}");

        let gateway = Gateway::new(&mut random, 2, 128);
        put_and_wait(&gateway.json());
        node.kill();
        assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow), "without an agent");
        node.start();
        assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow), "with the next one");
        let before = generation();
        fs::remove_file(FILE).unwrap();
        wait_until("its end is seen", || generation() != before);
        assert_eq!(port().sport, spread);
        put_and_wait(&gateway.json());
        node.kill();
        write_config("", "");
        node.start();
        assert_eq!(port().sport, spread, "nor does it stay when it is not configured any more");
        assert_eq!(state()["reason"], "steering.sources does not name it");
    });
}

/// Two gateways by turns, as fast as the agent takes them: no packet finds one's shards with the other's ports.
#[test]
fn no_packet_sees_half_of_a_change() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        let mut random = Random(0x5eed_0004);
        let gateways = [0; 2].map(|_| Gateway::new(&mut random, 64, 512));
        put(&gateways[0].json());
        node.start();
        let wire = Wire::tap("gateway");
        let stop = Arc::new(AtomicBool::new(false));
        let texts = [gateways[0].json(), gateways[1].json()];
        let changer = thread::spawn({
            let stop = stop.clone();
            move || {
                let mut changes = 0;
                while !stop.load(Ordering::Relaxed) {
                    let before = generation();
                    changes += 1;
                    put(&texts[changes % 2]);
                    wait_until("it is in force", || generation() != before);
                }
                changes
            }
        });
        let mut by = [0; 2];
        while by.iter().any(|packets| *packets < 200) {
            let sent: Vec<Sent> = (0..4).flat_map(|_| packets(&mut random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                let fits = gateways.each_ref().map(|g| g.receiver_of(&outer) == g.owner_of(sent));
                assert!(fits[0] || fits[1], "{sent:?} from {}", outer.sport);
                by = [by[0] + u32::from(fits[0]), by[1] + u32::from(fits[1])];
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(changer.join().unwrap() > 4);
    });
}

/// Linux takes another `sk_txhash` with each retransmission.
#[test]
fn a_connection_that_is_not_answered_stays_at_its_worker() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        let gateway = Gateway::new(&mut Random(0x5eed_0005), 8, 128);
        put(&gateway.json());
        node.start();
        let wire = Wire::tap("gateway");
        let connect = thread::spawn(|| {
            inside("pod", || {
                TcpStream::connect_timeout(
                    &SocketAddr::new(WORLD.parse().unwrap(), 80),
                    std::time::Duration::from_secs(5),
                )
                .is_err()
            })
        });
        let syns = [0; 3].map(|_| wire.next_tunnelled());
        let l4 = &syns[0].inner[frame::ETHERNET + 20..];
        let sport = u16::from_be_bytes([l4[0], l4[1]]);
        let packet = frame::tcp(POD, WORLD, sport, 80, frame::SYN);
        let sent = Sent { packet, kind: Kind::Flow(Protocol::Tcp, sport, 80) };
        assert!(syns.iter().all(|syn| syn.sport == syns[0].sport), "{syns:?}");
        assert_eq!(gateway.receiver_of(&syns[0]), gateway.owner_of(&sent));
        assert!(connect.join().unwrap());
    });
}

/// Answers each request with what `answer` has, for as long as there is something.
fn serve(answer: Arc<std::sync::Mutex<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:9480").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/steering HTTP/1.1"));
            let Some(text) = answer.lock().unwrap().clone() else { continue };
            write!(stream, "HTTP/1.1 {text}").unwrap();
        }
    });
}

#[test]
fn an_api_is_asked_again_and_again() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", "[steering]\nsources = {gw-a = 'http://127.0.0.1:9480'}\ninterval = 1");
        node.start();
        wait_for("nobody answers at http://127.0.0.1:9480");
        assert_eq!(metrics(), [0, 0]);
        let mut random = Random(0x5eed_0006);
        let answer = Arc::default();
        serve(Arc::clone(&answer));
        let say = |text: Option<String>| *answer.lock().unwrap() = text;
        let ok =
            |body: &str| Some(format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let wire = Wire::tap("gateway");
        for _ in 0..2 {
            let gateway = Gateway::new(&mut random, 4, 128);
            let before = generation();
            say(ok(&gateway.json()));
            wait_until("it is in force", || generation() != before);
            let sent: Vec<Sent> = (0..4).flat_map(|_| packets(&mut random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                assert_eq!(gateway.receiver_of(&outer), gateway.owner_of(sent), "{sent:?}");
            }
            assert_eq!(metrics(), [1, 1]);
            say(Some("404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()));
            wait_for("http://127.0.0.1:9480/v1/steering answers 404");
            say(None);
            wait_for("http://127.0.0.1:9480: ");
        }
    });
}

#[test]
fn check_judges_what_sources_hold() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let check = |config: &str| {
            write_config("", config);
            let output = node_redirect(&["check"]);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let good = Gateway::new(&mut Random(0x5eed_0007), 4, 128);
        put(&good.json());
        assert_eq!(check(FROM_FILE), (Some(0), String::new()));
        let mut alone = good.report.clone();
        alone.ports[1].rss = None;
        let told = good.json();
        for (text, code, wanted) in [
            (
                told.replace("egress-shard-1", "egress-shard-2"),
                2,
                "\"egress-shard-2\", and this version knows",
            ),
            (told.replace("\"map\": [\n      0,", "\"map\": ["), 2, "255 entries: 256 are wanted"),
            (told.replace("\"id\": 0", "\"id\": -1"), 2, "is not what a gateway answers"),
            (
                told.replace("\"queue\": 3", "\"queue\": 9"),
                2,
                "names queue 3, which no worker polls",
            ),
            ("<html>".to_owned(), 2, "line 1 column 1"),
            (serde_json::to_string(&alone).unwrap(), 0, "spread: its tunnel port has no RSS"),
        ] {
            assert_ne!(text, told);
            put(&text);
            let (exit, error) = check(FROM_FILE);
            assert_eq!(exit, Some(code), "{error}");
            let places = [wanted, "steering.sources \"gw-a\"", if code == 2 { FILE } else { "" }];
            assert!(places.iter().all(|place| error.contains(place)), "{places:?}: {error}");
        }
        fs::remove_file(FILE).unwrap();
        let (exit, error) = check(FROM_FILE);
        assert!(
            exit == Some(2) && error.contains("cannot read /run/gw-a.steering.json"),
            "{error}"
        );
        let (exit, error) = check("[steering]\nsources = {gw-a = 'http://127.0.0.1:9480'}");
        assert!(exit == Some(0) && error.contains("nobody answers at"), "{error}");
        put(&told);
        let (exit, error) = check(&FROM_FILE.replace("gw-a =", "gw-x ="));
        assert!(
            exit == Some(0) && error.contains("\"gw-x\": there is no EgressGateway"),
            "{error}"
        );
    });
}
