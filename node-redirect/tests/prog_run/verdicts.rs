//! What becomes of one packet.

use node_redirect::abi::{self};
use node_redirect::counters::Reason;
use node_redirect::program::Role;

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

#[test]
fn every_verdict_of_from_pod() {
    in_private_namespaces(|| {
        let too_big = TUNNEL_MTU - 20 - 12;
        #[rustfmt::skip]
        let cases = [
            ("TCP under policy", tcp(POD, WORLD, 4000, 80, SYN).frame(), Redirect, Reason::Redirected),
            ("UDP under policy", udp(POD, WORLD, 4000, 53).frame(), Redirect, Reason::Redirected),
            ("ping under policy", icmp(POD, WORLD, 8, 7).frame(), Redirect, Reason::Redirected),
            ("SCTP under policy", sctp(POD, WORLD, 4000, 80).frame(), Redirect, Reason::Redirected),
            ("GRE under policy: the gateway drops what it cannot translate", packet(POD, WORLD, 47, vec![0; 8]).frame(), Redirect, Reason::Redirected),
            ("no L4 at all, under policy", packet(POD, WORLD, 253, vec![]).frame(), Redirect, Reason::Redirected),
            ("ICMP of unknown type, under policy", icmp(POD, WORLD, 42, 0).frame(), Redirect, Reason::Redirected),
            ("IPv4 options, under policy", tcp(POD, WORLD, 4000, 80, SYN).options(40).frame(), Redirect, Reason::Redirected),
            ("TCP in mid-flow that no table knows, under policy", tcp(POD, WORLD, 4000, 80, ACK).frame(), Redirect, Reason::Redirected),
            ("Ethernet padding behind the packet", [udp(POD, WORLD, 1, 2).frame(), vec![0; 14]].concat(), Redirect, Reason::Redirected),
            ("excluded destination", tcp(POD, EXCLUDED, 4000, 80, SYN).frame(), Pass, Reason::Excluded),
            ("no gateway, Closed", tcp(POD, CLOSED, 4000, 80, SYN).frame(), Drop, Reason::NoGateway),
            ("no gateway, Open", tcp(POD, OPEN, 4000, 80, SYN).frame(), Pass, Reason::FailedOpen),
            ("destination outside the policy", tcp(NARROW, "203.0.113.99", 4000, 80, SYN).frame(), Pass, Reason::OutsidePolicy),
            ("pod without policy", tcp(UNSELECTED, WORLD, 4000, 80, SYN).frame(), Pass, Reason::NotSelected),
            ("another pod", tcp(POD, "10.244.2.10", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("service", udp(POD, SERVICE, 4000, 53).frame(), Pass, Reason::Exempt),
            ("link-local", tcp(POD, "169.254.169.254", 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("forged tunnel to whoever is on the link", udp(POD, "224.0.0.1", 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel by broadcast", udp(POD, "255.255.255.255", 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("multicast", udp(POD, "224.0.0.251", 5353, 5353).frame(), Pass, Reason::Exempt),
            ("gateway itself, no VXLAN", tcp(POD, GATEWAY, 4000, 80, SYN).frame(), Pass, Reason::Exempt),
            ("gateway itself, ping", icmp(POD, GATEWAY, 8, 7).frame(), Pass, Reason::Exempt),
            ("ARP", ethernet(0x0806, &[0; 28]), Pass, Reason::NotIp),
            ("forged tunnel to a gateway", udp(POD, GATEWAY, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel from a pod without policy", udp(UNSELECTED, GATEWAY, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel to a node", udp(POD, NODE, 4000, VXLAN_PORT).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a first fragment", udp(POD, GATEWAY, 1, 2).fragment(9, MORE_FRAGMENTS).frame(), Drop, Reason::ForgedTunnel),
            ("forged tunnel, hidden in a later fragment", udp(POD, GATEWAY, 1, 2).fragment(9, 1).frame(), Drop, Reason::ForgedTunnel),
            ("VXLAN to somebody who is no gateway", udp(POD, WORLD, 4000, VXLAN_PORT).frame(), Redirect, Reason::Redirected),
            ("TCP to the tunnel's port is no tunnel", tcp(POD, GATEWAY, 4000, VXLAN_PORT, SYN).frame(), Pass, Reason::Exempt),
            ("as large as the tunnel carries", udp(POD, WORLD, 1, 2).payload(too_big).frame(), Redirect, Reason::Redirected),
            ("a byte larger than the tunnel carries", udp(POD, WORLD, 1, 2).payload(too_big + 1).frame(), Drop, Reason::TooBig),
            ("too large, but excluded", udp(POD, EXCLUDED, 1, 2).payload(too_big + 1).frame(), Pass, Reason::Excluded),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn every_truncation_of_every_header() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        for (name, packet, least) in [
            ("TCP", tcp(POD, WORLD, 4000, 80, SYN), 20),
            ("UDP", udp(POD, WORLD, 4000, 53), 8),
            ("ICMP", icmp(POD, WORLD, 8, 7), 8),
            ("SCTP", sctp(POD, WORLD, 4000, 80), 12),
        ] {
            for options in [0, 40] {
                let whole = packet.clone().options(options);
                let frame = whole.frame();
                let wire_cuts = LEAST_FRAME..frame.len();
                for length in wire_cuts {
                    let outcome = bench.run(Role::FromPod, &frame[..length], 0);
                    let malformed = (Drop, Some(Reason::Malformed));
                    assert_eq!(outcome, malformed, "{name} cut at {length} of {}", frame.len());
                }
                for length in 0..least {
                    let mut short = whole.clone();
                    short.l4.truncate(length);
                    for fragment in [0, MORE_FRAGMENTS] {
                        let short = short.clone().fragment(7, fragment);
                        let malformed = (Drop, Some(Reason::Malformed));
                        assert_eq!(
                            bench.pod_sends(&short),
                            malformed,
                            "{name} with {length} bytes"
                        );
                    }
                    short.src = address(UNSELECTED);
                    let left_alone = (Pass, Some(Reason::NotSelected));
                    assert_eq!(bench.pod_sends(&short), left_alone, "{name}, pod without policy");
                    (short.src, short.dst) = (address(POD), address(EXCLUDED));
                    let excluded = (Pass, Some(Reason::Excluded));
                    assert_eq!(bench.pod_sends(&short), excluded, "{name}, excluded destination");
                }
            }
        }
        assert_eq!(bench.flow_count(), 0, "no entry of a malformed packet");
    });
}

#[test]
fn headers_that_contradict_themselves() {
    in_private_namespaces(|| {
        let with = |offset: usize, bytes: &[u8]| {
            let mut frame = tcp(POD, WORLD, 4000, 80, SYN).frame();
            frame[ETHERNET + offset..][..bytes.len()].copy_from_slice(bytes);
            frame
        };
        #[rustfmt::skip]
        let cases = [
            ("IP version 6 behind the IPv4 ethertype", with(0, &[0x65]), Drop, Reason::Malformed),
            ("IP header shorter than 20 bytes", with(0, &[0x44]), Drop, Reason::Malformed),
            ("IP header longer than the packet", with(0, &[0x4f]), Drop, Reason::Malformed),
            ("total length 0 without segmentation", with(2, &[0, 0]), Drop, Reason::Malformed),
            ("total length shorter than the header", with(2, &[0, 19]), Drop, Reason::Malformed),
            ("total length longer than the frame", with(2, &[0, 41]), Drop, Reason::Malformed),
            ("TCP header shorter than 20 bytes", with(20 + 12, &[4 << 4]), Drop, Reason::Malformed),
            ("TCP header longer than the packet", with(20 + 12, &[6 << 4]), Drop, Reason::Malformed),
        ];
        Bench::new().check(&cases);
    });
}

#[test]
fn no_tunnel_device_drops() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let settings = bench.maps.settings().unwrap();
        for ifindex in [0, 999_999] {
            let settings = abi::Settings { tunnel_ifindex: ifindex, ..settings };
            bench.maps.settings.set(&0, &settings).unwrap();
            let outcome = bench.pod_sends(&udp(POD, WORLD, 1, 2));
            assert_eq!(outcome, (Drop, Some(Reason::NoTunnel)), "ifindex {ifindex}");
        }
    });
}

#[test]
fn nothing_that_is_not_from_a_tunnel_passes_from_tunnel() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        let frame = udp(WORLD, POD, 53, 4000).frame();
        for length in LEAST_FRAME..=frame.len() {
            let outcome = bench.run(Role::FromTunnel, &frame[..length], 0);
            assert_eq!(outcome, (Drop, Some(Reason::UnknownGateway)), "{length} bytes");
        }
    });
}
