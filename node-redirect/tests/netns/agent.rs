//! The agent's life: interfaces, policy files, its own end and its successor.

use std::fs;

use node_redirect::counters::Reason;
use rustix::process::Signal;

use crate::VNI;
use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};
use crate::view::*;

pub fn follows_interfaces(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    assert_eq!((attached_to("vethpod"), attached_to("egw"), attached_to("uplink")), (2, 1, 0));
    let before = pins();
    sh("ip link add veth.new type veth peer name other");
    wait_until("a new interface has its programs", || attached_to("veth.new") == 2);
    assert_eq!(attached_to("other"), 0, "no pattern matches it");
    sh("ip link set other name vethother");
    wait_until("a renamed one has them", || attached_to("vethother") == 2);
    sh("ip link set vethother name other");
    wait_until("and loses them with its name", || attached_to("other") == 0);
    sh("ip link del other");
    wait_until("no pin is left of one that went", || pins() == before);
    let trace = || node_redirect_ok(&["trace", "--src", "10.244.1.10", "--dst", "198.51.100.77"]);
    assert!(trace().contains("redirected: "), "{}", trace());
    sh("ip addr add 198.51.100.77/32 dev lo");
    wait_until("the node's new address is exempt", || trace().contains("passed: exempt"));
    sh("ip link del egw");
    wait_until("the tunnel is made again", || attached_to("egw") == 1);
    let wire = Wire::tap("gateway");
    let pod = udp_socket("pod", "10.244.1.10:4000");
    pod.send_to(b"data", "198.51.100.10:53").unwrap();
    assert_eq!(wire.next_tunnelled().vni, VNI);
}

pub fn survives_kill_9_and_is_taken_over(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket("pod", "10.244.1.10:4000");
    let mut sent = 0;
    let mut send = || {
        pod.send_to(b"data", "198.51.100.10:53").unwrap();
        sent += 1;
        let outer = wire.next_tunnelled();
        assert_eq!(count(Reason::Redirected), sent, "counters go on");
        outer.sport
    };
    let sport = send();
    node.kill();
    assert_eq!(send(), sport, "without an agent");
    assert!(node_redirect_ok(&["status"]).contains("not running"));
    let old = attachments();
    node.start();
    let new = attachments();
    assert_eq!(old.len(), new.len());
    for (old, new) in old.iter().zip(&new) {
        assert_eq!((&old.interface, &old.program), (&new.interface, &new.program));
        assert_ne!(old.id, new.id, "the new agent's program is attached");
    }
    wait_until("the old programs are gone", || are_gone(&old));
    assert_eq!(send(), sport, "with the next agent");

    node.signal(Signal::TERM);
    assert_eq!(node.wait_for_end(), Some(0));
    fs::write(POLICY, "kind: [").unwrap();
    node.start();
    assert!(
        get("/v1/status").unwrap().contains("policy.yaml:"),
        "it says what is wrong with the file"
    );
    assert_eq!(send(), sport, "by the set that the maps hold");
}

pub fn follows_policy_files(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let generation = || maps().settings().unwrap().generation;
    let first = generation();
    let changed = DOCUMENTS.replace("8.8.0.0/16", "8.8.8.0/24");
    let beside = format!("{POLICY}.new");
    fs::write(&beside, &changed).unwrap();
    fs::rename(&beside, POLICY).unwrap();
    wait_until("the renamed file is in force", || {
        node_redirect_ok(&["list"]).contains("8.8.8.0/24")
    });
    wait_until("remembered flows are told", || generation() > first);
    assert!(!node_redirect_ok(&["list"]).contains("8.8.0.0/16"));

    let second = generation();
    fs::write(POLICY, changed.replace("gateway: gw-a", "gateway: nobody")).unwrap();
    let status = || get("/v1/status").unwrap();
    wait_until("the bad file is told", || status().contains("nobody"));
    assert!(get("/metrics").unwrap().contains("node_redirect_policy_file_valid 0"));
    assert!(get("/readyz").unwrap().starts_with("HTTP/1.1 200"), "the set before is in force");
    assert_eq!(generation(), second);

    fs::write(POLICY, DOCUMENTS.replace("10.244.1.10", "10.244.1.20")).unwrap();
    wait_until("the good file is in force", || node_redirect_ok(&["list"]).contains("10.244.1.20"));
    assert!(get("/metrics").unwrap().contains("node_redirect_policy_file_valid 1"));
    wait_until("remembered flows are told", || generation() > second);
    let settled = generation();
    node.signal(Signal::HUP);
    node.signal(Signal::HUP);
    wait_until("it lives", || get("/healthz").is_some());
    assert_eq!(generation(), settled, "the same files change nothing");
}

pub fn cleanup_leaves_nothing(hook: &str) {
    let mut node = Node::new(hook);
    let before = leftovers();
    node.start();
    assert_ne!(leftovers(), before);
    let refused = node_redirect(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is running"));
    node.kill();
    for _ in 0..2 {
        let programs = attachments();
        assert_eq!(programs.len(), 3);
        node_redirect_ok(&["cleanup"]);
        assert_eq!(leftovers(), before);
        wait_until("programs are gone", || are_gone(&programs));
        node_redirect_ok(&["cleanup"]);
        node.start();
        node.kill();
    }
}

pub fn attaches_again_what_others_took_away(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    match hook {
        "clsact" => sh("tc qdisc del dev vethpod clsact"),
        _ => sh("rm /sys/fs/bpf/node-redirect/links/*_pod"),
    };
    let noticed = || get("/metrics").unwrap().contains("node_redirect_reattached_total 1");
    wait_until("the agent notices", || noticed() && attached_to("vethpod") == 2);
}

#[test]
fn either_hook_takes_over_from_the_other() {
    in_private_namespaces(|| {
        let mut node = Node::new("tcx");
        for hook in ["tcx", "clsact", "tcx"] {
            write_config(&format!("hook = '{hook}'"), "");
            node.start();
            let found = attachments();
            assert!(found.len() == 3 && found.iter().all(|each| each.hook == hook), "{found:?}");
            let filters =
                sh("tc filter show dev vethpod ingress; tc filter show dev vethpod egress");
            assert_eq!(filters.contains("_pod"), hook == "clsact", "{filters}");
            assert_eq!(pins() == 0, hook == "clsact");
            node.kill();
        }
    });
}

#[test]
fn trace_says_what_the_programs_do() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        node.start();
        for (packet, wanted) in [
            (
                "--src 10.244.1.10 --dst 198.51.100.10 --proto udp --sport 4000 --dport 53",
                "redirected: redirected",
            ),
            ("--src 10.244.1.10 --dst 8.8.8.8", "passed: excluded"),
            ("--src 10.244.1.11 --dst 198.51.100.10", "passed: not_selected"),
            ("--src 10.244.1.10 --dst 10.244.1.11", "passed: exempt"),
            ("--src 10.244.1.10 --dst 169.254.169.254", "passed: exempt"),
            (
                "--src 10.244.1.10 --dst 192.0.2.10 --proto udp --dport 4790",
                "dropped: forged_tunnel",
            ),
        ] {
            let args: Vec<&str> = ["trace"].into_iter().chain(packet.split(' ')).collect();
            let trace = node_redirect_ok(&args);
            assert!(trace.contains(wanted), "{packet}:\n{trace}");
        }
        let json = node_redirect_ok(&["list", "-o", "json"]);
        assert!(json.contains("\"destinationCIDR\": \"0.0.0.0/0\""), "{json}");
        assert_eq!(node_redirect(&["trace", "--src", "nonsense"]).status.code(), Some(2));
    });
}
