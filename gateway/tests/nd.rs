//! Neighbor Discovery: who is answered, what is believed, what is said unasked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;

use gateway::verdict::{DropReason, Side};
use harness::*;
use std::net::Ipv6Addr;

const ROUTER: Ipv6Addr = Ipv6Addr::ROUTER;
const EGRESS: Ipv6Addr = Ipv6Addr::EGRESS;
const EXTERNAL: Ipv6Addr = Ipv6Addr::EXTERNAL;
const REMOTE: Ipv6Addr = Ipv6Addr::REMOTE;
const STRANGER: (Ipv6Addr, [u8; 6]) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x99), [2, 0, 0, 0, 9, 9]);

#[test]
fn questions_for_own_addresses_and_egress_ips_are_answered_on_the_right_side() {
    use Side::{External, Tunnel};
    for (side, target, answered) in [
        (Tunnel, Ipv6Addr::VTEP, true),
        (Tunnel, link_local(TUNNEL_MAC), true),
        (Tunnel, EGRESS, false),
        (Tunnel, EXTERNAL, false),
        (Tunnel, link_local(EXTERNAL_MAC), false),
        (External, EXTERNAL, true),
        (External, link_local(EXTERNAL_MAC), true),
        (External, EGRESS, true),
        (External, Ipv6Addr::EGRESS_2, true),
        (External, STRANGER.0, false),
        (External, Ipv6Addr::VTEP, false),
        (External, link_local(TUNNEL_MAC), false),
    ] {
        let global = if side == Tunnel { (Ipv6Addr::NODE, NODE_MAC) } else { (ROUTER, ROUTER_MAC) };
        for asker in [global, (link_local(global.1), global.1)] {
            let mut bench = Bench::both();
            let us = mac_of_port(side);
            let question = Nd::question(asker, target).frame(us, asker.1);
            let answers = bench.neighbour_says(side, &question);
            if !answered {
                assert_eq!(answers, [], "{target}");
                assert_eq!(bench.drops(), one_drop(side, DropReason::NdNotForUs), "{target}");
                continue;
            }
            // RFC 4861 section 7.2.4.
            let nd = Nd::advertisement((target, us), asker.0, SOLICITED | OVERRIDE);
            assert_eq!(answers, [NdSeen { to_mac: asker.1, from_mac: us, nd }], "{target}");
            assert_eq!((bench.drops(), bench.io.in_use()), (Default::default(), 0));
        }
    }
}

/// RFC 4861 section 7.3: a neighbour makes sure that we are still there.
#[test]
fn a_neighbour_that_asks_us_alone_is_answered() {
    for target in [EXTERNAL, EGRESS, link_local(EXTERNAL_MAC)] {
        for options in [link_option(SOURCE_LINK, ROUTER_MAC), vec![]] {
            let mut bench = Bench::both();
            let asker = (ROUTER, ROUTER_MAC);
            // The router is known: the option may be missing.
            bench.open_udp(4000, (REMOTE, 53));
            let question = Nd { destination: target, options, ..Nd::question(asker, target) };
            let answers =
                bench.neighbour_says(Side::External, &question.frame(EXTERNAL_MAC, ROUTER_MAC));
            let nd = Nd::advertisement((target, EXTERNAL_MAC), ROUTER, SOLICITED | OVERRIDE);
            assert_eq!(answers, [NdSeen { to_mac: ROUTER_MAC, from_mac: EXTERNAL_MAC, nd }]);
        }
    }
}

/// Without the option, and not known: RFC 4861 section 7.2.4 has it resolved first.
#[test]
fn a_stranger_that_leaves_its_mac_out_is_asked_for_it_and_then_answered() {
    let mut bench = Bench::both();
    let question =
        Nd { destination: EXTERNAL, options: vec![], ..Nd::question(STRANGER, EXTERNAL) };
    bench.arp = false;
    let asked = bench.neighbour_says(Side::External, &question.frame(EXTERNAL_MAC, STRANGER.1));
    assert_eq!((asked.len(), asked[0].kind, asked[0].target), (1, SOLICITATION, STRANGER.0));
    let answers = bench.neighbour_says(Side::External, &asked[0].answer(STRANGER.1));
    let nd = Nd::advertisement((EXTERNAL, EXTERNAL_MAC), STRANGER.0, SOLICITED | OVERRIDE);
    assert_eq!(answers, [NdSeen { to_mac: STRANGER.1, from_mac: EXTERNAL_MAC, nd }]);
}

