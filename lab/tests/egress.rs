//! The way of a pod's traffic through redirector, tunnel and gateway to the world, and back.

mod common;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use common::{
    CRAWLER_IP, Conversation, PAYMENTS_IP, apply_at_nodes, both_policies, crawler, open_all,
    payments, product, product_at, require_right, transfer,
};
use lab::echo::seen::Protocol;
use lab::family::Family;
use lab::oracle::Class;
use lab::probe::{self, TIMEOUT};
use lab::site::Site;
use lab::stack::Lab;
use lab::topology::{
    GATEWAY_EXTERNAL, GATEWAY_TUNNEL, POD_A, POD_B, POD_C, POD_D, Pod, WORLD, WORLD_EXCLUDED,
};
use lab::traffic::{Expected, Traffic};

/// TCP, UDP and ICMP of two policies on two nodes, of a pod without policy, and to a destination that one policy excludes.
fn the_whole_scenario(hook: &str) -> Result<()> {
    let lab = product_at(Site::default(), hook, &both_policies())?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_D, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    open_all(&lab, &mut traffic, POD_C, WORLD_EXCLUDED, crawler())?;
    open_all(&lab, &mut traffic, POD_A, WORLD_EXCLUDED, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_B, WORLD, Expected::Node)?;
    require_right(&lab, &traffic)?;
    let report = lab.report()?;
    for family in Family::BOTH {
        for address in [PAYMENTS_IP, CRAWLER_IP] {
            assert!(report.egress_ip(address.of(family)) > 0, "{report}");
        }
    }
    Ok(())
}

#[test]
fn pods_leave_as_the_egress_ip_of_their_policy_by_tcx() -> Result<()> {
    the_whole_scenario("tcx")
}

#[test]
fn pods_leave_as_the_egress_ip_of_their_policy_by_clsact() -> Result<()> {
    the_whole_scenario("clsact")
}

#[test]
fn policies_that_come_later_take_over_new_flows() -> Result<()> {
    let mut lab = product(&Site::default().documents(&[]))?;
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, Expected::Node)?;
    open_all(&lab, &mut traffic, POD_C, WORLD, Expected::Node)?;
    lab.apply_at_gateway(&both_policies())?;
    apply_at_nodes(&lab, &both_policies())?;
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;
    require_right(&lab, &traffic)
}

/// Marked TCP from inside: curl's requests carry no marker that the oracle could compare.
#[test]
fn tcp_payload_comes_back_to_the_pod_that_sent_it() -> Result<()> {
    let lab = product(&both_policies())?;
    for (pod, expected) in [(POD_A, payments()), (POD_C, crawler()), (POD_D, payments())] {
        for family in Family::BOTH {
            let world = WORLD.of(family);
            let marker = Traffic::default().plan(pod, Protocol::Tcp, world, expected).marker();
            lab.host(pod.name)?.within(|| probe::tcp(marker, world, TIMEOUT))?;
        }
    }
    lab.report()?.require_clean()
}

/// Many flows at once; each answer must come to the flow that asked.
#[test]
fn many_conversations_at_once_are_not_mixed_up() -> Result<()> {
    const EACH: usize = 50;
    const ROUNDS: usize = 5;
    let lab = product(&both_policies())?;
    let talk =
        |pod: Pod, expected: Expected, lab: &Lab| -> Result<BTreeSet<std::net::SocketAddr>> {
            let mut flows = Vec::new();
            for _ in 0..EACH {
                flows.extend(Conversation::open_each(lab, pod, expected)?);
            }
            let mut sources = BTreeSet::new();
            for _ in 0..ROUNDS {
                for flow in &mut flows {
                    sources.insert(flow.say(TIMEOUT).with_context(|| pod.name)?);
                }
            }
            Ok(sources)
        };
    let sources = std::thread::scope(|scope| {
        let pods = [(POD_A, payments()), (POD_C, crawler()), (POD_D, payments())];
        let threads = pods.map(|(pod, expected)| {
            scope.spawn({
                let (talk, lab) = (&talk, &lab);
                move || talk(pod, expected, lab)
            })
        });
        threads.map(|thread| thread.join().expect("the thread ends"))
    });
    let mut all = BTreeSet::new();
    for (sources, address) in sources.into_iter().zip([PAYMENTS_IP, CRAWLER_IP, PAYMENTS_IP]) {
        let sources = sources?;
        // every flow kept its own l4_port in all rounds
        assert_eq!(sources.len(), EACH * Family::BOTH.len());
        assert!(sources.iter().all(|source| address.both().contains(&source.ip())), "{sources:?}");
        all.extend(sources);
    }
    // to one remote endpoint, so none of them shares an l4_port
    assert_eq!(all.len(), 3 * EACH * Family::BOTH.len());
    let report = lab.report()?;
    report.require_clean()?;
    assert_eq!(
        report.count(Class::EgressIp),
        (3 * EACH * ROUNDS * Family::BOTH.len()) as u64,
        "{report}"
    );
    Ok(())
}

#[test]
fn twenty_megabytes_arrive_unchanged_in_both_directions() -> Result<()> {
    let lab = product(&both_policies())?;
    transfer(&lab, POD_A, 20_000_000)?;
    lab.report()?.require_clean()
}

#[test]
fn traceroute_shows_the_gateway_as_the_first_hop() -> Result<()> {
    let lab = product(&both_policies())?;
    for family in Family::BOTH {
        let (world, gateway) =
            (WORLD.of(family).to_string(), GATEWAY_TUNNEL.of(family).to_string());
        let command = ["traceroute", "-n", "-I", "-q", "1", "-w", "1", &world];
        let hops = lab.host(POD_A.name)?.run(&command)?;
        let is = |hop: Option<&str>, address: &str| {
            hop.is_some_and(|hop| hop.split_whitespace().any(|word| word == address))
        };
        assert!(is(hops.lines().nth(1), &gateway), "{hops}");
        assert!(is(hops.lines().last(), &world), "{hops}");
    }
    lab.report()?.require_clean()
}

#[test]
fn the_gateway_answers_ping_on_its_own_addresses() -> Result<()> {
    let lab = product(&both_policies())?;
    for family in Family::BOTH {
        for (host, address) in [("node1", GATEWAY_TUNNEL), ("router", GATEWAY_EXTERNAL)] {
            let address = address.of(family).to_string();
            lab.host(host)?.run(&["ping", "-c", "1", "-W", "2", &address])?;
        }
    }
    lab.report()?.require_clean()
}
