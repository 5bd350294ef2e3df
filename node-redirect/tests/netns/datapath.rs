//! Packets from a pod to a gateway's interface and back.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use node_redirect::abi;
use node_redirect::counters::Reason;

use crate::common::frame::{self, ETHERNET, MORE_FRAGMENTS, Packet, vxlan};
use crate::common::node::*;
use crate::common::sh;
use crate::{POD, VNI, WORLD};

pub fn redirects_and_returns(hook: &str) {
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

pub fn leaves_inbound_flows_alone(hook: &str) {
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

pub fn refuses_what_is_no_return(hook: &str) {
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

pub fn drops_forged_tunnels(hook: &str) {
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

pub fn drops_truncated_headers(hook: &str) {
    let mut node = Node::new(hook);
    node.start();
    let whole = frame::tcp(POD, WORLD, 4000, 80, frame::SYN).frame();
    let mut frames: Vec<Vec<u8>> =
        (ETHERNET..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    let ipv6 = frame::udp("fd00:244:1::10", "2001:db8:100::10", 4000, 53).frame();
    frames.extend((ETHERNET..ETHERNET + 40).map(|cut| ipv6[..cut].to_vec()));
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

/// A far end that speaks VXLAN by the kernel stands for gateway and world. TCP comes from the pod in bursts larger than the tunnel's MTU; what
/// counts is the segments.
pub fn carries_bulk_tcp(hook: &str) {
    const BYTES: usize = 20_000_000;
    const INNER_MTU: usize = 1450;
    let mut node = Node::new(hook);
    node.start();
    // The inner destination MAC is the node's, so the far end must have it.
    let mac = sh("cat /sys/class/net/vethpod/address");
    for command in [
        &format!(
            "ip link add vx address {} type vxlan id {VNI} dstport 4790 remote 192.0.2.1 local 192.0.2.10",
            mac.trim()
        ),
        "ip addr add 198.51.100.10/32 dev vx",
        "ip link set vx mtu 1450 up",
        "ip route add 10.244.1.10/32 dev vx src 198.51.100.10",
        "ip neigh add 10.244.1.10 dev vx lladdr 02:00:00:00:00:99",
    ] {
        sh(&format!("ip netns exec gateway {command}"));
    }
    let world = inside("gateway", || TcpListener::bind("198.51.100.10:80").unwrap());
    let echo = thread::spawn(move || {
        let (mut stream, _) = world.accept().unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
    });
    let mut pod = inside("pod", || TcpStream::connect("198.51.100.10:80").unwrap());
    let data: Vec<u8> = (0..BYTES).map(|i| (i / 7) as u8).collect();
    let mut writer = pod.try_clone().unwrap();
    let sender = thread::spawn({
        let data = data.clone();
        move || {
            writer.write_all(&data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    let mut back = Vec::new();
    pod.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    echo.join().unwrap();
    assert!(back == data, "{} bytes of {BYTES} came back, or other ones", back.len());
    assert_eq!(count(Reason::TooBig), 0);
    let least = (BYTES / INNER_MTU) as u64;
    assert!(count(Reason::Redirected) >= least, "segments are counted, not bursts");
    assert!(count(Reason::Returned) >= least);
    let flows = maps().flows.snapshot().unwrap();
    let tcp: Vec<_> = flows.iter().filter(|(key, _)| key.protocol == abi::PROTOCOL_TCP).collect();
    assert!(tcp.len() == 1 && tcp[0].1.kind == abi::FLOW_REDIRECTED, "{tcp:?}");
}

/// Every reload changes the pod's set, so each flips it; the destination is under policy in both.
pub fn no_packet_slips_through_a_reload(hook: &str) {
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
