//! Programs that die. `failureMode: Closed` is the default: whoever has a policy rather does not leave at all.

mod common;

use anyhow::Result;
use common::{
    Conversation, apply_at_nodes, both_policies, crawler, only_crawler, open_all, payments,
    product, require_right, require_silence, say_all,
};
use lab::config::NODE_CONFIG;
use lab::stack::redirector;
use lab::topology::{NODE1, POD_A, POD_B, POD_C, WORLD};
use lab::traffic::{Expected, Traffic};

#[test]
fn a_killed_gateway_lets_nothing_out_and_a_new_one_serves_again() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut flows = Conversation::open_each(&lab, POD_A, payments())?;
    say_all(&mut flows)?;

    lab.take_daemon("egress-gateway")?.kill()?;
    for _ in 0..5 {
        require_silence(&mut flows, "there is no gateway")?;
    }
    let mut later = Conversation::open_each(&lab, POD_C, crawler())?;
    require_silence(&mut later, "nor for a new flow")?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_B, WORLD, Expected::Node)?;
    require_right(&lab, &traffic)?;

    lab.start_gateway(&both_policies())?;
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    say_all(&mut flows)?;
    require_right(&lab, &traffic)
}

#[test]
fn a_restarted_gateway_has_the_policies_it_accepted_last() -> Result<()> {
    let mut lab = product(&only_crawler())?;
    lab.apply_at_gateway(&both_policies())?;
    apply_at_nodes(&lab, &both_policies())?;
    let status = lab.take_daemon("egress-gateway")?.stop()?;
    assert!(status.success(), "SIGTERM is an ordinary end: {status}");
    // the file it is started with is the older one
    lab.start_gateway(&only_crawler())?;
    lab.expect_policies(&both_policies())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    require_right(&lab, &traffic)
}

#[test]
fn traffic_goes_on_without_its_redirector() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut flows = Conversation::open_each(&lab, POD_A, payments())?;
    let sources = say_all(&mut flows)?;

    lab.take_daemon(&redirector(&NODE1))?.kill()?;
    assert_eq!(say_all(&mut flows)?, sources);
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_B, WORLD, Expected::Node)?;

    lab.start_redirector(&NODE1, "auto", &both_policies())?;
    assert_eq!(say_all(&mut flows)?, sources);
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_B, WORLD, Expected::Node)?;
    require_right(&lab, &traffic)
}

#[test]
fn after_cleanup_a_node_is_as_before() -> Result<()> {
    let mut lab = product(&both_policies())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    let status = lab.take_daemon(&redirector(&NODE1))?.stop()?;
    assert!(status.success(), "SIGTERM is an ordinary end: {status}");
    lab.redirector_cli(&NODE1, &["cleanup", "--config", NODE_CONFIG])?;

    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    // the other node goes on
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    require_right(&lab, &traffic)?;
    let node = lab.host(NODE1.name)?;
    let links = node.run(&["ip", "-br", "link"])?;
    assert!(!links.contains("egw"), "{links}");
    // the kernel's own two files are on every bpf file system
    let pins = ["find", "/sys/fs/bpf", "-mindepth", "1", "!", "-name", "*.debug"];
    assert_eq!(node.run(&pins)?, "");
    Ok(())
}
