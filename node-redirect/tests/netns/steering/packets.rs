//! Every packet comes to its owner: of every kind, over either underlay, while steering changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gateway::nat::Protocol;

use super::model::*;
use super::*;
use crate::common::frame;
use crate::common::{in_private_namespaces, sh};
use crate::{POD, WORLD};

fn every_packet_comes_to_its_owner(underlay: Underlay) {
    in_private_namespaces(|| {
        let mut node = Node::dual("auto", underlay);
        write_config_at(underlay.node(), "", FROM_FILE);
        let mut random = Random(0x5eed);
        node.start();
        wait_for("cannot read /run/gw-a.steering.json");
        let wire = Wire::tap("gateway");
        for (workers, reta) in [(2, 128), (3, 512), (8, 64), (64, 512)] {
            let gateway = Gateway::new(&mut random, workers, reta);
            let before = generation();
            put(&gateway.json());
            wait_until("it is in force", || generation() != before);
            let sent: Vec<Sent> = (0..24).flat_map(|n| packets(&mut random, n % 2 == 1)).collect();
            let pairs = send(&wire, &sent);
            let mut reached = BTreeSet::new();
            let mut ports_of_datagrams: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
            for (sent, outer) in &pairs {
                let owner = gateway.owner_of(sent);
                assert_eq!(gateway.receiver_of(outer), owner, "of {workers} workers: {sent:?}");
                reached.insert(owner);
                if let Kind::Fragment(protocol, id) = sent.kind {
                    let datagram = (sent.packet.src, sent.packet.dst, protocol, id);
                    ports_of_datagrams.entry(datagram).or_default().insert(outer.sport);
                }
            }
            assert!(reached.len() > workers / 2, "{reached:?} of {workers} workers");
            assert!(ports_of_datagrams.values().all(|ports| ports.len() == 1));
            let ports: BTreeSet<u16> = pairs.iter().map(|(_, outer)| outer.sport).collect();
            assert!(ports.len() > 16, "{} ports: equal paths want several a worker", ports.len());
        }
        assert_eq!((state()["portsChosen"].as_bool(), metrics()), (Some(true), [1, 1]));
    });
}

#[test]
fn every_packet_comes_to_its_owner_over_ipv4() {
    every_packet_comes_to_its_owner(Underlay::V4);
}

#[test]
fn every_packet_comes_to_its_owner_over_ipv6() {
    every_packet_comes_to_its_owner(Underlay::V6);
}

/// A device of somebody else's making has no range of its own: the node's counts, and it may change.
#[test]
fn the_range_that_the_kernel_uses_is_followed() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        sh("sysctl -qw net.ipv4.ip_local_port_range='20000 29999'");
        sh("ip link add egw type vxlan external dstport 4790 udp6zerocsumrx");
        write_config("", FROM_FILE);
        let mut random = Random(0x5eed_0002);
        let gateway = Gateway::new(&mut random, 4, 128);
        put(&gateway.json());
        node.start();
        let wire = Wire::tap("gateway");
        let come = |random: &mut Random, range: Range<u16>| {
            let sent: Vec<Sent> = (0..8).flat_map(|_| packets(random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                assert!(range.contains(&outer.sport), "{} is not in {range:?}", outer.sport);
                assert_eq!(gateway.receiver_of(&outer), gateway.owner_of(sent), "{sent:?}");
            }
        };
        come(&mut random, 20000..29999);
        let before = generation();
        sh("sysctl -qw net.ipv4.ip_local_port_range='40000 50001'");
        wait_until("upkeep sees it", || generation() != before);
        come(&mut random, 40000..50001);
        let before = generation();
        sh("ip link del egw");
        wait_until("another device has its own range", || generation() != before);
        wait_until("and is there", || sh("ip -d link show").contains("srcport 49152 65535"));
        come(&mut random, 49152..65535);
    });
}

/// Two gateways by turns, as fast as the agent takes them: no packet finds one's shards with the other's ports.
#[test]
fn no_packet_sees_half_of_a_change() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        let mut random = Random(0x5eed_0004);
        let gateways = [0; 2].map(|_| Gateway::new(&mut random, 64, 512));
        put(&gateways[0].json());
        node.start();
        let wire = Wire::tap("gateway");
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Arc::new(AtomicUsize::new(0));
        let texts = [gateways[0].json(), gateways[1].json()];
        let changer = thread::spawn({
            let (stop, changes) = (stop.clone(), changes.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let before = generation();
                    put(&texts[(changes.load(Ordering::Relaxed) + 1) % 2]);
                    wait_until("it is in force", || generation() != before);
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut by = [0; 2];
        while by.iter().any(|packets| *packets < 200) || changes.load(Ordering::Relaxed) < 5 {
            let sent: Vec<Sent> = (0..4).flat_map(|_| packets(&mut random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                let fits = gateways.each_ref().map(|g| g.receiver_of(&outer) == g.owner_of(sent));
                assert!(fits[0] || fits[1], "{sent:?} from {}", outer.sport);
                by = [by[0] + u32::from(fits[0]), by[1] + u32::from(fits[1])];
            }
        }
        stop.store(true, Ordering::Relaxed);
        changer.join().unwrap();
    });
}

/// Linux takes another `sk_txhash` with each retransmission.
#[test]
fn a_connection_that_is_not_answered_stays_at_its_worker() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        let gateway = Gateway::new(&mut Random(0x5eed_0005), 8, 128);
        put(&gateway.json());
        node.start();
        let wire = Wire::tap("gateway");
        let connect = thread::spawn(|| {
            inside("pod", || {
                TcpStream::connect_timeout(
                    &SocketAddr::new(WORLD.parse().unwrap(), 80),
                    Duration::from_secs(5),
                )
                .is_err()
            })
        });
        let syns = [0; 3].map(|_| wire.next_tunnelled());
        let l4 = &syns[0].inner[frame::ETHERNET + 20..];
        let sport = u16::from_be_bytes([l4[0], l4[1]]);
        let packet = frame::tcp(POD, WORLD, sport, 80, frame::SYN);
        let sent = Sent { packet, kind: Kind::Flow(Protocol::Tcp, sport, 80) };
        assert!(syns.iter().all(|syn| syn.sport == syns[0].sport), "{syns:?}");
        assert_eq!(gateway.receiver_of(&syns[0]), gateway.owner_of(&sent));
        assert!(connect.join().unwrap());
    });
}
