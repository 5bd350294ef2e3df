//! Many reloads under traffic, and the judgement on what they did to it.
//!
//! Some flows must not notice anything: TCP, UDP and ICMP echo, of both families, of three pods under two policies. Others are of a policy that
//! comes and goes. Meanwhile the gateway gets `sets` that all differ, ten a second, and now and then the nodes do too. Each packet has a marker,
//! each end counts: what a pod has sent, what the world saw and as whose, what came back, what the oracle saw leave. In reading order: `sets`,
//! `flows`, this file, `judge`.

mod counters;
mod flows;
mod gate;
mod http;
mod judge;
mod segments;
mod sets;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::echo::seen::{LIMIT, Protocol, Sighting};
use crate::family::{Dual, Family};
use crate::oracle::Report;
use crate::site::Site;
use crate::stack::Lab;
use crate::topology::{NODES, POD_A, POD_B, POD_C, POD_D, Pod};
use crate::wait::until;

use counters::Counters;
use flows::{Connection, Datagram, Datagrams, Pinged, Pings, Speaker};
use gate::Gate;
use http::Api;
use segments::{Segments, segments};
use sets::{CRAWLER_IP, PAYMENTS_IP, PAYMENTS_OTHER_IP, Shape, WEB_IP, documents, policy_of};

/// Between two reloads of the gateway.
const PACE: Duration = Duration::from_millis(100);
/// Reloads of the gateway for one of the nodes.
const PER_NODE_RELOAD: u32 = 10;
/// Reloads after which the policy that comes and goes does so.
const PER_CHANGE: u32 = 5;

/// How hard it blows.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub site: Site,
    pub reloads: u32,
    /// From this reload on, the flows that must not notice have another egress IP: the judgement must find it.
    pub replace_at: Option<u32>,
}

/// What came of it, for [`Outcome::findings`].
#[derive(Debug)]
pub struct Outcome {
    steady: Vec<Datagram>,
    connections: Vec<(Connection, Ends)>,
    pings: Vec<Pinged>,
    /// Of the policy that comes and goes.
    web: Vec<Datagram>,
    /// By the flow that the marker names.
    seen: BTreeMap<u32, Vec<Sighting>>,
    /// Of each reload, in their order.
    pub times: Vec<Duration>,
    /// That the gateway gave to the reloads, and its metric in the end.
    generations: Vec<u64>,
    metric: u64,
    report: Report,
    counted: Counters,
}

/// What both ends of a connection have counted, once the wire is quiet.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// As the world saw it in the end; `None`: it has no such connection.
    source: Option<SocketAddr>,
    client: Segments,
    world: Segments,
}

impl Storm {
    /// Makes a lab, lets the storm pass, and asks all sides what they saw.
    pub fn run(self) -> Result<Outcome> {
        let mut lab = Lab::start(self.site)?;
        lab.print_logs_at_end();
        let first = documents(self.site, 0, Shape { web: true, replaced: false })?;
        lab.start_product(&first)?;
        for node in &NODES {
            lab.wait_until_redirected(node, &first)?;
        }
        tell_oracle(&mut lab, &first)?;
        Blowing::open(self, &mut lab, &first)?.blow()
    }
}

/// The oracle knows which egress IP each flow must have. The gateway announces all the others too, so they are known, and of nobody.
fn tell_oracle(lab: &mut Lab, first: &str) -> Result<()> {
    let oracle = lab.oracle();
    for address in sets::others().flat_map(Dual::both) {
        oracle.expect(address, NOBODY, "nobody")?;
    }
    for address in [PAYMENTS_IP, CRAWLER_IP, WEB_IP].into_iter().flat_map(Dual::both) {
        let (policy, name) = policy_of(first, address)?;
        oracle.expect(address, policy, &name)?;
    }
    for address in PAYMENTS_OTHER_IP.both() {
        let (policy, name) = policy_of(first, PAYMENTS_IP.of(Family::of(address)))?;
        oracle.expect(address, policy, &name)?;
    }
    Ok(())
}

/// The largest policy id, which is none of these policies'.
const NOBODY: u32 = 0x00ff_ffff;

/// A storm with all its flows.
struct Blowing<'a> {
    storm: Storm,
    lab: &'a mut Lab,
    api: Api,
    steady: Vec<Datagrams>,
    connections: Vec<Connection>,
    pings: Vec<Pings>,
    web: Vec<Datagrams>,
    /// Ask the world something, to know that what came before is through. One for each worker and more, as chance would have it.
    waiters: Vec<Datagrams>,
    web_policy: (u32, String),
}

