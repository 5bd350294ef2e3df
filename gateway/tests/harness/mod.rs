//! A worker on in-memory ports, in the addresses of the lab, with packets built and read by
//! etherparse: nothing here shares code with what it tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod family;
mod frames;
pub mod many_workers;
mod nd;
mod policies;
#[cfg(feature = "dpdk")]
pub mod rings;
mod seen;

pub use family::*;
pub use frames::*;
pub use nd::*;
pub use policies::*;
pub use seen::*;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use gateway::{
    datapath::{
        DatapathConfig, PacketBuf, PortConfig, Worker, WorkerCounters,
        handoff::Handoff,
        memory_io::{MemoryIo, MemoryPacket},
        request::Request,
    },
    memory::Pages,
    nat::{
        Nat, NatConfig, PolicyTable, Tick, Timeouts, VtepNumbers,
        policy_table::{NodeEntry, PolicyEntry},
    },
    verdict::{DropReason, Side},
    wire::{Both, MacAddress},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

pub const VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const NODE2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 10);
pub const POD_C: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 10);
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const EGRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 16);
pub const EGRESS_2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 17);

pub const TUNNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub const EXTERNAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

pub const POLICY: u32 = 4711;
pub const POLICY_2: u32 = 4712;
pub const VXLAN_PORT: u16 = 4790;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;

/// A worker, its ports and its clock.
pub struct Bench {
    pub worker: Worker<MemoryPacket>,
    pub io: MemoryIo,
    pub counters: Arc<WorkerCounters>,
    pub policies: Arc<ArcSwap<PolicyTable>>,
    pub requests: Sender<Request>,
    pub config: Arc<DatapathConfig>,
    pub now: Tick,
    /// Answer ARP requests and Neighbor Solicitations of the worker.
    pub arp: bool,
    /// Every L4 checksum that leaves has to be right. To be unset by tests that send damaged packets.
    pub whole: bool,
    out: [Vec<Vec<u8>>; 2],
    /// Gratuitous ARP sent to each side; of IPv6, questions for duplicates and unsolicited
    /// advertisements.
    pub announced: [Vec<Vec<u8>>; 2],
}

pub type Drops = BTreeMap<(&'static str, &'static str), u64>;

/// What [`Bench::drops`] says when one packet was dropped.
pub fn one_drop(side: Side, reason: DropReason) -> Drops {
    [((side.label(), reason.label()), 1)].into()
}

pub fn mac_of_port(side: Side) -> [u8; 6] {
    if side == Side::Tunnel { TUNNEL_MAC } else { EXTERNAL_MAC }
}

/// How a bench differs from the usual one.
#[derive(Clone)]
pub struct Setup {
    pub max_sessions: u32,
    pub external_vlan: u16,
    pub external_mtu: usize,
    pub external_gateways: Vec<IpAddr>,
    pub errors_per_second: u32,
    /// Whether ARP requests are answered.
    pub arp: bool,
    pub tunnel_mac: [u8; 6],
    pub external_mac: [u8; 6],
    pub tunnel_addresses: Vec<&'static str>,
    pub external_addresses: Vec<&'static str>,
    /// Those in force from the beginning.
    pub policies: fn(u64) -> PolicyTable,
}

/// A worker for any kind of buffer, and what the control side would hold of it.
pub struct Parts<B> {
    pub worker: Worker<B>,
    pub counters: Arc<WorkerCounters>,
    pub policies: Arc<ArcSwap<PolicyTable>>,
    pub requests: Sender<Request>,
    pub config: Arc<DatapathConfig>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            max_sessions: 10_000,
            external_vlan: 0,
            external_mtu: 1500,
            external_gateways: vec![ROUTER.into()],
            errors_per_second: 1000,
            arp: true,
            tunnel_mac: TUNNEL_MAC,
            external_mac: EXTERNAL_MAC,
            tunnel_addresses: vec!["192.0.2.10/24"],
            external_addresses: vec!["203.0.113.2/24"],
            policies: usual_policies,
        }
    }
}

