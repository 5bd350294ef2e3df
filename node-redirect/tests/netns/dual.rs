//! Pods with addresses of both families, and tunnels over either.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use node_redirect::abi;
use node_redirect::counters::Reason;

use crate::common::frame::{self, ETHERNET, vxlan};
use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};
use crate::view::*;
use crate::{POD, VNI, WORLD};

const POD6: &str = "fd00:244:1::10";
const WORLD6: &str = "2001:db8:100::10";

fn at(address: &str, l4_port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), l4_port)
}

fn octets(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub fn redirects_and_returns_over_ipv4(hook: &str) {
    redirects_and_returns(hook, Underlay::V4);
}

pub fn redirects_and_returns_over_ipv6(hook: &str) {
    redirects_and_returns(hook, Underlay::V6);
}

fn redirects_and_returns(hook: &str, underlay: Underlay) {
    let mut node = Node::dual(hook, underlay);
    node.start();
    let tunnel = sh("cat /sys/class/net/egw/mtu");
    assert_eq!(tunnel.trim().parse(), Ok(underlay.tunnel_mtu()));
    let gateway = udp_socket_at("gateway", at(underlay.gateway(), VXLAN_PORT));
    let mut returned = 0;
    for (pod_address, world, ethertype, source_at) in
        [(POD, WORLD, [0x08, 0x00], 12), (POD6, WORLD6, [0x86, 0xdd], 8)]
    {
        let wire = Wire::tap("gateway");
        let pod = udp_socket_at("pod", at(pod_address, 4000));
        let mut ports = Vec::new();
        for round in 0..3_u8 {
            pod.send_to(&[round; 100], at(world, 53)).unwrap();
            let outer = wire.next_tunnelled();
            let ends = [outer.src, outer.dst].map(|end| end.to_string());
            assert_eq!(ends, [underlay.node(), underlay.gateway()]);
            let head = (outer.vni, outer.dont_fragment, outer.udp_checksum, outer.ttl);
            assert_eq!(head, (VNI, true, 0, 64));
            assert_eq!(outer.inner[12..14], ethertype);
            let addresses = [octets(pod_address), octets(world)].concat();
            let inner = &outer.inner[ETHERNET + source_at..];
            assert_eq!(inner[..addresses.len()], addresses);
            assert!(outer.inner.ends_with(&[round; 100]), "the payload");
            ports.push(outer.sport);
        }
        assert_eq!(ports, [ports[0]; 3], "one flow, one source port");
        pod.send_to(b"another flow", at(world, 54)).unwrap();
        assert_ne!(wire.next_tunnelled().sport, ports[0], "flows spread over source ports");

        // The gateway's answers have no outer checksum, or the right one.
        let answer = frame::udp(world, pod_address, 53, 4000).frame();
        send_without_checksum(underlay, &vxlan(VNI, &answer));
        gateway.send_to(&vxlan(VNI, &answer), at(underlay.node(), VXLAN_PORT)).unwrap();
        for _ in 0..2 {
            let mut buffer = [0; 100];
            let (length, from) = pod.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"data"[..], at(world, 53)));
        }
        returned += 2;
        wait_for_count(Reason::Returned, returned);
        drop(wire);
    }
    let flows = maps().flows.snapshot().unwrap();
    assert!(flows.iter().all(|(_, flow)| flow.kind == abi::FLOW_REDIRECTED), "{flows:?}");
    assert_eq!(flows.len(), 4);
    what_is_shown(underlay);
}

/// As a gateway does. The outer frame is made by hand: a UDP socket has a checksum over IPv6.
fn send_without_checksum(underlay: Underlay, payload: &[u8]) {
    let mut outer = frame::udp(underlay.gateway(), underlay.node(), 50000, VXLAN_PORT);
    outer.l4.truncate(8);
    let length = u16::try_from(8 + payload.len()).unwrap();
    outer.l4[4..6].copy_from_slice(&length.to_be_bytes());
    outer.l4[6..8].copy_from_slice(&[0, 0]);
    outer.l4.extend(payload);
    let mut frame = outer.frame();
    let mac = sh("cat /sys/class/net/uplink/address");
    for (byte, hex) in frame.iter_mut().zip(mac.trim().split(':')) {
        *byte = u8::from_str_radix(hex, 16).unwrap();
    }
    send_frames("gateway", "eth0", &[frame]);
}