/// RFC 4861 section 7.2.3: who asks us will be talked to.
#[test]
fn who_asks_is_known_from_then_on() {
    let mut bench = Bench::both();
    bench.arp = false;
    let router = (ROUTER, [2, 0, 0, 0, 7, 7]);
    bench.neighbour_says(
        Side::External,
        &Nd::question(router, EGRESS).frame(EXTERNAL_MAC, router.1),
    );
    let packet = udp((Ipv6Addr::POD, 4000), (REMOTE, 53), 64, b"x");
    let out = bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
    assert_eq!(Seen6::of(&out[0]).to_mac, router.1);
}

/// RFC 4862 section 5.4.3: all hear that the address is ours.
#[test]
fn a_host_that_is_about_to_take_our_address_is_told_and_counted() {
    for (side, target) in [
        (Side::External, EXTERNAL),
        (Side::External, EGRESS),
        (Side::External, link_local(EXTERNAL_MAC)),
        (Side::Tunnel, Ipv6Addr::VTEP),
    ] {
        let mut bench = Bench::both();
        bench.io.receive(side, &Nd::probe(target).frame([0; 6], STRANGER.1));
        bench.poll();
        let answers = std::mem::take(&mut bench.announced[side.index()]);
        let us = mac_of_port(side);
        let expected = Nd::advertisement((target, us), ALL_NODES, OVERRIDE).frame(us, us);
        assert_eq!(answers, [expected], "{target}");
        assert_eq!(bench.counters.address_conflicts.get(), 1);
        assert_eq!(bench.drops(), Default::default());
    }
}

#[test]
fn claims_of_our_addresses_are_counted_and_not_believed() {
    let thief = [2, 0, 0, 0, 6, 6];
    let claims: [(&str, Nd); 4] = [
        ("own", Nd::advertisement((EXTERNAL, thief), ALL_NODES, OVERRIDE)),
        ("egress IP", Nd::advertisement((EGRESS, thief), ALL_NODES, OVERRIDE)),
        ("answer to our probe", Nd::advertisement((EGRESS, thief), EXTERNAL, OVERRIDE | SOLICITED)),
        ("asks with our address", Nd::question((EGRESS, thief), ROUTER)),
    ];
    for (description, claim) in claims {
        let mut bench = Bench::both();
        assert_eq!(bench.neighbour_says(Side::External, &claim.frame(EXTERNAL_MAC, thief)), []);
        assert_eq!(bench.counters.address_conflicts.get(), 1, "{description}");
        assert_eq!(
            bench.drops(),
            one_drop(Side::External, DropReason::NdNotForUs),
            "{description}"
        );
        let question = Nd::question((ROUTER, ROUTER_MAC), EGRESS).frame(EXTERNAL_MAC, ROUTER_MAC);
        assert_eq!(bench.neighbour_says(Side::External, &question).len(), 1, "still answered for");
    }
}

#[test]
fn next_hops_are_resolved_and_the_first_packets_leave_in_order() {
    let on_link = STRANGER.0;
    for (remote, asked_for, source) in [(REMOTE, ROUTER, EXTERNAL), (on_link, on_link, EXTERNAL)] {
        let mut bench = Bench::with(Setup { arp: false, ..Setup::both() });
        bench.take(Side::External);
        for payload in 0..16 {
            let packet = udp((Ipv6Addr::POD, 4000), (remote, 53), 64, &[payload]);
            bench.io.receive(Side::Tunnel, &tunnelled(NODE, POLICY, &packet));
        }
        bench.poll();
        let asked: Vec<_> = bench.take(Side::External);
        let question = Nd::question((source, EXTERNAL_MAC), asked_for);
        assert_eq!(asked, [question.frame([0; 6], EXTERNAL_MAC)], "one question, to the group");
        let mac = [2, 0, 0, 0, 7, 7];
        let answer = NdSeen::of(&asked[0]).unwrap().answer(mac);
        bench.io.receive(Side::External, &answer);
        bench.poll();
        let out: Vec<_> = bench.take(Side::External).iter().map(|f| Seen6::of(f)).collect();
        assert!(out.iter().all(|seen| seen.to_mac == mac && seen.source == EGRESS));
        let payloads: Vec<_> = out.iter().map(|seen| seen.payload[0]).collect();
        assert_eq!(payloads, (0..16).collect::<Vec<_>>());
        assert_eq!(bench.drops(), Default::default());
    }
}

