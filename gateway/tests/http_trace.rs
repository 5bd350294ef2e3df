//! `/v1/trace`: what it says of a packet, the same packet then does in the same running gateway; and saying
//! it changes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;
mod traced_packet;

use gateway::verdict::{DropReason, Side};
use harness::{EXTERNAL_MAC, Family, Nd, NdSeen, ROUTER_MAC, SeenOf, arp_frame};
use running::{DUAL_CONFIG, Running, hosts, policy_of, wait_until};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use traced_packet::{L4, Packet, usual};

/// The id of the first policy.
const FIRST: u32 = 100;

/// By name: its egress IPs. `twin` shares those of `payments`; the last two have one family each.
fn documents() -> String {
    let (v4, v6) = (
        |n| IpAddr::from([203, 0, 113, n]),
        |n: u16| IpAddr::from([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, n]),
    );
    let policies = [
        ("payments", vec![v4(16), v4(17), v4(18), v6(0x10), v6(0x12), v6(0x13)]),
        ("twin", vec![v4(16), v4(17), v4(18), v6(0x10), v6(0x12), v6(0x13)]),
        ("reports", vec![v4(20), v6(0x20)]),
        ("only-v4", vec![v4(21)]),
        ("only-v6", vec![v6(0x21)]),
    ];
    let mut documents: Vec<_> =
        (FIRST..).zip(policies).map(|(id, (name, ips))| policy_of(name, id, &ips)).collect();
    let elsewhere =
        policy_of("elsewhere", 4000, &[v4(99)]).replace("gateway: gw-a", "gateway: gw-b");
    let other = "apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-b}
spec: {tunnelAddress: 192.0.2.11}
";
    let cidrs = "[10.244.1.0/24, \"fd00:244:1::/64\"]";
    documents.extend([elsewhere, other.to_owned(), hosts().replace("[10.244.1.0/24]", cidrs)]);
    documents.join("---\n")
}

/// With the policies above, and its routers known.
fn gateway(config: &str, workers: usize, max_sessions: u32) -> Running {
    let running = Running::with_workers(config, workers, max_sessions);
    let answer = running.put(&documents());
    assert_eq!(answer.status, 200, "{answer:?}");
    introduce_routers(&running);
    running
}

fn introduce_routers(running: &Running) {
    let (us, v6) = ((EXTERNAL_MAC, Ipv4Addr::EXTERNAL), Ipv6Addr::EXTERNAL);
    let arp = arp_frame(1, EXTERNAL_MAC, (ROUTER_MAC, Ipv4Addr::ROUTER), us);
    let nd = Nd::question((Ipv6Addr::ROUTER, ROUTER_MAC), v6).frame(EXTERNAL_MAC, ROUTER_MAC);
    running.receive(Side::External, arp);
    running.receive(Side::External, nd);
    wait_until("the routers are known to all workers", || {
        let neighbours = running.get("/v1/neighbors").json();
        let reachable = |n: &&Value| n["port"] == "external" && n["state"] == "reachable";
        let found = neighbours["neighbors"].as_array().unwrap().iter().filter(reachable).count();
        found == 2 * running.gateway.workers.len()
    });
}

/// Drops by reason.
fn drops(running: &Running) -> BTreeMap<&'static str, u64> {
    let count = |reason: &DropReason| -> u64 {
        let of =
            |side| running.gateway.workers.iter().map(move |w| w.counters.drops(side, *reason));
        Side::ALL.into_iter().flat_map(of).sum()
    };
    let all = DropReason::ALL.iter().map(|reason| (reason.label(), count(reason)));
    all.filter(|(_, count)| *count > 0).collect()
}

