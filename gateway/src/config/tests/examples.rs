//! Defaults, and the examples of `configs/`.

use super::*;

#[test]
fn defaults_are_the_documented_ones() {
    let (config, warnings) = good(MINIMAL);
    assert_eq!(warnings, []);
    assert_eq!(
        config.workers,
        Workers { cores: vec![1], idle: Idle::Adaptive, cycle_counters: false }
    );
    assert_eq!(config.eal, EalConfig { hugepages: true, extra_args: vec![] });
    assert_eq!((config.tunnel.port.mtu, config.tunnel.port.vlan), (1500, 0));
    assert_eq!(config.tunnel.vxlan_port, 4790);
    assert_eq!(config.policy.file, PathBuf::from("/etc/egress-gateway/policy.yaml"));
    assert_eq!(config.policy.state_dir, PathBuf::from("/var/lib/egress-gateway"));
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:9480");
    assert_eq!(config.nat.tcp_time_wait_timeout, Duration::from_secs(120));
    assert_eq!(config.nat.max_sessions, 1_000_000);
    assert_eq!(config.limits.icmp_errors_per_second, 1000);
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let text = include_str!("../../../../configs/gateway.toml");
    let (example, warnings) = good(text);
    assert!(warnings.is_empty(), "{warnings:#?}");
    let (dual_stack, _) = good(&dual_stack());
    assert_eq!(example, dual_stack);
    // A key that the example leaves out would be unknown to its readers.
    let table: toml::Table = toml::from_str(text).unwrap();
    let keys = |path: &[&str]| {
        let table = path.iter().fold(&table, |table, name| table[*name].as_table().unwrap());
        table.len()
    };
    let counts =
        ["gateway", "workers", "eal", "policy", "api", "nat", "limits"].map(|name| keys(&[name]));
    assert_eq!(counts, [1, 3, 2, 2, 1, 8, 3]);
    assert_eq!((keys(&["ports", "tunnel"]), keys(&["ports", "external"])), (6, 6));
}

#[test]
fn the_example_policies_fit_the_example_gateway() {
    let text = include_str!("../../../../configs/policy.yaml");
    let (set, warnings) = policy::parse(text, policy::Format::Yaml).unwrap();
    assert!(warnings.is_empty(), "{warnings:#?}");
    let (config, _) = good(include_str!("../../../../configs/gateway.toml"));
    let compiled = policy::compile_gateway(&set, &config.name, &config.policy_limits()).unwrap();
    assert!(!compiled.policies.is_empty() && !compiled.nodes.is_empty());
}

#[test]
fn policies_may_not_claim_the_gateways_own_addresses_or_routers() {
    let (config, _) = good(&dual_stack().replace("203.0.113.16/28", "203.0.113.0/24"));
    let limits = config.policy_limits();
    let own: Vec<String> = limits.own_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["192.0.2.10", "203.0.113.2", "2001:db8:113::2"]);
    let routers: Vec<String> = limits.next_hops.iter().map(ToString::to_string).collect();
    assert_eq!(routers, ["203.0.113.1", "2001:db8:113::1"]);
    let prefixes: Vec<String> = limits.egress_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["203.0.113.0/24", "2001:db8:113::/64"]);
}

#[test]
fn up_to_64_workers() {
    let cores = |n: u16| format!("{:?}", (0..n).collect::<Vec<_>>());
    let (config, warnings) = good(&with("workers", "cores", &cores(64)));
    assert_eq!((config.workers.cores.len(), warnings), (64, vec![]));
    let found = errors(&with("workers", "cores", &cores(65)));
    assert_eq!(found[0].to_string(), "workers.cores: 65 cores are more than 64 (keep fewer)");
}