/// The router of a real network is often known by its link-local address alone.
#[test]
fn a_link_local_router_is_asked_from_our_link_local_address() {
    let router = link_local(ROUTER_MAC);
    let external_gateways = vec![router.into()];
    let mut bench = Bench::with(Setup { arp: false, external_gateways, ..Setup::both() });
    bench.take(Side::External);
    let packet = udp((Ipv6Addr::POD, 4000), (REMOTE, 53), 64, b"x");
    let asked = bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
    let question = Nd::question((link_local(EXTERNAL_MAC), EXTERNAL_MAC), router);
    assert_eq!(asked, [question.frame([0; 6], EXTERNAL_MAC)]);
    let answer = NdSeen::of(&asked[0]).unwrap().answer(ROUTER_MAC);
    bench.io.receive(Side::External, &answer);
    bench.poll();
    assert_eq!(Seen6::of(&bench.take(Side::External)[0]).to_mac, ROUTER_MAC);
}

/// An old answer is used while it is asked for again: twice by unicast, then by multicast.
#[test]
fn a_known_neighbour_is_asked_again_and_given_up_when_it_is_silent() {
    let mut bench = Bench::both();
    bench.open_udp(4000, (REMOTE, 53));
    bench.arp = false;
    bench.advance(31_000);
    bench.open_udp_again();
    let mut asked = Vec::new();
    for _ in 0..5 {
        bench.advance(1000);
        asked.extend(bench.take(Side::External).iter().filter_map(|frame| NdSeen::of(frame)));
    }
    let to: Vec<_> = asked.iter().map(|nd| (nd.to_mac, nd.destination)).collect();
    let (one, group) = ((ROUTER_MAC, ROUTER), (mac_of(group_of(ROUTER)), group_of(ROUTER)));
    assert_eq!(to, [one, group], "the first was taken by the question itself");
    assert!(asked.iter().all(|nd| nd.hop_limit == 255 && nd.source == EXTERNAL));
}

trait Again {
    fn open_udp_again(&mut self);
}

impl Again for Bench {
    /// One more packet of the session, by the old MAC; and the first question.
    fn open_udp_again(&mut self) {
        let packet = udp((Ipv6Addr::POD, 4000), (REMOTE, 53), 64, b"x");
        let out = self.pod_sends(&tunnelled(NODE, POLICY, &packet));
        let (packets, questions): (Vec<_>, Vec<_>) =
            out.iter().partition(|frame| NdSeen::of(frame).is_none());
        assert_eq!(Seen6::of(packets[0]).to_mac, ROUTER_MAC);
        let question = NdSeen::of(questions[0]).unwrap();
        assert_eq!((question.to_mac, question.destination), (ROUTER_MAC, ROUTER));
    }
}

/// RFC 4861 section 7.2.5, case by case; the router is known by `ROUTER_MAC` before.
#[test]
fn what_an_advertisement_changes() {
    let other = [2, 0, 0, 0, 8, 8];
    let says = |mac, to, flags| Nd::advertisement((ROUTER, mac), to, flags);
    let bare = Nd { options: vec![], ..says(other, EXTERNAL, SOLICITED | OVERRIDE) };
    for (description, nd, mac_after) in [
        ("answer with override", says(other, EXTERNAL, SOLICITED | OVERRIDE), other),
        ("unasked with override: it moved", says(other, ALL_NODES, OVERRIDE), other),
        ("answer without override: a proxy", says(other, EXTERNAL, SOLICITED), ROUTER_MAC),
        ("unasked without override", says(other, ALL_NODES, 0), ROUTER_MAC),
        ("without a MAC", bare, ROUTER_MAC),
    ] {
        let mut bench = Bench::both();
        bench.open_udp(4000, (REMOTE, 53));
        bench.neighbour_says(Side::External, &nd.frame(EXTERNAL_MAC, other));
        let packet = udp((Ipv6Addr::POD, 4000), (REMOTE, 53), 64, b"x");
        let out = bench.pod_sends(&tunnelled(NODE, POLICY, &packet));
        assert_eq!(Seen6::of(&out[0]).to_mac, mac_after, "{description}");
        assert_eq!(bench.drops(), Default::default(), "{description}");
    }
}

