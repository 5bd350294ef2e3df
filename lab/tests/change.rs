//! Policies that go, in either order, and pods that come.

mod common;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use common::{
    Conversation, PAYMENTS_IP, SHORT, apply_at_nodes, both_policies, crawler, only_crawler,
    open_all, payments, product, require_right, require_silence, say_all,
};
use lab::family::Family;
use lab::topology::{POD_A, POD_C, POD_D, WORLD};
use lab::traffic::{Expected, Traffic, url};
use lab::wait::{PATIENCE, until};

/// The order in which an operator removes: the nodes stop sending, then the gateway stops translating.
#[test]
fn a_policy_removed_at_the_nodes_and_then_at_the_gateway_is_gone() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut removed = Conversation::open_each(&lab, POD_A, payments())?;
    let mut kept = Conversation::open_each(&lab, POD_C, crawler())?;
    say_all(&mut removed)?;
    let sources = say_all(&mut kept)?;

    apply_at_nodes(&lab, &only_crawler())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_D, WORLD, Expected::Node)?;
    lab.apply_at_gateway(&only_crawler())?;

    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    // an old flow of the removed policy goes on as its node or not at all; from here on the oracle takes its egress IP for a leak
    for flow in &mut removed {
        flow.without_policy();
        if let Ok(source) = flow.ask(SHORT) {
            assert!(POD_A.node.address.both().contains(&source.ip()), "{source}");
        }
    }
    // the other policy's flows have noticed nothing: the same address, the same l4_port
    assert_eq!(say_all(&mut kept)?, sources);
    require_right(&lab, &traffic)
}

/// The wrong order: pods are cut off, but nothing leaves that should not.
#[test]
fn a_policy_removed_at_the_gateway_alone_lets_nothing_out() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut flows = Conversation::open_each(&lab, POD_A, payments())?;
    say_all(&mut flows)?;
    lab.apply_at_gateway(&only_crawler())?;
    for _ in 0..5 {
        require_silence(&mut flows, "no packet of a removed policy leaves")?;
    }
    let mut later = Conversation::open_each(&lab, POD_D, payments())?;
    require_silence(&mut later, "nor a new flow's")?;
    lab.report()?.require_clean()?;

    apply_at_nodes(&lab, &only_crawler())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    require_right(&lab, &traffic)
}

#[test]
fn a_replaced_pod_gets_its_egress_ip_again() -> Result<()> {
    let lab = product(&both_policies())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    lab.replace_interface(&POD_A)?;
    // without a marker: until the redirector has seen the new interface, the pod leaves as its node
    for family in Family::BOTH {
        let (url, egress_ip) = (url(WORLD.of(family)) + "/source", PAYMENTS_IP.of(family));
        until("the new interface is redirected", PATIENCE, || {
            let source = lab.host(POD_A.name)?.run(&["curl", "-sS", "-m", "5", &url])?;
            let source: SocketAddr = source.trim().parse()?;
            ensure!(source.ip() == egress_ip, "the world sees {source}");
            Ok(())
        })?;
    }
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    require_right(&lab, &traffic)
}
