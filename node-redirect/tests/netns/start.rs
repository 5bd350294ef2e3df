//! Starts that must fail, and what they leave.

use std::fs;
use std::path::Path;

use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};
use crate::view::*;

#[test]
fn a_bad_start_is_one_clear_error_and_leaves_nothing() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let before = leftovers();
        let fails = |code: i32, wanted: &str| {
            let output = node_redirect(&["run"]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{error}");
            assert!(error.contains(wanted), "{wanted:?} is not in: {error}");
            assert_eq!(leftovers(), before, "nothing is left of it");
        };
        write_config("hook = 'xdp'", "");
        fails(2, "unknown variant");
        write_config("path = 'kernel'", "");
        fails(2, "\"kernel\" is not supported");
        fs::remove_file(CONFIG).unwrap();
        fails(2, CONFIG);

        write_config("", "[bpf]\npin_path = '/run/pins'");
        fails(1, "not on a bpf file system");
        assert!(!Path::new("/run/pins").exists());
        write_config("", "[vxlan]\nport = 4791\n[api]\nlisten = '127.0.0.1:9999'");
        let port = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        fails(1, "is the port in use?");
        drop(port);

        write_config("", "");
        fs::write(POLICY, DOCUMENTS.replace("gateway: gw-a", "gateway: nobody")).unwrap();
        fails(2, "nobody");
        fs::remove_file(POLICY).unwrap();
        fails(2, "cannot read the policy file");
        fs::write(POLICY, DOCUMENTS).unwrap();

        sh("ip link add other type vxlan external dstport 4790");
        sh("ip link set other up");
        fails_with_device(&before, "has another VXLAN device the port?");
        sh("ip link del other");
        sh("ip link add egw type veth peer name egwpeer");
        fails_with_device(&before, "is not a collect-metadata VXLAN");
        sh("ip link del egw");
        sh("ip addr del 192.0.2.1/24 dev uplink");
        fails(1, "node.vtep 192.0.2.1 is not an address of this node");
    });
}

/// As above, with one interface more that is not ours.
fn fails_with_device(before: &[String], wanted: &str) {
    let output = node_redirect(&["run"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(wanted), "{wanted:?} is not in: {error}");
    assert_eq!(leftovers()[1..], before[1..], "nothing is left of it");
}

#[test]
fn without_permission_nothing_is_tried() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let binary = env!("CARGO_BIN_EXE_node-redirect");
        for command in ["run", "cleanup", "status", "list"] {
            let command = format!(
                "setpriv --bounding-set -all --inh-caps -all {binary} {command} --config {CONFIG} 2>&1; echo exit $?"
            );
            let output = sh(&command);
            assert!(output.contains("not permitted") && output.ends_with("exit 1\n"), "{output}");
        }
        assert!(node_redirect_ok(&["check"]).starts_with("ok"));
    });
}

#[test]
fn a_second_agent_is_refused() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        node.start();
        let second = node_redirect(&["run"]);
        assert_eq!(second.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&second.stderr).contains("another node-redirect is running")
        );
        assert_eq!(attached_to("vethpod"), 2, "the first is not disturbed");
    });
}

#[test]
fn a_pattern_that_matches_nothing_is_a_warning() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        sh(
            "ip link set vethpod down && ip link set vethpod name podveth && ip link set podveth up",
        );
        node.start();
        assert_eq!(attached_to("podveth"), 0);
        sh("ip link set podveth name vethpod");
        wait_until("it comes", || attached_to("vethpod") == 2);
    });
}