/// What may not replace the MAC must not confirm it either: else a proxy would keep alive the MAC of a
/// neighbour that is gone.
#[test]
fn a_proxy_does_not_confirm_a_neighbour() {
    let mut bench = Bench::both();
    bench.open_udp(4000, (REMOTE, 53));
    bench.arp = false;
    bench.advance(31_000);
    bench.open_udp_again();
    let proxy = [2, 0, 0, 0, 8, 8];
    let nd = Nd::advertisement((ROUTER, proxy), EXTERNAL, SOLICITED);
    bench.io.receive(Side::External, &nd.frame(EXTERNAL_MAC, proxy));
    bench.poll();
    bench.advance(1000);
    let asked = bench.take(Side::External);
    assert_eq!(asked.len(), 1, "the question is still open");
    assert_eq!(NdSeen::of(&asked[0]).unwrap().target, ROUTER);
}

#[test]
fn strangers_are_not_noted() {
    for nd in [
        Nd::advertisement(STRANGER, ALL_NODES, OVERRIDE),
        Nd::advertisement(STRANGER, EXTERNAL, SOLICITED | OVERRIDE),
        Nd::question(STRANGER, ROUTER),
    ] {
        let mut bench = Bench::both();
        let known = bench.counters.neighbours.get();
        assert_eq!(bench.neighbour_says(Side::External, &nd.frame(EXTERNAL_MAC, STRANGER.1)), []);
        assert_eq!(bench.counters.neighbours.get(), known, "{nd:?}");
        assert_eq!(bench.drops(), one_drop(Side::External, DropReason::NdNotForUs), "{nd:?}");
    }
}

#[test]
fn a_port_without_ipv6_says_and_answers_nothing() {
    let mut bench = Bench::with(Setup::default());
    let us = link_local(EXTERNAL_MAC);
    let question = Nd::question((ROUTER, ROUTER_MAC), us).frame(EXTERNAL_MAC, ROUTER_MAC);
    assert_eq!(bench.neighbour_says(Side::External, &question), []);
    assert_eq!(bench.drops(), one_drop(Side::External, DropReason::NdNotForUs));
    bench.publish(usual_policies(2));
    (0..10).for_each(|_| bench.advance(1000));
    assert!(bench.announced.iter().flatten().all(|frame| NdSeen::of(frame).is_none()));
}

/// One question whether somebody else has the address, a second later the first of two announcements.
#[test]
fn addresses_are_announced_after_a_question_for_duplicates() {
    let mut bench = Bench::both();
    let wanted: Ipv6Addr = "2001:db8:113::1f".parse().unwrap();
    bench.publish(policies_of(2, &[(POLICY, &[wanted], &[])]));
    let mut said: [Vec<(u64, NdSeen)>; 2] = Default::default();
    for tenth in 0..200u64 {
        bench.advance(if tenth == 0 { 0 } else { 100 });
        for (all, new) in said.iter_mut().zip(std::mem::take(&mut bench.announced)) {
            all.extend(new.iter().filter_map(|frame| Some((tenth, NdSeen::of(frame)?))));
        }
    }
    for (side, addresses) in [
        (Side::Tunnel, vec![Ipv6Addr::VTEP, link_local(TUNNEL_MAC)]),
        (Side::External, vec![EXTERNAL, link_local(EXTERNAL_MAC), wanted]),
    ] {
        let (us, said) = (mac_of_port(side), &said[side.index()]);
        for address in &addresses {
            let probe = Nd::probe(*address).frame([0; 6], us);
            let claim = Nd::advertisement((*address, us), ALL_NODES, OVERRIDE).frame([0; 6], us);
            let [probe, claim] = [probe, claim].map(|frame| NdSeen::of(&frame).unwrap());
            let about = said.iter().filter(|(_, nd)| nd.target == *address);
            let (times, messages): (Vec<_>, Vec<_>) = about.cloned().unzip();
            assert_eq!(messages, [probe, claim.clone(), claim], "{address}");
            assert!(times[1] - times[0] >= 10, "RFC 4862 section 5.1: a second's patience");
        }
        assert_eq!(said.len(), 3 * addresses.len(), "and of nothing else: {said:?}");
    }
    assert_eq!(bench.drops(), Default::default(), "the guard lets all of it out");
}
