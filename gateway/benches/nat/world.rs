//! A worker on in-memory ports with a given number of live flows, and frames of each flow.
//!
//! 64 nodes, 64 flows per pod, remotes in 198.18.0.0/15 (RFC 2544), 16 egress IPs. Frames are 60
//! bytes before the frame check sequence: inside the tunnel on the way out, on the wire on the way in.
//! Flows of IPv6 are the same with longer addresses, over the same underlay.

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use gateway::{
    datapath::{
        DatapathConfig, PortConfig, Worker, WorkerCounters,
        handoff::Handoff,
        memory_io::{MemoryIo, MemoryPacket},
        request::Request,
    },
    memory::Pages,
    nat::{
        Endpoint, FlowKey, InternalEndpoint, Nat, NatConfig, PolicyTable, Protocol, RemoteEndpoint,
        Tick, Timeouts, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
        timeouts::TimeoutSettings,
    },
    tsc::cycles,
    verdict::{DropReason, Side},
    wire::{
        Both, MacAddress,
        icmpv6::NEIGHBOR_SOLICITATION,
        nd::{NeighborMessage, SOURCE_LINK_ADDRESS},
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

pub(crate) const BURST: usize = 32;
pub(crate) const NODES: u32 = 64;
pub(crate) const POLICY: u32 = 4711;
const VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const EXTERNAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
const TUNNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const EXTERNAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const VXLAN_PORT: u16 = 4790;
/// UDP with 18 bytes: the smallest Ethernet frame with IPv4.
const UDP_LEN: usize = 26;

/// Of the packets of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where a packet's lower four bytes of each address and its l4_ports are, from its L3 header.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    source: usize,
    destination: usize,
    l4: usize,
}

impl Family {
    fn offsets(self) -> Offsets {
        match self {
            Family::V4 => Offsets { source: 12, destination: 16, l4: 20 },
            Family::V6 => Offsets { source: 20, destination: 36, l4: 40 },
        }
    }
}

/// One flow as its pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pod: Ipv4Addr,
    sport: u16,
    remote: Ipv4Addr,
    dport: u16,
}

