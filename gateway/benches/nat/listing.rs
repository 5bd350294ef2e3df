//! What it costs a worker that somebody reads all its sessions: the turns of its loop, each with a burst of
//! hits, while nobody asks and while page after page is asked for. The longest turn is what a packet may have
//! to wait, so it is what counts; it is told as a ratio, of rounds that alternate within one run.

use crate::{
    burst::Order,
    world::{BURST, Flows, World},
};
use gateway::{
    control::sessions::MAX_PAGE,
    datapath::request::{Page, Request, SessionFilter},
    nat::Place,
};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

const ROUNDS: usize = 7;

/// What somebody asks for meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Nothing,
    /// All sessions.
    All,
    /// Sessions of a pod that has none: every slot is looked at, for one page.
    Filtered,
}

impl Arm {
    const ALL: [Arm; 3] = [Arm::Nothing, Arm::All, Arm::Filtered];

    fn filter(self) -> SessionFilter {
        let nobody = Ipv4Addr::new(192, 168, 0, 1).into();
        match self {
            Arm::Nothing | Arm::All => SessionFilter::default(),
            Arm::Filtered => SessionFilter { source: Some(nobody), ..SessionFilter::default() },
        }
    }
}

/// Cycles of a turn.
#[derive(Clone, Copy, Debug)]
struct Turns {
    median: u64,
    p999: u64,
    longest: u64,
}

/// By arm.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    flows: u32,
    /// Turns until all sessions were listed.
    turns: usize,
    /// Of the round whose longest turn is the shortest: whatever else the machine does makes turns longer.
    best: [Turns; 3],
    cycles_per_microsecond: f64,
}

pub(crate) fn sessions(flows: u32) -> Figures {
    let mut world = World::new(Flows::Numbered(flows));
    let mut order = Order::new(true, flows);
    // As many turns as it takes to look at all slots, whoever asks.
    let mut turns = 0;
    round(&mut world, &mut order, Arm::All, |_| turns += 1);
    let mut rounds: [Vec<Turns>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for arm in Arm::ALL {
            let mut times = Vec::with_capacity(turns);
            match arm {
                Arm::Nothing => (0..turns).for_each(|_| times.push(turn(&mut world, &mut order))),
                Arm::All | Arm::Filtered => {
                    round(&mut world, &mut order, arm, |cycles| times.push(cycles));
                }
            }
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let longest = *times.last().unwrap();
            rounds[arm as usize].push(Turns { median: at(0.5), p999: at(0.999), longest });
        }
    }
    assert_eq!(world.drops(), [], "all packets must be hits");
    let best = rounds.map(|rounds| rounds.into_iter().min_by_key(|turns| turns.longest).unwrap());
    Figures { flows, turns, best, cycles_per_microsecond: cycles_per_microsecond() }
}

/// Turns until every page was read.
fn round(world: &mut World, order: &mut Order, arm: Arm, mut timed: impl FnMut(u64)) {
    let (mut from, mut listed) = (Some(Place::default()), 0);
    while let Some(first) = from {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let page = Vec::with_capacity(MAX_PAGE);
        let request =
            Request::List { filter: arm.filter(), from: first, limit: MAX_PAGE, page, reply };
        world.requests.send(request).unwrap();
        let Page { sessions, next } = loop {
            timed(turn(world, order));
            if let Ok(page) = answer.try_recv() {
                break page;
            }
        };
        listed += sessions.len();
        from = next;
    }
    let expected = if arm == Arm::Filtered { 0 } else { world.flows.len() as usize };
    assert_eq!(listed, expected, "every session is listed once");
}

/// Cycles of a turn with a burst of hits.
fn turn(world: &mut World, order: &mut Order) -> u64 {
    for _ in 0..BURST {
        world.receive_in2out(&world.flows.get(order.next()));
    }
    let cycles = world.timed_turn();
    world.take_back();
    cycles
}

fn cycles_per_microsecond() -> f64 {
    let (start, cycles) = (Instant::now(), gateway::tsc::cycles());
    std::thread::sleep(Duration::from_millis(50));
    let passed = gateway::tsc::cycles() - cycles;
    passed as f64 / start.elapsed().as_secs_f64() / 1e6
}

impl Figures {
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "sessions listed while packets pass, {} sessions in {} turns; microseconds of a turn with {BURST} \
             packets, and times those without a list:\n{:<12} {:>16} {:>16} {:>16}\n",
            self.flows, self.turns, "", "median", "p99.9", "longest"
        );
        let base = self.best[0];
        for (name, turns) in ["no list", "all sessions", "filtered"].iter().zip(self.best) {
            let cell = |cycles: u64, base: u64| {
                let microseconds = cycles as f64 / self.cycles_per_microsecond;
                format!("{microseconds:.1} ({:.2})", cycles as f64 / base as f64)
            };
            text += &format!(
                "{name:<12} {:>16} {:>16} {:>16}\n",
                cell(turns.median, base.median),
                cell(turns.p999, base.p999),
                cell(turns.longest, base.longest),
            );
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let turns = |turns: &Turns| {
            let Turns { median, p999, longest } = turns;
            json!({ "median": median, "p99.9": p999, "longest": longest })
        };
        let [nothing, all, filtered] = &self.best;
        json!({
            "bench": "listing",
            "flows": self.flows,
            "turns": self.turns,
            "cycles_per_turn": {
                "no_list": turns(nothing), "all": turns(all), "filtered": turns(filtered),
            },
            "longest_ratio": {
                "all": all.longest as f64 / nothing.longest as f64,
                "filtered": filtered.longest as f64 / nothing.longest as f64,
            },
        })
    }
}
