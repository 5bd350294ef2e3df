//! Policies that go, in either order, and pods that come.

mod common;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use common::{
    CRAWLER_IP, Conversation, PAYMENTS_IP, SHORT, both_policies, crawler, only_crawler, open_all,
    payments, policy_id, product, require_right,
};
use lab::probe::TIMEOUT;
use lab::stack::Lab;
use lab::topology::{NODES, POD_A, POD_C, POD_D, WORLD};
use lab::traffic::{Expected, Traffic};
use lab::wait::{PATIENCE, until};

fn remove_at_nodes(lab: &Lab) -> Result<()> {
    for node in &NODES {
        lab.apply_at_node(node, &only_crawler())?;
        lab.wait_until_redirected(node, &only_crawler())?;
    }
    Ok(())
}

fn is(source: SocketAddr, address: std::net::Ipv4Addr) -> bool {
    source.ip() == IpAddr::V4(address)
}

/// The order in which an operator removes: the nodes stop sending, then the gateway stops translating.
#[test]
fn a_policy_removed_at_the_nodes_and_then_at_the_gateway_is_gone() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut removed = Conversation::open(&lab, POD_A, policy_id(payments()))?;
    let mut kept = Conversation::open(&lab, POD_C, policy_id(crawler()))?;
    assert!(is(removed.say(TIMEOUT)?, PAYMENTS_IP));
    let source = kept.say(TIMEOUT)?;
    assert!(is(source, CRAWLER_IP));

    remove_at_nodes(&lab)?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_D, WORLD, Expected::Node)?;
    lab.apply_at_gateway(&only_crawler())?;

    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    // an old flow of the removed policy goes on as its node or not at all; from here on the oracle takes its egress IP for a leak
    removed.without_policy();
    if let Ok(source) = removed.say(SHORT) {
        assert!(is(source, POD_A.node.address), "{source}");
    }
    // the other policy's flow has noticed nothing: the same address, the same l4_port
    assert_eq!(kept.say(TIMEOUT)?, source);
    require_right(&lab, &traffic)
}

/// The wrong order: pods are cut off, but nothing leaves that should not.
#[test]
fn a_policy_removed_at_the_gateway_alone_lets_nothing_out() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut flow = Conversation::open(&lab, POD_A, policy_id(payments()))?;
    flow.say(TIMEOUT)?;
    lab.apply_at_gateway(&only_crawler())?;
    for _ in 0..5 {
        flow.say(SHORT).expect_err("no packet of a removed policy leaves");
    }
    Conversation::open(&lab, POD_D, policy_id(payments()))?
        .say(SHORT)
        .expect_err("nor a new flow's");
    lab.report()?.require_clean()?;

    remove_at_nodes(&lab)?;
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
    let url = format!("http://{WORLD}/source");
    until("the new interface is redirected", PATIENCE, || {
        let source = lab.host(POD_A.name)?.run(&["curl", "-sS", "-m", "5", &url])?;
        ensure!(source.starts_with(&PAYMENTS_IP.to_string()), "the world sees {source}");
        Ok(())
    })?;
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    require_right(&lab, &traffic)
}
