//! The whole way of a burst through the worker, without I/O.

use crate::{
    suite::{Case, Suite},
    world::{BUFFERS, BURST, Flow, Flows, SPARE, World, flow::mix},
};
use std::{hint::black_box, net::Ipv4Addr};

/// Which flow the next packet is of.
pub(crate) struct Order {
    random: bool,
    flows: u32,
    at: u64,
}

impl Order {
    pub(crate) fn new(random: bool, flows: u32) -> Self {
        Order { random, flows, at: 0 }
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.at += 1;
        let number = if self.random { mix(self.at) } else { self.at };
        (number % u64::from(self.flows)) as u32
    }
}

/// Hits in both directions.
pub(crate) fn hits(suite: &mut Suite, world: &mut World, names: [&'static str; 2], cold: &[bool]) {
    let flows = world.flows.len();
    for (in2out, bench) in [true, false].into_iter().zip(names) {
        for random in [false, true] {
            // One flow has no order.
            if random && flows == 1 {
                continue;
            }
            for cold in cold {
                let bytes_per_session = bytes_per_session(world);
                let case = Case { bench, flows, random, cold: *cold, bytes_per_session };
                let mut order = Order::new(random, flows);
                suite.bursts(case, |times| {
                    // Hot: the buffers of one burst again and again. Cold: all buffers in turn.
                    let bursts = if *cold { BUFFERS / BURST } else { 1 };
                    for _ in 0..bursts * BURST {
                        let i = order.next();
                        match in2out {
                            true => world.receive_in2out(&world.flows.get(i)),
                            false => world.receive_out2in(i),
                        }
                    }
                    times.extend((0..bursts).map(|_| world.timed_turn()));
                    world.take_back();
                });
            }
        }
    }
    assert_eq!(world.drops(), [], "all packets must be hits");
}

/// First packets: each opens a session.
pub(crate) fn new_sessions(suite: &mut Suite, world: &mut World) {
    let flows = world.flows.len();
    let bytes_per_session = bytes_per_session(world);
    let case = Case { bench: "new_session", flows, random: true, cold: false, bytes_per_session };
    let mut next = flows;
    suite.bursts(case, |times| {
        times.extend((0..SPARE as usize / BURST / 4).map(|_| open_burst(world, &mut next)));
        end_new_sessions(world);
    });
    assert_eq!(world.drops(), [], "all packets must open sessions");
}

/// A burst of first packets of flows from `next` on, none of them of the world's; the turn's cycles.
fn open_burst(world: &mut World, next: &mut u32) -> u64 {
    for _ in 0..BURST {
        world.receive_in2out(&Flow::number(*next));
        *next = ((*next + 1) % (1 << 24)).max(world.flows.len());
    }
    let cycles = world.timed_turn();
    world.take_back();
    cycles
}

/// Packets from the world that answer nothing: a scan.
pub(crate) fn strangers(suite: &mut Suite, world: &mut World) {
    let flows = world.flows.len();
    let bytes_per_session = bytes_per_session(world);
    let case = Case { bench: "no_session", flows, random: true, cold: false, bytes_per_session };
    let mut order = Order::new(true, flows);
    suite.bursts(case, |times| {
        (0..BURST).for_each(|_| world.receive_stranger(order.next()));
        times.push(world.timed_turn());
    });
}

/// Sessions that were idle too long, 32 at a time.
pub(crate) fn expire(suite: &mut Suite, world: &mut World) {
    let flows = world.flows.len();
    let bytes_per_session = bytes_per_session(world);
    let case = Case { bench: "expire", flows, random: true, cold: false, bytes_per_session };
    let mut next = flows;
    suite.bursts(case, |times| {
        (0..SPARE as usize / BURST / 4).for_each(|_| {
            open_burst(world, &mut next);
        });
        world.now = world.now.plus_millis(31_000);
        let (nat, now) = (world.worker.nat_mut(), world.now);
        while nat.sessions() > flows {
            let start = gateway::tsc::cycles();
            nat.expire(black_box(now), BURST);
            times.push(gateway::tsc::cycles() - start);
        }
        world.pass_time(0);
    });
}

/// Ends all sessions but those of the world's flows, which have the first slots.
fn end_new_sessions(world: &mut World) {
    let flows = world.flows.len();
    let nat = world.worker.nat_mut();
    for id in flows..flows + SPARE {
        nat.flush(id);
    }
    assert_eq!(nat.sessions(), flows);
}

/// Of a table made for these flows; meaningless where the spare room is most of it.
pub(crate) fn bytes_per_session(world: &World) -> Option<f64> {
    let capacity = world.flows.len() + SPARE;
    (world.flows.len() > 4 * SPARE)
        .then(|| world.worker.nat().of::<Ipv4Addr>().memory().bytes as f64 / f64::from(capacity))
}

/// Keys that collide in a hash that is not secret, and as many others.
pub(crate) fn colliding(suite: &mut Suite) {
    const N: usize = 10_000;
    for (flows, names) in [
        (Flows::Numbered(N as u32), ["in2out_other_keys", "out2in_other_keys"]),
        (Flows::List(Flow::colliding(N)), ["in2out_colliding", "out2in_colliding"]),
    ] {
        if suite.wants(&names) {
            hits(suite, &mut World::new(flows), names, &[false]);
        }
    }
}