impl Setup {
    /// Both families inside and outside; nodes reach the gateway by the addresses of the tunnel port.
    pub fn dual(tunnel_addresses: &[&'static str]) -> Self {
        Setup {
            tunnel_addresses: tunnel_addresses.to_vec(),
            external_addresses: vec!["203.0.113.2/24", "2001:db8:113::2/64"],
            external_gateways: vec![ROUTER.into(), Ipv6Addr::ROUTER.into()],
            policies: dual_policies,
            ..Setup::default()
        }
    }

    /// Both families on both ports.
    pub fn both() -> Self {
        Self::dual(&["192.0.2.10/24", "2001:db8:2::10/64"])
    }
}

impl<B: PacketBuf> Parts<B> {
    pub fn new(setup: Setup) -> Self {
        let policies = Arc::new(ArcSwap::from_pointee((setup.policies)(1)));
        Self::of_worker(setup, Handoff::alone(), policies)
    }

    /// One of several workers.
    pub fn of_worker(
        setup: Setup,
        handoff: Handoff<B>,
        policies: Arc<ArcSwap<PolicyTable>>,
    ) -> Self {
        let addresses = |texts: Vec<&str>| texts.iter().map(|text| text.parse().unwrap()).collect();
        let tunnel = PortConfig {
            mac: MacAddress(setup.tunnel_mac),
            addresses: addresses(setup.tunnel_addresses),
            gateways: vec![],
            mtu: 1500,
            vlan: 0,
        };
        let external = PortConfig {
            mac: MacAddress(setup.external_mac),
            addresses: addresses(setup.external_addresses),
            gateways: setup.external_gateways,
            mtu: setup.external_mtu,
            vlan: setup.external_vlan,
        };
        let config =
            DatapathConfig::new(tunnel, external, VXLAN_PORT, setup.errors_per_second).unwrap();
        let config = Arc::new(config);
        let counters = Arc::new(WorkerCounters::new(handoff.workers()));
        let (requests, receiver) = crossbeam_channel::bounded(4);
        let nat = Nat::new(&NatConfig {
            max_sessions: Both { v4: setup.max_sessions, v6: setup.max_sessions },
            mss_limit: config.mss_limits(),
            l4_ports: handoff.l4_ports(),
            pages: Pages::Transparent,
            timeouts: Timeouts::default(),
            secret: [7; 32],
        });
        let worker = Worker::new(
            Arc::clone(&config),
            nat.unwrap(),
            Arc::clone(&policies),
            Arc::clone(&counters),
            receiver,
            handoff,
        );
        Parts { worker, counters, policies, requests, config }
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let arp = setup.arp;
        let Parts { worker, counters, policies, requests, config } = Parts::new(setup);
        let mut bench = Bench {
            worker,
            io: MemoryIo::default(),
            counters,
            policies,
            requests,
            config,
            now: Tick::from_secs(1),
            arp,
            whole: true,
            out: Default::default(),
            announced: Default::default(),
        };
        // The announcements of the first seconds are looked at by the tests of announcements alone.
        for _ in 0..4 {
            bench.advance(2000);
        }
        bench.announced = Default::default();
        bench
    }

    /// A worker for both families inside and outside.
    pub fn both() -> Self {
        Self::with(Setup::both())
    }

    /// A worker for both families whose tunnel port has an address of that underlay alone.
    pub fn over<U: Family>() -> Self {
        let address = if U::HEADER == 20 { "192.0.2.10/24" } else { "2001:db8:2::10/64" };
        Self::with(Setup::dual(&[address]))
    }

    /// Turns until nothing arrives any more; ARP and ND questions are answered on the way.
    pub fn poll(&mut self) {
        for _ in 0..100 {
            self.worker.poll_once(&mut self.io, self.now);
            for side in Side::ALL {
                for frame in self.io.sent(side) {
                    judge(side, &frame, self.whole);
                    if is_announcement(&frame) {
                        self.announced[side.index()].push(frame);
                    } else if let Some(answer) = answer_to(side, &frame).filter(|_| self.arp) {
                        self.io.receive(side, &answer);
                    } else {
                        self.out[side.index()].push(frame);
                    }
                }
            }
            if !self.io.has_arriving() {
                break;
            }
        }
    }

