//! A burst's way through the worker, in the order in which it goes.
//!
//! A burst goes through each stage as a whole, so that the cache misses of its packets overlap: classify all
//! and hash them, while their index buckets are loaded; look at the buckets' tags, while the sessions are
//! loaded; then translate and send each in order. A packet without a session opens one in its turn, which
//! keeps the order within a flow. A packet of another worker's flow leaves the way after the first stage
//! ([`super::exchange`]), and goes on at its owner from the second.

use super::{
    arp,
    classify::{self, Local, Other},
    config::DatapathConfig,
    exchange::Steered,
    handoff::Handoff,
    icmp::{self, ErrorLimit},
    io::{BURST, Burst, PacketBuf, PacketIo},
    laps::{Laps, Stage},
    nd,
    next_hop::{Output, Turn},
    tunnel::{self, Tunnel},
};
use crate::{
    nat::{
        FlowPacket, Lookup, Nat, Tick,
        in2out::In2out,
        out2in::{Out2in, Stop},
        record::Traffic,
    },
    verdict::{DropReason, Side},
    wire::{Address, Any, PerFamily, icmpv6},
};
use arrayvec::ArrayVec;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Packets of a burst whose headers load while another's are read: some of the lines that a core can wait
/// for at once. All at once would wait for each other before the first is read.
const AHEAD: usize = 8;

/// What the stages of a burst work with.
pub(super) struct Stages<'a, B> {
    pub(super) config: &'a DatapathConfig,
    pub(super) nat: &'a mut Nat,
    pub(super) output: &'a mut Output<B>,
    pub(super) handoff: &'a mut Handoff<B>,
    pub(super) error_limit: &'a mut ErrorLimit,
    pub(super) laps: &'a mut Laps,
    /// By direction; told to the counters at the turn's end.
    pub(super) translated: [Traffic; 2],
}

/// Packets of flows between the stages, and what is known of each.
pub(super) struct Flows<B, F> {
    packets: Burst<B>,
    known: ArrayVec<(F, Lookup), BURST>,
}

/// [`Flows`] of each family.
type FlowsOf<B, P> =
    (Flows<B, <P as PerFamily>::Of<Ipv4Addr>>, Flows<B, <P as PerFamily>::Of<Ipv6Addr>>);

impl<B, F: FlowPacket> Flows<B, F> {
    pub(super) fn new() -> Self {
        Flows { packets: Burst::new(), known: ArrayVec::new() }
    }