const WAITERS_PER_WORKER: usize = 4;

impl<'a> Blowing<'a> {
    fn open(storm: Storm, lab: &'a mut Lab, first: &str) -> Result<Self> {
        let mut flow = 0;
        let mut speaker = |pod: Pod, pool: Dual, family: Family| -> Result<Speaker> {
            flow += 1;
            let egress_ip = pool.of(family);
            let (policy, _) = policy_of(first, egress_ip)?;
            Ok(Speaker { pod, family, policy, egress_ip, flow })
        };
        let api = Api::new()?;
        let web_policy = policy_of(first, IpAddr::V4(WEB_IP.v4))?;
        let mut blowing = Self {
            storm,
            lab,
            api,
            steady: Vec::new(),
            connections: Vec::new(),
            pings: Vec::new(),
            web: Vec::new(),
            waiters: Vec::new(),
            web_policy,
        };
        let lab = &*blowing.lab;
        for family in Family::BOTH {
            for (pod, pool) in [(POD_A, PAYMENTS_IP), (POD_D, PAYMENTS_IP), (POD_C, CRAWLER_IP)] {
                blowing.steady.push(Datagrams::open(lab, speaker(pod, pool, family)?)?);
                blowing.connections.push(Connection::open(lab, speaker(pod, pool, family)?)?);
                let time = PACE * storm.reloads;
                blowing.pings.push(Pings::open(lab, speaker(pod, pool, family)?, time)?);
            }
            blowing.web.push(Datagrams::open(lab, speaker(POD_B, WEB_IP, family)?)?);
        }
        for _ in 0..WAITERS_PER_WORKER * storm.site.workers {
            let waiter = speaker(POD_C, CRAWLER_IP, Family::V4)?;
            blowing.waiters.push(Datagrams::open(lab, waiter)?);
        }
        // each session begins under the first set, which has one egress IP for each flow
        for flow in blowing.steady.iter_mut().chain(&mut blowing.web).chain(&mut blowing.waiters) {
            flow.ask()?;
        }
        Ok(blowing)
    }

    fn blow(mut self) -> Result<Outcome> {
        let (end, gate) = (AtomicBool::new(false), Gate::default());
        let before = Counters::read(self.lab, &self.api)?;
        let (steady, web) = (std::mem::take(&mut self.steady), std::mem::take(&mut self.web));
        let (connections, pings) =
            (std::mem::take(&mut self.connections), std::mem::take(&mut self.pings));
        thread::scope(|scope| {
            let (end, gate) = (&end, &gate);
            let speak = |flow: Datagrams| scope.spawn(move || flow.speak(end, gate));
            let steady: Vec<_> = steady.into_iter().map(speak).collect();
            let web: Vec<_> = web.into_iter().map(speak).collect();
            let talk = |flow: Connection| scope.spawn(move || flow.speak(end));
            let connections: Vec<_> = connections.into_iter().map(talk).collect();
            let reloaded = self.reload(gate);
            // whatever came of it: nobody must speak for ever
            end.store(true, Ordering::SeqCst);
            let (times, generations) = reloaded?;

            let mut steady = join(steady)?.into_iter().collect::<Result<Vec<_>>>()?;
            let web = join(web)?.into_iter().collect::<Result<_>>()?;
            let connections = join(connections)?;
            let pings = pings.into_iter().map(Pings::finish).collect::<Result<_>>()?;
            steady.extend(std::mem::take(&mut self.waiters).into_iter().map(|flow| flow.said));
            let seen = self.seen()?;
            // all is said: this is only for the report to have its count, if the last set was one without it
            self.expect_web()?;
            Ok(Outcome {
                connections: self.count_segments(connections, &seen)?,
                seen,
                steady,
                pings,
                web,
                times,
                generations,
                metric: self.generation()?,
                report: self.lab.report()?,
                counted: Counters::read(self.lab, &self.api)?.since(&before),
            })
        })
    }

