//! The translation against a naive model: a list of sessions, searched from end to end, with time as
//! a number. Random packets of few pods, l4_ports and remotes meet often; the clock jumps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::DropReason;
use harness::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One session as a person would note it down.
#[derive(Clone, Debug)]
struct Known<F> {
    pod: F,
    sport: u16,
    remote: F,
    dport: u16,
    external: u16,
    heard: u64,
    answered: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// A datagram of the pod of that number.
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
fn lives<F>(known: &Known<F>, now: u64) -> bool {
    let timeout = match (known.answered, known.dport) {
        (false, _) => 30,
        (true, 53) => 10,
        (true, _) => 300,
    };
    now < known.heard + timeout
}

/// Sessions of one family.
struct Run<F, U> {
    bench: Bench,
    known: Vec<Known<F>>,
    node: U,
}

impl<F: Family, U: Family> Run<F, U> {
    fn new() -> Self {
        Run { bench: Bench::with(Setup::both()), known: Vec::new(), node: U::NODE }
    }

    fn go(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::FromPod { pod, sport, remote, dport } => {
                    self.pod_sends(pod, sport, remote, dport);
                }
                Step::FromWorld { session, stranger } => self.world_sends(session, stranger),
                Step::FromNowhere { l4_port } => self.stray(l4_port),
                Step::Wait { seconds } => self.wait(seconds),
            }
            assert_eq!(self.bench.sessions() as usize, self.known.len());
            self.bench.worker.nat().check_invariants();
        }
        self.wait(8000);
        assert_eq!(self.bench.sessions(), 0);
        assert_eq!(self.bench.io.in_use(), 0);
    }

    fn now(&self) -> u64 {
        self.bench.now.millis() / 1000
    }

    fn pod_sends(&mut self, pod: u8, sport: u16, remote: u8, dport: u16) {
        let (pod, remote) = (F::pod(pod), F::remote(remote));
        let packet = udp((pod, sport), (remote, dport), 64, b"question");
        let out = self.bench.pod_sends(&tunnelled_over(self.node, POLICY, &packet));
        assert_eq!(out.len(), 1, "{:?}", self.bench.drops());
        let seen = SeenOf::<F>::of(&out[0]);
        assert!(seen.l4_checksum_ok);
        assert_eq!((seen.source, seen.destination, seen.dport), (F::EGRESS, remote, dport));
        let now = self.now();
        let same =
            |k: &&mut Known<F>| (k.pod, k.sport, k.remote, k.dport) == (pod, sport, remote, dport);
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
        let packet = udp((known.remote, source), (F::EGRESS, known.external), 64, b"answer");
        let before = self.bench.dropped(DropReason::NoSession);
        let back = self.bench.world_sends(&from_router(&packet));
        if stranger {
            assert_eq!((back.len(), self.bench.dropped(DropReason::NoSession)), (0, before + 1));
            return;
        }
        assert_eq!(back.len(), 1, "{known:?} {:?}", self.bench.drops());
        let (inner, vni) = SeenOf::<F>::in_tunnel(&back[0], self.node);
        assert_eq!((inner.destination, inner.dport, vni), (known.pod, known.sport, POLICY));
        assert_eq!((inner.source, inner.sport), (known.remote, known.dport));
        assert!(inner.l4_checksum_ok);
        (self.known[at].heard, self.known[at].answered) = (now, true);
    }

    fn stray(&mut self, l4_port: u16) {
        let packet = udp((F::remote(99), 9), (F::EGRESS, l4_port), 64, b"");
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
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_list_of_sessions(steps in steps()) {
        Run::<Ipv4Addr, Ipv4Addr>::new().go(steps);
    }

    #[test]
    fn agrees_with_a_list_of_ipv6_sessions(steps in steps()) {
        Run::<Ipv6Addr, Ipv6Addr>::new().go(steps);
    }
}