    /// A packet of a flow: its hash, whose line of the index begins to load.
    #[inline(always)]
    pub(super) fn add(&mut self, nat: &Nat, packet: B, input: F) {
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
}

impl<B: PacketBuf> Stages<'_, B> {
    pub(super) fn burst<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
    ) -> usize {
        let mut burst = Burst::new();
        turn.io.rx(side, &mut burst);
        let received = burst.len();
        self.laps.lap(Stage::Receive);
        if received == 0 {
            return 0;
        }
        for packet in burst.iter().take(AHEAD) {
            packet.prefetch(side);
        }
        match side {
            Side::Tunnel => self.tunnel_burst(turn, burst),
            Side::External => self.external_burst(turn, burst),
        }
        received
    }

    pub(super) fn count_translated(&mut self) {
        let counters = &self.output.counters;
        let [in2out, out2in] = self.translated;
        counters.in2out_packets.add(in2out.packets);
        counters.in2out_bytes.add(in2out.bytes);
        counters.out2in_packets.add(out2in.packets);
        counters.out2in_bytes.add(out2in.bytes);
    }

    fn tunnel_burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, burst: Burst<B>) {
        let (config, policies) = (self.config, turn.policies);
        let usual = |p: &B| config.usual_frames().from_tunnel(p.data());
        let any = |p: &mut B| classify::from_tunnel(p.data_mut(), config, policies);
        let mut flows = (Flows::new(), Flows::new());
        self.classify(turn, Side::Tunnel, burst, usual, any, &mut flows);
        self.in2out_all::<Ipv4Addr, I>(turn, &mut flows.0);
        self.in2out_all::<Ipv6Addr, I>(turn, &mut flows.1);
    }

    fn external_burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, burst: Burst<B>) {
        let (config, policies) = (self.config, turn.policies);
        let usual = |p: &B| config.usual_frames().from_external(p.data(), policies);
        let any = |p: &mut B| classify::from_external(p.data(), config, policies);
        let mut flows = (Flows::new(), Flows::new());
        self.classify(turn, Side::External, burst, usual, any, &mut flows);
        self.out2in_all::<Ipv4Addr, I>(turn, &mut flows.0);
        self.out2in_all::<Ipv6Addr, I>(turn, &mut flows.1);
    }

    /// First stage: what is each frame, and whose? What is another worker's goes there; of the others the
    /// lines of the index begin to load.
    #[inline(always)]
    fn classify<I, P>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        burst: Burst<B>,
        usual: impl Fn(&B) -> Option<P::Of<Ipv4Addr>>,
        any: impl Fn(&mut B) -> Result<Any<P>, Other>,
        flows: &mut FlowsOf<B, P>,
    ) where
        I: PacketIo<Buf = B>,
        P: PerFamily<Of<Ipv4Addr>: Steered<B>, Of<Ipv6Addr>: Steered<B>>,
    {
        let (received, mut bytes) = (burst.len(), 0);
        let mut packets = burst.into_iter();
        while let Some(mut packet) = packets.next() {
            if let Some(later) = packets.as_slice().get(AHEAD - 1) {
                later.prefetch(side);
            }
            bytes += packet.data().len();
            if !packet.is_contiguous() {
                self.output.drop(side, DropReason::MultiSegment);
                continue;
            }
            if let Some(input) = usual(&packet) {
                self.own_or_hand_over(&mut flows.0, packet, input);
                continue;
            }
            match any(&mut packet) {
                Ok(Any::V4(input)) => self.own_or_hand_over(&mut flows.0, packet, input),
                Ok(Any::V6(input)) => self.own_or_hand_over(&mut flows.1, packet, input),
                Err(other) => self.other(turn, side, packet, other),
            }
        }
        let counters = self.output.counters.port(side);
        counters.rx_packets.add(received as u64);
        counters.rx_bytes.add(bytes as u64);
        self.laps.lap(Stage::Classify);
    }

    #[inline(always)]
    fn own_or_hand_over<F: Steered<B>>(&mut self, flows: &mut Flows<B, F>, packet: B, input: F) {
        match input.other_owner(self.handoff) {
            None => flows.add(self.nat, packet, input),
            Some(owner) => self.hand_over(owner, input.handed(packet)),
        }
    }

    /// Last stage, for each packet in the order of the burst.
    #[inline(always)]
    pub(super) fn in2out_all<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        flows: &mut Flows<B, In2out<A>>,
    ) {
        if flows.packets.is_empty() {
            return;
        }
        flows.locate(self.nat);
        self.laps.lap(Stage::Locate);
        for (packet, (input, lookup)) in flows.packets.drain(..).zip(&flows.known) {
            self.in2out(turn, packet, input, *lookup);
        }
        self.laps.lap(Stage::Translate);
    }

    /// Last stage, for each packet in the order of the burst.
    #[inline(always)]
    pub(super) fn out2in_all<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        flows: &mut Flows<B, Out2in<A>>,
    ) {
        if flows.packets.is_empty() {
            return;
        }
        flows.locate(self.nat);
        self.laps.lap(Stage::Locate);
        // Sooner, beside all that was asked for until here, it takes 25 cycles a packet longer where another
        // core has read that line last; a few packets ahead is too late.
        for packet in &flows.packets {
            packet.prefetch_room();
        }
        for (packet, (input, lookup)) in flows.packets.drain(..).zip(&flows.known) {
            self.out2in(turn, packet, input, *lookup);
        }
        self.laps.lap(Stage::Translate);
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
            Other::Local => match classify::local(packet.data()) {
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
    ) {
        let translated = if input.layout.packet_len() > self.output.config.external.mtu {
            Err(DropReason::TooBig)
        } else {
            let (nat, policies) = (self.nat.of_mut::<A>(), turn.policies);
            nat.in2out(packet.data_mut(), input, lookup, policies, turn.now)
        };
        match translated {
            Err(DropReason::L4PortsExhausted) if !self.handoff.is_alone() => {
                self.borrow(packet, *input);
            }
            translated => self.leave(turn, packet, input, translated),
        }
    }

    /// What comes of a packet that was to be translated.
    #[inline(always)]
    pub(super) fn leave<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &In2out<A>,
        translated: Result<(), DropReason>,
    ) {
        if let Err(reason) = translated {
            if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                icmp::time_exceeded_to_pod(self.output, turn, packet, input);
            }
            return self.output.drop(Side::Tunnel, reason);
        }
        let in2out = &mut self.translated[0];
        in2out.packets += 1;
        in2out.bytes += input.layout.packet_len() as u64;
        // The external L2 header takes the end of the inner one's place; with a VLAN tag it reaches
        // into the VXLAN header, which is not needed any more either.
        let l2_len = self.output.config.external.l2_len();
        packet.keep(input.layout.l3() - l2_len..input.layout.end());
        self.output.forward(turn, Side::External, input.destination(), packet);
    }

    /// World → pod: translate, and send it through the tunnel to the pod's node.
    #[inline(always)]
    fn out2in<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &Out2in<A>,
        lookup: Lookup,
    ) {
        let (nat, policies) = (self.nat.of_mut::<A>(), turn.policies);
        match nat.out2in(packet.data_mut(), input, lookup, policies, turn.now) {
            Ok(to_node) => {
                let address = policies.vtep_address(to_node.vtep);
                let tunnel = Tunnel { address, policy: to_node.policy };
                if let Err(reason) = self.enter(turn, packet, input, &tunnel) {
                    self.output.drop(Side::External, reason);
                }
            }
            Err(Stop::Borrowed(borrower)) => self.hand_over(borrower, input.handed(packet)),
            Err(Stop::Drop(reason)) => {
                if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                    icmp::time_exceeded_to_world(self.output, turn, packet, input);
                }
                self.output.drop(Side::External, reason);
            }
        }
    }

    /// Into the tunnel with a translated packet.
    #[inline(always)]
    fn enter<A: Address, I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &Out2in<A>,
        tunnel: &Tunnel,
    ) -> Result<(), DropReason> {
        let config = &self.output.config;
        if input.layout.packet_len() > config.max_inner(tunnel.address) {
            return Err(DropReason::TooBig);
        }
        packet.keep(input.layout.l3()..input.layout.end());
        if !packet.prepend(tunnel.overhead(config)) {
            return Err(DropReason::NoHeadroom);
        }
        let out2in = &mut self.translated[1];
        out2in.packets += 1;
        out2in.bytes += input.layout.packet_len() as u64;
        tunnel::encapsulate::<A>(packet.data_mut(), config, tunnel, input.key.spread());
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
