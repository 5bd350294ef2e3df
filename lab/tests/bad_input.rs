//! Wrong configuration, policies, devices, permissions: one clear error, exit code 1 (failed) or 2 (bad use), and nothing half set up.

mod common;

use std::net::TcpListener;
use std::process::Output;

use anyhow::{Context, Result};
use common::both_policies;
use lab::config::{self, GATEWAY_CONFIG, NODE_CONFIG, POLICY};
use lab::host::Host;
use lab::site::Site;
use lab::stack::{Lab, gateway_program, redirector_program};
use lab::topology::NODE1;

/// What is wrong, what to replace in a good configuration by what, the exit code, and what the error must speak of.
type Case = (&'static str, &'static str, &'static str, i32, &'static str);

const GATEWAY: [Case; 9] = [
    ("not TOML", "[gateway]", "[gateway", 2, "line 1"),
    ("unknown key", "name =", "nmae =", 2, "gateway.nmae"),
    ("unknown section", "[nat]", "[nta]", 2, "nta"),
    ("wrong type", "mtu = 1500", "mtu = \"big\"", 2, "ports.tunnel.mtu"),
    ("no such interface", "iface=tun0", "iface=nope0", 1, "nope0"),
    ("no such driver", "net_af_packet0", "net_nothing0", 1, "net_nothing0"),
    ("no such CPU", "cores = [", "cores = [409", 1, "409"),
    ("an address without prefix", "192.0.2.10/24", "192.0.2.10", 2, "ports.tunnel.addresses"),
    ("two names for one device", "iface=ext0", "iface=tun0", 2, "device"),
];

const NODE: [Case; 7] = [
    ("not TOML", "[node]", "[node", 2, "line 1"),
    ("unknown key", "name =", "nmae =", 2, "nmae"),
    ("wrong type", "port = 4790", "port = \"many\"", 2, "port"),
    ("no such hook", "hook = \"auto\"", "hook = \"xdp\"", 2, "hook"),
    ("a way that is not supported", "path = \"fast\"", "path = \"kernel\"", 2, "path"),
    (
        "an address that is not the node's",
        "vtep = \"192.0.2.1\"",
        "vtep = \"192.0.2.77\"",
        1,
        "192.0.2.77",
    ),
    ("a device name in use", "device = \"egw\"", "device = \"eth0\"", 1, "eth0"),
];

const BAD_POLICIES: [(&str, &str, &str); 3] = [
    ("not YAML", "kind: [", "unclosed"),
    ("an unknown kind", "apiVersion: egress-gateway.io/v1alpha1\nkind: Nope\n", "Nope"),
    (
        "an unknown gateway",
        "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n  \
         selectors: [{podSelector: {}}]\n  destinationCIDRs: [0.0.0.0/0]\n  \
         egress: [{gateway: gw-z, egressIPs: [203.0.113.16]}]\n",
        "gw-z",
    ),
];

/// Runs `program run --config FILE`. One that took the bad input for good is stopped, with exit code 124.
fn start(host: &Host, program: &str, file: &str) -> Result<Output> {
    host.output(&["timeout", "10", program, "run", "--config", file])
}

fn require(what: &str, output: &Output, code: i32, says: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {errors}");
    assert!(errors.contains("error: "), "{what}: {errors}");
    assert!(errors.contains(says), "{what}: nothing of {says:?} in: {errors}");
    assert!(!errors.contains("panicked"), "{what}: {errors}");
}

#[test]
fn the_gateway_refuses_bad_configuration() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let (host, program) = (lab.host("gateway")?, gateway_program()?.display().to_string());
    let good = config::gateway(Site::default(), true)?;
    host.write(POLICY, &both_policies())?;
    for (what, from, to, code, says) in GATEWAY {
        assert!(good.contains(from), "{what}: {from}");
        host.write(GATEWAY_CONFIG, &good.replacen(from, to, 1))?;
        require(what, &start(host, &program, GATEWAY_CONFIG)?, code, says);
    }
    require("no file", &start(host, &program, "/run/none.toml")?, 2, "/run/none.toml");
    require("no verb", &host.output(&[&program, "frobnicate"])?, 2, "frobnicate");
    require("nobody answers", &host.output(&[&program, "stats"])?, 1, config::GATEWAY_API);
    lab.report()?.require_clean()
}

#[test]
fn the_gateway_refuses_bad_policies() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let (host, program) = (lab.host("gateway")?, gateway_program()?.display().to_string());
    host.write(GATEWAY_CONFIG, &config::gateway(Site::default(), true)?)?;
    for (what, policies, says) in BAD_POLICIES {
        host.write(POLICY, policies)?;
        let output = start(host, &program, GATEWAY_CONFIG)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{what}: {errors}");
        assert!(errors.contains(says), "{what}: nothing of {says:?} in: {errors}");
    }
    Ok(())
}