fn what_is_shown(underlay: Underlay) {
    let list = node_redirect_ok(&["list"]);
    let by = format!("({})", underlay.gateway());
    for wanted in [
        [POD, "0.0.0.0/0", "203.0.113.16", "gw-a", &by, "payments", "4"],
        [POD6, "::/0", "2001:db8:113::10", "gw-a", &by, "payments", "4"],
    ] {
        let shown = list
            .lines()
            .any(|line| line.split_whitespace().take(wanted.len()).collect::<Vec<_>>() == wanted);
        assert!(shown, "{wanted:?} is not in\n{list}");
    }
    let rows = list.lines().count();
    assert_eq!(rows, 1 + 8, "two pods of two addresses, two prefixes each:\n{list}");
    let excluded = |line: &str| line.contains("2001:db8:8::/48") && line.contains("Excluded CIDR");
    assert!(list.lines().any(|line| line.starts_with(POD6) && excluded(line)), "{list}");
    let map = get("/v1/map").unwrap();
    assert!(map.contains(r#""sourceIp":"fd00:244:1::10","destinationCIDR":"::/0""#), "{map}");
    assert!(map.contains(&format!(r#""gatewayAddress":"{}""#, underlay.gateway())), "{map}");
    assert!(get("/metrics").unwrap().contains("node_redirect_redirected_total 8"));
    let vtep = format!(r#""vtep":"{}""#, underlay.node());
    assert!(get("/v1/status").unwrap().contains(&vtep));
    let trace = |packet: &str| {
        let args: Vec<&str> = ["trace"].into_iter().chain(packet.split(' ')).collect();
        node_redirect_ok(&args)
    };
    let known = trace(&format!("--src {POD6} --dst {WORLD6} --proto udp --sport 4000 --dport 53"));
    assert!(known.contains(&format!("by gateway {}", underlay.gateway())), "{known}");
    for (packet, wanted) in [
        (format!("--src {POD6} --dst 2001:db8:100::99 --proto icmp"), "redirected: redirected"),
        (format!("--src {POD6} --dst 2001:db8:8::8"), "passed: excluded"),
        (format!("--src fd00:244:1::11 --dst {WORLD6}"), "passed: not_selected"),
        (format!("--src {POD6} --dst fd00:244:1::11"), "passed: exempt"),
        (format!("--src {POD6} --dst fe80::1"), "passed: exempt"),
        (format!("--src {POD6} --dst 2001:db8:1::1"), "passed: exempt"),
        (format!("--src {POD6} --dst 2001:db8:1::"), "passed: exempt"),
        (format!("--src {POD6} --dst ff02::1 --proto udp --dport 4790"), "dropped: forged_tunnel"),
        (
            format!("--src {POD6} --dst 2001:db8:1::1 --proto udp --dport 4790"),
            "dropped: forged_tunnel",
        ),
    ] {
        let trace = trace(&packet);
        assert!(trace.contains(wanted), "{packet}:\n{trace}");
    }
    let mixed = node_redirect(&["trace", "--src", POD6, "--dst", WORLD]);
    assert!(String::from_utf8_lossy(&mixed.stderr).contains("one family"));
}

pub fn refuses_what_is_no_return_over_ipv4(hook: &str) {
    refuses_what_is_no_return(hook, Underlay::V4);
}

pub fn refuses_what_is_no_return_over_ipv6(hook: &str) {
    refuses_what_is_no_return(hook, Underlay::V6);
}

fn refuses_what_is_no_return(hook: &str, underlay: Underlay) {
    let mut node = Node::dual(hook, underlay);
    node.start();
    let gateway = udp_socket_at("gateway", at(underlay.gateway(), VXLAN_PORT));
    let stranger = udp_socket_at("gateway", at(underlay.stranger(), VXLAN_PORT));
    let to_pod = frame::udp(WORLD6, POD6, 53, 4000);
    let send = |socket: &UdpSocket, payload: &[u8]| {
        socket.send_to(payload, at(underlay.node(), VXLAN_PORT)).unwrap();
    };

    send(&stranger, &vxlan(VNI, &to_pod.frame()));
    wait_for_count(Reason::UnknownGateway, 1);
    send(&gateway, &vxlan(VNI + 1, &to_pod.frame()));
    wait_for_count(Reason::UnknownVni, 1);
    let strangers = ["fd00:244:1::11", "2001:db8:1::1", "::1", "fe80::1", "ff02::1", WORLD6];
    for (nth, stranger) in strangers.into_iter().enumerate() {
        send(&gateway, &vxlan(VNI, &frame::udp(WORLD6, stranger, 53, 4000).frame()));
        wait_for_count(Reason::UnknownPod, nth as u64 + 1);
    }
    // A pod of the documents that is not here: the default route must not take its packet.
    send(&gateway, &vxlan(VNI, &frame::udp(WORLD6, "fd00:244:1::99", 53, 4000).frame()));
    wait_for_count(Reason::NoRoute, 1);

    let mut malformed = 0;
    let mut bad = |inner: &[u8]| {
        send(&gateway, &vxlan(VNI, inner));
        malformed += 1;
        wait_for_count(Reason::MalformedReturn, malformed);
    };
    let whole = to_pod.frame();
    for length in ETHERNET + 40..whole.len() {
        bad(&whole[..length]);
    }
    bad(&frame::udp("::ffff:198.51.100.10", POD6, 53, 4000).frame());
    bad(&frame::udp(WORLD6, "::ffff:10.244.1.10", 53, 4000).frame());
    let pod = udp_socket_at("pod", at(POD6, 4000));
    send(&gateway, &vxlan(VNI, &whole));
    let mut buffer = [0; 100];
    pod.recv_from(&mut buffer).unwrap();
    assert_eq!(count(Reason::Returned), 1, "only the sound one was delivered");
}

/// Whatever the tunnel's own family is: the VXLAN socket hears both.
pub fn drops_forged_tunnels_from_ipv6_pods(hook: &str) {
    let mut node = Node::dual(hook, Underlay::V6);
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket_at("pod", at(POD6, 4000));
    let forged = vxlan(VNI, &frame::udp("fd00:244:1::66", WORLD6, 1, 2).frame());
    let mut dropped = 0;
    for target in ["2001:db8:1::10", "2001:db8:1::1", "2001:db8:1::", "fd00:244:1::1"] {
        pod.send_to(&forged, at(target, VXLAN_PORT)).unwrap();
        dropped += 1;
        wait_for_count(Reason::ForgedTunnel, dropped);
    }
    // With a gateway's address for its source, to what every node hears.
    let frames = ["ff02::1", "fe80::1"].map(|target| {
        let mut outer = frame::udp("2001:db8:1::10", target, 4790, VXLAN_PORT);
        outer.l4.extend(&forged);
        outer.frame()
    });
    send_frames("pod", "eth0", &frames);
    wait_for_count(Reason::ForgedTunnel, dropped + 2);
    let pod4 = udp_socket("pod", "10.244.1.10:4000");
    pod4.send_to(&forged, "192.0.2.1:4790").unwrap();
    wait_for_count(Reason::ForgedTunnel, dropped + 3);
    pod.send_to(&[0; 3000], at("2001:db8:1::10", 9)).unwrap();
    wait_for_count(Reason::ForgedTunnel, dropped + 6);

    pod.send_to(b"seen last", at("2001:db8:1::10", 9)).unwrap();
    let mut seen = Vec::new();
    wait_until("what the pod may send is there", || {
        seen.extend(wire.drain());
        seen.iter().any(|frame: &Vec<u8>| frame.ends_with(b"seen last"))
    });
    assert!(seen.iter().all(|frame| frame::parse_outer(frame, VXLAN_PORT).is_none()));
    assert_eq!(count(Reason::UnknownGateway) + count(Reason::UnknownPod), 0, "none came in");
}

pub fn carries_bulk_tcp_over_ipv4(hook: &str) {
    carries_bulk_tcp(hook, Underlay::V4);
}

pub fn carries_bulk_tcp_over_ipv6(hook: &str) {
    carries_bulk_tcp(hook, Underlay::V6);
}

/// A far end that speaks VXLAN by the kernel stands for gateway and world. Its packets have an outer checksum, ours have none.
fn carries_bulk_tcp(hook: &str, underlay: Underlay) {
    const BYTES: usize = 20_000_000;
    let mut node = Node::dual(hook, underlay);
    node.start();
    let mac = sh("cat /sys/class/net/vethpod/address");
    for command in [
        &format!(
            "ip link add vx address {} type vxlan id {VNI} dstport 4790 remote {} local {} udp6zerocsumrx",
            mac.trim(),
            underlay.node(),
            underlay.gateway()
        ),
        "ip addr add 2001:db8:100::10/128 dev vx nodad",
        &format!("ip link set vx mtu {} up", underlay.tunnel_mtu()),
        "ip route add fd00:244:1::10/128 dev vx",
        "ip neigh add fd00:244:1::10 dev vx lladdr 02:00:00:00:00:99",
    ] {
        sh(&format!("ip netns exec gateway {command}"));
    }
    let world = inside("gateway", || TcpListener::bind(at(WORLD6, 80)).unwrap());
    let echo = thread::spawn(move || {
        let (mut stream, _) = world.accept().unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
    });
    let mut pod = inside("pod", || TcpStream::connect(at(WORLD6, 80)).unwrap());
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
    let least = (BYTES / underlay.tunnel_mtu()) as u64;
    assert!(count(Reason::Redirected) >= least, "segments are counted, not bursts");
    assert!(count(Reason::Returned) >= least);
}

pub fn leaves_inbound_flows_and_neighbor_discovery_alone(hook: &str) {
    let mut node = Node::dual(hook, Underlay::V6);
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket_at("pod", at(POD6, 53));
    for command in [
        "ip link set lo up",
        "ip addr add 2001:db8:100::10/128 dev lo",
        "ip -6 route add fd00:244:1::/64 via 2001:db8:1::1",
    ] {
        sh(&format!("ip netns exec gateway {command}"));
    }
    let world = udp_socket_at("gateway", at(WORLD6, 7000));
    let mut buffer = [0; 100];
    for round in 1..=2 {
        world.send_to(b"question", at(POD6, 53)).unwrap();
        let (_, from) = pod.recv_from(&mut buffer).unwrap();
        pod.send_to(b"answer", from).unwrap();
        let (length, _) = world.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
        wait_for_count(Reason::InboundFlow, round);
        // The pod must find its router anew: that is neighbor discovery, through our programs.
        sh("ip -n pod -6 neigh flush dev eth0");
        sh("ip -6 neigh flush dev vethpod");
    }
    sh(&format!("ip netns exec gateway ping -6 -c1 -W5 -I {WORLD6} {POD6}"));
    wait_for_count(Reason::InboundFlow, 3);
    assert_eq!(count(Reason::LinkOnly), 0);
    assert!(wire.drain().iter().all(|frame| frame::parse_outer(frame, VXLAN_PORT).is_none()));
}

pub fn is_taken_over_and_cleaned_up_over_ipv6(hook: &str) {
    let mut node = Node::dual(hook, Underlay::V6);
    let before = leftovers();
    node.start();
    let wire = Wire::tap("gateway");
    let pod = udp_socket_at("pod", at(POD6, 4000));
    let mut sent = 0;
    let mut send = || {
        pod.send_to(b"data", at(WORLD6, 53)).unwrap();
        sent += 1;
        let sport = wire.next_tunnelled().sport;
        assert_eq!(count(Reason::Redirected), sent, "counters go on");
        sport
    };
    let sport = send();
    node.kill();
    assert_eq!(send(), sport, "without an agent");
    let old = attachments();
    node.start();
    wait_until("the old programs are gone", || are_gone(&old));
    assert_eq!(send(), sport, "with the next agent");
    let trace = || node_redirect_ok(&["trace", "--src", POD6, "--dst", "2001:db8:100::77"]);
    assert!(trace().contains("redirected: "), "{}", trace());
    sh("ip addr add 2001:db8:100::77/128 dev lo");
    wait_until("the node's new address is exempt", || trace().contains("passed: exempt"));
    node.kill();
    sh("ip addr del 2001:db8:100::77/128 dev lo");
    node_redirect_ok(&["cleanup"]);
    assert_eq!(leftovers(), before);
}

#[test]
fn a_gateway_on_the_other_underlay_is_told_and_gets_nothing() {
    in_private_namespaces(|| {
        let mut node = Node::dual("auto", Underlay::V4);
        let documents = Underlay::V4.documents();
        let elsewhere =
            documents.replace("{tunnelAddress: '192.0.2.10'}", "{tunnelAddress: '2001:db8:1::10'}");
        assert_ne!(elsewhere, documents);
        std::fs::write(POLICY, elsewhere).unwrap();
        let check = node_redirect(&["check"]);
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(check.status.success() && said.contains("two address families"), "{said}");
        node.start();
        let wire = Wire::tap("gateway");
        let pod = udp_socket_at("pod", at(POD6, 4000));
        let pod4 = udp_socket("pod", "10.244.1.10:4000");
        pod.send_to(b"data", at(WORLD6, 53)).unwrap();
        pod4.send_to(b"data", at(WORLD, 53)).unwrap();
        wait_for_count(Reason::NoGateway, 2);
        assert!(wire.drain().iter().all(|frame| !frame.ends_with(b"data")));
    });
}

#[test]
fn a_device_that_refuses_packets_without_checksum_is_an_error_over_ipv6() {
    in_private_namespaces(|| {
        let mut node = Node::dual("auto", Underlay::V6);
        sh("ip link add egw type vxlan external dstport 4790");
        let output = node_redirect(&["run"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("udp6zerocsumrx"), "{said}");
        write_config("", "");
        std::fs::write(POLICY, Underlay::V4.documents()).unwrap();
        node.start();
    });
}
