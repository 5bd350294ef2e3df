//! Workers as threads of the test, without lcores.

use super::*;
use crate::job::{Checksums, Ends, FarSide, Frames, Order};
use gateway::datapath::steering::ShardSeed;
use std::thread;

const FLOWS: u32 = 500;

fn job() -> Job {
    Job {
        ends: Ends::Memory { worker_cores: vec![0], max_sessions: 1000 },
        core: 0,
        hugepages: false,
        eal_args: Vec::new(),
        far_side: FarSide::Nat,
        flows: FLOWS,
        nodes: 5,
        checksums: Checksums::Valid,
    }
}

fn load(direction: Direction, frames: Frames) -> Load {
    Load { direction, frames, order: Order::Random, new_sessions: 0.0, latency: false }
}

fn members(workers: usize) -> Vec<Member> {
    let steering = Arc::new(Steering::new(ShardSeed([7; 16]), workers).unwrap());
    let (meeting, inside) = (Arc::new(Meeting::new(workers)), Inside::new(&job(), 1000).unwrap());
    let member = |handoff| {
        let published = Arc::default();
        Member::new(&job(), &inside, handoff, &steering, Arc::clone(&meeting), published).unwrap()
    };
    Handoff::mesh(&steering).into_iter().map(member).collect()
}

#[test]
fn workers_have_flows_of_their_own_and_nothing_of_these_is_lost_or_handed_over() {
    let mut members = members(3);
    for (i, member) in members.iter().enumerate() {
        assert_eq!(member.numbers.len(), FLOWS as usize);
        assert!(member.numbers.is_sorted());
        let others = members.iter().skip(i + 1);
        assert!(others.clone().all(|of| of.numbers.iter().all(|n| !member.numbers.contains(n))));
    }
    members.iter_mut().for_each(|member| drop(member.establish().unwrap()));
    for (direction, sent) in [
        (Direction::In2out, [true, false]),
        (Direction::Out2in, [false, true]),
        (Direction::Both, [true, true]),
    ] {
        let load = load(direction, Frames::Imix);
        let parts: Vec<Part> = thread::scope(|scope| {
            let send = |member| scope.spawn(move || Member::send(member, &load, 0.001, 0.005));
            let threads: Vec<_> = members.iter_mut().map(send).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for part in parts {
            assert_eq!(part.sent.map(|sent| sent > 0), sent, "{part:?}");
            assert_eq!((part.received, part.wrong), (part.sent, 0), "{part:?}");
            assert!(part.counted.packets >= part.sent.iter().sum::<u64>(), "{part:?}");
            assert!(part.counted.busy_cycles > 0, "{part:?}");
            assert_eq!((part.counted.sessions, part.counted.sessions_created), (500, 0));
        }
    }
    for member in &members {
        let handed_over = &member.counted.counters.handed_over;
        assert!(handed_over.iter().all(|count| count.get() == 0), "{handed_over:?}");
    }
}

#[test]
fn what_leaves_otherwise_than_foretold_is_wrong_whenever_it_does() {
    let mut member = members(1).pop().unwrap();
    member.establish().unwrap();
    // A judge who expects that nothing is translated.
    let router = Job { far_side: FarSide::Router, ..job() };
    member.ports = Ports::new(&router, Arc::default());
    let part = member.send(&load(Direction::In2out, Frames::Smallest), 0.0, 0.002);
    assert_eq!((part.received, part.wrong), ([0, 0], part.sent[0]), "{part:?}");
    assert!(part.wrong > 0);
    let error = member.establish().unwrap_err().to_string();
    assert!(error.contains("500 were not opened") && error.contains("500 frames"), "{error}");
}
