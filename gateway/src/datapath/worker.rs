//! One worker: one core, one queue pair per port, one session table, run to completion.
//!
//! Start reading at [`Worker::poll_once`]. A burst goes through the stages as a whole, so that the
//! cache misses of its packets overlap: classify all and hash them, while their index buckets are
//! loaded; look at the buckets' tags, while the sessions are loaded; then translate and send each in
//! order. A packet without a session opens one in its turn, which keeps the order within a flow.

use super::{
    arp::{self, Announcer},
    classify::{self, Input},
    config::DatapathConfig,
    counters::WorkerCounters,
    icmp::{self, ErrorLimit},
    io::{BURST, Burst, PacketBuf, PacketIo},
    next_hop::{Output, Turn},
    request::{Request, Requests},
    tunnel,
};
use crate::{
    nat::{Nat, NatConfig, PolicyTable, Tick, in2out::In2out, out2in::Out2in},
    verdict::{DropReason, Side},
};
use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// Sessions that one turn ends at most because they were idle, and slots that it looks at after a
/// reload.
const EXPIRE_PER_TURN: usize = 32;
const SWEEP_PER_TURN: u32 = 64;

#[derive(Debug)]
pub struct Worker<B> {
    nat: Nat,
    output: Output<B>,
    policies: Cache<Arc<ArcSwap<PolicyTable>>, Arc<PolicyTable>>,
    announcer: Announcer,
    error_limit: ErrorLimit,
    requests: Requests,
}

/// A packet between the first stage and the last.
struct InFlight<B> {
    packet: B,
    input: Input,
    hash: u64,
}

impl<B: PacketBuf> Worker<B> {
    pub fn new(
        config: Arc<DatapathConfig>,
        nat: &NatConfig,
        policies: Arc<ArcSwap<PolicyTable>>,
        counters: Arc<WorkerCounters>,
        requests: Receiver<Request>,
    ) -> Self {
        Worker {
            nat: Nat::new(nat),
            error_limit: ErrorLimit::new(config.icmp_errors_per_second),
            output: Output::new(config, counters),
            policies: Cache::new(policies),
            announcer: Announcer::new(),
            requests: Requests::new(requests),
        }
    }

    pub fn nat(&self) -> &Nat {
        &self.nat
    }

    /// One turn: a burst from each side, then a bounded amount of housekeeping. Returns how many
    /// packets were received.
    pub fn poll_once<I: PacketIo<Buf = B>>(&mut self, io: &mut I, now: Tick) -> usize {
        let Worker { nat, output, policies, announcer, error_limit, requests } = self;
        // Once per turn: all its packets are judged by the same policies.
        let policies = policies.load();
        // What was let through by older policies has left with the turn before.
        output.counters.generation.set(policies.generation());
        let mut turn = Turn { io, policies, now };
        let mut stages = Stages { nat, output, error_limit };

        let mut received = 0;
        for side in Side::ALL {
            received += stages.burst(&mut turn, side);
        }
        announcer.tick(output, &mut turn);
        output.finish(&mut turn);

        nat.expire(now, EXPIRE_PER_TURN);
        nat.sweep(turn.policies, SWEEP_PER_TURN);
        requests.turn(nat);
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
    nat: &'a mut Nat,
    output: &'a mut Output<B>,
    error_limit: &'a mut ErrorLimit,
}

impl<B: PacketBuf> Stages<'_, B> {
    fn burst<I: PacketIo<Buf = B>>(&mut self, turn: &mut Turn<'_, I>, side: Side) -> usize {
        let mut burst = Burst::new();
        turn.io.rx(side, &mut burst);
        let received = burst.len();
        if received == 0 {
            return 0;
        }
        let bytes: usize = burst.iter().map(|packet| packet.data().len()).sum();
        let counters = self.output.counters.port(side);
        counters.rx_packets.add(received as u64);
        counters.rx_bytes.add(bytes as u64);

        let in_flight = self.classify(turn, side, burst);
        for packet in &in_flight {
            self.prefetch_session(packet);
        }
        for packet in in_flight {
            if let Err(reason) = self.finish(turn, side, packet) {
                self.output.drop(side, reason);
            }
        }
        received
    }

