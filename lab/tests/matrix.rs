//! One long day at every site: each number of workers, each underlay, and in each of them every family of the pods' traffic. One lab serves
//! all of its day, so what a step leaves behind is what the next one begins with.

mod common;

use anyhow::{Context, Result};
use common::{
    BOTH, Conversation, apply_at_nodes, crawler, open_all, payments, product_at,
    require_all_workers, require_right, require_silence, say_all, transfer,
};
use lab::family::Family::{V4, V6};
use lab::oracle::Class;
use lab::site::{CRAWLER, Site};
use lab::stack::{Lab, redirector};
use lab::topology::{NODE1, POD_A, POD_B, POD_C, POD_D, WORLD, WORLD_EXCLUDED};
use lab::traffic::{Expected, Traffic};

#[test]
fn one_worker_over_ipv4() -> Result<()> {
    a_day_at(Site { workers: 1, underlay: V4, ..Site::default() })
}

#[test]
fn two_workers_over_ipv4() -> Result<()> {
    a_day_at(Site { workers: 2, underlay: V4, ..Site::default() })
}

#[test]
fn one_worker_over_ipv6() -> Result<()> {
    a_day_at(Site { workers: 1, underlay: V6, ..Site::default() })
}

#[test]
fn two_workers_over_ipv6() -> Result<()> {
    a_day_at(Site { workers: 2, underlay: V6, ..Site::default() })
}

/// Of one pod, in each family: enough that no worker is left without one.
const FLOWS: usize = 24;

fn a_day_at(site: Site) -> Result<()> {
    let policies = site.documents(&BOTH);
    let mut lab = product_at(site, "auto", &policies)?;
    let mut traffic = Traffic::default();
    pods_leave_as_their_egress_ip(&lab, &mut traffic).context("in the morning")?;
    // segments as large as the tunnel takes
    transfer(&lab, POD_C, 1_000_000)?;

    let mut flows = Vec::new();
    for _ in 0..FLOWS {
        flows.extend(Conversation::open_each(&lab, POD_C, crawler())?);
    }
    let sources = say_all(&mut flows)?;
    require_all_workers(&lab)?;
    live_flows_survive_a_change(&mut lab, &mut traffic, &mut flows).context("a change")?;
    assert_eq!(say_all(&mut flows)?, sources, "another address or l4_port after a change");

    lab.take_daemon(&redirector(&NODE1))?.kill()?;
    open_all(&lab, &mut traffic, POD_A, WORLD, payments()).context("without its redirector")?;
    lab.start_redirector(&NODE1, "auto", &policies)?;
    nothing_leaves_without_a_gateway(&mut lab, &mut traffic, &mut flows).context("a failure")?;
    pods_leave_as_their_egress_ip(&lab, &mut traffic).context("in the evening")?;
    require_right(&lab, &traffic)?;
    let report = lab.report()?;
    assert!(report.count(Class::EgressIp) > 0 && report.count(Class::Tunnel) > 0, "{report}");
    Ok(())
}

fn pods_leave_as_their_egress_ip(lab: &Lab, traffic: &mut Traffic) -> Result<()> {
    open_all(lab, traffic, POD_A, WORLD, payments())?;
    open_all(lab, traffic, POD_D, WORLD, payments())?;
    open_all(lab, traffic, POD_C, WORLD, crawler())?;
    open_all(lab, traffic, POD_B, WORLD, Expected::Node)?;
    open_all(lab, traffic, POD_A, WORLD_EXCLUDED, Expected::Node)?;
    require_right(lab, traffic)
}

/// A policy goes, at the nodes and then at the gateway, and comes again. `flows` are of the other one.
fn live_flows_survive_a_change(
    lab: &mut Lab,
    traffic: &mut Traffic,
    flows: &mut [Conversation],
) -> Result<()> {
    let (one, both) = (lab.site().documents(&[CRAWLER]), lab.site().documents(&BOTH));
    let mut removed = Conversation::open_each(lab, POD_A, payments())?;
    say_all(&mut removed)?;
    apply_at_nodes(lab, &one)?;
    open_all(lab, traffic, POD_A, WORLD, Expected::Node)?;
    lab.apply_at_gateway(&one)?;
    let sources = say_all(flows)?;
    open_all(lab, traffic, POD_A, WORLD, Expected::Node)?;
    open_all(lab, traffic, POD_C, WORLD, crawler())?;
    lab.report()?.require_clean()?;

    lab.apply_at_gateway(&both)?;
    apply_at_nodes(lab, &both)?;
    assert_eq!(say_all(flows)?, sources, "another address or l4_port while a policy was gone");
    open_all(lab, traffic, POD_A, WORLD, payments())?;
    require_right(lab, traffic)
}

/// The gateway dies and comes again. Without one, who has a policy does not leave at all, and nobody else notices.
fn nothing_leaves_without_a_gateway(
    lab: &mut Lab,
    traffic: &mut Traffic,
    flows: &mut [Conversation],
) -> Result<()> {
    lab.take_daemon("egress-gateway")?.kill()?;
    let some = flows.first_chunk_mut::<2>().context("there are more flows")?;
    require_silence(some, "there is no gateway")?;
    let mut later = Conversation::open_each(lab, POD_A, payments())?;
    require_silence(&mut later, "there is no gateway for a new flow")?;
    open_all(lab, traffic, POD_B, WORLD, Expected::Node)?;
    lab.report()?.require_clean()?;

    lab.start_gateway(&lab.site().documents(&BOTH))?;
    // with whatever l4_ports: the sessions went with the gateway
    say_all(flows).map(|_| ())
}