    /// All the reloads, at their pace: how long each took, and its generation.
    fn reload(&mut self, gate: &Gate) -> Result<(Vec<Duration>, Vec<u64>)> {
        let (mut times, mut generations) = (Vec::new(), Vec::new());
        let mut due = Instant::now();
        for step in 1..=self.storm.reloads {
            let replaced = self.storm.replace_at.is_some_and(|at| step >= at);
            let shape = Shape { web: is_there(step), replaced };
            if is_there(step + 1) && !shape.web {
                // one reload before it comes back: what was sent until here has met its end by then
                gate.open();
                self.wait_for_worker()?;
            }
            if shape.web && !is_there(step - 1) {
                self.expect_web()?;
            }
            let set = documents(self.storm.site, step, shape)?;
            let (answer, time) = self.api.put_policies(self.lab, set)?;
            times.push(time);
            generations.push(answer["generation"].as_u64().context("no generation")?);
            if !shape.web && is_there(step - 1) {
                gate.shut();
                // what left before the answer has passed the oracle when a later packet of the same worker has
                self.wait_for_worker()?;
                for address in WEB_IP.both() {
                    self.lab.oracle().forbid(address)?;
                }
            }
            if step % PER_NODE_RELOAD == 0 {
                let set = documents(self.storm.site, step, Shape { web: true, replaced: false })?;
                NODES.iter().try_for_each(|node| self.lab.apply_at_node(node, &set))?;
            }
            due += PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok((times, generations))
    }

    fn expect_web(&mut self) -> Result<()> {
        let (policy, name) = &self.web_policy;
        let mut both = WEB_IP.both().into_iter();
        both.try_for_each(|address| self.lab.oracle().expect(address, *policy, name))
    }

    fn wait_for_worker(&mut self) -> Result<()> {
        self.waiters.iter_mut().try_for_each(Datagrams::ask)
    }

    fn seen(&self) -> Result<BTreeMap<u32, Vec<Sighting>>> {
        let seen = self.lab.seen()?;
        ensure!(seen.len() < LIMIT, "the world has forgotten what it saw first");
        let mut by_flow: BTreeMap<u32, Vec<Sighting>> = BTreeMap::new();
        for sighting in seen {
            if let Some(sequence) = sighting.flow {
                by_flow.entry(flows::flow_of(sequence)).or_default().push(sighting);
            }
        }
        Ok(by_flow)
    }

    /// Waits until nothing is on its way any more, or for so long that something must be lost.
    fn count_segments(
        &self,
        connections: Vec<Connection>,
        seen: &BTreeMap<u32, Vec<Sighting>>,
    ) -> Result<Vec<(Connection, Ends)>> {
        let mut ends = Vec::new();
        let _ = until("all segments have arrived", judge::SETTLING, || {
            ends = connections
                .iter()
                .map(|connection| self.ends(connection, seen))
                .collect::<Result<_>>()?;
            ensure!(ends.iter().all(|ends: &Ends| ends.lost() == [0, 0]), "some have not");
            Ok(())
        });
        ensure!(ends.len() == connections.len(), "the ends of the connections cannot be asked");
        Ok(connections.into_iter().zip(ends).collect())
    }

    fn ends(&self, connection: &Connection, seen: &BTreeMap<u32, Vec<Sighting>>) -> Result<Ends> {
        let pod = segments(self.lab.host(connection.speaker.pod.name)?)?;
        let world = segments(self.lab.host("world")?)?;
        let source = seen
            .get(&connection.speaker.flow)
            .and_then(|seen| seen.iter().find(|sighting| sighting.protocol == Protocol::Tcp))
            .map(|sighting| sighting.source)
            .filter(|source| world.contains_key(source));
        let none = Segments { sent: 0, received: 0 };
        let client = pod.get(&connection.local).copied().unwrap_or(none);
        let world = source.and_then(|source| world.get(&source)).copied().unwrap_or(none);
        Ok(Ends { source, client, world })
    }

    fn generation(&self) -> Result<u64> {
        let metrics = String::from_utf8(self.api.get(self.lab, "/metrics")?)?;
        let name = "egress_gateway_policy_generation ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(value.context("no such metric")?.parse()?)
    }
}

/// Whether the policy that comes and goes is there in this step.
fn is_there(step: u32) -> bool {
    (step / PER_CHANGE).is_multiple_of(2)
}

fn join<T>(threads: Vec<thread::ScopedJoinHandle<'_, T>>) -> Result<Vec<T>> {
    let join = |thread: thread::ScopedJoinHandle<'_, T>| {
        thread.join().map_err(|_| anyhow!("a flow's thread has panicked"))
    };
    threads.into_iter().map(join).collect()
}
