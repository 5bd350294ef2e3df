//! `/metrics`: the counters of workers and ports, read at each scrape, for Prometheus.
//!
//! Every label has few values: the side, the worker, the reason, the name of a policy in force.

mod family;
mod reloads;
mod sessions;

use super::{Applied, ApplyError, Gateway, PortHandle, WorkerHandle, self_test::State};
use crate::{
    datapath::{WorkerCounters, counters::Counter, io::PortStats},
    nat::PolicyTable,
    verdict::{DropReason, Side},
};
use family::Family;
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use reloads::Reloads;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reloads: Reloads,
}

impl Metrics {
    pub fn new(gateway: &Arc<Gateway>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let reloads = Reloads::new(&registry)?;
        if gateway.policies.published().load().generation() > 0 {
            reloads.succeeded();
        }
        registry.register(Box::new(Counters::new(gateway)?))?;
        Ok(Metrics { registry, reloads })
    }

    /// One attempt to replace the policies.
    pub fn reloaded(&self, result: &Result<Applied, ApplyError>, duration: Duration) {
        self.reloads.reloaded(result, duration);
    }

    /// In the text format.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Reads the counters where they are, whenever it is asked.
struct Counters {
    gateway: Arc<Gateway>,
    descriptions: Vec<Desc>,
}

impl Counters {
    fn new(gateway: &Arc<Gateway>) -> prometheus::Result<Self> {
        let describe = |family: &MetricFamily| {
            let labels = family.get_metric().first().map(|metric| metric.get_label());
            let labels = labels.unwrap_or_default().iter().map(|label| label.name().to_owned());
            Desc::new(
                family.name().to_owned(),
                family.help().to_owned(),
                labels.collect(),
                HashMap::new(),
            )
        };
        let descriptions = families(gateway).iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Counters { gateway: Arc::clone(gateway), descriptions })
    }
}

impl Collector for Counters {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&self.gateway)
    }
}

fn families(gateway: &Gateway) -> Vec<MetricFamily> {
    let policies = gateway.policies.published().load_full();
    let mut families = about(gateway, &policies);
    families.extend(device_families(&gateway.ports));
    families.extend(worker_families(&gateway.workers));
    families.push(handed_over(&gateway.workers));
    families.push(stalled_workers(gateway));
    families.extend(steering(gateway));
    families.push(port_packets(&gateway.workers, "packets", |port| {
        [&port.rx_packets, &port.tx_packets]
    }));
    families.push(port_packets(&gateway.workers, "bytes", |port| [&port.rx_bytes, &port.tx_bytes]));
    families.push(drops(&gateway.workers));
    families.push(sessions::sessions(&gateway.workers, &policies));
    families.extend(sessions::l4_ports(&gateway.workers, &policies));
    families
}

