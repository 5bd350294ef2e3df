//! What a gateway tells, whom its own code gives a packet to, and whom its NIC does.

use std::net::IpAddr;

use gateway::control::steering::report;
use gateway::datapath::steering::{Embedded, ShardSeed, Steering};
use gateway::dpdk::SoftRss;
use gateway::nat::{Endpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint};
use steering::report::{PortRss, PortSteering, SteeringMode, SteeringReport};

use crate::POD;
use crate::common::frame::{self, MORE_FRAGMENTS, Outer, Packet};
use crate::common::node::*;

const POD6: &str = "fd00:244:1::10";
/// Fewer than the tap's buffer holds.
const BATCH: usize = 60;

/// A gateway with a NIC, as `/v1/steering` tells of it.
pub struct Gateway {
    pub steering: Steering,
    pub report: SteeringReport,
}

/// xorshift64: the same stream from the same seed.
pub struct Random(pub u64);

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

    pub fn port(&mut self) -> u16 {
        1024 + (self.next() >> 48) as u16 % 60000
    }
}

impl Gateway {
    pub fn new(random: &mut Random, workers: usize, reta: usize) -> Self {
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

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.report).unwrap()
    }

    /// The worker whose queue the NIC brings a packet to.
    pub fn receiver_of(&self, outer: &Outer) -> usize {
        let rss = self.report.ports.iter().find(|port| port.side == "tunnel");
        let queue = queue_of(rss.unwrap().rss.as_ref().unwrap(), outer);
        let worker = self.report.workers.iter().find(|each| each.queue == usize::from(queue));
        worker.unwrap().id
    }

    pub fn owner_of(&self, sent: &Sent) -> usize {
        match (sent.packet.src, sent.packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => sent.owner(&self.steering, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => sent.owner(&self.steering, src, dst),
            _ => panic!("two families in one packet"),
        }
    }
}

/// The NIC: RSS over the outer addresses and UDP ports, by DPDK's `rte_softrss`.
pub fn queue_of(rss: &PortRss, outer: &Outer) -> u16 {
    let digits: Vec<char> = rss.key.chars().collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    let nic = SoftRss::new(&digits.chunks(2).map(octet).collect::<Vec<u8>>());
    let (from, to) = ((outer.src, outer.sport).into(), (outer.dst, VXLAN_PORT).into());
    let hash = nic.hash(from, to).unwrap();
    rss.reta[hash as usize % rss.reta.len()]
}

/// What the gateway's shard hash takes of a packet.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Flow(Protocol, u16, u16),
    Fragment(u8, u32),
    /// About a packet from the remote to the pod, with these l4_ports.
    Error(Protocol, u16, u16),
}

#[derive(Debug)]
pub struct Sent {
    pub packet: Packet,
    pub kind: Kind,
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

pub fn remote(random: &mut Random, v6: bool) -> String {
    let n = random.next();
    if v6 {
        return format!("2001:db8:100::{:x}:{:x}", n >> 48, n & 0xffff);
    }
    format!("198.18.{}.{}", n >> 56, 1 + n % 254)
}

/// One of each kind, with other addresses and l4_ports every time.
pub fn packets(random: &mut Random, v6: bool) -> Vec<Sent> {
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
pub fn send<'a>(wire: &Wire, sent: &'a [Sent]) -> Vec<(&'a Sent, Outer)> {
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
