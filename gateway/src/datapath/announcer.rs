//! Saying where our addresses are: at start, and when the policies bring new egress IPs, so that switches
//! and neighbours learn it at once. Gratuitous ARP for IPv4; for IPv6 Duplicate Address Detection and
//! then unsolicited advertisements.

use super::{
    arp,
    config::DatapathConfig,
    io::PacketIo,
    nd,
    next_hop::{Output, Turn},
};
use crate::{
    nat::{PolicyTable, Tick},
    verdict::Side,
    wire::Address,
};
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Debug)]
pub struct Announcer {
    /// What this round announces next: one of the three sets of addresses, and a place in it. `None`
    /// between the rounds.
    next: Option<(u8, usize)>,
    rounds: u8,
    next_round: Tick,
    /// What the last rounds announced.
    generation: Option<u64>,
}

/// The even rounds are ARP's: RFC 5227 section 2.3 wants two announcements, two seconds apart; one more
/// for a link that is slow to come up. The odd ones are IPv6's: RFC 4862 section 5.1 wants one question
/// whether another host has the address, a second before it is announced.
const ROUNDS: u8 = 6;
const ROUND_MILLIS: u64 = 1_000;
const PER_TURN: usize = 8;

impl Announcer {
    pub fn new() -> Self {
        Announcer { next: None, rounds: ROUNDS, next_round: Tick::default(), generation: None }
    }

    /// Sends the announcements that are due, a few per turn.
    pub fn tick<I: PacketIo>(&mut self, output: &mut Output<I::Buf>, turn: &mut Turn<'_, I>) {
        if self.generation != Some(turn.policies.generation()) {
            self.generation = Some(turn.policies.generation());
            self.rounds = 0;
            self.next_round = turn.now;
            self.next = None;
        }
        if self.next.is_none() && self.rounds < ROUNDS && turn.now >= self.next_round {
            self.rounds += 1;
            self.next_round = turn.now.plus_millis(ROUND_MILLIS);
            self.next = Some((0, 0));
        }
        for _ in 0..PER_TURN {
            if self.next.is_none() {
                return;
            }
            if self.rounds % 2 == 1 {
                if let Some((side, address)) = self.address::<Ipv4Addr>(output, turn.policies) {
                    arp::announce(output, turn, side, address);
                }
            } else if let Some((side, address)) = self.address::<Ipv6Addr>(output, turn.policies) {
                match self.rounds {
                    2 => nd::detect_duplicate(output, turn, side, address),
                    _ => nd::announce(output, turn, side, address),
                }
            }
        }
    }

    /// The next address of this round; `None` after the last.
    fn address<A: Address>(
        &mut self,
        output: &Output<impl Sized>,
        policies: &PolicyTable,
    ) -> Option<(Side, A)> {
        let config: &DatapathConfig = &output.config;
        loop {
            let (set, place) = self.next?;
            let (side, addresses) = match set {
                0 => (Side::Tunnel, config.own::<A>(Side::Tunnel)),
                1 => (Side::External, config.own(Side::External)),
                2 => (Side::External, policies.egress_ips()),
                _ => {
                    self.next = None;
                    return None;
                }
            };
            match addresses.at_or_after(place) {
                Some((place, address)) => {
                    self.next = Some((set, place + 1));
                    return Some((side, address));
                }
                None => self.next = Some((set + 1, 0)),
            }
        }
    }
}

impl Default for Announcer {
    fn default() -> Self {
        Self::new()
    }
}
