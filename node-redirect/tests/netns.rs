//! The agent and its programs on a node of network namespaces, with either hook.

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::frame::{self, ETHERNET, MORE_FRAGMENTS, Packet, vxlan};
use common::node::*;
use common::{in_private_namespaces, sh};
use node_redirect::abi;
use node_redirect::counters::Reason;
use rustix::process::Signal;

const POD: &str = "10.244.1.10";
const WORLD: &str = "198.51.100.10";
const VNI: u32 = 4711;

macro_rules! for_both_hooks {
    ($($test:ident)*) => {
        mod tcx {
            $(#[test] fn $test() { super::in_private_namespaces(|| super::$test("tcx")); })*
        }
        mod clsact {
            $(#[test] fn $test() { super::in_private_namespaces(|| super::$test("clsact")); })*
        }
    };
}

for_both_hooks! {
    redirects_and_returns
    refuses_what_is_no_return
    drops_forged_tunnels
    drops_truncated_headers
    follows_interfaces
    survives_kill_9_and_is_taken_over
    follows_policy_files
    cleanup_leaves_nothing
    attaches_again_what_others_took_away
    no_packet_slips_through_a_reload
    leaves_inbound_flows_alone
}

fn redirects_and_returns(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let wire = Wire::tap("gateway");
    let gateway = udp_socket("gateway", "192.0.2.10:4790");
    let pod = udp_socket("pod", "10.244.1.10:4000");

    let mut ports = Vec::new();
    for round in 0..3_u8 {
        pod.send_to(&[round; 100], "198.51.100.10:53").unwrap();
        let outer = wire.next_tunnelled();
        assert_eq!(
            (outer.src.to_string(), outer.dst.to_string()),
            ("192.0.2.1".into(), "192.0.2.10".into())
        );
        assert_eq!(
            (outer.vni, outer.dont_fragment, outer.udp_checksum, outer.ttl),
            (VNI, true, 0, 64)
        );
        assert_eq!(outer.inner[ETHERNET + 12..ETHERNET + 20], [10, 244, 1, 10, 198, 51, 100, 10]);
        assert_eq!(outer.inner[ETHERNET + 28..], [round; 100], "the payload");
        ports.push(outer.sport);
    }
    assert_eq!(ports, [ports[0]; 3], "one flow, one source port");
    pod.send_to(b"another flow", "198.51.100.11:53").unwrap();
    assert_ne!(wire.next_tunnelled().sport, ports[0], "flows spread over source ports");

    let answer = frame::udp(WORLD, POD, 53, 4000);
    gateway.send_to(&vxlan(VNI, &answer.frame()), "192.0.2.1:4790").unwrap();
    let mut buffer = [0; 100];
    let (length, from) = pod.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.to_string().as_str()), (&b"data"[..], "198.51.100.10:53"));
    wait_for_count(Reason::Returned, 1);

    let flows = maps().flows.snapshot().unwrap();
    assert!(flows.iter().all(|(_, flow)| flow.kind == abi::FLOW_REDIRECTED), "{flows:?}");
    let map = node_redirect_ok(&["list"]);
    let row = map.lines().find(|line| line.contains("0.0.0.0/0")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    let wanted =
        ["10.244.1.10", "0.0.0.0/0", "203.0.113.16", "gw-a", "(192.0.2.10)", "payments", "4"];
    assert_eq!(cells[..7], wanted, "{map}");
    assert!(get("/metrics").unwrap().contains("node_redirect_redirected_total 4"));
}

fn leaves_inbound_flows_alone(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket("pod", "10.244.1.10:53");
    sh("ip -n gateway addr add 198.51.100.10/32 dev lo");
    sh("ip -n gateway link set lo up");
    sh("ip -n gateway route add 10.244.1.0/24 via 192.0.2.1");
    let world = udp_socket("gateway", "198.51.100.10:7000");
    world.send_to(b"question", "10.244.1.10:53").unwrap();
    let mut buffer = [0; 100];
    let (_, from) = pod.recv_from(&mut buffer).unwrap();
    pod.send_to(b"answer", from).unwrap();
    let (length, _) = world.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer");
    wait_for_count(Reason::InboundFlow, 1);
    assert!(wire.drain().iter().all(|frame| frame::parse_outer(frame, VXLAN_PORT).is_none()));

    sh("ip netns exec gateway ping -c1 -W5 -I 198.51.100.10 10.244.1.10");
    wait_for_count(Reason::InboundFlow, 2);
}

fn refuses_what_is_no_return(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let gateway = udp_socket("gateway", "192.0.2.10:4790");
    let stranger = udp_socket("gateway", "192.0.2.66:4790");
    let to_pod = frame::udp(WORLD, POD, 53, 4000);
    let send = |socket: &UdpSocket, payload: &[u8]| {
        socket.send_to(payload, "192.0.2.1:4790").unwrap();
    };

    send(&stranger, &vxlan(VNI, &to_pod.frame()));
    wait_for_count(Reason::UnknownGateway, 1);
    for (nth, vni) in [1, VNI + 1, 0xff_ffff].into_iter().enumerate() {
        send(&gateway, &vxlan(vni, &to_pod.frame()));
        wait_for_count(Reason::UnknownVni, nth as u64 + 1);
    }
    for (nth, stranger) in ["10.244.1.11", "192.0.2.1", "127.0.0.1", WORLD].into_iter().enumerate()
    {
        send(&gateway, &vxlan(VNI, &frame::udp(WORLD, stranger, 53, 4000).frame()));
        wait_for_count(Reason::UnknownPod, nth as u64 + 1);
    }
    // A pod of the documents that is not here: the default route must not take its packet.
    send(&gateway, &vxlan(VNI, &frame::udp(WORLD, "10.244.1.99", 53, 4000).frame()));
    wait_for_count(Reason::NoRoute, 1);

    let mut malformed = 0;
    let mut bad = |inner: &[u8]| {
        send(&gateway, &vxlan(VNI, inner));
        malformed += 1;
        wait_for_count(Reason::MalformedReturn, malformed);
    };
    bad(&frame::ethernet(0x0806, &[0; 28]));
    let whole = to_pod.frame();
    for length in ETHERNET + 20..whole.len() {
        bad(&whole[..length]);
    }
    for length in 0..8 {
        let mut short = to_pod.clone();
        short.l4.truncate(length);
        bad(&short.frame());
    }
    // Less than an IPv4 header the kernel's tunnel may refuse before the program sees it; either way nothing arrives.
    for length in 0..ETHERNET + 20 {
        send(&gateway, &vxlan(VNI, &whole[..length]));
    }
    let pod = udp_socket("pod", "10.244.1.10:4000");
    send(&gateway, &vxlan(VNI, &whole));
    let mut buffer = [0; 100];
    pod.recv_from(&mut buffer).unwrap();
    assert_eq!(count(Reason::Returned), 1, "only the sound one was delivered");
}

fn drops_forged_tunnels(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket("pod", "10.244.1.10:4000");
    let forged = vxlan(VNI, &frame::udp("10.244.1.66", WORLD, 1, 2).frame());
    for (nth, target) in
        ["192.0.2.10:4790", "192.0.2.1:4790", "10.244.1.1:4790"].into_iter().enumerate()
    {
        pod.send_to(&forged, target).unwrap();
        wait_for_count(Reason::ForgedTunnel, nth as u64 + 1);
    }
    let before = count(Reason::ForgedTunnel);
    pod.send_to(&[0; 3000], "192.0.2.10:9").unwrap();
    wait_until("all its fragments are dropped", || count(Reason::ForgedTunnel) == before + 3);

    pod.send_to(b"seen last", "192.0.2.10:9").unwrap();
    let is_last = |frame: &Vec<u8>| frame.ends_with(b"seen last");
    let mut seen = Vec::new();
    wait_until("what the pod may send is there", || {
        seen.extend(wire.drain());
        seen.iter().any(is_last)
    });
    assert!(seen.iter().all(|frame| frame::parse_outer(frame, VXLAN_PORT).is_none()));
}

fn drops_truncated_headers(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let whole = frame::tcp(POD, WORLD, 4000, 80, frame::SYN).frame();
    let frames: Vec<Vec<u8>> = (ETHERNET..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    send_frames("pod", "eth0", &frames);
    wait_for_count(Reason::Malformed, frames.len() as u64);

    // A tag would travel along in the tunnel. The kernel takes it off the frame before the program sees it.
    let mut tagged = whole[..12].to_vec();
    tagged.extend([0x81, 0x00, 0, 5]);
    tagged.extend(&whole[12..]);
    send_frames("pod", "eth0", &[tagged]);
    wait_for_count(Reason::Malformed, frames.len() as u64 + 1);

    let first = fragment_of(&[0; 32], 0, MORE_FRAGMENTS);
    let later = fragment_of(&[0; 32], 4, 0);
    let wire = Wire::tap("gateway");
    send_frames("pod", "eth0", &[first.frame(), later.frame()]);
    let ports = [wire.next_tunnelled().sport, wire.next_tunnelled().sport];
    assert_eq!(ports[0], ports[1], "all fragments of a datagram have one source port");
}

fn fragment_of(payload: &[u8], offset: u16, flags: u16) -> Packet {
    frame::packet(POD, WORLD, frame::UDP, payload.to_vec()).fragment(42, flags | offset)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attachment {
    interface: String,
    program: String,
    hook: String,
    id: u32,
}

fn attachments() -> Vec<Attachment> {
    let report = node_redirect_ok(&["status", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let attachments = report["attachments"].as_array().unwrap().iter().map(|each| Attachment {
        interface: text(&each["interface"]),
        program: text(&each["program"]),
        hook: text(&each["hook"]),
        id: u32::try_from(each["programId"].as_u64().unwrap()).unwrap(),
    });
    attachments.collect()
}

fn attached_to(interface: &str) -> usize {
    attachments().iter().filter(|each| each.interface == interface).count()
}

/// Programs are not of a namespace: others' may come and go meanwhile, so each is asked for by its id.
fn are_gone(programs: &[Attachment]) -> bool {
    programs.iter().all(|each| sh(&format!("bpftool prog show id {} || true", each.id)).is_empty())
}

fn pins() -> usize {
    fs::read_dir("/sys/fs/bpf/node-redirect/links").map_or(0, Iterator::count)
}

fn follows_interfaces(hook: &str) {
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
    sh("ip link del egw");
    wait_until("the tunnel is made again", || attached_to("egw") == 1);
    let wire = Wire::tap("gateway");
    let pod = udp_socket("pod", "10.244.1.10:4000");
    pod.send_to(b"data", "198.51.100.10:53").unwrap();
    assert_eq!(wire.next_tunnelled().vni, VNI);
}

fn survives_kill_9_and_is_taken_over(hook: &str) {
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

fn follows_policy_files(hook: &str) {
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
    assert!(generation() > first);
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
    let settled = generation();
    node.signal(Signal::HUP);
    node.signal(Signal::HUP);
    wait_until("it lives", || get("/healthz").is_some());
    assert_eq!(generation(), settled, "the same files change nothing");
}

/// Every reload changes the pod's set, so each flips it; the destination is under policy in both.
fn no_packet_slips_through_a_reload(hook: &str) {
    const RELOADS: u32 = 40;
    let mut node = Node::new(hook);
    node.start();
    let stop = Arc::new(AtomicBool::new(false));
    let pod = udp_socket("pod", "10.244.1.10:4000");
    let sender = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                // New flows and old ones, by turns.
                let target = (WORLD, 1024 + (sent % 5000) as u16);
                sent += u64::from(pod.send_to(b"data", target).is_ok());
            }
            sent
        }
    });
    let other =
        DOCUMENTS.replace("8.8.0.0/16", "9.9.0.0/16").replace("policyID: 4711", "policyID: 4712");
    for round in 0..RELOADS {
        let documents = if round % 2 == 0 { &other } else { DOCUMENTS };
        let before = maps().settings().unwrap().generation;
        fs::write(format!("{POLICY}.new"), documents).unwrap();
        fs::rename(format!("{POLICY}.new"), POLICY).unwrap();
        wait_until("the reload is done", || maps().settings().unwrap().generation != before);
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    assert!(sent > 1000, "{sent} packets");
    wait_for_count(Reason::Redirected, sent);
    let passed = [Reason::NotSelected, Reason::OutsidePolicy, Reason::Exempt, Reason::Excluded];
    assert_eq!(passed.map(count), [0; 4], "of {sent} packets");
}

fn cleanup_leaves_nothing(hook: &str) {
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

/// What the node shows of us.
fn leftovers() -> Vec<String> {
    [
        "ip -o link show | cut -d: -f2",
        "tc qdisc show | grep clsact || true",
        "bpftool net show",
        "find /sys/fs/bpf -name 'node-redirect*' -o -name links",
    ]
    .map(sh)
    .into()
}

fn attaches_again_what_others_took_away(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    match hook {
        "clsact" => sh("tc qdisc del dev vethpod clsact"),
        _ => sh("rm /sys/fs/bpf/node-redirect/links/*_pod"),
    };
    assert_eq!(attached_to("vethpod"), 0);
    wait_until("the agent notices", || attached_to("vethpod") == 2);
    assert!(get("/metrics").unwrap().contains("node_redirect_reattached_total 1"));
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
        fails(1, "nobody");
        fs::remove_file(POLICY).unwrap();
        fails(1, "cannot read the policy file");
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
