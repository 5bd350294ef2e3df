//! Reloads and IPv6: sessions of both families side by side, and nodes whose tunnel addresses are known
//! by numbers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::{
    datapath::request::{Request, SessionFilter},
    nat::{PolicyTable, SessionRecord, VtepNumbers},
    verdict::DropReason,
};
use harness::*;
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

type Pools<'a> = &'a [(u32, &'a [IpAddr], &'a [IpAddr])];

fn numbers(bench: &Bench) -> VtepNumbers {
    bench.policies.load().vtep_numbers().clone()
}

/// As the control side does: the numbers of the table before are carried on.
fn table(bench: &Bench, generation: u64, pools: Pools<'_>) -> PolicyTable {
    policies_after(generation, pools, &usual_nodes(), numbers(bench))
}

/// Source of one more datagram of the lab's pod, where it leaves.
fn source_of<F: Family, U: Family>(bench: &mut Bench, vni: u32) -> Option<(F, u16)> {
    let packet = udp((F::POD, 4000), (F::REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled_over(U::NODE, vni, &packet));
    out.first().map(|frame| SeenOf::<F>::of(frame)).map(|seen| (seen.source, seen.sport))
}

fn answer<F: Family>(to: (F, u16)) -> Vec<u8> {
    from_router(&udp((F::REMOTE, 53), to, 64, b"y"))
}

fn a_flow_lives_on<F: Family, U: Family>() {
    let mut bench = Bench::with(Setup::both());
    let before = source_of::<F, U>(&mut bench, POLICY).unwrap();
    let (egress, other): (IpAddr, IpAddr) = (F::EGRESS.into(), F::EGRESS_2.into());
    let lists: [(&str, Pools<'_>); 3] = [
        ("the same again", &[(POLICY, &[egress], &[])]),
        ("another address beside it", &[(POLICY, &[egress, other], &[])]),
        ("it drains", &[(POLICY, &[other], &[egress])]),
    ];
    for (generation, (description, pools)) in (2..).zip(lists) {
        bench.publish(table(&bench, generation, pools));
        let back = bench.world_sends(&answer(before));
        assert_eq!(SeenOf::<F>::in_tunnel(&back[0], U::NODE).0.dport, 4000, "{description}");
        assert_eq!(source_of::<F, U>(&mut bench, POLICY), Some(before), "{description}");
    }
    let new_flow = udp((F::POD, 5000), (F::REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled_over(U::NODE, POLICY, &new_flow));
    assert_eq!(SeenOf::<F>::of(&out[0]).source, F::EGRESS_2, "a draining address takes no flow");

    // Under another policy: rebound where that has the egress IP, else begun anew.
    bench.publish(table(&bench, 5, &[(POLICY, &[egress], &[]), (POLICY_2, &[other], &[egress])]));
    assert_eq!(source_of::<F, U>(&mut bench, POLICY_2), Some(before));
    let back = bench.world_sends(&answer(before));
    assert_eq!(SeenOf::<F>::in_tunnel(&back[0], U::NODE).1, POLICY_2, "answers bear the new VNI");
    bench.publish(table(&bench, 6, &[(POLICY, &[egress], &[]), (POLICY_2, &[other], &[])]));
    assert_eq!(source_of::<F, U>(&mut bench, POLICY_2).unwrap().0, F::EGRESS_2);
}

#[test]
fn a_flow_keeps_its_translation_through_every_reload_that_allows_it() {
    a_flow_lives_on::<Ipv4Addr, Ipv6Addr>();
    a_flow_lives_on::<Ipv6Addr, Ipv4Addr>();
    a_flow_lives_on::<Ipv6Addr, Ipv6Addr>();
}

/// The egress IP of one family is taken away: its sessions end, the other's live on.
#[test]
fn a_reload_cuts_one_family_and_leaves_the_other() {
    let mut bench = Bench::with(Setup::both());
    let v4 = source_of::<Ipv4Addr, Ipv4Addr>(&mut bench, POLICY).unwrap();
    let v6 = source_of::<Ipv6Addr, Ipv4Addr>(&mut bench, POLICY).unwrap();
    for sport in 1..=500 {
        bench.open_udp(sport, (Ipv6Addr::REMOTE, 80));
    }
    bench.publish(table(&bench, 2, &[(POLICY, &[EGRESS.into(), Ipv6Addr::EGRESS_2.into()], &[])]));
    assert_eq!(bench.world_sends(&answer(v6)).len(), 0, "stops at once");
    assert_eq!(bench.world_sends(&answer(v4)).len(), 1);
    (0..10).for_each(|_| bench.poll());
    assert_eq!((bench.sessions(), bench.counters.sessions_cut.get()), (1, 501), "silent ones too");
    bench.worker.nat().check_invariants();
    assert_eq!(source_of::<Ipv4Addr, Ipv4Addr>(&mut bench, POLICY), Some(v4));
    let anew = source_of::<Ipv6Addr, Ipv4Addr>(&mut bench, POLICY).unwrap();
    assert_eq!(anew.0, Ipv6Addr::EGRESS_2);
}

/// Node n of the underlay, and its pods.
fn node(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, n)
}

/// Opens a flow of node n; the VTEP's number is the session's memory of the node.
fn open(bench: &mut Bench, n: u16) -> u16 {
    let packet = udp((Ipv6Addr::POD, n), (Ipv6Addr::REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled_over(node(n), POLICY, &packet));
    assert_eq!(out.len(), 1, "{:?}", bench.drops());
    Seen6::of(&out[0]).sport
}

/// Nodes come and go; whatever number each has, an answer finds the node that its session came from.
#[test]
fn answers_find_their_node_however_nodes_come_and_go() {
    const CIDRS: &[&str] = &["fd00:244::/32"];
    let publish = |bench: &mut Bench, generation, nodes: &[u16]| {
        let nodes: Nodes = nodes.iter().map(|n| (node(*n).into(), CIDRS)).collect();
        let pools: Pools<'_> = &[(POLICY, &[Ipv6Addr::EGRESS.into()], &[])];
        let numbers = numbers(bench);
        bench.publish(policies_after(generation, pools, &nodes, numbers));
    };
    let mut bench = Bench::with(Setup::both());
    publish(&mut bench, 2, &[101, 102, 103]);
    let mut flows: Vec<(u16, u16)> = [101, 102, 103].map(|n| (n, open(&mut bench, n))).into();
    let sets: [(&[u16], &[u16]); 4] = [
        (&[103, 101, 104, 105], &[104, 105]),
        (&[105, 90, 91, 92, 93], &[90, 93]),
        (&[93, 105, 102, 101], &[101, 102]),
        (&[101, 105, 93, 102, 106, 107, 108, 109], &[109, 106]),
    ];
    for (generation, (nodes, new)) in (3..).zip(sets) {
        publish(&mut bench, generation, nodes);
        (0..4).for_each(|_| bench.poll());
        flows.extend(new.iter().map(|n| (*n, open(&mut bench, *n))));
        flows.retain(|(n, l4_port)| {
            let back = bench.world_sends(&answer((Ipv6Addr::EGRESS, *l4_port)));
            if !nodes.contains(n) {
                assert_eq!(back.len(), 0, "node {n} is gone, generation {generation}");
                return false;
            }
            let (inner, _) = Seen6::in_tunnel(&back[0], node(*n));
            assert_eq!(inner.dport, *n, "generation {generation}");
            true
        });
        assert_eq!(bench.sessions() as usize, flows.len());
        // A node that is gone may not send, though it still has its number.
        for gone in [101u16, 102, 103, 104].iter().filter(|n| !nodes.contains(n)) {
            let packet = udp((Ipv6Addr::POD, 9), (Ipv6Addr::REMOTE, 9), 64, b"x");
            let before = bench.dropped(DropReason::UnknownNode);
            assert!(bench.pod_sends(&tunnelled_over(node(*gone), POLICY, &packet)).is_empty());
            assert_eq!(bench.dropped(DropReason::UnknownNode), before + 1);
        }
    }
    assert!(flows.len() >= 5, "{flows:?}");
}

/// A pod that moved to a node of the other underlay: answers follow its last valid packet.
#[test]
fn answers_follow_the_pod_over_the_other_underlay() {
    let mut bench = Bench::with(Setup::both());
    let l4_port = bench.open_udp_by(NODE, 4000, (Ipv6Addr::REMOTE, 53));
    let answer = answer((Ipv6Addr::EGRESS, l4_port));
    Seen6::in_tunnel(&bench.world_sends(&answer)[0], NODE);
    let packet = udp((Ipv6Addr::POD, 4000), (Ipv6Addr::REMOTE, 53), 64, b"x");
    assert!(bench.pod_sends(&tunnelled_over(Ipv6Addr::NODE2, POLICY, &packet)).is_empty());
    Seen6::in_tunnel(&bench.world_sends(&answer)[0], NODE);
    assert_eq!(bench.pod_sends(&tunnelled_over(Ipv6Addr::NODE, POLICY, &packet)).len(), 1);
    Seen6::in_tunnel(&bench.world_sends(&answer)[0], Ipv6Addr::NODE);
    assert_eq!(bench.sessions(), 1);
}

fn ask(bench: &mut Bench, request: Request) {
    bench.requests.send(request).unwrap();
    (0..20).for_each(|_| bench.poll());
}

fn pages(bench: &mut Bench, filter: SessionFilter, limit: usize) -> Vec<SessionRecord> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(first) = from {
        let (reply, page) = crossbeam_channel::bounded(1);
        let list = Request::List { filter, from: first, limit, page: Vec::new(), reply };
        ask(bench, list);
        let page = page.try_recv().unwrap();
        assert!(page.sessions.len() <= limit);
        all.extend(page.sessions);
        from = page.next;
    }
    all
}

#[test]
fn sessions_of_both_families_are_listed_counted_and_flushed() {
    let mut bench = Bench::with(Setup::both());
    for sport in 1..=150 {
        bench.open_udp(sport, (REMOTE, 53));
        bench.open_udp(sport, (Ipv6Addr::REMOTE, 53));
    }
    for limit in [1, 7, 150, 151, 300, 301] {
        let all = pages(&mut bench, SessionFilter::default(), limit);
        let distinct: HashSet<_> = all.iter().map(|session| session.internal).collect();
        assert_eq!((all.len(), distinct.len()), (300, 300), "{limit} a page");
    }
    let only = |source: IpAddr| SessionFilter { source: Some(source), ..Default::default() };
    let v6 = pages(&mut bench, only(Ipv6Addr::POD.into()), 64);
    assert_eq!(v6.len(), 150);
    assert!(v6.iter().all(|s| s.external.address == Ipv6Addr::EGRESS && s.in2out.bytes == 53));

    let (reply, counted) = crossbeam_channel::bounded(1);
    let policies = Arc::new(table(&bench, 2, &[(POLICY, &[Ipv6Addr::EGRESS.into()], &[])]));
    ask(&mut bench, Request::Assess { policies, reply });
    assert_eq!(counted.try_recv(), Ok((150, 150)));

    for (filter, flushed) in [
        (only(Ipv6Addr::POD_C.into()), 0),
        (only(Ipv6Addr::POD.into()), 150),
        (SessionFilter::default(), 150),
    ] {
        let (reply, answer) = crossbeam_channel::bounded(1);
        ask(&mut bench, Request::Flush { filter, reply });
        assert_eq!(answer.try_recv(), Ok(flushed));
        bench.worker.nat().check_invariants();
    }
    assert_eq!((bench.sessions(), bench.counters.sessions_flushed.get()), (0, 300));
}
