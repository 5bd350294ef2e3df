//! One worker: one core, one queue pair per port, one session table, run to completion.
//!
//! Start reading at [`Worker::poll_once`]. A burst goes through the stages as a whole, so that the
//! cache misses of its packets overlap: classify all and hash them, while their index buckets are
//! loaded; look at the buckets' tags, while the sessions are loaded; then translate and send each in
//! order. A packet without a session opens one in its turn, which keeps the order within a flow.

use super::{
    announcer::Announcer,
    arp,
    classify::{self, Either, Local, Other},
    config::DatapathConfig,
    counters::WorkerCounters,
    icmp::{self, ErrorLimit},
    io::{BURST, Burst, PacketBuf, PacketIo},
    nd,
    next_hop::{Output, Turn},
    request::{Request, Requests},
    tunnel::{self, Tunnel},
};
use crate::{
    nat::{
        FlowPacket, Lookup, Nat, PolicyTable, Tick, in2out::In2out, out2in::Out2in, record::Traffic,
    },
    verdict::{DropReason, Side},
    wire::{Address, icmpv6},
};
use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Sessions that one turn ends at most because they were idle, and slots that it looks at after a
/// reload.
const EXPIRE_PER_TURN: usize = 32;
const SWEEP_PER_TURN: u32 = 64;

#[derive(Debug)]
pub struct Worker<B> {
    config: Arc<DatapathConfig>,
    nat: Nat,
    output: Output<B>,
    policies: Cache<Arc<ArcSwap<PolicyTable>>, Arc<PolicyTable>>,
    announcer: Announcer,
    error_limit: ErrorLimit,
    requests: Requests,
}

impl<B: PacketBuf> Worker<B> {
    pub fn new(
        config: Arc<DatapathConfig>,
        nat: Nat,
        policies: Arc<ArcSwap<PolicyTable>>,
        counters: Arc<WorkerCounters>,
        requests: Receiver<Request>,
    ) -> Self {
        Worker {
            nat,
            error_limit: ErrorLimit::new(config.icmp_errors_per_second),
            output: Output::new(Arc::clone(&config), counters),
            config,
            policies: Cache::new(policies),
            announcer: Announcer::new(),
            requests: Requests::new(requests),
        }
    }

    /// To be called once on the thread that will run the loop: what the snapshot's cell keeps per thread
    /// is allocated at its first use, which must not be a turn of the loop.
    pub fn settle(&self) {
        drop(self.policies.arc_swap().load_full());
    }

    pub fn nat(&self) -> &Nat {
        &self.nat
    }

    pub fn nat_mut(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// One turn: a burst from each side, then a bounded amount of housekeeping. Returns how many
    /// packets were received.
    pub fn poll_once<I: PacketIo<Buf = B>>(&mut self, io: &mut I, now: Tick) -> usize {
        let Worker { config, nat, output, policies, announcer, error_limit, requests } = self;
        // Once per turn: all its packets are judged by the same policies.
        let policies = policies.load();
        // What was let through by older policies has left with the turn before.
        output.counters.generation.set(policies.generation());
        let mut turn = Turn { io, policies, now };
        let mut stages =
            Stages { config, nat, output, error_limit, translated: Traffic::default() };

        let mut received = 0;
        for side in Side::ALL {
            received += stages.burst(&mut turn, side);
        }
        announcer.tick(output, &mut turn);
        output.finish(&mut turn);

        nat.expire(now, EXPIRE_PER_TURN);
        nat.sweep(turn.policies, SWEEP_PER_TURN);
        requests.turn(nat, turn.policies, now);
        let counters = &output.counters;
        counters.publish_sessions(nat.sessions(), nat.counts());
        counters.neighbours.set(output.neighbour_count() as u64);
        counters.polls.add(1);
        if received == 0 {
            counters.empty_polls.add(1);
        }
        received
    }
}

/// What the stages of a burst work with.
struct Stages<'a, B> {
    config: &'a DatapathConfig,
    nat: &'a mut Nat,
    output: &'a mut Output<B>,
    error_limit: &'a mut ErrorLimit,
    /// Of this burst; told to the counters at its end.
    translated: Traffic,
}

/// Packets of flows between the stages, and what is known of each.
struct Flows<B, F> {
    packets: Burst<B>,
    known: ArrayVec<(F, Lookup), BURST>,
}

impl<B, F: FlowPacket> Flows<B, F> {
    fn new() -> Self {
        Flows { packets: Burst::new(), known: ArrayVec::new() }
    }