/// Whatever a packet could leave behind, in the API's own words, without what time changes.
fn state(running: &Running) -> (String, BTreeMap<&'static str, u64>, Vec<[u64; 8]>) {
    let mut sessions = running.get("/v1/sessions?limit=100").json();
    for session in sessions["sessions"].as_array_mut().unwrap() {
        session["ageSeconds"].take();
    }
    let counts = running.gateway.workers.iter().map(|worker| {
        let c = &worker.counters;
        [
            &c.in2out_packets,
            &c.sessions,
            &c.sessions_created,
            &c.sessions_expired,
            &c.sessions_cut,
            &c.l4_ports_lent,
            &c.l4_ports_borrowed,
            &c.l4_port_loans,
        ]
        .map(gateway::datapath::counters::Counter::get)
    });
    // Idle seconds may grow by one between two looks; what they are since may not move.
    let mut text = String::new();
    for session in sessions["sessions"].as_array().unwrap() {
        let mut session = session.clone();
        session["idleSeconds"].take();
        text += &session.to_string();
    }
    (text, drops(running), counts.collect())
}

/// What left for the world: not what the gateway says for itself.
fn packets_out<F: Family>(running: &Running) -> Vec<SeenOf<F>> {
    let ours = |frame: &Vec<u8>| {
        frame[12..14] == F::ETHERTYPE.to_be_bytes() && NdSeen::of(frame).is_none()
    };
    let sent = running.take_sent(Side::External);
    sent.iter().filter(|frame| ours(frame)).map(|frame| SeenOf::of(frame)).collect()
}