    /// Frames sent to `side` by the turns so far.
    pub fn take(&mut self, side: Side) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out[side.index()])
    }

    pub fn advance(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.poll();
    }

    /// Gives a frame to the tunnel port; returns what left through the external port.
    pub fn pod_sends(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.io.receive(Side::Tunnel, frame);
        self.poll();
        self.take(Side::External)
    }

    /// Gives a frame to the external port; returns what left through the tunnel port.
    pub fn world_sends(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.io.receive(Side::External, frame);
        self.poll();
        self.take(Side::Tunnel)
    }

    /// All drops since start, by side and reason.
    pub fn drops(&self) -> Drops {
        let mut drops = BTreeMap::new();
        for side in Side::ALL {
            for reason in DropReason::ALL {
                let count = self.counters.drops(side, *reason);
                if count > 0 {
                    drops.insert((side.label(), reason.label()), count);
                }
            }
        }
        drops
    }

    /// Gives a frame to a port; what leaves through it, which must be Neighbor Discovery alone.
    pub fn neighbour_says(&mut self, side: Side, frame: &[u8]) -> Vec<NdSeen> {
        self.io.receive(side, frame);
        self.poll();
        self.take(side).iter().map(|frame| NdSeen::of(frame).expect("an ND message")).collect()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        Side::ALL.into_iter().map(|side| self.counters.drops(side, reason)).sum()
    }

    pub fn sessions(&self) -> u32 {
        self.worker.nat().sessions()
    }

    /// Publishes policies as the control side does.
    pub fn publish(&mut self, table: PolicyTable) {
        self.policies.store(Arc::new(table));
    }

    /// Opens a UDP session of the lab's pod and returns the external l4_port that it got.
    pub fn open_udp<F: Family>(&mut self, sport: u16, remote: (F, u16)) -> u16 {
        self.open_udp_by(NODE, sport, remote)
    }

    /// The same, over that underlay.
    pub fn open_udp_by<F: Family, U: Family>(
        &mut self,
        node: U,
        sport: u16,
        remote: (F, u16),
    ) -> u16 {
        let inner = udp((F::POD, sport), remote, 64, b"hello");
        let out = self.pod_sends(&tunnelled_over(node, POLICY, &inner));
        assert_eq!(out.len(), 1, "{:?}", self.drops());
        SeenOf::<F>::of(&out[0]).sport
    }
}

/// What a frame of a worker is to the neighbourhood.
pub enum Said {
    Announcement,
    /// With what a neighbour answers.
    Question(Vec<u8>),
    Packet,
}

pub fn said(side: Side, frame: &[u8]) -> Said {
    if is_announcement(frame) {
        return Said::Announcement;
    }
    answer_to(side, frame).map_or(Said::Packet, Said::Question)
}

/// A neighbour that the worker asks for.
fn answer_to(side: Side, frame: &[u8]) -> Option<Vec<u8>> {
    let (mac, us, us_mac) = match side {
        Side::Tunnel => (NODE_MAC, VTEP, TUNNEL_MAC),
        Side::External => (ROUTER_MAC, EXTERNAL, EXTERNAL_MAC),
    };
    if let Some((_, target)) = arp_request(frame) {
        return Some(arp_frame(2, us_mac, (mac, target), (us_mac, us)));
    }
    let question = NdSeen::of(frame).filter(|nd| nd.kind == SOLICITATION)?;
    Some(question.answer(mac))
}

/// Whether the worker says by this frame that an address is its own, or is about to.
fn is_announcement(frame: &[u8]) -> bool {
    if let Some((sender, target)) = arp_request(frame) {
        return sender == target;
    }
    NdSeen::of(frame).is_some_and(|nd| match nd.kind {
        SOLICITATION => nd.source.is_unspecified(),
        _ => nd.destination == ALL_NODES && nd.flags & SOLICITED == 0,
    })
}

/// Sender and target of an ARP request; `None` for other frames. The same address twice is an
/// announcement.
pub fn arp_request(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (kind, at) = ethertype(frame)?;
    let is_request = kind == 0x0806 && frame.get(at + 7)? == &1;
    let address = |i: usize| Some(<[u8; 4]>::try_from(frame.get(i..i + 4)?).ok()?.into());
    is_request.then_some((address(at + 14)?, address(at + 24)?))
}