    /// A packet of a flow: its hash, whose line of the index begins to load.
    #[inline(always)]
    fn add(&mut self, nat: &Nat, packet: B, input: F) {
        let lookup = nat.of::<F::Address>().look_up(F::DIRECTION, input.key());
        self.known.push((input, lookup));
        self.packets.push(packet);
    }

    /// Second stage: where is each session? The sessions begin to load.
    #[inline(always)]
    fn locate(&mut self, nat: &Nat) {
        let nat = nat.of::<F::Address>();
        for (_, lookup) in &mut self.known {
            nat.locate(F::DIRECTION, lookup);
        }
        for (_, lookup) in &mut self.known {
            nat.locate_further(F::DIRECTION, lookup);
        }
    }

    fn take(&mut self) -> impl Iterator<Item = (B, (F, Lookup))> {
        std::mem::take(&mut self.packets).into_iter().zip(std::mem::take(&mut self.known))
    }
}

impl<B: PacketBuf> Stages<'_, B> {
    fn burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, side: Side) -> usize {
        let mut burst = Burst::new();
        turn.io.rx(side, &mut burst);
        let received = burst.len();
        if received == 0 {
            return 0;
        }
        for packet in &burst {
            packet.prefetch(side);
        }
        self.translated = Traffic::default();
        match side {
            Side::Tunnel => self.tunnel_burst(turn, burst),
            Side::External => self.external_burst(turn, burst),
        }
        let counters = &self.output.counters;
        let (packets, bytes) = match side {
            Side::Tunnel => (&counters.in2out_packets, &counters.in2out_bytes),
            Side::External => (&counters.out2in_packets, &counters.out2in_bytes),
        };
        packets.add(self.translated.packets);
        bytes.add(self.translated.bytes);
        received
    }

    fn tunnel_burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, burst: Burst<B>) {
        let (config, policies) = (self.config, turn.policies);
        let usual = |p: &mut B| classify::from_tunnel(p.data_mut(), config);
        let any = |p: &mut B| classify::any_from_tunnel(p.data_mut(), config, policies);
        let (mut v4, mut v6) = (Flows::new(), Flows::new());
        self.classify(turn, Side::Tunnel, burst, usual, any, (&mut v4, &mut v6));
        v4.locate(self.nat);
        self.in2out_all::<Ipv4Addr, I>(turn, v4);
        if !v6.packets.is_empty() {
            v6.locate(self.nat);
            self.in2out_all::<Ipv6Addr, I>(turn, v6);
        }
    }

    fn external_burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, burst: Burst<B>) {
        let (config, policies) = (self.config, turn.policies);
        let usual = |p: &mut B| classify::from_external(p.data(), config, policies);
        let any = |p: &mut B| classify::any_from_external(p.data(), config, policies);
        let (mut v4, mut v6) = (Flows::new(), Flows::new());
        self.classify(turn, Side::External, burst, usual, any, (&mut v4, &mut v6));
        v4.locate(self.nat);
        self.out2in_all::<Ipv4Addr, I>(turn, v4);
        if !v6.packets.is_empty() {
            v6.locate(self.nat);
            self.out2in_all::<Ipv6Addr, I>(turn, v6);
        }
    }

    /// First stage: what is each frame, and the hash of its flow. The lines of the index begin to load.
    #[inline(always)]
    fn classify<I, V4, V6>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        burst: Burst<B>,
        usual: impl Fn(&mut B) -> Result<V4, Other>,
        any: impl Fn(&mut B) -> Result<Either<V4, V6>, Other>,
        (v4, v6): (&mut Flows<B, V4>, &mut Flows<B, V6>),
    ) where
        I: PacketIo<Buf = B>,
        V4: FlowPacket,
        V6: FlowPacket,
    {
        let (received, mut bytes) = (burst.len(), 0);
        for mut packet in burst {
            bytes += packet.data().len();
            if !packet.is_contiguous() {
                self.output.drop(side, DropReason::MultiSegment);
                continue;
            }
            match usual(&mut packet) {
                Ok(input) => v4.add(self.nat, packet, input),
                Err(Other::Unusual) => match any(&mut packet) {
                    Ok(Either::V4(input)) => v4.add(self.nat, packet, input),
                    Ok(Either::V6(input)) => v6.add(self.nat, packet, input),
                    Err(other) => self.other(turn, side, packet, other),
                },
                Err(other) => self.other(turn, side, packet, other),
            }
        }
        let counters = self.output.counters.port(side);
        counters.rx_packets.add(received as u64);
        counters.rx_bytes.add(bytes as u64);
    }

    /// Last stage, for each packet in the order of the burst.
    #[inline(always)]
    fn in2out_all<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut flows: Flows<B, In2out<A>>,
    ) {
        for (packet, (input, lookup)) in flows.take() {
            if let Err(reason) = self.in2out(turn, packet, &input, lookup) {
                self.output.drop(Side::Tunnel, reason);
            }
        }
    }

    /// Last stage, for each packet in the order of the burst.
    #[inline(always)]
    fn out2in_all<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut flows: Flows<B, Out2in<A>>,
    ) {
        for (packet, (input, lookup)) in flows.take() {
            if let Err(reason) = self.out2in(turn, packet, &input, lookup) {
                self.output.drop(Side::External, reason);
            }
        }
    }

    /// What belongs to no flow is done with at once.
    #[cold]
    fn other<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        packet: B,
        other: Other,
    ) {
        let done = match other {
            Other::Drop(reason) => Err(reason),
            Other::Local | Other::Unusual => match classify::local(packet.data()) {
                Ok(Local::Arp { l3 }) => arp::receive(self.output, turn, side, packet, l3),
                Ok(Local::Icmp { packet: ip, icmp_type }) => {
                    icmp::receive(self.output, turn, side, packet, ip, icmp_type)
                }
                Ok(Local::Icmpv6 { packet: ip, icmp_type })
                    if icmpv6::is_neighbor_discovery(icmp_type) =>
                {
                    nd::receive(self.output, turn, side, packet, ip)
                }
                Ok(Local::Icmpv6 { packet: ip, icmp_type }) => {
                    icmp::receive(self.output, turn, side, packet, ip, icmp_type)
                }
                Err(reason) => Err(reason),
            },
        };
        if let Err(reason) = done {
            self.output.drop(side, reason);
        }
    }

    /// Pod → world: translate the inner packet, and send it without its tunnel headers.
    #[inline(always)]
    fn in2out<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &In2out<A>,
        lookup: Lookup,
    ) -> Result<(), DropReason> {
        let config = &self.output.config;
        if input.layout.packet_len() > config.external.mtu {
            return Err(DropReason::TooBig);
        }
        let l2_len = config.external.l2_len();
        let (nat, policies) = (self.nat.of_mut::<A>(), turn.policies);
        let translated = nat.in2out(packet.data_mut(), input, lookup, policies, turn.now);
        if let Err(reason) = translated {
            if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                icmp::time_exceeded_to_pod(self.output, turn, packet, input);
            }
            return Err(reason);
        }
        self.translated.packets += 1;
        self.translated.bytes += input.layout.packet_len() as u64;
        // The external L2 header takes the end of the inner one's place; with a VLAN tag it reaches
        // into the VXLAN header, which is not needed any more either.
        packet.keep(input.layout.l3() - l2_len..input.layout.end());
        self.output.forward(turn, Side::External, input.destination(), packet);
        Ok(())
    }

    /// World → pod: translate, and send it through the tunnel to the pod's node.
    #[inline(always)]
    fn out2in<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &Out2in<A>,
        lookup: Lookup,
    ) -> Result<(), DropReason> {
        let (nat, policies) = (self.nat.of_mut::<A>(), turn.policies);
        let translated = nat.out2in(packet.data_mut(), input, lookup, policies, turn.now);
        let to_node = match translated {
            Ok(to_node) => to_node,
            Err(reason) => {
                if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                    icmp::time_exceeded_to_world(self.output, turn, packet, input);
                }
                return Err(reason);
            }
        };
        let config = &self.output.config;
        let tunnel =
            Tunnel { address: policies.vtep_address(to_node.vtep), policy: to_node.policy };
        if input.layout.packet_len() > config.max_inner(tunnel.address) {
            return Err(DropReason::TooBig);
        }
        packet.keep(input.layout.l3()..input.layout.end());
        if !packet.prepend(tunnel.overhead(config)) {
            return Err(DropReason::NoHeadroom);
        }
        self.translated.packets += 1;
        self.translated.bytes += input.layout.packet_len() as u64;
        tunnel::encapsulate::<A>(packet.data_mut(), config, &tunnel, input.key.spread());
        self.output.forward_any(turn, Side::Tunnel, tunnel.address, packet);
        Ok(())
    }

    fn may_send_error(&mut self, now: Tick) -> bool {
        let allowed = self.error_limit.allow(now);
        let counters = &self.output.counters;
        if allowed {
            counters.icmp_errors_sent.add(1);
        } else {
            counters.icmp_errors_limited.add(1);
        }
        allowed
    }
}