/// A bad set sent to a gateway that runs changes nothing.
#[test]
fn a_running_gateway_keeps_its_policies_when_it_is_sent_bad_ones() -> Result<()> {
    let mut lab = common::product(&both_policies())?;
    let before = lab.gateway_cli(&["policy", "get"])?;
    for (what, policies, says) in BAD_POLICIES {
        let error = lab.apply_unchecked(policies).expect_err(what);
        assert!(format!("{error:#}").contains(says), "{what}: {error:#}");
    }
    assert_eq!(lab.gateway_cli(&["policy", "get"])?, before);
    let mut traffic = lab::traffic::Traffic::default();
    common::open_all(
        &lab,
        &mut traffic,
        lab::topology::POD_A,
        lab::topology::WORLD,
        common::payments(),
    )?;
    common::require_right(&lab, &traffic)?;
    lab.daemon("egress-gateway")?.is_running()?.then_some(()).context("it has ended")
}

#[test]
fn an_api_port_in_use_is_an_error_at_start() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let gateway = lab.host("gateway")?;
    gateway.write(GATEWAY_CONFIG, &config::gateway(Site::default(), true)?)?;
    gateway.write(POLICY, &both_policies())?;
    let taken = gateway.within(|| Ok(TcpListener::bind("127.0.0.1:9480")?))?;
    let program = gateway_program()?.display().to_string();
    require("gateway", &start(gateway, &program, GATEWAY_CONFIG)?, 1, "127.0.0.1:9480");
    drop(taken);

    let node = lab.host(NODE1.name)?;
    node.write(NODE_CONFIG, &config::node_redirect(Site::default(), &NODE1, "auto"))?;
    node.write(POLICY, &both_policies())?;
    let taken = node.within(|| Ok(TcpListener::bind("127.0.0.1:9481")?))?;
    let program = redirector_program()?.display().to_string();
    require("node-redirect", &start(node, &program, NODE_CONFIG)?, 1, "127.0.0.1:9481");
    drop(taken);
    require_untouched(node)
}

#[test]
fn the_redirector_refuses_bad_configuration_and_leaves_the_node_alone() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let (host, program) = (lab.host(NODE1.name)?, redirector_program()?.display().to_string());
    let good = config::node_redirect(Site::default(), &NODE1, "auto");
    host.write(POLICY, &both_policies())?;
    for (what, from, to, code, says) in NODE {
        assert!(good.contains(from), "{what}: {from}");
        host.write(NODE_CONFIG, &good.replacen(from, to, 1))?;
        require(what, &start(host, &program, NODE_CONFIG)?, code, says);
        require_untouched(host).context(what)?;
    }
    host.write(NODE_CONFIG, &good)?;
    for (what, policies, says) in BAD_POLICIES.into_iter().take(2) {
        host.write(POLICY, policies)?;
        let output = start(host, &program, NODE_CONFIG)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{what}: {errors}");
        assert!(errors.contains(says), "{what}: nothing of {says:?} in: {errors}");
        require_untouched(host).context(what)?;
    }
    require("no file", &start(host, &program, "/run/none.toml")?, 2, "/run/none.toml");
    require("no verb", &host.output(&[&program, "frobnicate"])?, 2, "frobnicate");
    Ok(())
}

#[test]
fn without_permission_both_programs_say_so() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "timeout", "10"];
    let node = lab.host(NODE1.name)?;
    node.write(NODE_CONFIG, &config::node_redirect(Site::default(), &NODE1, "auto"))?;
    node.write(POLICY, &both_policies())?;
    let program = redirector_program()?.display().to_string();
    let output =
        node.output(&[&nobody[..], &[&program, "run", "--config", NODE_CONFIG]].concat())?;
    require("node-redirect", &output, 1, "CAP_");
    require_untouched(node)?;
    let gateway = lab.host("gateway")?;
    gateway.write(GATEWAY_CONFIG, &config::gateway(Site::default(), true)?)?;
    gateway.write(POLICY, &both_policies())?;
    let program = gateway_program()?.display().to_string();
    let output =
        gateway.output(&[&nobody[..], &[&program, "run", "--config", GATEWAY_CONFIG]].concat())?;
    require("gateway", &output, 1, "CAP_NET_RAW");
    Ok(())
}

/// No device, no pin, no filter.
fn require_untouched(node: &Host) -> Result<()> {
    let links = node.run(&["ip", "-br", "link"])?;
    assert!(!links.contains("egw"), "{links}");
    let pins = ["find", "/sys/fs/bpf", "-mindepth", "1", "!", "-name", "*.debug"];
    assert_eq!(node.run(&pins)?, "");
    let filters = node.run(&["tc", "filter", "show", "dev", "veth-pod-a", "ingress"])?;
    assert_eq!(filters, "");
    Ok(())
}
