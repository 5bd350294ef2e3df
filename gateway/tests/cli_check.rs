//! The command line without a gateway: bad use, and bad files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use running::{
    documents,
    program::{Files, program, run},
};
use std::path::Path;

#[test]
fn bad_use_is_exit_code_2() {
    for arguments in [
        &["stats", "--wach"][..],
        &["policy"],
        &["policy", "apply"],
        &["policy", "apply", "-f", "x", "--if-match", "one"],
        &["sessions", "--src", "pod-a"],
        &["sessions", "--protocol", "sctp"],
        &["sessions", "--policy", "Not A Name"],
        &["sessions", "flush", "--limit", "3"],
        &["sessions", "--limit", "3", "flush", "--all"],
        &["frobnicate"],
        &[],
    ] {
        let done = run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
    }
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["policy", "apply", "--help"],
        &["sessions", "--help"],
        &["sessions", "flush", "--help"],
        &["stats", "--help"],
        &["--version"],
    ] {
        let help = run(arguments).ok();
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}

fn root(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(path).display().to_string()
}

#[test]
fn the_example_files_are_good() {
    let (config, policy) = (root("configs/gateway.toml"), root("configs/policy.yaml"));
    let out = run(&["check", "--config", &config, "--policy", &policy]).ok();
    let [first, second] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert_eq!(first, format!("{config}: ok, for gateway gw-a"));
    assert!(second.starts_with(&format!("{policy}: ok, 2 policies, 2 of them for gateway gw-a;")));
}

#[test]
fn a_one_armed_dual_stack_gateway_is_checked_as_any_other() {
    let files = Files::new();
    let text = running::CONFIG
        .replace("net_null1", "net_null0")
        .replace("\"192.0.2.10/24\"", "\"192.0.2.10/24\", \"2001:db8:2::10/64\"")
        .replace("\"203.0.113.1\"", "\"203.0.113.1\", \"fe80::1\"")
        .replace("\"203.0.113.16/28\"", "\"203.0.113.16/28\", \"2001:db8:113::/64\"");
    let config = files.write("gateway.toml", &text);
    let done = run(&["check", "--config", &config]);
    assert_eq!((done.err.as_str(), done.code), ("", 0));
    assert_eq!(done.ok(), format!("{config}: ok, for gateway gw-a\n"));
    let two_mtus = text.replace("[ports.tunnel]", "[ports.tunnel]\nmtu = 9000");
    let config = files.write("mtu.toml", &two_mtus);
    let message = run(&["check", "--config", &config]).failed(2);
    assert!(message.contains("ports.external.mtu: 1500 is not the 9000"), "{message}");
}

#[test]
fn check_warns_of_destinations_that_no_egress_ip_can_reach() {
    let files = Files::new();
    let config = files.write("gateway.toml", running::CONFIG);
    let documents = documents().replace("[0.0.0.0/0]", "[0.0.0.0/0, \"::/0\"]");
    let policy = files.write("policy.yaml", &documents);
    let done = run(&["check", "--config", &config, "--policy", &policy]);
    assert_eq!(done.code, 0, "{done:?}");
    for name in ["payments", "reports"] {
        let warning = format!(
            "warning: {policy}: EgressPolicy/{name}: .spec.egress[0].egressIPs: the policy selects \
             IPv6 destinations, but gateway gw-a has no IPv6 egress IP in it"
        );
        assert!(done.err.contains(&warning), "{done:?}");
    }
}

#[test]
fn check_and_run_tell_every_mistake_of_their_files() {
    let files = Files::new();
    let good = running::CONFIG;
    let unknown =
        good.replace("addresses = [\"192.0.2.10/24\"]", "adresses = [\"192.0.2.10/24\"]\nmtu = 99");
    for (name, text, wanted) in [
        (
            "unknown.toml",
            &*unknown,
            &["ports.tunnel.adresses", "ports.tunnel.addresses", "ports.tunnel.mtu"][..],
        ),
        ("syntax.toml", "[gateway\nname = 1", &["syntax.toml: line 1, column "]),
        ("empty.toml", "", &["gateway.name", "ports.external.device"]),
    ] {
        let file = files.write(name, text);
        for command in ["check", "run"] {
            let message = run(&[command, "--config", &file]).failed(2);
            for wanted in wanted {
                assert!(message.contains(wanted), "{command} {name}: {wanted}: {message}");
            }
        }
    }
    for command in ["check", "run"] {
        let message = run(&[command, "--config", "/not/there.toml"]).failed(2);
        assert!(message.contains("/not/there.toml: No such file"), "{message}");
        assert!(run(&[command, "--config", "/"]).failed(2).contains("/: "));
    }

    let config = files.write("good.toml", good);
    let policy = files.write("policy.yaml", &documents().replace("203.0.113.1", "198.51.100.1"));
    let done = run(&["check", "--config", &config, "--policy", &policy]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("policy.yaml has 2 mistakes"), "{done:?}");
    assert!(done.err.contains("EgressPolicy/reports: .spec.egress[0].egressIPs[0]"), "{done:?}");
    // Both files' mistakes at once.
    let config = files.write("empty.toml", "");
    let policy = files.write("policy.yaml", "kind: [");
    let message = run(&["check", "--config", &config, "--policy", &policy]).failed(2);
    assert!(
        message.contains("gateway.name") && message.contains("policy.yaml: line 1"),
        "{message}"
    );
}

#[test]
fn a_bad_log_level_is_refused() {
    let files = Files::new();
    let config = files.write("good.toml", running::CONFIG);
    let message = run(&["run", "--config", &config, "--log-level", "gateway=loud"]).failed(2);
    assert!(message.contains("--log-level gateway=loud"), "{message}");
    let output =
        program(&["run", "--config", &config]).env("RUST_LOG", "gateway=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("RUST_LOG gateway=loud"));
}

#[cfg(not(feature = "dpdk"))]
#[test]
fn a_build_without_dpdk_says_so() {
    let files = Files::new();
    let config = files.write("good.toml", running::CONFIG);
    let message = run(&["run", "--config", &config]).failed(1);
    assert!(message.contains("built without DPDK"), "{message}");
}
