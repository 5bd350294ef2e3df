//! A worker on in-memory ports with a given number of live flows, and frames of each flow.
//!
//! 64 nodes, 64 flows per pod, remotes in 198.18.0.0/15 (RFC 2544), 16 egress IPs. Frames are 60
//! bytes before the frame check sequence: inside the tunnel on the way out, on the wire on the way in.

use arc_swap::ArcSwap;
use gateway::{
    datapath::{
        DatapathConfig, PortConfig, Worker, WorkerCounters,
        memory_io::{MemoryIo, MemoryPacket},
    },
    memory::Pages,
    nat::{
        Nat, NatConfig, PolicyTable, Tick, Timeouts,
        policy_table::{NodeEntry, PolicyEntry},
        timeouts::TimeoutSettings,
    },
    tsc::cycles,
    verdict::{DropReason, Side},
    wire::MacAddress,
};
use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

pub const BURST: usize = 32;
const NODES: u32 = 64;
const POLICY: u32 = 4711;
const VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const TUNNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const EXTERNAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const VXLAN_PORT: u16 = 4790;
/// UDP with 18 bytes: the smallest Ethernet frame.
const INNER_IP_LEN: usize = 46;

/// One flow as its pod sees it.
#[derive(Clone, Copy)]
pub struct Flow {
    pub pod: Ipv4Addr,
    pub sport: u16,
    pub remote: Ipv4Addr,
    pub dport: u16,
    node: Ipv4Addr,
}

