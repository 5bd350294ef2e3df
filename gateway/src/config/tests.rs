//! Tables: what is written, and what is said of it.

mod examples;
mod sides;

use std::time::Duration;

use super::*;

/// All that has no default.
const MINIMAL: &str = r#"
[gateway]
name = "gw-a"
[ports.tunnel]
device = "net_af_packet0,iface=tun0"
addresses = ["192.0.2.10/24"]
[ports.external]
device = "net_af_packet1,iface=ext0"
addresses = ["203.0.113.2/24"]
gateways = ["203.0.113.1"]
egress_prefixes = ["203.0.113.16/28"]
"#;

/// [`MINIMAL`] with one key of one section set to another value, as TOML.
fn with(section: &str, key: &str, value: &str) -> String {
    let mut root: toml::Table = toml::from_str(MINIMAL).unwrap();
    let mut table = &mut root;
    for name in section.split('.').filter(|name| !name.is_empty()) {
        let entry = table.entry(name).or_insert_with(|| toml::Table::new().into());
        table = entry.as_table_mut().unwrap();
    }
    let line: toml::Table = toml::from_str(&format!("value = {value}")).unwrap();
    table.insert(key.to_owned(), line["value"].clone());
    root.to_string()
}

/// [`MINIMAL`] with these texts replaced by others.
fn replaced(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(MINIMAL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in\n{text}");
        text.replace(from, to)
    })
}

/// [`MINIMAL`] with IPv6 to the world.
fn dual_stack() -> String {
    replaced(&[
        ("\"203.0.113.2/24\"", "\"203.0.113.2/24\", \"2001:db8:113::2/64\""),
        ("\"203.0.113.1\"", "\"203.0.113.1\", \"2001:db8:113::1\""),
        ("\"203.0.113.16/28\"", "\"203.0.113.16/28\", \"2001:db8:113::/64\""),
    ])
}

fn errors(text: &str) -> Vec<Problem> {
    match Config::parse(text) {
        Err(ConfigError::Invalid(errors)) => errors,
        other => panic!("expected errors, got {other:?}\nin\n{text}"),
    }
}