/// Asks, then sends it. Returns the trace, when the packet did what that had said.
fn prove<F: Family>(running: &Running, packet: &Packet<F>) -> Value {
    packets_out::<F>(running);
    let before = state(running);
    let trace = packet.trace(running);
    assert_eq!(state(running), before, "a trace changes nothing: {trace:#}");
    let vni = trace["packet"]["policyID"].as_u64().unwrap() as u32;
    running.receive(Side::Tunnel, packet.frame(vni));
    let mut out = Vec::new();
    let done = std::cell::RefCell::new(&mut out);
    wait_until("the packet comes to its end", || {
        done.borrow_mut().extend(packets_out::<F>(running));
        !done.borrow().is_empty() || drops(running) != before.1
    });
    let mut more = drops(running);
    for (reason, count) in &before.1 {
        *more.get_mut(reason).unwrap() -= count;
    }
    more.retain(|_, count| *count > 0);
    if trace["verdict"] == "dropped" {
        let reason = trace["reason"].as_str().unwrap();
        let label = more.keys().next().copied();
        assert_eq!((more.len(), label), (1, Some(reason)), "{trace:#}\n{more:?}");
        assert_eq!((out.len(), &trace["egressIP"]), (0, &Value::Null), "{trace:#}");
        let last = trace["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["outcome"], &last["reason"]), (&"drop".into(), &trace["reason"]));
    } else {
        assert_eq!((more.len(), out.len()), (0, 1), "{trace:#}\n{more:?}");
        let source: IpAddr = out[0].source.into();
        assert_eq!(trace["egressIP"], source.to_string(), "{trace:#}");
        if let Some(external) = trace["external"].as_str() {
            assert_eq!(external, std::net::SocketAddr::new(source, out[0].sport).to_string());
        }
    }
    trace
}

/// What the table below expects: the reason, or `session` for a packet of one that there is, or `opens`.
fn proves<F: Family>(running: &Running, packet: Packet<F>, expected: &str) {
    let trace = prove(running, &packet);
    let found = match (trace["verdict"].as_str(), trace["external"].is_string()) {
        (Some("dropped"), _) => trace["reason"].as_str().unwrap(),
        (_, true) => "session",
        (_, false) => "opens",
    };
    assert_eq!(found, expected, "{trace:#}");
}

macro_rules! both_families {
    ($($test:ident)*) => {$(
        mod $test {
            #[test]
            fn v4() {
                super::$test::<std::net::Ipv4Addr>();
            }

            #[test]
            fn v6() {
                super::$test::<std::net::Ipv6Addr>();
            }
        }
    )*};
}

both_families! {
    packets_do_what_is_foretold
    a_full_session_table
    without_a_way_out
    a_next_hop_that_stays_silent
    l4_ports_that_run_out
}

fn packets_do_what_is_foretold<F: Family>() {
    let running = gateway(DUAL_CONFIG, 1, 1000);
    let is_v4 = F::HEADER == 20;
    let other_family = if is_v4 { "only-v6" } else { "only-v4" };
    let cases: Vec<(Packet<F>, &str)> = vec![
        (usual(L4::Udp(1000, 53)), "opens"),
        (usual(L4::Udp(1000, 53)), "session"),
        (usual(L4::Syn(1000, 443)), "opens"),
        (usual(L4::Ack(1000, 443)), "session"),
        (usual(L4::Syn(1000, 443)), "session"),
        (usual(L4::Echo(77)), "opens"),
        (usual(L4::Echo(77)), "session"),
        (Packet { from: F::pod(99), ..usual(L4::Udp(1000, 53)) }, "opens"),
        (Packet { policy: "reports", from: F::pod(98), ..usual(L4::Udp(1, 53)) }, "opens"),
        // The source
        (Packet { from: F::POD_C, ..usual(L4::Udp(2000, 53)) }, "spoofed_source"),
        (Packet { node: Ipv4Addr::NODE2, ..usual(L4::Udp(2000, 53)) }, "unknown_node"),
        (Packet { node: Ipv4Addr::NODE2, ..usual(L4::Udp(1000, 53)) }, "unknown_node"),
        // The policy
        (Packet { policy: "nobody", ..usual(L4::Udp(2000, 53)) }, "unknown_policy"),
        (Packet { policy: "elsewhere", ..usual(L4::Udp(2000, 53)) }, "unknown_policy"),
        (Packet { policy: "nobody", ..usual(L4::Udp(1000, 53)) }, "unknown_policy"),
        (Packet { policy: other_family, ..usual(L4::Udp(2000, 53)) }, "no_egress_ip"),
        (Packet { policy: other_family, ..usual(L4::Ack(2000, 53)) }, "no_egress_ip"),
        // The destination
        (Packet { to: F::EGRESS, ..usual(L4::Udp(2000, 53)) }, "hairpin"),
        (Packet { to: F::EXTERNAL, ..usual(L4::Udp(2000, 53)) }, "destination_invalid"),
        (Packet { to: F::GROUP, ..usual(L4::Udp(2000, 53)) }, "destination_invalid"),
        // The flow
        (usual(L4::Ack(2000, 443)), "tcp_no_session"),
        (usual(L4::Syn(2000, 0)), "l4_malformed"),
        (usual(L4::Udp(0, 53)), "opens"),
        // Other policies' packets of a session
        (Packet { policy: "twin", ..usual(L4::Udp(1000, 53)) }, "session"),
        (Packet { policy: "twin", ..usual(L4::Ack(1000, 443)) }, "session"),
        (Packet { policy: "reports", ..usual(L4::Udp(1000, 53)) }, "opens"),
        (Packet { policy: "reports", ..usual(L4::Ack(1000, 443)) }, "session_cut"),
        (Packet { policy: "reports", ..usual(L4::Ack(1000, 443)) }, "tcp_no_session"),
        (Packet { policy: other_family, ..usual(L4::Echo(77)) }, "no_egress_ip"),
        (usual(L4::Echo(77)), "opens"),
    ];
    for (packet, expected) in cases {
        proves(&running, packet, expected);
    }
    // After a reload the same sessions are judged anew.
    proves::<F>(&running, usual(L4::Udp(3000, 53)), "opens");
    let moved = ["203.0.113.16", "203.0.113.17", "203.0.113.18"].into_iter().zip(25..);
    let moved =
        moved.fold(documents(), |text, (ip, n)| text.replace(ip, &format!("203.0.113.{n}")));
    let moved = moved.replace("113::1", "113::5");
    assert_eq!(running.put(&moved).status, 200);
    proves::<F>(&running, usual(L4::Udp(3000, 53)), "opens");
    proves::<F>(&running, usual(L4::Udp(3000, 53)), "session");
}

fn a_full_session_table<F: Family>() {
    let running = gateway(DUAL_CONFIG, 1, 8);
    for sport in 1..=8 {
        proves::<F>(&running, usual(L4::Udp(sport, 53)), "opens");
    }
    proves::<F>(&running, usual(L4::Udp(9, 53)), "sessions_full");
    proves::<F>(&running, usual(L4::Udp(8, 53)), "session");
    // The session that ends makes room.
    proves::<F>(&running, Packet { policy: "reports", ..usual(L4::Udp(8, 53)) }, "opens");
    proves::<F>(&running, usual(L4::Ack(9, 53)), "tcp_no_session");
}

fn without_a_way_out<F: Family>() {
    let config = DUAL_CONFIG.replace("gateways = [\"203.0.113.1\", \"2001:db8:113::1\"]", "");
    let running = gateway(&config, 1, 1000);
    proves::<F>(&running, usual(L4::Udp(1000, 53)), "no_next_hop");
    // The session is open all the same.
    proves::<F>(&running, usual(L4::Udp(1000, 53)), "no_next_hop");
    // Who is on-link needs no router.
    proves::<F>(&running, Packet { to: F::ROUTER, ..usual(L4::Udp(1000, 53)) }, "opens");
}

/// Its queue takes 16 packets.
fn a_next_hop_that_stays_silent<F: Family>() {
    let running = Running::with_workers(DUAL_CONFIG, 1, 1000);
    assert_eq!(running.put(&documents()).status, 200);
    let waits = |sport| {
        let trace = usual::<F>(L4::Udp(sport, 53)).trace(&running);
        assert_eq!(trace["verdict"], "forwarded", "{trace:#}");
        let steps = trace["steps"].as_array().unwrap();
        let next_hop = steps.iter().find(|step| step["step"] == "nextHop").unwrap();
        assert_eq!(next_hop["outcome"], "note", "{trace:#}");
    };
    waits(1);
    for sport in 1..=16 {
        running.receive(Side::Tunnel, usual::<F>(L4::Udp(sport, 53)).frame(FIRST));
    }
    wait_until("all wait", || running.counters().sessions.get() == 16);
    proves::<F>(&running, usual(L4::Udp(17, 53)), "neighbour_queue_full");
}

/// Of two workers the one that has more flows borrows, until neither has an l4_port left.
fn l4_ports_that_run_out<F: Family>() {
    const ALL: u64 = 64_512;
    let running = gateway(DUAL_CONFIG, 2, 70_000);
    let created = || -> u64 {
        running.gateway.workers.iter().map(|worker| worker.counters.sessions_created.get()).sum()
    };
    let loans = || -> u64 {
        running.gateway.workers.iter().map(|worker| worker.counters.l4_port_loans.get()).sum()
    };
    let flow = |n: u64| Packet {
        policy: "reports",
        from: F::pod((n / 60_000) as u8 + 1),
        ..usual(L4::Udp((n % 60_000) as u16 + 1, 53))
    };
    let open = |from: u64, to: u64| {
        for first in (from..to).step_by(256) {
            let end = to.min(first + 256);
            for n in first..end {
                running.receive(Side::Tunnel, flow(n).frame(FIRST + 2));
            }
            wait_until("sessions are open", || created() == end);
        }
    };
    let mut next = ALL - 32;
    open(0, next);
    // Until one is of the worker that has nothing left: they never have equally many flows.
    loop {
        let before = loans();
        let trace = prove(&running, &flow(next));
        let steps = trace["steps"].as_array().unwrap();
        let l4_port = steps.iter().find(|step| step["step"] == "l4Port").unwrap();
        let lends = l4_port["detail"].as_str().unwrap().contains("lends one");
        assert_eq!(loans() > before, lends, "{trace:#}");
        next += 1;
        if lends {
            break;
        }
    }
    open(next, ALL);
    for n in ALL..ALL + 4 {
        proves(&running, flow(n), "l4_ports_exhausted");
    }
    proves(&running, flow(0), "session");
    let elsewhere = Packet { to: F::remote(11), ..flow(ALL) };
    proves(&running, elsewhere, "opens");
}

#[test]
fn what_is_not_given_is_assumed_and_told() {
    let running = gateway(DUAL_CONFIG, 1, 1000);
    let trace = |query: &str| running.get(&format!("/v1/trace?{query}")).json();
    let usual = "src=10.244.1.10&dst=198.51.100.10&policy=payments";
    let answer = trace(usual);
    let packet = &answer["packet"];
    assert_eq!((&packet["protocol"], &packet["flags"]), (&"TCP".into(), &"SYN".into()));
    assert_eq!(packet["internal"], "10.244.1.10:40000");
    assert_eq!(packet["remote"], "198.51.100.10:443");
    assert_eq!(packet["assumed"], serde_json::json!(["sport", "dport"]));
    assert_eq!((&packet["node"], &answer["verdict"]), (&"node1".into(), &"forwarded".into()));
    assert_eq!(trace(&format!("{usual}&protocol=udp"))["packet"]["remote"], "198.51.100.10:53");
    let icmp = &trace(&format!("{usual}&protocol=icmp&sport=7"))["packet"];
    assert_eq!(
        (&icmp["remote"], &icmp["internal"]),
        (&"198.51.100.10".into(), &"10.244.1.10:7".into())
    );
    // A policy by its id, a node by its name.
    let by_id = "src=10.244.1.10&dst=198.51.100.10&policy=100&node=node1";
    assert_eq!(trace(by_id)["verdict"], "forwarded");
    // No node could have sent it.
    for (source, reason) in [("10.9.9.9", "spoofed_source"), ("10.244.1.10", "unknown_node")] {
        let node = if reason == "unknown_node" { "&node=node7" } else { "" };
        let query = format!("src={source}&dst=198.51.100.10&policy=payments{node}");
        assert_eq!(trace(&query)["reason"], reason);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let running = gateway(DUAL_CONFIG, 1, 1000);
    let usual = "src=10.244.1.10&dst=198.51.100.10&policy=payments";
    for (query, says) in [
        ("dst=198.51.100.10&policy=payments", "src is missing"),
        ("src=10.244.1.10&policy=payments", "dst is missing"),
        ("src=10.244.1.10&dst=198.51.100.10", "policy is missing"),
        ("src=pod-a&dst=198.51.100.10&policy=payments", "an IP address is wanted"),
        ("src=10.244.1.10&dst=2001:db8::1&policy=payments", "two address families"),
        (&format!("{usual}&protocol=sctp"), "TCP, UDP or ICMP"),
        (&format!("{usual}&sport=65536"), "from 0 to 65535"),
        (&format!("{usual}&protocol=icmp&dport=1"), "ICMP has no dport"),
        (&format!("{usual}&protocol=udp&midStream=true"), "for TCP alone"),
        (&format!("{usual}&prot=tcp"), "unknown query key prot"),
    ] {
        let message = running.get(&format!("/v1/trace?{query}")).error(400);
        assert!(message.contains(says), "{query}: {message}");
    }
}

#[test]
fn a_stuck_worker_is_named() {
    let running = gateway(DUAL_CONFIG, 1, 1000);
    running.stick();
    let path = "/v1/trace?src=10.244.1.10&dst=198.51.100.10&policy=payments";
    assert!(running.get(path).error(503).contains("worker 0 does not answer"));
    assert!(running.get("/v1/neighbors").error(503).contains("worker 0 does not answer"));
    running.go_on();
}
