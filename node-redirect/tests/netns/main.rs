//! The agent and its programs on a node of network namespaces, with either hook.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod api;
mod check;
mod datapath;
mod dual;
mod reload;
mod start;
mod steering;
mod view;

const POD: &str = "10.244.1.10";
const WORLD: &str = "198.51.100.10";
const VNI: u32 = 4711;

macro_rules! for_both_hooks {
    ($($module:ident::$test:ident)*) => {
        mod tcx {
            $(#[test] fn $test() { super::common::in_private_namespaces(|| super::$module::$test("tcx")); })*
        }
        mod clsact {
            $(#[test] fn $test() { super::common::in_private_namespaces(|| super::$module::$test("clsact")); })*
        }
    };
}

for_both_hooks! {
    datapath::redirects_and_returns
    datapath::refuses_what_is_no_return
    datapath::drops_forged_tunnels
    datapath::drops_truncated_headers
    agent::follows_interfaces
    agent::survives_kill_9_and_is_taken_over
    agent::follows_policy_files
    agent::cleanup_leaves_nothing
    agent::attaches_again_what_others_took_away
    datapath::carries_bulk_tcp
    datapath::no_packet_slips_through_a_reload
    datapath::leaves_inbound_flows_alone
    dual::redirects_and_returns_over_ipv4
    dual::redirects_and_returns_over_ipv6
    dual::refuses_what_is_no_return_over_ipv4
    dual::refuses_what_is_no_return_over_ipv6
    dual::drops_forged_tunnels_from_ipv6_pods
    dual::carries_bulk_tcp_over_ipv4
    dual::carries_bulk_tcp_over_ipv6
    dual::leaves_inbound_flows_and_neighbor_discovery_alone
    dual::is_taken_over_and_cleaned_up_over_ipv6
}