/// SplitMix64: the same flows in every run.
pub fn mix(i: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Flow {
    pub fn number(i: u32) -> Self {
        let (pod, random) = (i / 64, mix(u64::from(i)));
        Flow {
            pod: Ipv4Addr::from_bits(0x0a00_0001 + pod),
            sport: (1024 + i % 64 * 1000 + (random % 1000) as u32) as u16,
            remote: Ipv4Addr::from_bits(0xc612_0000 | (random >> 32) as u32 & 0x1_ffff),
            dport: 443,
            node: Ipv4Addr::from_bits(0xc000_0201 + pod % NODES),
        }
    }
}

pub struct World {
    pub worker: Worker<MemoryPacket>,
    pub io: MemoryIo,
    pub counters: Arc<WorkerCounters>,
    pub now: Tick,
    /// Egress IP and l4_port of each flow.
    external: Vec<(u32, u16)>,
    templates: [Vec<u8>; 2],
}

impl World {
    pub fn new(flows: u32, max_sessions: u32, buffers: usize) -> Self {
        let port = |mac, address: &str, gateways| PortConfig {
            mac: MacAddress(mac),
            addresses: vec![address.parse().expect("an address")],
            gateways,
            mtu: 1500,
            vlan: 0,
        };
        let tunnel = port(TUNNEL_MAC, "192.0.2.200/24", vec![]);
        let external = port(EXTERNAL_MAC, "203.0.113.2/24", vec![ROUTER]);
        let config = DatapathConfig::new(tunnel, external, VXLAN_PORT, 1000).expect("a config");
        let nat = Nat::new(&NatConfig {
            max_sessions,
            pages: Pages::Huge,
            // Nothing ends by itself while something else is measured.
            timeouts: Timeouts::new(&TimeoutSettings {
                udp_unreplied: 100_000,
                udp: 100_000,
                ..TimeoutSettings::default()
            }),
            mss_limit: config.mss_limit(),
            secret: [7; 32],
        });
        let nat = nat.expect("memory for the sessions");
        let counters = Arc::new(WorkerCounters::default());
        let (_, requests) = crossbeam_channel::bounded(1);
        let published = Arc::new(ArcSwap::from_pointee(policies()));
        let worker =
            Worker::new(Arc::new(config), nat, published, Arc::clone(&counters), requests);
        let mut world = World {
            worker,
            io: MemoryIo::with_buffers(buffers),
            counters,
            now: Tick::from_secs(100),
            external: Vec::with_capacity(flows as usize),
            templates: [in2out_template(), out2in_template()],
        };
        world.open(flows);
        world
    }

    pub fn flows(&self) -> u32 {
        self.external.len() as u32
    }

    fn open(&mut self, flows: u32) {
        // The first packets make the worker ask for the router's and the nodes' MACs.
        self.resolve_neighbours();
        let mut at = 0;
        while at < flows {
            let end = (at + BURST as u32).min(flows);
            for i in at..end {
                self.receive_in2out(&Flow::number(i));
            }
            self.worker.poll_once(&mut self.io, self.now);
            let external = &mut self.external;
            self.io.take_back(Side::External, |frame| {
                external.push((be32(frame, 26), be16(frame, 34)));
            });
            at = end;
        }
        assert_eq!(self.external.len(), flows as usize, "{:?}", self.drops());
        assert_eq!(self.worker.nat().sessions(), flows);
    }

    fn resolve_neighbours(&mut self) {
        let nodes = (0..NODES).map(|n| Ipv4Addr::from_bits(0xc000_0201 + n));
        for (side, address) in
            nodes.map(|node| (Side::Tunnel, node)).chain([(Side::External, ROUTER)])
        {
            let (us, mac) = match side {
                Side::Tunnel => (VTEP, TUNNEL_MAC),
                Side::External => (Ipv4Addr::new(203, 0, 113, 2), EXTERNAL_MAC),
            };
            self.io.receive(side, &arp(1, address, us, mac));
        }
        for _ in 0..8 {
            self.worker.poll_once(&mut self.io, self.now);
            self.take_back();
        }
    }

    /// The answers of neighbours that were asked again are not wanted, nor are sent frames.
    pub fn take_back(&mut self) {
        for side in Side::ALL {
            self.io.take_back(side, |_| {});
        }
    }

    /// Puts a packet of the flow's pod on the tunnel port.
    pub fn receive_in2out(&mut self, flow: &Flow) {
        let frame = &mut self.templates[0];
        let inner = 64;
        frame[26..30].copy_from_slice(&flow.node.octets());
        frame[inner + 12..inner + 16].copy_from_slice(&flow.pod.octets());
        frame[inner + 16..inner + 20].copy_from_slice(&flow.remote.octets());
        frame[inner + 20..inner + 22].copy_from_slice(&flow.sport.to_be_bytes());
        frame[inner + 22..inner + 24].copy_from_slice(&flow.dport.to_be_bytes());
        set_checksum(&mut frame[14..34]);
        set_checksum(&mut frame[inner..inner + 20]);
        self.io.receive(Side::Tunnel, frame);
    }

    /// Puts an answer to the i-th flow on the external port.
    pub fn receive_out2in(&mut self, i: u32) {
        let (flow, (address, l4_port)) = (Flow::number(i), self.external[i as usize]);
        let frame = &mut self.templates[1];
        frame[26..30].copy_from_slice(&flow.remote.octets());
        frame[30..34].copy_from_slice(&address.to_be_bytes());
        frame[34..36].copy_from_slice(&flow.dport.to_be_bytes());
        frame[36..38].copy_from_slice(&l4_port.to_be_bytes());
        set_checksum(&mut frame[14..34]);
        self.io.receive(Side::External, frame);
    }

    /// Cycles of one turn of the loop.
    pub fn timed_turn(&mut self) -> u64 {
        let start = cycles();
        let received = self.worker.poll_once(&mut self.io, self.now);
        let end = cycles();
        assert_eq!(received, BURST);
        end - start
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let count = |r: &DropReason| Side::ALL.map(|s| self.counters.drops(s, *r)).iter().sum();
        DropReason::ALL.iter().map(|r| (r.label(), count(r))).filter(|(_, n)| *n > 0).collect()
    }
}

fn policies() -> PolicyTable {
    let egress_ips = (16..32).map(|i| Ipv4Addr::new(203, 0, 113, i)).collect();
    let policy = PolicyEntry { name: "bench".into(), egress_ips, draining_ips: vec![] };
    let nodes: HashMap<_, _> = (0..NODES)
        .map(|n| {
            let source_cidrs = vec!["10.0.0.0/8".parse().expect("a prefix")];
            let node = NodeEntry { name: format!("node{n}"), source_cidrs };
            (Ipv4Addr::from_bits(0xc000_0201 + n), node)
        })
        .collect();
    PolicyTable::new(1, [(POLICY, policy)].into(), nodes, vec![VTEP])
}

fn ethernet(to: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(OTHER_MAC);
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn ipv4_udp(from: Ipv4Addr, to: Ipv4Addr, dport: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0xc0, 0x01]);
    packet.extend(dport.to_be_bytes());
    packet.extend((len as u16 - 20).to_be_bytes());
    // Not zero, so that it is updated. Whether it is right is the receiver's business.
    packet.extend([0xab, 0xcd]);
    packet
}

fn in2out_template() -> Vec<u8> {
    let (node, any) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::UNSPECIFIED);
    let mut frame = ethernet(TUNNEL_MAC, 0x0800);
    frame.extend(ipv4_udp(node, VTEP, VXLAN_PORT, 20 + 8 + 8 + 14 + INNER_IP_LEN));
    frame[40..42].copy_from_slice(&[0, 0]);
    frame.extend([0x08, 0, 0, 0]);
    frame.extend((POLICY << 8).to_be_bytes());
    frame.extend(ethernet([2, 0, 0, 0, 7, 7], 0x0800));
    frame.extend(ipv4_udp(any, any, 443, INNER_IP_LEN));
    frame.resize(14 + 20 + 8 + 8 + 14 + INNER_IP_LEN, 0x5a);
    frame
}

fn out2in_template() -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut frame = ethernet(EXTERNAL_MAC, 0x0800);
    frame.extend(ipv4_udp(any, any, 0, INNER_IP_LEN));
    frame.resize(14 + INNER_IP_LEN, 0x5a);
    frame
}

/// An ARP request for `us`, which tells us the sender's MAC.
fn arp(operation: u8, sender: Ipv4Addr, us: Ipv4Addr, our_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(our_mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(OTHER_MAC);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(us.octets());
    frame
}

fn set_checksum(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let mut sum: u32 =
        header.chunks_exact(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