/// SplitMix64: the same flows in every run.
pub(crate) fn mix(i: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Flow {
    pub(crate) fn number(i: u32) -> Self {
        let (pod, random) = (i / 64, mix(u64::from(i)));
        Flow {
            pod: Ipv4Addr::from_bits(0x0a00_0001 + pod),
            sport: (1024 + i % 64 * 1000 + (random % 1000) as u32) as u16,
            remote: Ipv4Addr::from_bits(0xc612_0000 | (random >> 32) as u32 & 0x1_ffff),
            dport: 443,
        }
    }

    fn node(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(0xc000_0201 + self.pod.to_bits() % NODES)
    }

    pub(crate) fn key(&self) -> FlowKey {
        let internal = InternalEndpoint(Endpoint::new(self.pod, self.sport));
        let remote = RemoteEndpoint(Endpoint::new(self.remote, self.dport));
        FlowKey::in2out(0, Protocol::Udp, internal, remote)
    }

    /// The key in 16 bytes, for tables of others.
    pub(crate) fn key_bytes(&self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&self.pod.octets());
        key[4..8].copy_from_slice(&self.remote.octets());
        key[8..10].copy_from_slice(&self.sport.to_be_bytes());
        key[10..12].copy_from_slice(&self.dport.to_be_bytes());
        key[12] = 17;
        key
    }

    /// Flows whose keys collide in the hash that others use for such tables: equal in twelve bits of
    /// the CRC-32C of the key. Whoever knows the hash can build such a set.
    pub(crate) fn colliding(wanted: usize) -> Vec<Flow> {
        let table: [u32; 256] = std::array::from_fn(|i| {
            (0..8).fold(i as u32, |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
        });
        let crc = |key: [u8; 16]| {
            let step =
                |crc: u32, byte: u8| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ crc >> 8;
            key.into_iter().fold(!0, step)
        };
        (0..).map(Flow::number).filter(|f| crc(f.key_bytes()) & 0xfff == 0).take(wanted).collect()
    }
}

/// What the flows of a world are.
#[derive(Debug)]
pub(crate) enum Flows {
    Numbered(u32),
    List(Vec<Flow>),
}

impl Flows {
    pub(crate) fn len(&self) -> u32 {
        match self {
            Flows::Numbered(n) => *n,
            Flows::List(list) => list.len() as u32,
        }
    }

    pub(crate) fn get(&self, i: u32) -> Flow {
        match self {
            Flows::Numbered(_) => Flow::number(i),
            Flows::List(list) => list[i as usize],
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) requests: Sender<Request>,
    pub(crate) worker: Worker<MemoryPacket>,
    pub(crate) io: MemoryIo,
    pub(crate) config: Arc<DatapathConfig>,
    pub(crate) policies: Arc<ArcSwap<PolicyTable>>,
    pub(crate) now: Tick,
    pub(crate) flows: Flows,
    family: Family,
    pub(crate) counters: Arc<WorkerCounters>,
    /// Egress IP, its lower four bytes, and l4_port of each flow.
    external: Vec<(u32, u16)>,
    templates: [Vec<u8>; 2],
}

/// Sessions beside the flows that a table has room for.
pub(crate) const SPARE: u32 = 16_384;
/// Packet buffers: 36 MiB, far more than a second-level cache.
pub(crate) const BUFFERS: usize = 16_384;

impl World {
    pub(crate) fn new(flows: Flows) -> Self {
        Self::of(Family::V4, flows)
    }

    pub(crate) fn of(family: Family, flows: Flows) -> Self {
        Self::of_worker(family, flows, Handoff::alone())
    }

    /// One of several workers, which owns all of `flows`.
    pub(crate) fn of_worker(family: Family, flows: Flows, handoff: Handoff<MemoryPacket>) -> Self {
        let policies = Arc::new(ArcSwap::from_pointee(policies()));
        Self::controlled(family, flows, handoff, policies)
    }

    /// The same under policies that somebody else publishes.
    pub(crate) fn controlled(
        family: Family,
        flows: Flows,
        handoff: Handoff<MemoryPacket>,
        policies: Arc<ArcSwap<PolicyTable>>,
    ) -> Self {
        let port = |mac, addresses: &[&str], gateways| PortConfig {
            mac: MacAddress(mac),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            gateways,
            mtu: 1500,
            vlan: 0,
        };
        let tunnel = port(TUNNEL_MAC, &["192.0.2.200/24"], vec![]);
        let (v4, v6) = ("203.0.113.2/24", "2001:db8:113::2/64");
        let gateways = vec![ROUTER.into(), ROUTER_V6.into()];
        let external = match family {
            Family::V4 => port(EXTERNAL_MAC, &[v4], gateways),
            Family::V6 => port(EXTERNAL_MAC, &[v4, v6], gateways),
        };
        let room = flows.len() + SPARE;
        let config = DatapathConfig::new(tunnel, external, VXLAN_PORT, 1000).expect("a config");
        let nat = Nat::new(&NatConfig {
            max_sessions: match family {
                Family::V4 => Both { v4: room, v6: 0 },
                Family::V6 => Both { v4: 0, v6: room },
            },
            pages: Pages::Huge,
            // Once answered they stay, whatever the clock does while something else is measured.
            timeouts: Timeouts::new(&TimeoutSettings {
                udp: 1_000_000,
                ..TimeoutSettings::default()
            }),
            mss_limit: config.mss_limits(),
            l4_ports: handoff.l4_ports(),
            secret: [7; 32],
        });
        let (counters, config) =
            (Arc::new(WorkerCounters::new(handoff.workers())), Arc::new(config));
        let (requests, questions) = crossbeam_channel::bounded(4);
        let nat = nat.expect("memory for the sessions");
        let worker = Worker::new(
            Arc::clone(&config),
            nat,
            Arc::clone(&policies),
            Arc::clone(&counters),
            questions,
            handoff,
        );
        let mut world = World {
            worker,
            requests,
            io: MemoryIo::with_buffers(BUFFERS),
            config,
            policies,
            counters,
            now: Tick::from_secs(100),
            external: Vec::with_capacity(flows.len() as usize),
            flows,
            family,
            templates: [in2out_template(family), out2in_template(family)],
        };
        world.open();
        world
    }

    /// Opens all flows, has them answered, and lets their first timers pass.
    fn open(&mut self) {
        self.resolve_neighbours();
        let flows = self.flows.len();
        for at in (0..flows).step_by(BURST) {
            let end = (at + BURST as u32).min(flows);
            (at..end).for_each(|i| self.receive_in2out(&self.flows.get(i)));
            self.worker.poll_once(&mut self.io, self.now);
            let (external, offsets) = (&mut self.external, self.family.offsets());
            self.io.take_back(Side::External, |frame| {
                let (source, l4) = (14 + offsets.source, 14 + offsets.l4);
                external.push((be32(frame, source), be16(frame, l4)));
            });
            (at..end).for_each(|i| self.receive_out2in(i));
            self.worker.poll_once(&mut self.io, self.now);
            self.take_back();
        }
        assert_eq!(self.external.len(), flows as usize, "{:?}", self.drops());
        self.pass_time(40);
        assert_eq!(self.worker.nat().sessions(), flows, "{:?}", self.drops());
    }

    /// Lets time pass until no timer is due any more.
    pub(crate) fn pass_time(&mut self, seconds: u64) {
        self.now = self.now.plus_millis(seconds * 1000);
        self.worker.nat_mut().expire(self.now, usize::MAX);
        // The neighbours' MACs are still good.
        self.resolve_neighbours();
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
        if self.family == Family::V6 {
            self.io.receive(Side::External, &solicitation());
        }
        for _ in 0..8 {
            self.worker.poll_once(&mut self.io, self.now);
            self.take_back();
        }
    }

    /// Throws away what was sent.
    pub(crate) fn take_back(&mut self) {
        for side in Side::ALL {
            self.io.take_back(side, |_| {});
        }
    }

    /// A frame of the flow's pod, as it arrives.
    pub(crate) fn in2out_frame(&mut self, flow: &Flow) -> &[u8] {
        self.write_in2out(flow);
        &self.templates[0]
    }

    /// Puts a packet of the flow's pod on the tunnel port.
    pub(crate) fn receive_in2out(&mut self, flow: &Flow) {
        self.write_in2out(flow);
        self.io.receive(Side::Tunnel, &self.templates[0]);
    }

    fn write_in2out(&mut self, flow: &Flow) {
        let at = self.family.offsets();
        let frame = &mut self.templates[0];
        frame[26..30].copy_from_slice(&flow.node().octets());
        set_checksum(&mut frame[14..34]);
        let inner = &mut frame[64..];
        inner[at.source..][..4].copy_from_slice(&flow.pod.octets());
        inner[at.destination..][..4].copy_from_slice(&flow.remote.octets());
        inner[at.l4..][..2].copy_from_slice(&flow.sport.to_be_bytes());
        inner[at.l4 + 2..][..2].copy_from_slice(&flow.dport.to_be_bytes());
        if self.family == Family::V4 {
            set_checksum(&mut inner[..20]);
        }
    }

    /// Puts an answer to the i-th flow on the external port.
    pub(crate) fn receive_out2in(&mut self, i: u32) {
        self.write_out2in(i);
        self.io.receive(Side::External, &self.templates[1]);
    }

    fn write_out2in(&mut self, i: u32) {
        let (flow, (address, l4_port)) = (self.flows.get(i), self.external[i as usize]);
        let at = self.family.offsets();
        let packet = &mut self.templates[1][14..];
        packet[at.source..][..4].copy_from_slice(&flow.remote.octets());
        packet[at.destination..][..4].copy_from_slice(&address.to_be_bytes());
        packet[at.l4..][..2].copy_from_slice(&flow.dport.to_be_bytes());
        packet[at.l4 + 2..][..2].copy_from_slice(&l4_port.to_be_bytes());
        if self.family == Family::V4 {
            set_checksum(&mut packet[..20]);
        }
    }

    /// Puts a packet on the external port that answers nothing.
    pub(crate) fn receive_stranger(&mut self, i: u32) {
        self.write_out2in(i % self.flows.len());
        // The same, from another l4_port of the remote.
        let at = 14 + self.family.offsets().l4;
        self.templates[1][at..at + 2].copy_from_slice(&444u16.to_be_bytes());
        self.io.receive(Side::External, &self.templates[1]);
    }

    /// Cycles of one turn of the loop, which must find a whole burst.
    pub(crate) fn timed_turn(&mut self) -> u64 {
        let start = cycles();
        let received = self.worker.poll_once(&mut self.io, self.now);
        let end = cycles();
        assert_eq!(received, BURST);
        end - start
    }

    /// Cycles of one turn of the loop, whatever it finds.
    pub(crate) fn any_turn(&mut self) -> u64 {
        let start = cycles();
        self.worker.poll_once(&mut self.io, self.now);
        cycles() - start
    }

    /// Throws away what was sent; returns how much it was.
    pub(crate) fn count_taken_back(&mut self) -> usize {
        let mut count = 0;
        for side in Side::ALL {
            self.io.take_back(side, |_| count += 1);
        }
        count
    }

    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let count = |r: &DropReason| Side::ALL.map(|s| self.counters.drops(s, *r)).iter().sum();
        DropReason::ALL.iter().map(|r| (r.label(), count(r))).filter(|(_, n)| *n > 0).collect()
    }
}

fn policies() -> PolicyTable {
    let v4 = (16..32).map(|i| IpAddr::from([203, 0, 113, i]));
    let v6 = (16..32).map(|i| IpAddr::from([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, i]));
    let egress_ips: Vec<_> = v4.chain(v6).collect();
    let policy = PolicyEntry::new("bench", &egress_ips, &[]);
    let nodes: HashMap<_, _> = (0..NODES)
        .map(|n| {
            let source_cidrs =
                ["10.0.0.0/8", "fd00::/64"].map(|cidr| cidr.parse().expect("a prefix"));
            let source_cidrs = source_cidrs.to_vec();
            let node = NodeEntry { name: format!("node{n}"), source_cidrs };
            (Ipv4Addr::from_bits(0xc000_0201 + n).into(), node)
        })
        .collect();
    PolicyTable::new(1, [(POLICY, policy)].into(), nodes, vec![VTEP.into()], VtepNumbers::default())
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

/// A UDP packet of either family, its addresses to be completed.
fn template(family: Family, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let (mut packet, len) = match family {
        Family::V4 => (ipv4_udp(any, any, 443, 20 + UDP_LEN), 20 + UDP_LEN),
        Family::V6 => {
            let mut packet = vec![0x60, 0, 0, 0, 0, UDP_LEN as u8, 17, 64];
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(&ipv4_udp(any, any, 443, 20 + UDP_LEN)[20..]);
            (packet, 40 + UDP_LEN)
        }
    };
    packet.resize(len, 0x5a);
    packet
}

const PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
const REMOTES_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);

fn ethertype(family: Family) -> u16 {
    if family == Family::V4 { 0x0800 } else { 0x86dd }
}

fn in2out_template(family: Family) -> Vec<u8> {
    let node = Ipv4Addr::new(192, 0, 2, 1);
    let inner = template(family, PODS_V6, REMOTES_V6);
    let mut frame = ethernet(TUNNEL_MAC, 0x0800);
    frame.extend(ipv4_udp(node, VTEP, VXLAN_PORT, 20 + 8 + 8 + 14 + inner.len()));
    frame[40..42].copy_from_slice(&[0, 0]);
    frame.extend([0x08, 0, 0, 0]);
    frame.extend((POLICY << 8).to_be_bytes());
    frame.extend(ethernet([2, 0, 0, 0, 7, 7], ethertype(family)));
    frame.extend(inner);
    frame
}

fn out2in_template(family: Family) -> Vec<u8> {
    let mut frame = ethernet(EXTERNAL_MAC, ethertype(family));
    frame.extend(template(family, REMOTES_V6, EXTERNAL_V6));
    frame
}

/// A Neighbor Solicitation of the router, which tells us its MAC.
fn solicitation() -> Vec<u8> {
    let mut bytes = [0; NeighborMessage::PACKET];
    let message = NeighborMessage::new(NEIGHBOR_SOLICITATION, 0, EXTERNAL_V6);
    let link = (SOURCE_LINK_ADDRESS, MacAddress(OTHER_MAC));
    message.write(&mut bytes, (ROUTER_V6, EXTERNAL_V6), Some(link));
    let mut frame = ethernet(EXTERNAL_MAC, 0x86dd);
    frame.extend(bytes);
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
