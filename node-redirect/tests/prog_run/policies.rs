//! What a change of the policy set does to flows, and which gateway they go to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use node_redirect::abi::{self};
use node_redirect::counters::Reason;
use node_redirect::sync;
use node_redirect::tables::Set;

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

#[test]
fn a_flow_stays_on_its_gateway_and_each_pod_has_its_own() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let gateways = ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13"];
        let with = |gateways: &[&str]| {
            let mut tables = tables();
            tables.policies.insert(POLICY, policy(gateways, abi::FAILURE_CLOSED));
            for last in 20..120 {
                tables.endpoints.insert([10, 244, 1, last].into(), 1);
            }
            tables
        };
        bench.apply(&with(&gateways));
        let send = |bench: &Bench, pod: &str| {
            bench.pod_sends(&udp(pod, WORLD, 4000, 53));
            abi::ip(bench.flow(&key(pod, WORLD, UDP, 4000, 53)).unwrap().gateway)
        };
        let pods: Vec<String> = (20..120).map(|last| format!("10.244.1.{last}")).collect();
        let mut chosen = BTreeMap::new();
        for pod in &pods {
            let gateway = send(&bench, pod);
            let twin = bench.tables.policies[&POLICY].choose_gateway(address(pod));
            assert_eq!(Some(gateway), twin, "{pod}: program and agent choose alike");
            *chosen.entry(gateway).or_insert(0) += 1;
            assert_eq!(send(&bench, pod), gateway);
        }
        assert_eq!(chosen.len(), 4, "all gateways are in use: {chosen:?}");

        let before: Vec<IpAddr> = pods.iter().map(|pod| send(&bench, pod)).collect();
        let more = [&gateways[..], &["192.0.2.14", "192.0.2.15"]].concat();
        bench.apply(&with(&more));
        let after: Vec<IpAddr> = pods.iter().map(|pod| send(&bench, pod)).collect();
        assert_eq!(before, after, "more gateways move no live flow");

        bench.apply(&with(&gateways[1..]));
        let lost = address(gateways[0]);
        for (pod, gateway) in pods.iter().zip(before) {
            let moved = send(&bench, pod);
            assert_ne!(moved, lost, "{pod}");
            assert!(
                gateway == lost || moved == gateway,
                "{pod}: only the lost gateway's flows move"
            );
        }
    });
}

#[test]
fn a_draining_gateway_keeps_its_flows_and_takes_no_new_ones() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let open = udp(POD, WORLD, 4000, 53);
        assert_eq!(bench.pod_sends(&open).0, Redirect);
        let mut draining = tables();
        draining.policies.get_mut(&POLICY).unwrap().accepting = [0; 2];
        bench.apply(&draining);
        assert_eq!(bench.pod_sends(&open), (Redirect, Some(Reason::Redirected)), "the old flow");
        let new = udp(POD, WORLD, 4001, 53);
        assert_eq!(bench.pod_sends(&new), (Drop, Some(Reason::NoGateway)), "a new flow");
    });
}

#[test]
fn a_policy_that_ends_lets_its_flows_leave_as_without_policy() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let connection = tcp(POD, WORLD, 4000, 80, ACK);
        assert_eq!(bench.pod_sends(&connection).0, Redirect);
        let traffic = bench.maps.traffic().unwrap();
        assert_eq!(traffic.values().map(|sum| sum.packets).sum::<u64>(), 1);
        let mut without = tables();
        without.endpoints.remove(&address(POD));
        bench.apply(&without);
        assert_eq!(bench.pod_sends(&connection), (Pass, Some(Reason::NotSelected)));
        assert_eq!(bench.flow_count(), 0, "and its entry is gone");
        sync::forget_stale_traffic(&bench.maps, &bench.tables).unwrap();
        assert!(bench.maps.traffic().unwrap().is_empty());
    });
}

#[test]
fn another_policy_takes_a_flow_over() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        let connection = tcp(POD, WORLD, 4000, 80, ACK);
        bench.pod_sends(&connection);
        let mut other = tables();
        other.policies.insert(9, policy(&["192.0.2.11"], abi::FAILURE_CLOSED));
        other.sets.insert(1, Set::from([(net("0.0.0.0/0"), 9)]));
        bench.apply(&other);
        assert_eq!(bench.pod_sends(&connection).0, Redirect);
        let flow = bench.flow(&key(POD, WORLD, TCP, 4000, 80)).unwrap();
        assert_eq!((flow.policy_id, flow.gateway), (9, abi::address(address("192.0.2.11"))));
    });
}