    /// What each frame is, and the hash of its flow; the index buckets begin to load.
    fn classify<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &Turn<'_, I>,
        side: Side,
        burst: Burst<B>,
    ) -> ArrayVec<InFlight<B>, BURST> {
        let config = &self.output.config;
        let mut in_flight = ArrayVec::new();
        for mut packet in burst {
            let input = match side {
                _ if !packet.is_contiguous() => Err(DropReason::MultiSegment),
                Side::Tunnel => classify::from_tunnel(packet.data_mut(), config),
                Side::External => {
                    classify::from_external(packet.data(), config, turn.policies.egress_ips())
                }
            };
            let hash = match &input {
                Ok(Input::In2out(input)) => {
                    let hash = self.nat.hash().of(&input.key());
                    self.nat.prefetch_in2out_bucket(hash);
                    hash
                }
                Ok(Input::Out2in(input)) => {
                    let hash = self.nat.hash().of(&input.key());
                    self.nat.prefetch_out2in_bucket(hash);
                    hash
                }
                Ok(Input::Arp { .. } | Input::ToUs { .. }) | Err(_) => 0,
            };
            match input {
                Ok(input) => in_flight.push(InFlight { packet, input, hash }),
                Err(reason) => self.output.drop(side, reason),
            }
        }
        in_flight
    }

    fn prefetch_session(&self, packet: &InFlight<B>) {
        match packet.input {
            Input::In2out(_) => self.nat.prefetch_in2out_session(packet.hash),
            Input::Out2in(_) => self.nat.prefetch_out2in_session(packet.hash),
            Input::Arp { .. } | Input::ToUs { .. } => {}
        }
    }

    fn finish<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        side: Side,
        in_flight: InFlight<B>,
    ) -> Result<(), DropReason> {
        let InFlight { packet, input, hash } = in_flight;
        match input {
            Input::In2out(input) => self.in2out(turn, packet, &input, hash),
            Input::Out2in(input) => self.out2in(turn, packet, &input, hash),
            Input::Arp { l3 } => arp::receive(self.output, turn, side, packet, l3),
            Input::ToUs { packet: ip, icmp_type } => {
                icmp::receive(self.output, turn, side, packet, ip, icmp_type)
            }
        }
    }

    /// Pod → world: translate the inner packet, and send it without its tunnel headers.
    #[inline]
    fn in2out<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &In2out,
        hash: u64,
    ) -> Result<(), DropReason> {
        let config = &self.output.config;
        if input.packet.len() > config.external.mtu {
            return Err(DropReason::TooBig);
        }
        let l2_len = config.external.l2_len();
        let translated = self.nat.in2out(packet.data_mut(), input, hash, turn.policies, turn.now);
        if let Err(reason) = translated {
            if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                icmp::time_exceeded_to_pod(self.output, turn, packet, input);
            }
            return Err(reason);
        }
        let counters = &self.output.counters;
        counters.in2out_packets.add(1);
        counters.in2out_bytes.add(input.packet.len() as u64);
        packet.truncate(input.packet.end);
        // The external L2 header takes the end of the inner one's place; with a VLAN tag it reaches
        // into the VXLAN header, which is not needed any more either.
        packet.trim_front(input.packet.l3 - l2_len);
        self.output.forward(turn, Side::External, input.packet.destination, packet);
        Ok(())
    }

    /// World → pod: translate, and send it through the tunnel to the pod's node.
    #[inline]
    fn out2in<I: PacketIo<Buf = B>>(
        &mut self,
        turn: &mut Turn<'_, I>,
        mut packet: B,
        input: &Out2in,
        hash: u64,
    ) -> Result<(), DropReason> {
        if input.packet.len() > self.output.config.max_inner() {
            return Err(DropReason::TooBig);
        }
        let translated = self.nat.out2in(packet.data_mut(), input, hash, turn.policies, turn.now);
        let to_node = match translated {
            Ok(to_node) => to_node,
            Err(reason) => {
                if reason == DropReason::TtlExpired && self.may_send_error(turn.now) {
                    icmp::time_exceeded_to_world(self.output, turn, packet, input);
                }
                return Err(reason);
            }
        };
        packet.truncate(input.packet.end);
        packet.trim_front(input.packet.l3);
        if !packet.prepend(tunnel::overhead(&self.output.config)) {
            return Err(DropReason::NoHeadroom);
        }
        let counters = &self.output.counters;
        counters.out2in_packets.add(1);
        counters.out2in_bytes.add(input.packet.len() as u64);
        tunnel::encapsulate(packet.data_mut(), &self.output.config, to_node, input.key().spread());
        self.output.forward(turn, Side::Tunnel, to_node.vtep, packet);
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
