//! A worker on in-memory ports with a given number of live flows, and frames of each flow.
//!
//! 64 nodes, 64 flows per pod, remotes in 198.18.0.0/15 (RFC 2544), 16 egress IPs. Frames are 60
//! bytes before the frame check sequence: inside the tunnel on the way out, on the wire on the way in.
//! Flows of IPv6 are the same with longer addresses, over the same underlay.

pub(crate) mod flow;
mod frames;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
pub(crate) use flow::{Flow, Flows};
pub(crate) use frames::Family;
use frames::{arp, be16, be32, in2out_template, out2in_template, set_checksum, solicitation};
use gateway::{
    datapath::{
        DatapathConfig, PortConfig, Worker, WorkerCounters,
        handoff::Handoff,
        memory_io::{MemoryIo, MemoryPacket},
        request::Request,
    },
    memory::Pages,
    nat::{
        Nat, NatConfig, PolicyTable, Tick, Timeouts, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
        timeouts::TimeoutSettings,
    },
    tsc::cycles,
    verdict::{DropReason, Side},
    wire::{Both, MacAddress},
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
