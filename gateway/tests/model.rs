//! The translation against a naive model: a list of sessions, searched from end to end, with time as
//! a number. Random packets of few pods, l4_ports and remotes meet often; the clock jumps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// One session as a person would note it down.
#[derive(Clone, Debug)]
struct Known {
    pod: Ipv4Addr,
    sport: u16,
    remote: Ipv4Addr,
    dport: u16,
    external: u16,
    heard: u64,
    answered: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// A datagram of pod `10.244.1.pod`.
    FromPod {
        pod: u8,
        sport: u16,
        remote: u8,
        dport: u16,
    },
    /// An answer to the n-th known session, or (`stranger`) from another l4_port.
    FromWorld {
        session: prop::sample::Index,
        stranger: bool,
    },
    /// A datagram to an l4_port that is nobody's, most likely.
    FromNowhere {
        l4_port: u16,
    },
    Wait {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1u8..4, 1000u16..1004, 1u8..3, prop_oneof![Just(53u16), Just(80)])
            .prop_map(|(pod, sport, remote, dport)| Step::FromPod { pod, sport, remote, dport }),
        5 => (any::<prop::sample::Index>(), prop::bool::weighted(0.2))
            .prop_map(|(session, stranger)| Step::FromWorld { session, stranger }),
        1 => (1024u16..).prop_map(|l4_port| Step::FromNowhere { l4_port }),
        2 => prop_oneof![0u64..40, 250u64..400].prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Idle time that the defaults allow; whole seconds, as the product counts.
fn lives(known: &Known, now: u64) -> bool {
    let timeout = match (known.answered, known.dport) {
        (false, _) => 30,
        (true, 53) => 10,
        (true, _) => 300,
    };
    now < known.heard + timeout
}

struct Run {
    bench: Bench,
    known: Vec<Known>,
}

impl Run {
    fn now(&self) -> u64 {
        self.bench.now.millis() / 1000
    }

    fn pod_sends(&mut self, pod: u8, sport: u16, remote: u8, dport: u16) {
        let pod = Ipv4Addr::new(10, 244, 1, pod);
        let remote = Ipv4Addr::new(198, 51, 100, remote);
        let packet = udp((pod, sport), (remote, dport), 64, b"question");
        let out = self.bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
        assert_eq!(out.len(), 1, "{:?}", self.bench.drops());
        let seen = Seen::of(&out[0]);
        assert!(seen.l4_checksum_ok);
        assert_eq!((seen.source, seen.destination, seen.dport), (EGRESS, remote, dport));
        let now = self.now();
        let same =
            |k: &&mut Known| (k.pod, k.sport, k.remote, k.dport) == (pod, sport, remote, dport);
        if let Some(known) = self.known.iter_mut().find(same) {
            assert_eq!(seen.sport, known.external, "a live flow keeps its l4_port");
            known.heard = now;
            return;
        }
        let clash = self
            .known
            .iter()
            .find(|k| (k.external, k.remote, k.dport) == (seen.sport, remote, dport));
        assert!(clash.is_none(), "{clash:?} has this external tuple");
        let (external, answered) = (seen.sport, false);
        self.known.push(Known { pod, sport, remote, dport, external, heard: now, answered });
    }

    fn world_sends(&mut self, session: prop::sample::Index, stranger: bool) {
        if self.known.is_empty() {
            return;
        }
        let (at, now) = (session.index(self.known.len()), self.now());
        let known = self.known[at].clone();
        let source = if stranger { known.dport + 1 } else { known.dport };
        let packet = udp((known.remote, source), (EGRESS, known.external), 64, b"answer");
        let before = self.bench.dropped(DropReason::NoSession);
        let back = self.bench.world_sends(&from_router(&packet));
        if stranger {
            assert_eq!((back.len(), self.bench.dropped(DropReason::NoSession)), (0, before + 1));
            return;
        }
        assert_eq!(back.len(), 1, "{known:?} {:?}", self.bench.drops());
        let (inner, vni) = Seen::in_tunnel(&back[0], NODE);
        assert_eq!((inner.destination, inner.dport, vni), (known.pod, known.sport, POLICY));
        assert_eq!((inner.source, inner.sport), (known.remote, known.dport));
        assert!(inner.l4_checksum_ok);
        (self.known[at].heard, self.known[at].answered) = (now, true);
    }

    fn stray(&mut self, l4_port: u16) {
        let remote = Ipv4Addr::new(192, 88, 99, 1);
        let packet = udp((remote, 9), (EGRESS, l4_port), 64, b"");
        assert_eq!(self.bench.world_sends(&from_router(&packet)).len(), 0);
    }

    fn wait(&mut self, seconds: u64) {
        self.bench.advance(seconds * 1000);
        // A turn ends a bounded number of sessions; these few are done after one more.
        self.bench.advance(0);
        let now = self.now();
        self.known.retain(|known| lives(known, now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_list_of_sessions(steps in steps()) {
        let mut run = Run { bench: Bench::new(), known: Vec::new() };
        for step in steps {
            match step {
                Step::FromPod { pod, sport, remote, dport } => run.pod_sends(pod, sport, remote, dport),
                Step::FromWorld { session, stranger } => run.world_sends(session, stranger),
                Step::FromNowhere { l4_port } => run.stray(l4_port),
                Step::Wait { seconds } => run.wait(seconds),
            }
            prop_assert_eq!(run.bench.sessions() as usize, run.known.len());
            run.bench.worker.nat().check_invariants();
        }
        run.wait(8000);
        prop_assert_eq!(run.bench.sessions(), 0);
        prop_assert_eq!(run.bench.io.in_use(), 0);
    }

    /// In and out again restores every byte but the TTL and what the TTL does to the IPv4 checksum.
    #[test]
    fn a_reply_that_mirrors_a_packet_comes_back_as_the_pod_would_have_got_it(
        sport in 1u16.., dport in 1u16.., payload in prop::collection::vec(any::<u8>(), 0..600),
        checksum in any::<bool>(), is_tcp in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mirror = |from, to, ttl: u8| {
            let mut packet = match is_tcp {
                true => tcp(from, to, SYN, None, b""),
                false => udp(from, to, 64, &payload),
            };
            if !checksum && !is_tcp {
                packet[26..28].copy_from_slice(&[0, 0]);
            }
            let segment = packet.split_off(20);
            ipv4_with(from.0, to.0, if is_tcp { 6 } else { 17 }, &segment, |h| h.time_to_live = ttl)
        };
        let out = bench.pod_sends(&tunnelled(NODE, POLICY, &mirror((POD, sport), (REMOTE, dport), 64)));
        let external = Seen::of(&out[0]).sport;
        let answer = mirror((REMOTE, dport), (EGRESS, external), 64);
        let back = bench.world_sends(&from_router(&answer));
        let expected = mirror((REMOTE, dport), (POD, sport), 63);
        prop_assert_eq!(&back[0][14 + 50..], &expected[..]);
        prop_assert_eq!(&out[0][14..], &mirror((EGRESS, external), (REMOTE, dport), 63)[..]);
        prop_assert!(bench.take(Side::External).is_empty());
    }
}