fn about(gateway: &Gateway, policies: &PolicyTable) -> Vec<MetricFamily> {
    let mut build = Family::gauge("build_info", "Always 1; the labels say what runs.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("packet_io", &gateway.packet_io)];
    build.add(&labels, 1);
    let generation = "Generation of the policy set in force; 0 before the first.";
    let refused = "1 when the policy set kept in state_dir could not be trusted at the start and was \
                   moved aside: the policy file was read instead. Alert on 1.";
    let mut families = vec![build.done()];
    for (name, help, value) in [
        ("policy_generation", generation, policies.generation()),
        ("state_refused", refused, gateway.policies.refused_state().is_some().into()),
        ("policies", "Policies of this gateway.", policies.policies().count() as u64),
        ("nodes", "Nodes that may send to this gateway.", policies.node_count() as u64),
    ] {
        let mut family = Family::gauge(name, help);
        family.add(&[], value);
        families.push(family.done());
    }
    families
}

/// Name, help, what is read.
type DeviceCounter = (&'static str, &'static str, fn(&PortStats) -> u64);

const DEVICE_COUNTERS: [DeviceCounter; 8] = [
    ("device_rx_packets_total", "Packets received, as the device counts.", |s| s.rx_packets),
    ("device_rx_bytes_total", "Bytes received, as the device counts.", |s| s.rx_bytes),
    ("device_tx_packets_total", "Packets sent, as the device counts.", |s| s.tx_packets),
    ("device_tx_bytes_total", "Bytes sent, as the device counts.", |s| s.tx_bytes),
    (
        "device_rx_missed_packets_total",
        "Packets lost because no worker fetched them in time: the gateway is overloaded.",
        |s| s.rx_missed,
    ),
    ("device_rx_errors_total", "Packets that the device received in error.", |s| s.rx_errors),
    ("device_tx_errors_total", "Packets that the device failed to send.", |s| s.tx_errors),
    ("device_rx_no_buffer_total", "Receive buffers that the buffer pool did not have.", |s| {
        s.rx_no_buffer
    }),
];

fn device_families(ports: &[PortHandle]) -> Vec<MetricFamily> {
    let mut up = Family::gauge("port_up", "1 while the port's link is up.");
    for port in ports {
        up.add(&[("side", port.side.label())], u64::from(port.watch.link_is_up()));
    }
    let stats: Vec<_> = ports.iter().map(|port| (port.side, port.watch.stats())).collect();
    let families = DEVICE_COUNTERS.iter().map(|(name, help, value)| {
        let mut family = Family::counter(name, help);
        for (side, stats) in &stats {
            family.add(&[("side", side.label())], value(stats));
        }
        family.done()
    });
    families.chain([up.done()]).collect()
}

/// Name, help, what is read; counters end in `_total`, all others are gauges.
type WorkerCounter = (&'static str, &'static str, fn(&WorkerCounters) -> &Counter);

const WORKER_COUNTERS: [WorkerCounter; 19] = [
    ("in2out_packets_total", "Packets of pods that were translated.", |c| &c.in2out_packets),
    ("in2out_bytes_total", "Their bytes, from the IP header on.", |c| &c.in2out_bytes),
    ("out2in_packets_total", "Packets for pods that were translated.", |c| &c.out2in_packets),
    ("out2in_bytes_total", "Their bytes, from the IP header on.", |c| &c.out2in_bytes),
    ("sessions_created_total", "Sessions that began.", |c| &c.sessions_created),
    ("sessions_expired_total", "Sessions that ended because they were idle.", |c| {
        &c.sessions_expired
    }),
    (
        "sessions_cut_total",
        "Sessions that ended because their policy or egress IP was removed.",
        |c| &c.sessions_cut,
    ),
    ("sessions_flushed_total", "Sessions that an operator ended.", |c| &c.sessions_flushed),
    ("icmp_errors_sent_total", "ICMP errors that the gateway sent.", |c| &c.icmp_errors_sent),
    (
        "icmp_errors_limited_total",
        "ICMP errors that were due and kept back by the rate limit.",
        |c| &c.icmp_errors_limited,
    ),
    (
        "address_conflicts_total",
        "ARP and ND packets in which another host claims an address of this gateway. Alert on any.",
        |c| &c.address_conflicts,
    ),
    ("neighbours", "Next hops in the worker's table.", |c| &c.neighbours),
    ("worker_polls_total", "Turns of the worker's loop.", |c| &c.polls),
    ("worker_empty_polls_total", "Turns that found no packet.", |c| &c.empty_polls),
    ("worker_policy_generation", "Generation of the policy set that the worker runs.", |c| {
        &c.generation
    }),
    ("l4_port_loans_total", "l4_ports that the worker lent to others.", |c| &c.l4_port_loans),
    ("l4_ports_lent", "l4_ports of the worker that others use.", |c| &c.l4_ports_lent),
    ("l4_ports_borrowed", "Sessions of the worker with an l4_port of another.", |c| {
        &c.l4_ports_borrowed
    }),
    ("worker_sessions", "Live sessions in the worker's table.", |c| &c.sessions),
];

fn worker_families(workers: &[WorkerHandle]) -> Vec<MetricFamily> {
    let families = WORKER_COUNTERS.iter().map(|(name, help, value)| {
        let mut family = match name.ends_with("_total") {
            true => Family::counter(name, help),
            false => Family::gauge(name, help),
        };
        for worker in workers {
            family.add(&[("worker", &worker.id.to_string())], value(&worker.counters).get());
        }
        family.done()
    });
    families.collect()
}

fn steering(gateway: &Gateway) -> [MetricFamily; 3] {
    let help = "Always 1; the label says who brings packets from the world to their worker.";
    let mut mode = Family::gauge("steering_mode", help);
    mode.add(&[("mode", gateway.steering.mode.label())], 1);
    let help = "Always 1; the label says what a worker does that has no packets.";
    let mut idle = Family::gauge("idle_mode", help);
    idle.add(&[("mode", &gateway.steering.idle)], 1);
    let help = "1 when the self-test of this start has passed. Alert on 0.";
    let mut passed = Family::gauge("self_test_passed", help);
    passed.add(&[], u64::from(gateway.self_test.report().state == State::Passed));
    [mode.done(), idle.done(), passed.done()]
}

/// Of each pair of workers; nothing where there is one.
fn handed_over(workers: &[WorkerHandle]) -> MetricFamily {
    let help = "Packets that a worker received and handed over to the owner of their flow.";
    let mut family = Family::counter("handoff_packets_total", help);
    for from in workers {
        for to in workers.iter().filter(|to| to.id != from.id) {
            let labels = [("from", &*from.id.to_string()), ("to", &*to.id.to_string())];
            family.add(&labels, from.counters.handed_over[to.id].get());
        }
    }
    family.done()
}

fn stalled_workers(gateway: &Gateway) -> MetricFamily {
    let help = "1 while the worker's loop does not turn. Alert on any.";
    let mut family = Family::gauge("worker_stalled", help);
    for WorkerHandle { id, .. } in &gateway.workers {
        let stalled = u64::from(gateway.watchdog.is_stalled(*id));
        family.add(&[("worker", &id.to_string())], stalled);
    }
    family.done()
}

fn port_packets(
    workers: &[WorkerHandle],
    unit: &str,
    value: impl Fn(&crate::datapath::counters::PortCounters) -> [&Counter; 2],
) -> MetricFamily {
    let help = format!("{unit} that workers took from and gave to the ports.");
    let mut family = Family::counter(&format!("port_{unit}_total"), &help);
    for worker in workers {
        for side in Side::ALL {
            let counters = value(worker.counters.port(side));
            for (direction, counter) in ["rx", "tx"].into_iter().zip(counters) {
                let worker = worker.id.to_string();
                let labels =
                    [("side", side.label()), ("direction", direction), ("worker", &worker)];
                family.add(&labels, counter.get());
            }
        }
    }
    family.done()
}

/// All reasons, those that never came included: a counter that appears with its first packet would
/// hide that packet from `rate`.
fn drops(workers: &[WorkerHandle]) -> MetricFamily {
    let reasons = DropReason::ALL.iter().map(|reason| format!("{reason}: {}", reason.help()));
    let help = format!("Packets dropped, by reason. {}", reasons.collect::<Vec<_>>().join(" "));
    let mut family = Family::counter("drops_total", &help);
    for worker in workers {
        for side in Side::ALL {
            for reason in DropReason::ALL {
                let id = worker.id.to_string();
                let labels = [("reason", reason.label()), ("side", side.label()), ("worker", &id)];
                family.add(&labels, worker.counters.drops(side, *reason));
            }
        }
    }
    family.done()
}
