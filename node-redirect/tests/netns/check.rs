//! `check` judges all that `run` would, and says what it is with its exit code. Completions and manual pages come from the same command line.

use std::fs;
use std::process::Command;

use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};

fn check() -> (Option<i32>, String, String) {
    let output = node_redirect(&["check"]);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_run_would_refuse_is_bad_input_and_told_at_once() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let (code, told, warned) = check();
        assert_eq!((code, warned.as_str()), (Some(0), ""), "{told}");
        assert!(told.starts_with("ok: 1 policies, 1 gateways; 2 pod addresses of node1"), "{told}");

        let wrong = DOCUMENTS
            .replace("gateway: gw-a", "gateway: nobody")
            .replace("8.8.0.0/16", "8.8.0.0/99")
            .replace("tunnelAddress: 192.0.2.1,", "tunnelAddress: nowhere,");
        fs::write(POLICY, wrong).unwrap();
        let (code, _, error) = check();
        assert_eq!(code, Some(2), "{error}");
        for place in [
            POLICY,
            "EgressPolicy/payments: .spec.excludedCIDRs[0]",
            "EgressNode/node1: .spec.tunnelAddress",
        ] {
            assert!(error.contains(place), "{place} is not in: {error}");
        }

        fs::write(POLICY, DOCUMENTS).unwrap();
        write_config("", "[bpf]\nmax_pods = 1\nmax_destinations = 1\nmax_exempt = 1");
        let (code, _, error) = check();
        assert_eq!(code, Some(2), "{error}");
        for key in ["bpf.max_pods is 1", "bpf.max_destinations is 1", "bpf.max_exempt is 1"] {
            assert!(error.contains(key), "{key} is not in: {error}");
        }

        let config = fs::read_to_string(CONFIG).unwrap();
        let files = "['/run/a.yaml', '/run/b.yaml']";
        fs::write(CONFIG, config.replace(&format!("['{POLICY}']"), files)).unwrap();
        let (code, _, error) = check();
        assert!(code == Some(2) && error.contains("/run/a.yaml") && error.contains("/run/b.yaml"));
    });
}

#[test]
fn what_is_perhaps_not_meant_is_a_warning() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        fs::write(
            POLICY,
            DOCUMENTS
                .replace("metadata: {name: node1}", "metadata: {name: node-1}")
                .replace("node: node1", "node: node-1"),
        )
        .unwrap();
        let (code, _, warned) = check();
        assert_eq!(code, Some(0), "{warned}");
        assert!(
            warned.contains("no EgressNode of this name") && warned.contains("node-1"),
            "{warned}"
        );

        fs::write(POLICY, DOCUMENTS.replace("192.0.2.1,", "192.0.2.77,")).unwrap();
        let (code, _, warned) = check();
        assert!(code == Some(0) && warned.contains("its tunnelAddress is 192.0.2.77"), "{warned}");

        fs::write(POLICY, DOCUMENTS).unwrap();
        sh("ip addr del 192.0.2.1/24 dev uplink");
        let (code, _, warned) = check();
        assert!(code == Some(0) && warned.contains("not an address of this machine"), "{warned}");
    });
}

fn run(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_node-redirect")).args(args).output().unwrap()
}

#[test]
fn bad_use_is_two_and_a_failure_is_one() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let families = ["trace", "--src", "10.244.1.10", "--dst", "2001:db8::1"];
        for (args, code, wanted) in [
            (&families[..], 2, "addresses of one family"),
            (&["list"], 1, "`node-redirect run`"),
            (&["status"], 1, "`node-redirect run`"),
            (&["trace", "--src", "10.244.1.10", "--dst", "192.0.2.1"], 1, "`node-redirect run`"),
        ] {
            let output = node_redirect(args);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
            assert!(error.contains(wanted), "{args:?}: {error}");
        }
    });
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("completions");
    for shell in ["zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{shell}");
    }
    fs::write(&script, run(&["completions", "bash"]).stdout).unwrap();
    let complete = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let last = words.len() - 1;
        let ask = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD={last}; \
             $(complete -p node-redirect | sed 's/.*-F \\([^ ]*\\).*/\\1/') node-redirect '{}' '{}'; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            words[last],
            words[last - 1]
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete("node-redirect sta"), "status");
    assert_eq!(complete("node-redirect trace --pro"), "--proto");
    assert_eq!(complete("node-redirect list -o "), "text json");
    assert_eq!(complete("node-redirect completions "), "-h --help bash zsh fish");
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_manual_page_of_each_subcommand() {
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH node-redirect 1"), "{page}");
    assert!(page.contains(".SH NOTES\n.nf\nExit status"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert!(run(&["man", pages.to_str().unwrap()]).status.success());
    for name in
        ["", "-run", "-check", "-cleanup", "-list", "-trace", "-status", "-completions", "-man"]
    {
        let page = fs::read_to_string(pages.join(format!("node-redirect{name}.1"))).unwrap();
        assert!(page.contains(&format!("node\\-redirect{}", name.replace('-', "\\-"))), "{page}");
    }
    let refused = run(&["man", "/proc/nowhere"]);
    assert_eq!(refused.status.code(), Some(1));
}