fn good(text: &str) -> (Config, Vec<Problem>) {
    Config::parse(text).unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

#[test]
fn every_mistake_has_its_key_reason_and_hint() {
    // (section, key, value, key of the error below the section, reason, hint)
    let cases = [
        ("gateway", "name", "\"GW\"", "name", "not a DNS-1123 name", "EgressGateway"),
        ("gateway", "name", "7", "name", "expected a string, found the number 7", ""),
        ("gateway", "colour", "\"red\"", "colour", "unknown key", "known here: name"),
        ("workers", "cores", "[]", "cores", "at least one core", ""),
        ("workers", "cores", "[1, 1]", "cores[1]", "1 is in the list already", "remove"),
        ("workers", "cores", "[-1]", "cores[0]", "a whole number from 0 to 65535", ""),
        ("workers", "cores", "1", "cores", "expected a list, found the number 1", "[ ]"),
        ("workers", "idle", "\"lazy\"", "idle", "\"lazy\" is not known", "adaptive or spin"),
        ("eal", "hugepages", "\"no\"", "hugepages", "expected true or false", ""),
        ("eal", "extra_args", "[\"\"]", "extra_args[0]", "not an argument", ""),
        ("eal", "extra_args", "\"-v\"", "extra_args", "expected a list", ""),
        ("ports.tunnel", "device", "\"\"", "device", "not a device", "PCI address"),
        ("ports.tunnel", "device", "\"eth 0\"", "device", "not a device", "PCI address"),
        ("ports.tunnel", "addresses", "[]", "addresses", "at least one address", "192.0.2.10/24"),
        (
            "ports.tunnel",
            "addresses",
            "[\"192.0.2.10\"]",
            "addresses[0]",
            "prefix length",
            "192.0.2.10/24",
        ),
        ("ports.tunnel", "addresses", "[\"x/24\"]", "addresses[0]", "not an address", ""),
        (
            "ports.tunnel",
            "addresses",
            "[\"192.0.2.0/24\"]",
            "addresses[0]",
            "network or broadcast",
            "own address",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"192.0.2.255/24\"]",
            "addresses[0]",
            "network or broadcast",
            "",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"127.0.0.1/8\"]",
            "addresses[0]",
            "a loopback address",
            "",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"224.0.0.5/24\"]",
            "addresses[0]",
            "a multicast address",
            "",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"0.0.0.0/24\"]",
            "addresses[0]",
            "the unspecified address",
            "",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"192.0.2.10/24\", \"192.0.2.10/25\"]",
            "addresses[1]",
            "in the list already",
            "",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"2001:db8::10\"]",
            "addresses[0]",
            "prefix length",
            "2001:db8::10/64",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"192.0.2.10/24\", \"fe80::10/64\"]",
            "addresses[1]",
            "fe80::10 is a link-local address",
            "its own fe80:: address",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"2001:db8::/64\"]",
            "addresses[0]",
            "anycast address of all routers of 2001:db8::/64",
            "RFC 4291",
        ),
        (
            "ports.tunnel",
            "addresses",
            "[\"::ffff:192.0.2.10/120\"]",
            "addresses[0]",
            "an IPv4-mapped IPv6 address",
            "write the IPv4 address",
        ),
        (
            "ports.external",
            "gateways",
            "[\"203.0.113.1\", \"2001:db8::1\"]",
            "gateways[1]",
            "not on-link",
            "its link-local address",
        ),
        ("ports.tunnel", "gateways", "[\"192.0.3.1\"]", "gateways[0]", "not on-link", "ARP"),
        ("ports.tunnel", "gateways", "[\"192.0.2.10\"]", "gateways[0]", "own address", "router"),
        ("ports.tunnel", "gateways", "[\"192.0.2.1/24\"]", "gateways[0]", "not an IP address", ""),
        (
            "ports.tunnel",
            "gateways",
            "[\"192.0.2.1\", \"192.0.2.1\"]",
            "gateways[1]",
            "already",
            "",
        ),
        ("ports.tunnel", "mtu", "575", "mtu", "from 576 to 9600", ""),
        ("ports.tunnel", "mtu", "9601", "mtu", "from 576 to 9600", ""),
        ("ports.tunnel", "vlan", "4095", "vlan", "from 0 to 4094", ""),
        ("ports.tunnel", "vlan", "-1", "vlan", "from 0 to 4094", ""),
        ("ports.tunnel", "vxlan_port", "0", "vxlan_port", "from 1 to 65535", ""),
        ("ports.tunnel", "egress_prefixes", "[]", "egress_prefixes", "unknown key", "vxlan_port"),
        ("ports.external", "vxlan_port", "4790", "vxlan_port", "unknown key", "egress_prefixes"),
        ("ports.external", "egress_prefixes", "[]", "egress_prefixes", "at least one prefix", ""),
        (
            "ports.external",
            "egress_prefixes",
            "[\"203.0.113.17/28\"]",
            "egress_prefixes[0]",
            "bits set",
            "203.0.113.16/28 or 203.0.113.17/32",
        ),
        (
            "ports.external",
            "egress_prefixes",
            "[\"203.0.113.16\"]",
            "egress_prefixes[0]",
            "not a prefix",
            "203.0.113.16/32",
        ),
        (
            "ports.external",
            "device",
            "\"net_af_packet0,iface=ext0\"",
            "device",
            "device of ports.tunnel",
            "exactly as there",
        ),
        (
            "ports.external",
            "device",
            "\"net_af_packet9,iface=tun0\"",
            "device",
            "device of ports.tunnel",
            "exactly as there",
        ),
        (
            "ports.external",
            "addresses",
            "[\"203.0.113.2/24\", \"192.0.2.9/28\"]",
            "addresses",
            "overlaps 192.0.2.10/24",
            "prefix of its own",
        ),
        ("ports.third", "device", "\"x\"", "", "unknown key", "tunnel, external"),
        ("policy", "file", "\"\"", "file", "not a path", ""),
        ("policy", "state_dir", "1", "state_dir", "expected a string", ""),
        ("api", "listen", "\"0.0.0.0:9480\"", "listen", "not a loopback address", "127.0.0.1:9480"),
        ("api", "listen", "\"[2001:db8::1]:9480\"", "listen", "not a loopback address", ""),
        ("api", "listen", "\"localhost:9480\"", "listen", "neither", "unix:"),
        ("api", "listen", "\"unix:egress.sock\"", "listen", "not an absolute path", ""),
        ("nat", "udp_timeout", "0", "udp_timeout", "from 1 to", ""),
        ("nat", "udp_timeout", "1.5", "udp_timeout", "found the number 1.5", ""),
        ("nat", "max_sessions", "0", "max_sessions", "from 1 to 67108864", ""),
        ("nat", "max_sessions", "67108865", "max_sessions", "from 1 to 67108864", ""),
        ("limits", "sessions_per_pod", "1", "sessions_per_pod", "no limits per pod", "write 0"),
        (
            "limits",
            "new_sessions_per_second_per_pod",
            "1",
            "new_sessions_per_second_per_pod",
            "no limits per pod",
            "write 0",
        ),
        ("limits", "icmp_errors_per_second", "-1", "icmp_errors_per_second", "from 0 to", ""),
        ("", "gateway", "3", "gateway", "expected a table", "[gateway]"),
        ("", "natt", "{}", "natt", "unknown key", "gateway, workers, eal, ports"),
    ];
    for (section, key, value, place, reason, hint) in cases {
        let text = with(section, key, value);
        let found = errors(&text);
        let place = [section, place].into_iter().filter(|part| !part.is_empty());
        let place = place.collect::<Vec<_>>().join(".");
        // A section that is no table lacks its required keys as well.
        let error = &found[0];
        assert!(found.len() == 1 || section.is_empty(), "{found:#?}\nin\n{text}");
        assert_eq!(error.key, place, "{error}");
        assert!(error.reason.contains(reason), "{reason:?} is not in the reason of {error}");
        assert!(error.hint.contains(hint), "{hint:?} is not in the hint of {error}");
    }
}

#[test]
fn what_has_no_default_is_required() {
    let keys: Vec<String> = errors("").into_iter().map(|error| error.key).collect();
    let expected = [
        "gateway.name",
        "ports.tunnel.device",
        "ports.tunnel.addresses",
        "ports.external.device",
        "ports.external.addresses",
        "ports.external.egress_prefixes",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "[gateway]\nname = \"A\"\nx = 1\n[workers]\nidle = \"x\"\n[ports.tunnel]\nmtu = 1\n\
                addresses = [\"x\"]\ngateways = [\"y\"]\nvxlan_port = 0\n[nat]\nicmp_timeout = 0\n";
    let keys: Vec<String> = errors(text).into_iter().map(|error| error.key).collect();
    let expected = [
        "gateway.name",
        "gateway.x",
        "workers.idle",
        "ports.tunnel.device",
        "ports.tunnel.addresses[0]",
        "ports.tunnel.gateways[0]",
        "ports.tunnel.mtu",
        "ports.tunnel.vxlan_port",
        "ports.external.device",
        "ports.external.addresses",
        "ports.external.egress_prefixes",
        "nat.icmp_timeout",
    ];
    assert_eq!(keys, expected);
    let told = Config::parse(text).unwrap_err().to_string();
    assert_eq!(told.lines().count(), expected.len());
    assert!(told.contains("ports.tunnel.mtu: expected a whole number from 576 to 9600, found"));
}

#[test]
fn syntax_errors_have_a_place() {
    let cases = [
        ("[gateway\nname = 1\n", (1, 9)),
        ("[gateway]\nname = \"a\"\nname = \"b\"\n", (3, 1)),
        ("[gateway]\n  name = é\n", (2, 10)),
    ];
    for (text, place) in cases {
        let Err(ConfigError::Syntax { line, column, message }) = Config::parse(text) else {
            panic!("{text}")
        };
        assert_eq!((line, column), place, "{message}\nin\n{text}");
    }
    let large = "#".repeat(MAX_BYTES + 1);
    assert!(matches!(Config::parse(&large), Err(ConfigError::Syntax { line: 1, .. })));
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(matches!(Config::parse(&deep), Err(ConfigError::Syntax { .. })));
}

#[test]
fn warnings_name_the_key() {
    let cases = [
        ("nat", "udp_timeout", "119", "udp_timeout", "RFC 4787 REQ-5"),
        ("nat", "tcp_established_timeout", "7439", "tcp_established_timeout", "RFC 5382 REQ-5"),
        ("nat", "tcp_transitory_timeout", "239", "tcp_transitory_timeout", "RFC 5382 REQ-5"),
        ("nat", "icmp_timeout", "59", "icmp_timeout", "RFC 5508 REQ-2"),
        ("ports.tunnel", "vxlan_port", "4789", "vxlan_port", "CNIs"),
        ("ports.external", "gateways", "[]", "gateways", "no IPv4 router"),
        (
            "ports.external",
            "egress_prefixes",
            "[\"203.0.113.16/28\", \"2001:db8:113::/64\"]",
            "egress_prefixes",
            "no IPv6 address or router",
        ),
        ("ports.tunnel", "gateways", "[\"fe80::1\"]", "gateways", "has no IPv6 address"),
    ];
    for (section, key, value, place, reason) in cases {
        let (_, warnings) = good(&with(section, key, value));
        let [warning] = warnings.as_slice() else { panic!("{key}: {warnings:#?}") };
        assert_eq!(warning.key, format!("{section}.{place}"));
        assert!(warning.reason.contains(reason), "{warning}");
    }
}
